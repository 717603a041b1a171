"""Evaluation of the global model on the coordinator's own test rows."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from flwr.app import ArrayRecord

from fedsm.config import Training
from fedsm.errors import ConfigError
from fedsm.learning.metrics import classification
from fedsm.learning.models import adapter
from fedsm.learning.preparation import Summary
from fedsm.learning.tables import read_csv
from fedsm.training import EvaluateFn


def on_test_rows(training: Training, directory: Path) -> EvaluateFn | None:
    """An ``evaluate_fn`` for the rows of ``training.test``; ``None`` without test rows.

    Raises
    ------
    ConfigError
        Test rows are given without a model adapter, which alone can predict from arrays.
    DataError
        The file cannot be read.
    """
    if training.test is None:
        return None
    if training.model is None or training.prepare is None:
        raise ConfigError(
            "test rows need a model to predict with",
            where="training.test",
            action="set training.model and training.prepare, or pass evaluate_fn from Python",
        )
    hyperparameters = training.hyperparameters
    model = adapter(training.model)
    rows = read_csv([directory / training.test], label=str(hyperparameters.get("label", "target")))

    def evaluate(_: int, arrays: ArrayRecord, summary: Summary | None) -> Mapping[str, float]:
        if summary is None:
            return {}
        fitted = model.build(arrays, summary, hyperparameters)
        metrics = classification(summary.encode(rows.labels), fitted.predict_proba(rows.features))
        return {name: value for name, value in metrics.items() if isinstance(value, int | float)}

    return evaluate
