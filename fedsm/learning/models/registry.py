"""The adapters by their names, and the one that a user writes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from flwr.app import ArrayRecord, MetricRecord

from fedsm.errors import ConfigError
from fedsm.learning.metrics import classification
from fedsm.learning.models.base import Adapter
from fedsm.learning.models.custom import CUSTOM, MODEL, load
from fedsm.learning.models.logistic_regression import LogisticRegressionAdapter
from fedsm.learning.models.mlp_classifier import MLPClassifierAdapter
from fedsm.learning.models.pytorch import PyTorchAdapter
from fedsm.learning.models.sgd_classifier import SGDClassifierAdapter
from fedsm.learning.models.xgboost_trees import XGBoostAdapter
from fedsm.learning.preparation import Summary
from fedsm.learning.tables import Table

_ADAPTERS: dict[str, Callable[[Path | None], Adapter]] = {
    LogisticRegressionAdapter.name: lambda code: LogisticRegressionAdapter(),
    SGDClassifierAdapter.name: lambda code: SGDClassifierAdapter(),
    MLPClassifierAdapter.name: lambda code: MLPClassifierAdapter(),
    PyTorchAdapter.name: PyTorchAdapter,
    XGBoostAdapter.name: lambda code: XGBoostAdapter(),
    CUSTOM: load,
}

ADAPTERS = tuple(_ADAPTERS)
"""Names that :func:`adapter` knows."""


def adapter(name: str, code: Path | None = None) -> Adapter:
    """The adapter of a name.

    Parameters
    ----------
    name : str
        One of :data:`ADAPTERS`; ``custom`` is the ``adapter`` of ``model.py``.
    code : Path, optional
        Folder of the client code, where ``model.py`` and ``net.py`` are looked for: the
        project's own at the coordinator, the approved bundle's in a job.

    Raises
    ------
    ConfigError
        There is none of that name, or it lacks its library or its file.
    """
    if name not in _ADAPTERS:
        raise ConfigError(
            f"there is no model adapter {name!r}",
            where="training.model",
            action=f"choose from {', '.join(ADAPTERS)} ({CUSTOM}: your own, in "
            f"client_code/{MODEL}), or leave it out to get model.npz",
        )
    return _ADAPTERS[name](code)


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
