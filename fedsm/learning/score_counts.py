"""Histograms of probabilities by class: what leaves a site for the pooled ROC curve. Pure.

Bins are equally wide on the logit scale, so fine near 0 and 1 where rare outcomes lie, and 0.5 is
an edge. A site's counts are gathered until none is of few rows. The coordinator spreads what was
gathered and sums it over the sites, which gives a tally, see :mod:`fedsm.learning.scores`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Counts = NDArray[np.int64]
Vector = NDArray[np.float64]

BINS = 200
_REACH = 9.2
"""Logit of the outermost edges: probabilities of 0.0001 and 0.9999."""


def bins_for(classes: int) -> int:
    """Bins of a class's histogram: an even number, fewer where many classes share a list."""
    return BINS if classes == 2 else max(10, min(BINS, 900 // classes) // 2 * 2)


def edges(bins: int) -> Vector:
    """The inner edges, shape (bins - 1,)."""
    return np.asarray(1 / (1 + np.exp(-np.linspace(-_REACH, _REACH, bins - 1))))


def centres(bins: int) -> Vector:
    """A probability for each bin, shape (bins,): the middle on the logit scale."""
    inner = np.linspace(-_REACH, _REACH, bins - 1)
    half = (inner[1] - inner[0]) / 2
    return np.asarray(1 / (1 + np.exp(-np.append(inner - half, inner[-1] + half))))


def histogram(probability: Vector, bins: int) -> Counts:
    """Rows in each bin."""
    at = np.searchsorted(edges(bins), probability, side="right")
    return np.bincount(at, minlength=bins).astype(np.int64)


def gathered(counts: Counts, smallest: int) -> Counts:
    """Gather counts until none is from 1 to ``smallest - 1``, each group at its middle row's bin.

    Unlike :func:`fedsm.learning.counts.merge_small`, which carries upwards, this moves rows both
    ways, so that the class of fewer rows does not drift against the other.

    Parameters
    ----------
    counts : ndarray of int, shape (bins,)
    smallest : int

    Returns
    -------
    ndarray of int, shape (bins,)
        Of the same sum; all zero where fewer than ``smallest`` rows are counted.
    """
    out = np.zeros_like(counts)
    total = int(counts.sum())
    if not total or total < smallest:
        return out
    groups: list[list[int]] = []
    size = 0
    for at in np.flatnonzero(counts).tolist():
        if not groups or size >= smallest:
            groups.append([])
            size = 0
        groups[-1].append(at)
        size += int(counts[at])
    if size < smallest and len(groups) > 1:
        last = groups.pop()
        groups[-1] += last
    for group in groups:
        rows = counts[group]
        middle = int(np.searchsorted(np.cumsum(rows), (rows.sum() + 1) // 2))
        out[group[middle]] += rows.sum()
    return out


def spread(counts: Counts, smallest: int) -> Vector:
    """Undo the clumping of :func:`gathered`, not knowing where the rows were.

    A count below ``2 smallest`` may be a gathered one: half of it goes to either side of its bin,
    evenly up to the middle between it and the next. A larger one stays.
    """
    at = np.flatnonzero(counts)
    if smallest <= 1 or len(at) < 2:
        return counts.astype(np.float64)
    gaps = np.diff(at) / 2
    left, right = np.append(gaps[0], gaps), np.append(gaps, gaps[-1])
    place, share = [0.0], [0.0]  # the cumulative count by pieces of lines
    for x, before, after in zip(at.tolist(), left.tolist(), right.tolist(), strict=True):
        rows, base = float(counts[x]), share[-1]
        if rows >= 2 * smallest:
            place += [x, x + 1]
            share += [base, base + rows]
        else:
            place += [max(0.0, x + 0.5 - before), x + 0.5, min(len(counts), x + 0.5 + after)]
            share += [base, base + rows / 2, base + rows]
    return np.diff(np.interp(np.arange(len(counts) + 1), place, share))
