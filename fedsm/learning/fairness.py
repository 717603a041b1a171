"""Differences between groups, by fairlearn, from counts alone."""

from __future__ import annotations

import importlib.util
import math
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

Counts = NDArray[np.int64]

HOW = "differences between groups need fairlearn: pip install 'fedsm[fairness]'"


def available() -> bool:
    """Whether fairlearn is installed."""
    return importlib.util.find_spec("fairlearn") is not None


def measures(confusions: Mapping[str, Counts]) -> dict[str, Any]:
    """Rates of each group, and how far apart they are.

    Parameters
    ----------
    confusions : mapping of str to ndarray of int, shape (2, 2)
        Group to its rows by class and predicted class.

    Returns
    -------
    dict
        ``groups``: to each group ``accuracy``, ``selection_rate``, ``true_positive_rate`` and
        ``false_positive_rate``, NaN where the group has no row to tell; the
        ``demographic_parity_difference`` and ``equalized_odds_difference`` of fairlearn between
        them, NaN for fewer than two groups or where a rate is undefined.
    """
    from fairlearn import metrics
    from sklearn.metrics import accuracy_score

    rates = {
        "accuracy": accuracy_score,
        "selection_rate": metrics.selection_rate,
        "true_positive_rate": metrics.true_positive_rate,
        "false_positive_rate": metrics.false_positive_rate,
    }
    # Each cell of a group's matrix as one row of that weight.
    cells = [(g, a, b, int(c[a, b])) for g, c in confusions.items() for a in (0, 1) for b in (0, 1)]
    group, actual, predicted, weight = (list(column) for column in zip(*cells, strict=True))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of rates without rows, which are told below
        frame = metrics.MetricFrame(
            metrics=rates,
            y_true=np.array(actual),
            y_pred=np.array(predicted),
            sensitive_features=np.array(group),
            sample_params={name: {"sample_weight": np.array(weight)} for name in rates},
        )
    found: dict[str, dict[str, float]] = {}
    for name, counts in confusions.items():
        rows, (negative, positive) = counts.sum(), counts.sum(axis=1)
        needs = dict(zip(rates, (rows, rows, positive, negative), strict=True))
        found[name] = {
            rate: float(frame.by_group.loc[name, rate]) if needs[rate] else math.nan
            for rate in rates
        }
    selection = [own["selection_rate"] for own in found.values()]
    odds = [
        [own[rate] for own in found.values()]
        for rate in ("true_positive_rate", "false_positive_rate")
    ]
    differences = frame.difference(method="between_groups")
    several = len(found) > 1
    told = several and not any(map(math.isnan, selection))
    both = several and not any(math.isnan(rate) for rates_ in odds for rate in rates_)
    return {
        "groups": found,
        "demographic_parity_difference": float(differences["selection_rate"]) if told else math.nan,
        "equalized_odds_difference": float(
            max(differences["true_positive_rate"], differences["false_positive_rate"])
        )
        if both
        else math.nan,
    }
