"""Model adapters by name: from the federation's arrays to a scikit-learn model of raw rows.

Coordinator and jobs build the final model each for itself from the same arrays: a model file is a
pickle, which is code, and no code crosses the wire. The same arrays give the same bytes under the
same versions of Python, NumPy and scikit-learn.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from flwr.app import ArrayRecord, MetricRecord

from fedsm.errors import ConfigError
from fedsm.learning.preparation import Summary
from fedsm.learning.tables import Table


class Adapter(Protocol):
    """One kind of model."""

    name: str

    def initial(self, summary: Summary, run_config: Mapping[str, Any]) -> ArrayRecord:
        """Parameters before round 1."""
        ...

    def build(self, arrays: ArrayRecord, summary: Summary, run_config: Mapping[str, Any]) -> Any:
        """A fitted scikit-learn Pipeline that takes raw rows, NaN where a value is missing."""
        ...

    def evaluate(
        self, arrays: ArrayRecord, summary: Summary, run_config: Mapping[str, Any], table: Table
    ) -> MetricRecord:
        """Metrics on raw rows; see :func:`fedsm.learning.metrics.classification`."""
        ...

    def save(self, model: Any, path: Path) -> None:
        """Write what :meth:`build` gave, whole or not at all; same arrays, same bytes."""
        ...


class LogisticRegressionAdapter:
    """Mean imputation, standardisation and logistic regression."""

    name = "logistic-regression"

    def initial(self, summary: Summary, run_config: Mapping[str, Any]) -> ArrayRecord:
        """All zeros."""
        from fedsm.learning import logistic

        return logistic.initial_parameters(len(summary.features), len(summary.classes))

    def build(self, arrays: ArrayRecord, summary: Summary, run_config: Mapping[str, Any]) -> Any:
        """``Pipeline(impute, scale, model)``; its classes are the labels of the tables."""
        from sklearn.impute import SimpleImputer
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import Pipeline
        from sklearn.preprocessing import StandardScaler

        from fedsm.learning import logistic

        mean, scale = (np.array(v, dtype=np.float64) for v in (summary.mean, summary.scale))
        # A row that holds the means teaches the imputer the means.
        imputer = SimpleImputer(keep_empty_features=True).fit(mean[np.newaxis])
        scaler = StandardScaler().fit(mean[np.newaxis])
        scaler.mean_, scaler.scale_, scaler.var_ = mean, scale, scale**2
        scaler.n_samples_seen_ = summary.rows
        settings = logistic.Settings.from_run_config(run_config)
        model = LogisticRegression(C=settings.inverse_penalty)
        logistic.set_parameters(model, arrays, len(summary.classes))
        model.classes_ = np.array(summary.classes)
        return Pipeline([("impute", imputer), ("scale", scaler), ("model", model)])

    def evaluate(
        self, arrays: ArrayRecord, summary: Summary, run_config: Mapping[str, Any], table: Table
    ) -> MetricRecord:
        """Metrics of the pipeline on the table."""
        from fedsm.learning.metrics import classification

        y = summary.encode(table.labels)
        if len(table) == 0:
            return classification(y, np.zeros((0, len(summary.classes))))
        summary.transform(table)  # checks the columns
        return classification(
            y, self.build(arrays, summary, run_config).predict_proba(table.features)
        )

    def save(self, model: Any, path: Path) -> None:
        """Write with joblib."""
        import joblib

        part = path.with_name(path.name + ".part")
        joblib.dump(model, part)
        part.replace(path)


_ADAPTERS: dict[str, Callable[[], Adapter]] = {
    LogisticRegressionAdapter.name: LogisticRegressionAdapter
}

ADAPTERS = tuple(_ADAPTERS)
"""Names that :func:`adapter` knows."""


def adapter(name: str) -> Adapter:
    """The adapter of a name.

    Raises
    ------
    ConfigError
        There is none of that name.
    """
    if name not in _ADAPTERS:
        raise ConfigError(
            f"there is no model adapter {name!r}",
            where="training.model",
            action=f"choose from {', '.join(ADAPTERS)}, or leave it out to get model.npz",
        )
    return _ADAPTERS[name]()
