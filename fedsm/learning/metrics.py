"""Metrics of a classifier, and their average over sites.

A metric that is undefined at a site (the AUC of one class, the loss of no rows) is NaN there: all
sites report the same keys, and the average leaves out what is undefined.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import cast

import numpy as np
from flwr.app import MetricRecord, RecordDict
from numpy.typing import NDArray

from fedsm.learning import scores
from fedsm.metric_names import WEIGHT


def classification(y: NDArray[np.intp], probabilities: NDArray[np.float64]) -> MetricRecord:
    """Metrics of predicted probabilities.

    Parameters
    ----------
    y : ndarray of int, shape (rows,)
        Class indices.
    probabilities : ndarray of float64, shape (rows, classes)

    Returns
    -------
    MetricRecord
        ``num-examples``; ``loss``, the mean negative log-likelihood in nats; ``accuracy``; ``auc``,
        the area under the ROC curve, and ``average-precision``, both for more than two classes the
        mean of each against the rest; ``brier``, the mean squared error of the probabilities;
        ``classes-present``, the number of classes among these rows. What ranks is NaN unless all
        classes are present; everything but the counts is NaN without rows.
    """
    present = len(np.unique(y))
    loss = accuracy = auc = precision = math.nan
    if len(y):
        chosen = probabilities[np.arange(len(y)), y]
        loss = float(-np.log(np.clip(chosen, np.finfo(np.float64).tiny, None)).mean())
        accuracy = float((probabilities.argmax(axis=1) == y).mean())
    if present == probabilities.shape[1]:
        tallies = [scores.tally(y == c, probabilities[:, c]) for c in judged(present)]
        auc = float(np.mean([scores.area(*tally) for tally in tallies]))
        precision = float(np.mean([scores.precision(*tally) for tally in tallies]))
    return MetricRecord(
        {
            WEIGHT: len(y),
            "loss": loss,
            "accuracy": accuracy,
            "auc": auc,
            "average-precision": precision,
            "brier": scores.brier(y, probabilities),
            "classes-present": present,
        }
    )


def area_under_roc(positive: NDArray[np.bool_], score: NDArray[np.float64]) -> float:
    """Probability that a positive row scores above a negative one, ties counting half."""
    return scores.area(*scores.tally(positive, score))


def judged(classes: int) -> range:
    """Classes that are told from the rest: the second of two, each of more."""
    return range(classes) if classes > 2 else range(1, 2)


def aggregate_metrics(records: Sequence[RecordDict], weighted_by: str) -> MetricRecord:
    """Average the sites' metrics; fits ``train_metrics_aggr_fn`` and ``evaluate_metrics_aggr_fn``.

    Parameters
    ----------
    records : sequence of RecordDict
        Replies' contents, each with one ``MetricRecord``.
    weighted_by : str
        Key of the weight.

    Returns
    -------
    MetricRecord
        Per key the mean over the sites where it is defined, by their weights; the weight's own key
        holds the sum. A key defined nowhere, or only at sites of weight 0, is NaN.
    """
    metrics = [next(iter(record.metric_records.values())) for record in records]
    weights = [float(cast(float, m[weighted_by])) for m in metrics]
    out = MetricRecord({weighted_by: _whole(sum(weights))})
    for key in metrics[0] if metrics else ():
        if key == weighted_by:
            continue
        values = [m[key] for m in metrics]
        if isinstance(values[0], list):
            rows = [cast("list[float]", v) for v in values]
            columns = zip(*rows, strict=True)
            out[key] = [_mean(column, weights) for column in columns]
        else:
            out[key] = _mean([cast(float, v) for v in values], weights)
    return out


def _whole(value: float) -> int | float:
    return int(value) if value.is_integer() else value


def _mean(values: Sequence[float], weights: Sequence[float]) -> float:
    pairs = [(v, w) for v, w in zip(values, weights, strict=True) if not math.isnan(v) and w > 0]
    total = sum(w for _, w in pairs)
    return sum(v * w for v, w in pairs) / total if total else math.nan
