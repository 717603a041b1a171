"""What the scikit-learn adapters share: arrays in, a fitted pipeline out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from flwr.app import ArrayRecord
from numpy.typing import NDArray

from fedsm.errors import ConfigError
from fedsm.learning.preparation import Summary


def arrays_of(
    model: str,
    arrays: ArrayRecord,
    shapes: Mapping[str, tuple[int, ...]],
    kind: type[np.floating[Any]] = np.float64,
) -> list[NDArray[Any]]:
    """Copies of a model's arrays, in the order of ``shapes``.

    Raises
    ------
    ConfigError
        The arrays are another model's.
    """
    found = {name: tuple(array.shape) for name, array in arrays.items()}
    if found != dict(shapes):
        odd = sorted(set(found.items()) ^ set(shapes.items()))[0][0]
        raise ConfigError(
            f"the arrays are not those of {model}: {odd} is missing, too many or of another shape",
            where="training.initial",
            action="start from the model adapter, and give every site the same hyperparameters",
        )
    # A copy in C order: what comes out of a message may be a view of its buffer.
    return [np.array(arrays[name].numpy(), dtype=kind, order="C") for name in shapes]


def finished(summary: Summary, model: Any) -> Any:
    """The preparation and the model, whose classes become the labels of the tables."""
    from sklearn.pipeline import Pipeline

    model.classes_ = np.array(summary.classes)
    return Pipeline([*summary.steps(), ("model", model)])
