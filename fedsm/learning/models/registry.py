"""The adapters by their names, and the one that a user writes."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from flwr.app import ArrayRecord, MetricRecord

from fedsm.errors import ConfigError
from fedsm.learning.metrics import classification
from fedsm.learning.models.base import Adapter
from fedsm.learning.models.custom import CUSTOM, MODEL, load
from fedsm.learning.preparation import Summary
from fedsm.learning.tables import Table

# By module and class, as scikit-learn takes a second to load, and few runs need all of them.
_MODULES = {
    "logistic-regression": ("logistic_regression", "LogisticRegressionAdapter"),
    "sgd-classifier": ("sgd_classifier", "SGDClassifierAdapter"),
    "mlp-classifier": ("mlp_classifier", "MLPClassifierAdapter"),
    "pytorch": ("pytorch", "PyTorchAdapter"),
    "xgboost": ("xgboost_trees", "XGBoostAdapter"),
}

ADAPTERS = (*_MODULES, CUSTOM)
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
    if name == CUSTOM:
        return load(code)
    if name not in _MODULES:
        raise ConfigError(
            f"there is no model adapter {name!r}",
            where="training.model",
            action=f"choose from {', '.join(ADAPTERS)} ({CUSTOM}: your own, in "
            f"client_code/{MODEL}), or leave it out to get model.npz",
        )
    module, kind = _MODULES[name]
    make = getattr(import_module(f"{__package__}.{module}"), kind)
    made: Adapter = make(code) if name == "pytorch" else make()
    return made


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
