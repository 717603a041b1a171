"""Weights of the classes, from the class counts of the whole federation."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedsm.errors import ConfigError

Vector = NDArray[np.float64]

_OF_EXACT = "training.options.class_weight"


def class_weights(
    given: str | dict[Any, float] | None,
    classes: int,
    labels: Sequence[Any],
    counts: Vector,
    *,
    where: str = _OF_EXACT,
) -> Vector:
    """Weight of each class, in the order of the labels.

    Parameters
    ----------
    given : dict, "balanced" or None
        ``balanced`` is ``rows / (classes * count)``; a label that the mapping lacks weighs 1.
    classes : int
    labels : sequence, counts : ndarray
        Of the whole federation; empty where it was not prepared.
    where : str
        The field that an error names.

    Raises
    ------
    ConfigError
        There are no labels or counts, a label is unknown, or a weight is not above 0.
    """
    if given is None:
        return np.ones(classes)
    told = len(counts) == classes and bool((counts > 0).all())
    if len(labels) != classes or (given == "balanced" and not told):
        raise ConfigError(
            "class weights need the federation's classes, and balanced ones their counts",
            where=where,
            action="set training.prepare, or give weights by label where owners withhold counts",
        )
    if given == "balanced":
        return np.asarray(counts.sum() / (classes * counts))
    assert isinstance(given, dict)  # noqa: S101
    weights = {str(label): 1.0 for label in labels} | {str(k): v for k, v in given.items()}
    if len(weights) > classes or not all(0 < v < np.inf for v in weights.values()):
        raise ConfigError(
            "a label is not among the classes, or a weight is not above 0",
            where=where,
            action=f"map labels to weights; the labels are {', '.join(map(str, labels))}",
        )
    return np.array([float(weights[str(label)]) for label in labels])


def parse_class_weights(given: object) -> str | dict[Any, float] | None:
    """What the hyperparameter ``class-weights`` says, as :func:`class_weights` takes it.

    Raises
    ------
    ConfigError
        It is neither ``balanced``, ``none``, nor ``label:weight,...`` of weights above 0.
    """
    if given == "none":
        return None
    if given == "balanced":
        return "balanced"
    weights: dict[Any, float] = {}
    try:
        for part in str(given).split(","):
            label, _, weight = part.rpartition(":")
            weights[label.strip()] = float(weight)
    except ValueError:
        weights = {}
    if "" in weights or not weights or not all(0 < w < math.inf for w in weights.values()):
        raise ConfigError(
            "is neither balanced, none, nor weights above 0 by label",
            where="training.hyperparameters.class-weights",
            action="give balanced, none, or such as 0:1,1:3",
        )
    return weights
