"""The adapters by their names."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from flwr.app import ArrayRecord, MetricRecord

from fedsm.errors import ConfigError
from fedsm.learning.metrics import classification
from fedsm.learning.models.base import Adapter
from fedsm.learning.models.logistic_regression import LogisticRegressionAdapter
from fedsm.learning.preparation import Summary
from fedsm.learning.tables import Table

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


def evaluate(
    model: Adapter,
    arrays: ArrayRecord,
    summary: Summary,
    run_config: Mapping[str, Any],
    table: Table,
) -> MetricRecord:
    """Metrics of the arrays on raw rows; see :func:`fedsm.learning.metrics.classification`."""
    x, y = summary.transform(table), summary.encode(table.labels)
    return classification(y, model.predict(arrays, x, summary, run_config))
