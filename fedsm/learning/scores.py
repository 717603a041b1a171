"""How well probabilities rank and fit two classes, each with its 95 % interval. Pure.

All is computed from a *tally*: rows of either class at each score, in ascending order of the
score. Rows have a score each; summed histograms of many sites give a tally too, so that one code
serves a site's rows and the pooled federation.

Undefined values are NaN: nothing ranks one class, and no interval follows from a perfect ranking,
whose estimated variance is 0.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float64]
Flags = NDArray[np.bool_]

Z = 1.959963984540054
"""Of a two-sided 95 % interval."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A value with the bounds of its 95 % interval; NaN where undefined."""

    value: float
    low: float = math.nan
    high: float = math.nan


@dataclass(frozen=True, slots=True)
class Calibration:
    """How probabilities fit what happened.

    Attributes
    ----------
    slope, intercept : float
        Of a logistic regression of the outcome on the logit of the probability (Cox 1958, "Two
        further applications of a model for binary regression"); 1 and 0 are perfect, a slope below
        1 means too extreme probabilities.
    error : float
        Expected calibration error: the mean over ten equally wide bins, by their rows, of how far
        the mean probability is from the share of positives.
    """

    slope: float
    intercept: float
    error: float


def tally(positive: Flags, score: Vector) -> tuple[Vector, Vector]:
    """Positive and negative rows at each different score, ascending."""
    order = np.argsort(score)
    ascending = score[order]
    ends = np.flatnonzero(np.append(ascending[1:] != ascending[:-1], True)[: len(score)])
    positives = np.diff(np.cumsum(positive[order])[ends], prepend=0)
    return positives.astype(np.float64), (np.diff(ends, prepend=-1) - positives).astype(np.float64)


def area(positives: Vector, negatives: Vector) -> float:
    """Area under the ROC curve of a tally: how often a positive row scores above a negative one.

    The Mann-Whitney form; ties count half.
    """
    p, n = positives.sum(), negatives.sum()
    if not (p and n):
        return math.nan
    return float(positives @ (np.cumsum(negatives) - negatives / 2) / (p * n))


def precision(positives: Vector, negatives: Vector) -> float:
    """Average precision of a tally: the precision at each threshold, by the recall gained there."""
    p = positives.sum()
    if not (p and negatives.sum()):
        return math.nan
    hits = np.cumsum(positives[::-1])
    found = hits + np.cumsum(negatives[::-1])
    shares = np.divide(hits, found, out=np.zeros_like(hits), where=found > 0)
    return float(positives[::-1] @ shares / p)


def auc(positives: Vector, negatives: Vector) -> Estimate:
    """:func:`area` with its interval.

    The variance is that of DeLong, DeLong and Clarke-Pearson 1988, "Comparing the areas under two
    or more correlated receiver operating characteristic curves"; the interval is symmetric on the
    logit scale, so that it stays within 0 and 1 (Pepe 2003, section 5.2.5).
    """
    value = area(positives, negatives)
    p, n = positives.sum(), negatives.sum()
    if not (1e-12 < value < 1 - 1e-12) or p < 2 or n < 2:
        return Estimate(value)
    above, below = _placements(positives, negatives)
    variance = float(
        positives @ np.square(above - value) / (p * (p - 1))
        + negatives @ np.square(below - value) / (n * (n - 1))
    )
    if variance <= 0:
        return Estimate(value)
    return _logit_interval(value, math.sqrt(variance) / (value * (1 - value)))


def auc_from_value(value: float, positives: float, negatives: float) -> Estimate:
    """An AUC with the interval that follows from it and the rows of either class.

    Hanley and McNeil 1982, "The meaning and use of the area under a receiver operating
    characteristic (ROC) curve", on the logit scale.
    """
    if not 1e-12 < value < 1 - 1e-12 or not (positives and negatives):
        return Estimate(value)
    first, second = value / (2 - value), 2 * value**2 / (1 + value)
    variance = (
        value * (1 - value)
        + (positives - 1) * (first - value**2)
        + (negatives - 1) * (second - value**2)
    ) / (positives * negatives)
    return _logit_interval(value, math.sqrt(variance) / (value * (1 - value)))


def precision_from_value(value: float, positives: float) -> Estimate:
    """An average precision with the logit interval of Boyd, Eng and Page 2013.

    "Area under the precision-recall curve: point estimates and confidence intervals".
    """
    if not 1e-12 < value < 1 - 1e-12:
        return Estimate(value)
    return _logit_interval(value, 1 / math.sqrt(positives * value * (1 - value)))


def auc_difference(positive: Flags, score: Vector, other: Vector) -> Estimate:
    """AUC of ``score`` less that of ``other`` on the same rows, with DeLong's paired interval.

    Parameters
    ----------
    positive : ndarray of bool, shape (rows,)
    score, other : ndarray of float64, shape (rows,)
    """
    p = int(positive.sum())
    n = len(positive) - p
    if not (p and n):
        return Estimate(math.nan)
    parts = []
    for scores in (score, other):
        _, inverse = np.unique(scores, return_inverse=True)
        above, below = _placements(*tally(positive, scores))
        parts.append((above[inverse[positive]], below[inverse[~positive]]))
    above, below = (ours - theirs for ours, theirs in zip(*parts, strict=True))
    value = float(above.mean())
    if p < 2 or n < 2:
        return Estimate(value)
    variance = float(above.var(ddof=1) / p + below.var(ddof=1) / n)
    if variance <= 0:
        return Estimate(value)
    reach = Z * math.sqrt(variance)
    return Estimate(value, max(-1.0, value - reach), min(1.0, value + reach))


def average_precision(positives: Vector, negatives: Vector) -> Estimate:
    """:func:`precision` with its interval."""
    return precision_from_value(precision(positives, negatives), float(positives.sum()))


def calibration(outcome: Vector, probability: Vector, weight: Vector | None = None) -> Calibration:
    """Slope, intercept and error of probabilities.

    Parameters
    ----------
    outcome : ndarray of float64, shape (rows,)
        1 for a positive row, 0 for a negative one; a share where a row stands for many.
    probability, weight : ndarray of float64, shape (rows,)
        Of the positive class; rows that each stands for.
    """
    weight = np.ones_like(outcome) if weight is None else weight
    total = weight.sum()
    if not total:
        return Calibration(math.nan, math.nan, math.nan)
    at = np.minimum((probability * 10).astype(int), 9)
    error = np.bincount(at, weight * (probability - outcome), minlength=10)
    slope, intercept = _recalibrated(outcome, probability, weight)
    return Calibration(slope, intercept, float(np.abs(error).sum() / total))


def brier(y: NDArray[np.intp], probabilities: NDArray[np.float64]) -> float:
    """Mean squared error of probabilities.

    Of two classes that of the second's probability; of more the sum over the classes (Brier 1950,
    "Verification of forecasts expressed in terms of probability").
    """
    if not len(y):
        return math.nan
    if probabilities.shape[1] == 2:
        return float(np.square(probabilities[:, 1] - y).mean())
    actual = np.eye(probabilities.shape[1])[y]
    return float(np.square(probabilities - actual).sum(axis=1).mean())


def _placements(positives: Vector, negatives: Vector) -> tuple[Vector, Vector]:
    """Share of negatives below each score, and of positives above it; ties count half."""
    above = (np.cumsum(negatives) - negatives / 2) / negatives.sum()
    below = 1 - (np.cumsum(positives) - positives / 2) / positives.sum()
    return above, below


def _logit_interval(value: float, error: float) -> Estimate:
    middle = math.log(value / (1 - value))
    low, high = (1 / (1 + math.exp(min(700.0, -(middle + way * Z * error)))) for way in (-1, 1))
    return Estimate(value, low, high)


def _recalibrated(outcome: Vector, probability: Vector, weight: Vector) -> tuple[float, float]:
    """Slope and intercept by damped Newton's method; NaN where there is no finite optimum."""
    tiny = 1e-12
    bounded = np.clip(probability, tiny, 1 - tiny)
    x = np.column_stack([np.log(bounded / (1 - bounded)), np.ones_like(bounded)])

    def loss(beta: Vector) -> float:
        at = x @ beta
        return float(weight @ (np.logaddexp(0, at) - outcome * at))

    # From 1 and 0 whole steps lead away where probabilities are far too extreme.
    beta = np.zeros(2)
    for _ in range(100):
        mean = 1 / (1 + np.exp(-np.clip(x @ beta, -500, 500)))
        gradient = x.T @ (weight * (outcome - mean))
        hessian = (x * (weight * mean * (1 - mean))[:, np.newaxis]).T @ x
        if np.linalg.cond(hessian) > 1e12:
            break
        step = np.linalg.solve(hessian, gradient)
        if np.abs(step).max() < 1e-9:
            beta = beta + step
            return float(beta[0]), float(beta[1])
        before = loss(beta)
        while loss(beta + step) > before + 1e-12 * abs(before) and np.abs(step).max() > 1e-12:
            step = step / 2
        beta = beta + step
        if np.abs(beta).max() > 1e6:
            break
    return math.nan, math.nan
