"""Evaluation of the global model on the coordinator's own test rows."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

from flwr.app import ArrayRecord

from fedsm.errors import ConfigError
from fedsm.hooks import model_of
from fedsm.learning.channels import read_file
from fedsm.learning.metrics import classification
from fedsm.learning.preparation import Summary
from fedsm.learning.schema import AnyTable
from fedsm.learning.tables import category_names
from fedsm.training import EvaluateFn
from fedsm.training_config import Training


def test_rows(training: Training, directory: Path) -> AnyTable | None:
    """The rows of ``training.test``; ``None`` without.

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
    given = training.hyperparameters
    label = str(given.get("label", "target"))
    return _read(file, file.stat().st_mtime_ns, label, category_names(given))


def on_test_rows(training: Training, directory: Path) -> EvaluateFn | None:
    """An ``evaluate_fn`` for the rows of ``training.test``; ``None`` without test rows.

    Raises
    ------
    ConfigError
        There is no such file.
    DataError
        The file cannot be read.
    """
    model, rows = model_of(training, directory), test_rows(training, directory)
    if model is None or rows is None:
        return None
    hyperparameters = training.hyperparameters

    def evaluate(_: int, arrays: ArrayRecord, summary: Summary | None) -> Mapping[str, float]:
        if summary is None:
            return {}
        fitted = model.build(arrays, summary, hyperparameters)
        metrics = classification(summary.encode(rows.labels), fitted.predict_proba(rows.rows()))
        return {name: value for name, value in metrics.items() if isinstance(value, int | float)}

    return evaluate


@lru_cache(maxsize=1)
def _read(file: Path, modified: int, label: str, categories: tuple[str, ...]) -> AnyTable:
    """Read once for the rounds and the report."""
    return read_file(file, label=label, categories=categories)
