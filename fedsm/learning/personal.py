"""What a site makes for itself: a model of its own rows alone, and one fine-tuned from the global.

Both come from the adapter that the federation trains. Where its optimum can be computed (it has
``solve``, see :class:`Solved`) a fine-tuned model is the least of the site's own loss, the penalty
and ``n pull/2 |w - w_global|^2``, with inputs scaled to the site's own rows; with any other, some
rounds of ``fit`` lead away from the global model, and few of them stay near it as a pull does.

How far to go is told by cross-validation on the site's training rows. The global model was trained
on these very rows, and looks too good on them; so in each fold it is taken back, to first order, to
what the federation would have got without the rows held out: an infinitesimal jackknife, with the
site's own curvature scaled to the federation's size. The candidates are weighted by the losses of
the rows held out (pseudo-BMA with the Bayesian bootstrap: Yao, Vehtari, Simpson and Gelman 2018,
"Using stacking to average Bayesian predictive distributions"), so that no small difference decides,
and solved ones are averaged; of others the one of most weight is taken. docs/strategies.md has the
rules that this one was chosen from.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Protocol, runtime_checkable

import numpy as np
from flwr.app import Array, ArrayRecord
from numpy.typing import NDArray
from scipy import sparse

from fedsm.learning.models import Adapter, Local
from fedsm.learning.models.base import Classes
from fedsm.learning.preparation import Summary, alone
from fedsm.learning.sparse_tables import SparseTable
from fedsm.learning.tables import Table

Vector = NDArray[np.float64]

PULLS = (np.inf, 3.0, 1.0, 0.3, 0.1, 0.03, 0.01, 0.003, 0.0)
"""Strengths a row, from the global model to the site's own."""

PATH = (1, 2, 4, 8, 16, 32, 64)
"""Rounds of ``fit`` away from the global model, for an adapter that is not solved."""

FOLDS, REPEATS = 5, 4

SEVERAL = 1000
"""Rows up to which the folds are drawn several times."""

FEWEST = 10
"""Rows of each class, under which cross-validation tells too little to leave the global model."""

DRAWS = 200
"""Of the Bayesian bootstrap."""


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

    def rescaled(self, arrays: ArrayRecord, mean: Vector, scale: Vector) -> ArrayRecord:
        """Arrays that say of inputs ``(x - mean) / scale`` what these say of ``x``."""
        ...


def local_only(
    model: Adapter, table: Table | SparseTable, local: Local, rounds: int
) -> tuple[ArrayRecord, Summary]:
    """The model that a site would get alone, prepared by its own rows' statistics.

    Parameters
    ----------
    model : Adapter
    table : Table or SparseTable
        The site's training rows, not prepared.
    local : Local
        As in a round; of its summary only how rows are prepared and the classes are taken.
        Balanced class weights are of the site's own counts.
    rounds : int
        Of ``fit``, for an adapter that is not solved.

    Returns
    -------
    tuple of ArrayRecord, Summary
        The model, and how rows are prepared for it.

    Raises
    ------
    DataError
        The rows have one class: there is nothing to tell apart.
    """
    own = alone(table, local.summary)
    x, y = own.transform(table), own.encode(table.labels)
    return _from_nothing(model, x, y, replace(local, summary=own), rounds), own


def personalize(
    model: Adapter, arrays: ArrayRecord, x: Any, y: Classes, local: Local, rounds: int = 20
) -> ArrayRecord:
    """The global model, fine-tuned to a site by a proximal term that the site chooses itself.

    Parameters
    ----------
    model : Adapter
    arrays : ArrayRecord
        The global parameters; left as they are.
    x : ndarray of float64 or csr_array, shape (rows, inputs)
        The site's training rows, prepared as the federation's.
    y : ndarray of int, shape (rows,)
        Class indices.
    local, rounds
        As for :func:`local_only`.

    Returns
    -------
    ArrayRecord
        The global parameters themselves where a class has fewer rows than :data:`FEWEST`.
    """
    counts = np.bincount(y, minlength=2)
    if counts[counts > 0].min() < FEWEST or np.count_nonzero(counts) < 2:
        return arrays
    mean, scale = _own_scale(x)

    def near(anchor: ArrayRecord) -> ArrayRecord:
        return model.rescaled(anchor, mean, scale) if isinstance(model, Solved) else anchor

    z = (x if sparse.issparse(x) else x - mean) / scale if isinstance(model, Solved) else x
    losses: list[Vector] = []
    random = local.generator()
    for _ in range(REPEATS if isinstance(model, Solved) and len(y) <= SEVERAL else 1):
        parts: list[tuple[NDArray[np.bool_], Vector]] = []
        for held_out in _divided(y, FOLDS, random):
            anchor = arrays
            if isinstance(model, Solved):
                anchor = model.without(arrays, x, y, held_out, local)
            tried = _candidates(model, near(anchor), z[~held_out], y[~held_out], local, rounds)
            out, y_out = z[held_out], y[held_out]
            predicted = (model.predict(w, out, local.summary, local.run_config) for w in tried)
            parts.append((held_out, np.array([_log_loss(p, y_out) for p in predicted]).T))
        found = np.empty((len(y), parts[0][1].shape[1]))
        for held_out, part in parts:
            found[held_out] = part
        losses.append(found)
    class_weights = local.summary.class_weights(local.run_config.get("class-weights", "none"))
    weights = _weights(np.mean(losses, axis=0) * class_weights[y][:, np.newaxis], random)
    tried = _candidates(model, near(arrays), z, y, local, rounds)
    if not isinstance(model, Solved):
        return tried[int(weights.argmax())]
    return model.rescaled(_mean(tried, weights), -mean / scale, 1 / scale)


def _own_scale(x: Any) -> tuple[Vector, Vector]:
    """Means, 0 of sparse rows, and scales, 1 of constant inputs."""
    rows = x.shape[0]
    if sparse.issparse(x):
        mean, squares = (np.asarray(v.sum(axis=0)).ravel() / rows for v in (x, x.multiply(x)))
        scale = np.sqrt(np.maximum(squares - np.square(mean), 0.0))
        mean = np.zeros_like(scale)
    else:
        mean, scale = x.mean(axis=0), x.std(axis=0)
    return mean, np.where(scale < 1e-6, 1.0, scale)


def _weights(losses: Vector, random: np.random.Generator) -> Vector:
    """Weight of each candidate by the losses of the rows held out; shape (candidates,)."""
    total = np.zeros(losses.shape[1])
    for _ in range(DRAWS):
        drawn = random.standard_exponential(len(losses))
        likelihood = -(drawn * len(losses) / drawn.sum()) @ losses
        share = np.exp(likelihood - likelihood.max())
        total += share / share.sum()
    return total / DRAWS


def _mean(tried: list[ArrayRecord], weights: Vector) -> ArrayRecord:
    pairs = list(zip(tried, weights, strict=True))
    return ArrayRecord(
        {name: Array(np.asarray(sum(w * a[name].numpy() for a, w in pairs))) for name in tried[0]}
    )


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
        tuned = model.fit(tuned, x, y, _in_round(own, number))
        if number in PATH:
            found.append(tuned)
    return [*found, _from_nothing(model, x, y, own, rounds)]


def _from_nothing(model: Adapter, x: Any, y: Classes, local: Local, rounds: int) -> ArrayRecord:
    local = _alone(y, local)
    arrays = model.initial(local.summary, local.run_config)
    if isinstance(model, Solved):
        return model.solve(arrays, x, y, local)
    for number in range(1, rounds + 1):
        arrays = model.fit(arrays, x, y, _in_round(local, number))
    return arrays


def _in_round(local: Local, number: int) -> Local:
    """A round of the site's own: by its number are other rows drawn in each."""
    return replace(local, config={**local.config, "server-round": number})


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
    settings = dict(local.run_config)
    if settings.get("class-weights") == "balanced" and not counts.all():
        settings["class-weights"] = _balanced(summary)
    return replace(local, summary=summary, run_config=settings, proximal_mu=0.0, correction=None)


def _balanced(summary: Summary) -> str:
    """Weights as ``balanced`` has them of the classes that have rows; 1 of others, by default."""
    present = [(k, n) for k, n in zip(summary.classes, summary.class_counts, strict=True) if n]
    return ",".join(f"{label}:{summary.rows / (len(present) * n)!r}" for label, n in present)
