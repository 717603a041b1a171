"""What a site answers to a coordinator's messages, for any table and any model adapter."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from flwr.app import Context, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.clientapp.mod import adaptiveclipping_mod
from flwr.clientapp.typing import ClientAppCallable

from fedsm.errors import DataError
from fedsm.learning import controls, exact_site, preparation, trees
from fedsm.learning.metrics import classification
from fedsm.learning.models import Adapter, Local, adapter
from fedsm.learning.preparation import Summary
from fedsm.learning.schema import AnyTable
from fedsm.learning.site_report import SiteReport
from fedsm.learning.tables import Table

Rows = Callable[[Context], AnyTable]

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

    @app.query("categories")
    def categories(message: Message, context: Context) -> Message:
        found = preparation.categories.categories(
            _dense(train_rows(context)), _smallest(message, context)
        )
        return Message(found, reply_to=message)

    @app.query("histograms")
    def histograms(message: Message, context: Context) -> Message:
        question = message.content.config_records["config"]
        found = preparation.histograms.histograms(
            _dense(train_rows(context)), question, _smallest(message, context)
        )
        return Message(found, reply_to=message)

    @app.query("initial")
    def initial(message: Message, context: Context) -> Message:
        return site(message, context).initial()

    @app.train(mods=[_clip_when_asked])
    def train(message: Message, context: Context) -> Message:
        return site(message, context).train(train_rows(context))

    @app.evaluate()
    def evaluate(message: Message, context: Context) -> Message:
        return site(message, context).evaluate(validation_rows(context))

    @app.evaluate("report")
    def report(message: Message, context: Context) -> Message:
        return site(message, context).report(train_rows(context), validation_rows(context))

    return app


def _dense(rows: AnyTable) -> Table:
    """The coordinator asks sparse rows neither for categories nor for histograms."""
    if isinstance(rows, Table):
        return rows
    raise DataError(
        "sparse rows have neither categories nor quantiles",
        where="training.prepare",
        action="prepare them with scale: standardize and impute: mean, or none",
    )


def _smallest(message: Message, context: Context) -> int:
    """The smallest count that may leave, by the coordinator's wish and by the owner's terms."""
    asked: Any = message.content.config_records["config"].get("smallest", 0)
    owners: Any = context.node_config.get("smallest-count", 0)
    return max(int(asked), int(owners))


class _Site:
    """A site at one message."""

    def __init__(self, message: Message, context: Context, model: Adapter | None) -> None:
        self.message = message
        self.context = context
        self.config = message.content.config_records["config"]
        self.summary = Summary.from_config(self.config)
        name, code = context.node_config.get("model"), context.node_config.get("code")
        self.model = model or adapter(
            str(name or DEFAULT_MODEL), Path(str(code)) if code is not None else None
        )

    @property
    def arrays(self) -> Any:
        """The global parameters."""
        return self.message.content.array_records["arrays"]

    def initial(self) -> Message:
        """Parameters before round 1, where ``training.initial`` names this site."""
        arrays = self.model.initial(self.summary, self.context.run_config)
        return self._reply({"arrays": arrays})

    def train(self, rows: AnyTable) -> Message:
        """A few steps from the global parameters, or sums at them for the strategy ``exact``."""
        x, y = self.summary.transform(rows), self.summary.encode(rows.labels)
        if exact_site.asked(self.message):
            return Message(exact_site.answer(self.message, x, y), reply_to=self.message)
        local = self._local()
        trained, arrays = controls.train(self.model, self.arrays, x, y, local)
        if self.config.get(trees.NEW_TREES):
            arrays = trees.new(trained, self.arrays)
        return self._reply({"arrays": arrays, "metrics": self._metrics(trained, x, y)})

    def evaluate(self, rows: AnyTable) -> Message:
        """The global model on this site's validation rows."""
        x, y = self.summary.transform(rows), self.summary.encode(rows.labels)
        return self._reply({"metrics": self._metrics(self.arrays, x, y)})

    def report(self, train: AnyTable, validation: AnyTable) -> Message:
        """The run's final model, and what the site would have without it."""
        smallest: Any = self.context.node_config.get("smallest-count", 0)
        made = SiteReport(self.model, self.arrays, self._local(), smallest, self.context.state)
        return self._reply({"metrics": made.answer(train, validation)})

    def _local(self) -> Local:
        return Local(
            summary=self.summary,
            run_config=self.context.run_config,
            config=self.config,
            proximal_mu=float(self.config.get("proximal-mu", 0.0)),  # type: ignore[arg-type]
            site=str(self.context.node_config.get("site", self.context.node_id)),
        )

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
