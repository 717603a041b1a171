"""Quantiles and medians of all sites' values from histograms over the same bins.

The bins follow from the federation's mean, scale and number of rows, so no site's least or largest
value is needed: no value is farther than ``scale * sqrt(rows)`` from the mean (Samuelson 1968, "How
deviant can you be?"). Half of the edges are dense about the mean, half about zero, both spaced as
the hyperbolic sine of equal steps: even there, and in proportion to the distance farther out, as
suits amounts whose tails are heavy. Values that are exactly zero have a bin of their own.

Counts under the threshold are merged into neighbouring bins before they leave (see
:mod:`fedsm.learning.counts`). Within a bin, values are taken to be spread evenly; but in one that
is far denser than those about it they are taken to be one value, such as a whole number or a code,
and have its middle rank. As in scikit-learn's QuantileTransformer, the least such value has rank 0
and the largest rank 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from flwr.app import Array, ArrayRecord, MetricRecord, RecordDict
from numpy.typing import NDArray

from fedsm.contract import MAX_BINS, MIN_BINS
from fedsm.errors import ConfigError
from fedsm.learning.counts import merge_small
from fedsm.learning.preparation.summary import Summary
from fedsm.learning.tables import Table

Counts = NDArray[np.int64]
Vector = NDArray[np.float64]

COUNTS = "counts"
MAX_COUNTS = 2**24
"""Features times bins: 64 MB."""

_QUANTILES = 1000
_ABOUT_MEAN, _ABOUT_ZERO = 1e-2, 1e-4
"""Where even spacing turns into proportional, as shares of scale and of the largest magnitude."""

_ZERO = 1e-12
"""Share of the largest magnitude up to which a value is zero."""

_TIE, _DENSER = 4, 4
"""A tie has the rows of so many average bins, and is so much denser than the bins beside it."""


def question(summary: Summary, bins: int) -> dict[str, Any]:
    """Config of ``query.histograms``.

    Raises
    ------
    ConfigError
        Rows are sparse, or the counts would be too many.
    """
    if summary.sparse:
        raise ConfigError(
            "sparse rows have no quantiles: nearly all of a column is zero",
            where="training.prepare.scale",
            action="set it to standardize or none",
        )
    if len(summary.features) * bins > MAX_COUNTS:
        raise ConfigError(
            f"{len(summary.features)} features in {bins} bins are more than {MAX_COUNTS} counts",
            where="training.prepare.bins",
            action=f"set it to {max(16, MAX_COUNTS // len(summary.features))} or less",
        )
    return {
        "histogram-mean": summary.mean.astype("<f8").tobytes(),
        "histogram-scale": summary.scale.astype("<f8").tobytes(),
        "histogram-rows": summary.rows,
        "histogram-bins": bins,
    }


def edges(mean: Vector, scale: Vector, rows: int, bins: int) -> NDArray[np.float64]:
    """Edges of each feature's bins, ascending; shape (features, bins + 1)."""
    reach = np.sqrt(rows) * (1 + 1e-9)
    at_mean = (bins + 1) // 2
    about_mean = _sinh_grid(at_mean, reach / _ABOUT_MEAN) * _ABOUT_MEAN
    # An odd number of edges has one at zero itself; one just above it leaves it alone in its bin.
    count = bins - at_mean
    at_zero = count - 1 + count % 2
    about_zero = _sinh_grid(at_zero, 1 / _ABOUT_ZERO) * _ABOUT_ZERO
    largest = np.abs(mean) + scale * reach
    parts = [
        mean[:, np.newaxis] + scale[:, np.newaxis] * about_mean,
        largest[:, np.newaxis] * about_zero,
        largest[:, np.newaxis] * _ZERO,
    ]
    if at_zero < count:
        parts.append(2 * largest[:, np.newaxis])
    return np.sort(np.hstack(parts), axis=1)


def _sinh_grid(count: int, largest: float) -> Vector:
    """So many points from ``-largest`` to ``largest``, even about 0."""
    steps = np.arange(count) - (count - 1) / 2
    grid: Vector = np.sinh(steps * (np.arcsinh(largest) / steps[-1]))
    return grid


def histograms(table: Table, config: Mapping[str, Any], smallest: int) -> RecordDict:
    """A site's answer to ``query.histograms``.

    Parameters
    ----------
    table : Table
    config : mapping
        Holds what :func:`question` gave.
    smallest : int
        No bin has fewer rows, but none.

    Returns
    -------
    RecordDict
        ``histograms`` (``counts``, int32 of shape (features, bins)) and ``metrics``
        (``num-examples``). A feature with a value that the mean, scale and rows exclude has zeros.

    Raises
    ------
    ConfigError
        The question is of other columns, or of too few or too many bins.
    """
    mean, scale = (
        np.frombuffer(config[f"histogram-{key}"], dtype="<f8") for key in ("mean", "scale")
    )
    rows, bins = int(config["histogram-rows"]), int(config["histogram-bins"])
    if len(mean) != len(table.columns) or len(scale) != len(mean) or rows < 1:
        raise ConfigError("the question is of other columns", where="query.histograms")
    if not MIN_BINS <= bins <= MAX_BINS or bins * len(mean) > MAX_COUNTS:
        raise ConfigError("the question is of too few or too many bins", where="query.histograms")
    reach = scale * np.sqrt(rows) + 1e-6 * (np.abs(mean) + scale)
    counts = np.zeros((len(mean), bins), dtype=np.int64)
    for i, borders in enumerate(edges(mean, scale, rows, bins)):
        values = table.features[:, i]
        values = values[~np.isnan(values)]
        if not (np.abs(values - mean[i]) <= reach[i]).all():
            continue  # no statistics of these values: a view of some of them
        at = np.searchsorted(borders, values, side="right") - 1
        counts[i] = np.bincount(np.clip(at, 0, bins - 1), minlength=bins)
    return answer(withheld(counts, smallest), len(table))


def withheld(counts: Counts, smallest: int) -> Counts:
    """Counts of which none is from 1 to ``smallest - 1``."""
    if not counts.size:
        return counts
    return np.stack([merge_small(row, smallest) for row in counts])


def answer(counts: Counts, rows: int) -> RecordDict:
    """The records of an answer."""
    return RecordDict(
        {
            "histograms": ArrayRecord({COUNTS: Array(counts.astype(np.int32))}),
            "metrics": MetricRecord({"num-examples": rows}),
        }
    )


def read(reply: RecordDict, shape: tuple[int, int] | None = None) -> Counts | None:
    """A site's counts, or None where they are not of their form or more than its rows."""
    try:
        array = reply.array_records["histograms"][COUNTS]
        rows: Any = reply.metric_records["metrics"]["num-examples"]
    except KeyError:
        return None
    given = tuple(array.shape)
    if array.dtype != "int32" or len(given) != 2 or (shape is not None and given != shape):
        return None
    try:
        counts = array.numpy()
    except (ValueError, EOFError, TypeError):
        return None
    if counts.shape != given or counts.dtype != np.int32 or type(rows) is not int:
        return None
    if counts.size > MAX_COUNTS or (counts < 0).any():
        return None
    wide = counts.astype(np.int64)
    return None if (wide.sum(axis=1) > rows).any() else wide


def merge(
    summary: Summary, sites: Mapping[str, Counts], *, bins: int, quantile: bool, median: bool
) -> Summary:
    """The summary with quantiles, medians or both, of all sites' counts.

    A feature without a count has zeros.
    """
    counts = np.sum(list(sites.values()), axis=0)
    borders = edges(summary.mean, summary.scale, summary.rows, bins)
    pairs = list(zip(borders, counts, strict=True))
    if median:
        half = np.array([0.5])
        fill = np.array([_quantiles(e, c, half, extremes=False)[0] for e, c in pairs])
        summary = replace(summary, fill=fill)
    if quantile:
        ranks = np.linspace(0, 1, min(bins, _QUANTILES))
        found = np.zeros((len(ranks), len(pairs)))
        for i, (e, c) in enumerate(pairs):
            found[:, i] = _quantiles(e, c, ranks)
        summary = replace(summary, scaling="quantile", quantiles=found)
    return summary


def _quantiles(borders: Vector, counts: Counts, ranks: Vector, *, extremes: bool = True) -> Vector:
    """Values at ranks, ascending, of one feature."""
    used = np.flatnonzero(counts)
    if not len(used):
        return np.zeros_like(ranks)
    total = counts.sum()
    below = (np.cumsum(counts) - counts) / total
    mass = counts / total
    at = used[np.searchsorted(below[used], ranks, side="right") - 1]
    share = np.clip((ranks - below[at]) / mass[at], 0.0, 1.0)
    low, high = borders[at], borders[at + 1]
    tie = _ties(borders, mass)[at]
    # A hair below the bin's lower edge, which belongs to the bin.
    before, after = low - 1e-6 * (high - low), high
    stepped = np.where(share < 0.5, before, after)
    if extremes:
        stepped = np.where(at == used[-1], low, stepped)
        stepped = np.where(at == used[0], high, stepped)
    else:
        stepped = np.where(low == 0, 0.0, (low + high) / 2)
    return np.maximum.accumulate(np.where(tie, stepped, low + share * (high - low)))


def _ties(borders: Vector, mass: Vector) -> NDArray[np.bool_]:
    """Bins whose rows are taken to have one value."""
    width = np.diff(borders)
    density = np.divide(mass, width, out=np.zeros_like(mass), where=width > 0)
    padded = np.pad(density, 1)
    beside = np.maximum(padded[:-2], padded[2:])
    heavy: NDArray[np.bool_] = (mass * len(mass) > _TIE) & (density > _DENSER * beside)
    return heavy
