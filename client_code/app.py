"""What each site does in a round, as a Flower ClientApp: edit this file to train another model.

Logistic regression on features that are scaled and imputed by statistics of the whole federation.
Hyperparameters (``training.hyperparameters``, all optional): ``label``, ``c``, ``penalty``,
``local-steps``, ``learning-rate``, ``solver``; see ``fedsm.learning.logistic.Settings``.
"""

from __future__ import annotations

from typing import cast

from data import train_rows, validation_rows
from flwr.app import Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.clientapp.mod import adaptiveclipping_mod
from flwr.clientapp.typing import ClientAppCallable
from sklearn.linear_model import LogisticRegression

from fedsm.learning import exact_site, logistic, preparation
from fedsm.learning.metrics import classification
from fedsm.learning.preparation import Summary
from fedsm.learning.tables import Table


def clip_when_asked(message: Message, context: Context, call_next: ClientAppCallable) -> Message:
    """Clip the update where a client-side differential-privacy strategy gives a norm."""
    if "clipping_norm" in message.content.config_records["config"]:
        return adaptiveclipping_mod(message, context, call_next)
    return call_next(message, context)


app = ClientApp()


@app.query("statistics")
def statistics(message: Message, context: Context) -> Message:
    """Counts, sums and sums of squares, from which the federation's scaling is made."""
    return Message(preparation.statistics(train_rows(context)), reply_to=message)


@app.query("initial")
def initial(message: Message, context: Context) -> Message:
    """Parameters before round 1, where ``training.initial`` names this site."""
    summary = Summary.from_config(message.content.config_records["config"])
    arrays = logistic.initial_parameters(len(summary.features), len(summary.classes))
    return Message(RecordDict({"arrays": arrays}), reply_to=message)


@app.train(mods=[clip_when_asked])
def train(message: Message, context: Context) -> Message:
    """A few steps from the global parameters, or sums at them for the strategy ``exact``."""
    config = message.content.config_records["config"]
    summary = Summary.from_config(config)
    rows = train_rows(context)
    if exact_site.asked(message):
        x, y = summary.transform(rows), summary.encode(rows.labels)
        return Message(exact_site.answer(message, x, y), reply_to=message)
    model = global_model(message, summary)
    logistic.fit(
        model,
        summary.transform(rows),
        summary.encode(rows.labels),
        logistic.Settings.from_run_config(context.run_config),
        rows=summary.rows,
        proximal_mu=cast(float, config.get("proximal-mu", 0.0)),
    )
    arrays, metrics = logistic.get_parameters(model), evaluate_on(rows, model, summary)
    return Message(RecordDict({"arrays": arrays, "metrics": metrics}), reply_to=message)


@app.evaluate()
def evaluate(message: Message, context: Context) -> Message:
    """The global model on this site's validation rows, of which there may be none."""
    summary = Summary.from_config(message.content.config_records["config"])
    metrics = evaluate_on(validation_rows(context), global_model(message, summary), summary)
    return Message(RecordDict({"metrics": metrics}), reply_to=message)


def global_model(message: Message, summary: Summary) -> LogisticRegression:
    """The model that the coordinator sent."""
    model = LogisticRegression()
    logistic.set_parameters(model, message.content.array_records["arrays"], len(summary.classes))
    return model


def evaluate_on(rows: Table, model: LogisticRegression, summary: Summary) -> MetricRecord:
    """Loss, accuracy, AUC and counts."""
    x, y = summary.transform(rows), summary.encode(rows.labels)
    return classification(y, logistic.probabilities(model, x))
