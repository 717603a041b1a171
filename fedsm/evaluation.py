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
        There is no such file.
    DataError
        The file cannot be read.
    """
    # The configuration has no test rows without a model to predict with.
    if training.test is None or training.model is None:
        return None
    file = (directory / training.test).resolve()
    if not file.is_file():
        raise ConfigError(
            f"there is no file {file}",
            where="training.test",
            action="give a path relative to federation.yaml's directory, or leave training.test "
            "out",
        )
    hyperparameters = training.hyperparameters
    model = adapter(training.model)
    rows = read_csv([file], label=str(hyperparameters.get("label", "target")))

    def evaluate(_: int, arrays: ArrayRecord, summary: Summary | None) -> Mapping[str, float]:
        if summary is None:
            return {}
        fitted = model.build(arrays, summary, hyperparameters)
        metrics = classification(summary.encode(rows.labels), fitted.predict_proba(rows.features))
        return {name: value for name, value in metrics.items() if isinstance(value, int | float)}

    return evaluate
