"""Exact logistic regression: what passes between coordinator and site, and the site's answer.

The coordinator sends a point (``coef``, ``intercept``), the ``step`` that leads to it where that is
needed, and a config that says what it asks for. The site answers with sums over its training rows:

====================  ============================================================================
array                 at the point, and at other lengths of the step where these are asked for
====================  ============================================================================
coef, intercept       gradient of the loss at the point
losses                the loss, one value a length
trials                gradients at the other lengths
hessian               lower triangles, one a length
curvature-*           see :class:`fedsm.learning.exact_objective.Curvature`, at the point
coupling-*            see :class:`fedsm.learning.exact_objective.Coupling`, at the point
extremes              without a penalty: whether the rows are separated, see :func:`_extremes`
====================  ============================================================================
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, RecordDict

from fedsm.contract import EXACT_SUMS
from fedsm.errors import DataError
from fedsm.learning.exact_objective import (
    Classes,
    Coupling,
    Curvature,
    Directions,
    Matrix,
    Rows,
    SiteLoss,
    least_and_most,
)
from fedsm.learning.metrics import classification

Ask = Literal["gradient", "hessian", "curvature", "coupling"]

_ASK, _LENGTHS, _WINDOWS = "exact-ask", "exact-lengths", "exact-windows"
_CLASS_WEIGHTS, _SEPARATION = "exact-class-weights", "exact-separation"
_DIRECTIONS = "directions"
_CURVATURE, _COUPLING = EXACT_SUMS["lbfgs"][1:4], EXACT_SUMS["lbfgs"][4:]

MOST_LENGTHS = 3
"""Of a step that is tried in one round."""

LEAVING = tuple(dict.fromkeys(name for names in EXACT_SUMS.values() for name in names))
"""Arrays of an answer that are not the model's: the owner's terms name those that may leave."""


@dataclass(frozen=True)
class Question:
    """What every site is asked in a round.

    Attributes
    ----------
    ask : {"gradient", "hessian", "curvature", "coupling"}
    class_weights : tuple of float
        One a class.
    lengths : tuple of float
        The first is 1.
    windows : int
        Of the curvature.
    directions : Directions or None
        Of the coupling.
    separation : bool
        Whether to look for separation.
    """

    ask: Ask
    class_weights: tuple[float, ...]
    lengths: tuple[float, ...] = (1.0,)
    windows: int = 1
    directions: Directions | None = None
    separation: bool = False

    def content(self, point: Matrix, step: Matrix, config: Mapping[str, Any]) -> RecordDict:
        """A message's content; ``config`` is what else it says."""
        asked = {
            _ASK: self.ask,
            _CLASS_WEIGHTS: list(self.class_weights),
            _LENGTHS: list(self.lengths),
            _WINDOWS: self.windows,
            _SEPARATION: self.separation,
        }
        content = RecordDict(
            {"arrays": to_arrays(point), "config": ConfigRecord({**config, **asked})}
        )
        if self.separation or len(self.lengths) > 1:
            content["step"] = to_arrays(step)
        if self.directions is not None:
            parts = {
                "variables": Array(self.directions.variables),
                "vectors": Array(self.directions.vectors),
            }
            content[_DIRECTIONS] = ArrayRecord(parts)
        return content

    @classmethod
    def of(cls, content: RecordDict) -> Question:
        """Read back what :meth:`content` wrote.

        Raises
        ------
        DataError
            More is asked in one round than Newton's method needs.
        """
        config: Mapping[str, Any] = content.config_records["config"]
        given = content.array_records.get(_DIRECTIONS)
        if len(config[_LENGTHS]) > MOST_LENGTHS:
            raise DataError(
                f"the coordinator asks for sums at {len(config[_LENGTHS])} points in one round, "
                f"{MOST_LENGTHS} at most are answered",
                action="ask whoever runs the coordinator",
            )
        return cls(
            config[_ASK],
            tuple(config[_CLASS_WEIGHTS]),
            tuple(config[_LENGTHS]),
            config[_WINDOWS],
            None
            if given is None
            else Directions(given["variables"].numpy(), given["vectors"].numpy()),
            config[_SEPARATION],
        )

    def template(self, outputs: int, width: int) -> ArrayRecord:
        """Names, shapes and types of the arrays of an answer; the point is (outputs, width)."""
        arrays = to_arrays(np.zeros((outputs, width)))
        count, size = len(self.lengths), outputs * width
        arrays["losses"] = Array(np.zeros(count))
        if count > 1:
            arrays["trials"] = Array(np.zeros((count - 1, outputs, width)))
        if self.ask == "hessian":
            arrays["hessian"] = Array(np.zeros((count, size * (size + 1) // 2)))
        parts: list[tuple[str, tuple[int, ...], str]] = []
        if self.ask == "curvature":
            blocks = (self.windows * (self.windows + 1) // 2, (width - 1) // self.windows)
            curvature = ((outputs,), (outputs, width - 1), (outputs, *blocks))
            parts = list(zip(_CURVATURE, curvature, "ddf", strict=True))
        if self.directions is not None:
            along = self.directions.vectors.shape[1]
            coupling = ((outputs,), (outputs, along), (outputs, along * (along + 1) // 2))
            parts = list(zip(_COUPLING, coupling, "ddf", strict=True))
        for name, shape, kind in parts:
            arrays[name] = Array(np.zeros(shape, dtype=kind))
        if self.separation:
            arrays["extremes"] = Array(np.zeros(3))
        return arrays


def asked(message: Message) -> bool:
    """Whether a train message is the exact strategy's."""
    return _ASK in message.content.config_records["config"]


def answer(message: Message, x: Rows, y: Classes) -> RecordDict:
    """A site's answer to a train message of the exact strategy.

    Parameters
    ----------
    message : Message
        As :class:`fedsm.learning.exact.Exact` sends it.
    x : ndarray of float64 or scipy.sparse matrix, shape (rows, features)
        Prepared training rows, nothing missing.
    y : ndarray of int, shape (rows,)
        Class indices.

    Returns
    -------
    RecordDict
        ``arrays`` as above; ``metrics``, those of :func:`fedsm.learning.metrics.classification` of
        the point on the training rows.

    Raises
    ------
    DataError
        There is no row, the width is not the model's, or a value is not finite.
    """
    content = message.content
    question = Question.of(content)
    w = to_matrix(content.array_records["arrays"])
    given = content.array_records.get("step")
    step = np.zeros_like(w) if given is None else to_matrix(given)
    if x.shape[1] != w.shape[1] - 1 or not len(y):
        raise DataError(
            f"the training rows have shape {x.shape}, the model has {w.shape[1] - 1} features",
            action="prepare the rows of every site alike, and give each site one row at least",
        )
    if question.ask == "curvature" and not 0 < question.windows <= x.shape[1]:
        raise DataError(
            f"{question.windows} windows are no division of {x.shape[1]} features",
            action="ask whoever runs the coordinator",
        )
    weights = np.array(question.class_weights)
    with np.errstate(invalid="ignore"):
        losses = [SiteLoss(w + (t - 1.0) * step, x, y, weights) for t in question.lengths]
    if not np.isfinite(losses[0].value):
        raise DataError(
            "the loss is not finite: a feature is missing or infinite",
            action="impute and check the rows before they are given to fedsm.learning.exact_site",
        )
    gradients = [loss.gradient() for loss in losses]
    arrays = to_arrays(gradients[0])
    arrays["losses"] = Array(np.array([loss.value for loss in losses]))
    if len(losses) > 1:
        arrays["trials"] = Array(np.stack(gradients[1:]))
    if question.ask == "hessian":
        arrays["hessian"] = Array(np.stack([loss.hessian() for loss in losses]))
    if question.ask == "curvature":
        found = losses[0].curvature(question.windows)
        curvature: tuple[Any, ...] = (found.total, found.mean, found.blocks)
        arrays.update(zip(_CURVATURE, map(Array, curvature), strict=True))
    if question.directions is not None:
        joint = losses[0].coupling(question.directions)
        coupling: tuple[Any, ...] = (joint.total, joint.mean, joint.gram)
        arrays.update(zip(_COUPLING, map(Array, coupling), strict=True))
    if question.separation:
        arrays["extremes"] = Array(_extremes(w, step, x, y))
    metrics = classification(y, losses[0].probabilities)
    return RecordDict({"arrays": arrays, "metrics": metrics})


def _extremes(w: Matrix, step: Matrix, x: Rows, y: Classes) -> Matrix:
    """Least margin of a row, and the least and the most that the step adds to one."""
    return np.array([least_and_most(w, x, y)[0], *least_and_most(step, x, y)])


def to_arrays(w: Matrix) -> ArrayRecord:
    """A matrix of shape (outputs, features + 1) as ``coef`` and ``intercept``."""
    return ArrayRecord(
        {
            "coef": Array(np.ascontiguousarray(w[:, :-1])),
            "intercept": Array(np.ascontiguousarray(w[:, -1])),
        }
    )


def to_matrix(arrays: ArrayRecord) -> Matrix:
    """``coef`` and ``intercept`` as a matrix of shape (outputs, features + 1)."""
    return np.column_stack([arrays["coef"].numpy(), arrays["intercept"].numpy()])


def curvature_of(arrays: ArrayRecord) -> Curvature:
    """One site's curvature."""
    parts: list[Any] = [arrays[name].numpy() for name in _CURVATURE]
    return Curvature(*parts)


def coupling_of(arrays: ArrayRecord) -> Coupling:
    """One site's coupling."""
    parts: list[Any] = [arrays[name].numpy() for name in _COUPLING]
    return Coupling(*parts)
