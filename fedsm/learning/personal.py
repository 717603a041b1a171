"""What a site makes for itself: a model of its own rows alone, and one fine-tuned from the global.

Both come from the adapter that the federation trains. Where its optimum can be computed (it has
``solve``, see :class:`Solved`) the fine-tuned model is the least of the site's own loss and
``n pull/2 |w - w_global|^2``; with any other, some rounds of ``fit`` lead away from the global
model, and few of them stay near it as a pull does. The site itself chooses how far to go, from the
global model to the model of its rows alone, by cross-validation on its training rows:
the one with the least loss is taken. The global model was trained on these very rows, and looks too
good on them; so in each fold it is taken back, to first order, to what the federation would have
got without the rows held out: an infinitesimal jackknife, with the site's own curvature scaled to
the federation's size.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Protocol, runtime_checkable

import numpy as np
from flwr.app import ArrayRecord
from numpy.typing import NDArray

from fedsm.errors import DataError
from fedsm.learning.models import Adapter, Local
from fedsm.learning.models.base import Classes

Vector = NDArray[np.float64]

PULLS = (np.inf, 3.0, 1.0, 0.3, 0.1, 0.03, 0.01, 0.003, 0.0)
"""Strengths a row, from the global model to the site's own."""

PATH = (1, 2, 4, 8, 16, 32, 64)
"""Rounds of ``fit`` away from the global model, for an adapter that is not solved."""

FOLDS, REPEATS = 5, 4

SEVERAL = 1000
"""Rows up to which the folds are drawn several times."""


@runtime_checkable
class Solved(Protocol):
    """An adapter whose objective is convex and is minimised at once."""

    def solve(
        self, start: ArrayRecord, x: Any, y: Classes, local: Local, *, pull: float = 0.0
    ) -> ArrayRecord:
        """The least of the rows' summed loss, the penalty and ``pull/2 |w - start|^2``."""
        ...

    def without(
        self, arrays: ArrayRecord, x: Any, y: Classes, held_out: NDArray[np.bool_], local: Local
    ) -> ArrayRecord:
        """What the global arrays would be, to first order, without these of the site's rows."""
        ...


def local_only(model: Adapter, x: Any, y: Classes, local: Local, rounds: int) -> ArrayRecord:
    """The model that a site would get alone.

    Parameters
    ----------
    model : Adapter
    x : ndarray of float64 or csr_array, shape (rows, inputs)
        The site's prepared training rows.
    y : ndarray of int, shape (rows,)
        Class indices.
    local : Local
        As in a round; its summary is replaced by one of this site's rows, whose balanced class
        weights are of its own counts.
    rounds : int
        Of ``fit``, for an adapter that is not solved.

    Raises
    ------
    DataError
        The rows have one class: there is nothing to tell apart.
    """
    local = _alone(y, local)
    if len(np.unique(y)) < 2:
        raise DataError(
            "the training rows have one class: there is no model of this site alone",
            action="compare with sites that have both",
        )
    start = model.initial(local.summary, local.run_config)
    if isinstance(model, Solved):
        return model.solve(start, x, y, local)
    for _ in range(rounds):
        start = model.fit(start, x, y, local)
    return start


def personalize(
    model: Adapter, arrays: ArrayRecord, x: Any, y: Classes, local: Local, rounds: int = 20
) -> ArrayRecord:
    """The global model, fine-tuned to a site by a proximal term that the site chooses itself.

    Parameters
    ----------
    model : Adapter
    arrays : ArrayRecord
        The global parameters; left as they are.
    x, y, local, rounds
        As for :func:`local_only`.

    Returns
    -------
    ArrayRecord
        The global parameters themselves where the rows cannot be divided: one class, or one row of
        a class.
    """
    counts = np.bincount(y)
    folds = min(FOLDS, int(counts[counts > 0].min()))
    if folds < 2 or np.count_nonzero(counts) < 2:
        return arrays
    losses: list[Vector] = []
    random = local.generator()
    for _ in range(REPEATS if isinstance(model, Solved) and len(y) <= SEVERAL else 1):
        folds_found: list[tuple[NDArray[np.bool_], Vector]] = []
        for held_out in _divided(y, folds, random):
            anchor = arrays
            if isinstance(model, Solved):
                anchor = model.without(arrays, x, y, held_out, local)
            tried = _candidates(model, anchor, x[~held_out], y[~held_out], local, rounds)
            x_out, y_out = x[held_out], y[held_out]
            predicted = (model.predict(w, x_out, local.summary, local.run_config) for w in tried)
            folds_found.append((held_out, np.array([_log_loss(p, y_out) for p in predicted]).T))
        found = np.empty((len(y), folds_found[0][1].shape[1]))
        for held_out, part in folds_found:
            found[held_out] = part
        losses.append(found)
    weights = local.summary.class_weights(local.run_config.get("class-weights", "none"))
    mean = (np.mean(losses, axis=0) * weights[y][:, np.newaxis]).mean(axis=0)
    return _candidates(model, arrays, x, y, local, rounds)[int(mean.argmin())]


def _candidates(
    model: Adapter, arrays: ArrayRecord, x: Any, y: Classes, local: Local, rounds: int
) -> list[ArrayRecord]:
    """From the global model to the site's own."""
    own = _alone(y, local)
    if isinstance(model, Solved):
        pulls = [pull for pull in PULLS if np.isfinite(pull)]
        return [arrays, *(model.solve(arrays, x, y, own, pull=p * len(y)) for p in pulls)]
    found, tuned = [arrays], arrays
    for number in range(1, rounds + 1):
        tuned = model.fit(tuned, x, y, own)
        if number in PATH:
            found.append(tuned)
    return [*found, local_only(model, x, y, local, rounds)]


def _divided(y: Classes, folds: int, random: np.random.Generator) -> Iterator[NDArray[np.bool_]]:
    """Which rows each fold holds out; every class is dealt out evenly."""
    fold, dealt = np.empty(len(y), dtype=np.intp), 0
    for label in np.unique(y):
        rows = random.permutation(np.flatnonzero(y == label))
        fold[rows] = (np.arange(len(rows)) + dealt) % folds
        dealt += len(rows)
    return (fold == number for number in range(folds))


def _log_loss(p: NDArray[np.float64], y: Classes) -> Vector:
    chosen = p[np.arange(len(y)), y]
    return np.asarray(-np.log(np.clip(chosen, np.finfo(np.float64).tiny, None)))


def _alone(y: Classes, local: Local) -> Local:
    """The site as a federation of its own."""
    counts = np.bincount(y, minlength=len(local.summary.classes))
    summary = replace(local.summary, rows=len(y), class_counts=tuple(counts.tolist()))
    return replace(local, summary=summary, proximal_mu=0.0, correction=None)
