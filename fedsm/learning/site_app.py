"""What a site answers to a coordinator's messages, for any table and any model adapter."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from flwr.app import Context, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.clientapp.mod import adaptiveclipping_mod
from flwr.clientapp.typing import ClientAppCallable

from fedsm.learning import exact_site, preparation
from fedsm.learning.metrics import classification
from fedsm.learning.models import Adapter, Local, adapter
from fedsm.learning.preparation import Summary
from fedsm.learning.tables import Table

Rows = Callable[[Context], Table]

DEFAULT_MODEL = "logistic-regression"


def tabular_app(train_rows: Rows, validation_rows: Rows, model: Adapter | None = None) -> ClientApp:
    """A ClientApp over a site's tables.

    Parameters
    ----------
    train_rows, validation_rows : callable
        ``context -> Table``, called at every message: cache what they read. There may be no
        validation row.
    model : Adapter, optional
        Without it, the adapter that ``training.model`` names.
    """
    app = ClientApp()

    def site(message: Message, context: Context) -> _Site:
        return _Site(message, context, model)

    @app.query("statistics")
    def statistics(message: Message, context: Context) -> Message:
        return Message(preparation.statistics(train_rows(context)), reply_to=message)

    @app.query("initial")
    def initial(message: Message, context: Context) -> Message:
        return site(message, context).initial()

    @app.train(mods=[_clip_when_asked])
    def train(message: Message, context: Context) -> Message:
        return site(message, context).train(train_rows(context))

    @app.evaluate()
    def evaluate(message: Message, context: Context) -> Message:
        return site(message, context).evaluate(validation_rows(context))

    return app


class _Site:
    """A site at one message."""

    def __init__(self, message: Message, context: Context, model: Adapter | None) -> None:
        self.message = message
        self.context = context
        self.config = message.content.config_records["config"]
        self.summary = Summary.from_config(self.config)
        self.model = model or adapter(str(context.node_config.get("model") or DEFAULT_MODEL))

    @property
    def arrays(self) -> Any:
        """The global parameters."""
        return self.message.content.array_records["arrays"]

    def initial(self) -> Message:
        """Parameters before round 1, where ``training.initial`` names this site."""
        arrays = self.model.initial(self.summary, self.context.run_config)
        return self._reply({"arrays": arrays})

    def train(self, rows: Table) -> Message:
        """A few steps from the global parameters, or sums at them for the strategy ``exact``."""
        x, y = self.summary.transform(rows), self.summary.encode(rows.labels)
        if exact_site.asked(self.message):
            return Message(exact_site.answer(self.message, x, y), reply_to=self.message)
        proximal_mu = self.config.get("proximal-mu", 0.0)
        local = Local(
            summary=self.summary,
            run_config=self.context.run_config,
            config=self.config,
            proximal_mu=float(proximal_mu),  # type: ignore[arg-type]
        )
        arrays = self.model.fit(self.arrays, x, y, local)
        return self._reply({"arrays": arrays, "metrics": self._metrics(arrays, x, y)})

    def evaluate(self, rows: Table) -> Message:
        """The global model on this site's validation rows."""
        x, y = self.summary.transform(rows), self.summary.encode(rows.labels)
        return self._reply({"metrics": self._metrics(self.arrays, x, y)})

    def _metrics(self, arrays: Any, x: Any, y: Any) -> Any:
        return classification(
            y, self.model.predict(arrays, x, self.summary, self.context.run_config)
        )

    def _reply(self, records: dict[str, Any]) -> Message:
        return Message(RecordDict(records), reply_to=self.message)


def _clip_when_asked(message: Message, context: Context, call_next: ClientAppCallable) -> Message:
    """Clip the update where a client-side differential-privacy strategy gives a norm."""
    if "clipping_norm" in message.content.config_records["config"]:
        return adaptiveclipping_mod(message, context, call_next)
    return call_next(message, context)
