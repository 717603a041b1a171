"""The round whose model is the run's: the best by a named metric, and when to stop looking."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

from flwr.app import ArrayRecord

from fedsm.errors import TrainingError
from fedsm.training_config import Best

_ERRORS = re.compile(r"(^|[-_])(loss|error|err|brier|deviance|mae|mse|rmse|nll)([-_]|$)")


def higher_is_better(metric: str) -> bool:
    """Whether a metric of this name is no loss or error."""
    return _ERRORS.search(metric.lower()) is None


class BestRound:
    """What has been the best round so far.

    A round in which the metric is undefined (NaN: the AUC of sites with one class each) cannot be
    the best; like one that improves nothing it counts towards the patience. One that was not
    evaluated at all, as the strategy decides, does not.

    Attributes
    ----------
    number : int
        The best round; 0 before one has a value.
    value : float
        Its metric.
    arrays : ArrayRecord or None
        Its model.
    undefined : int
        Rounds in which the metric was undefined.
    """

    def __init__(self, settings: Best) -> None:
        self._settings = settings
        self._sign = 1.0 if higher_is_better(settings.metric) else -1.0
        self._waited = 0
        self.number = 0
        self.value = math.nan
        self.arrays: ArrayRecord | None = None
        self.undefined = 0

    def see(self, row: Mapping[str, Any], arrays: ArrayRecord) -> None:
        """Take in a round's row of the history and its model.

        Raises
        ------
        TrainingError
            There is no metric of that name.
        """
        name = self._settings.metric
        metrics = row["server" if self._settings.of == "server" else "evaluate"]
        if not metrics:
            return
        if name not in metrics:
            known = (key for key, found in sorted(metrics.items()) if _number(found))
            raise TrainingError(
                f"round {row['round']} has no metric {name!r} of the {self._settings.of}",
                where="training.best.metric",
                action=f"choose one of {', '.join(known)}",
            )
        value = metrics[name]
        if not _number(value):
            raise TrainingError(
                f"metric {name!r} is not one number",
                where="training.best.metric",
                action="choose a metric that is a number",
            )
        self._waited += 1
        if not math.isfinite(value):
            self.undefined += 1
        elif not self.number or self._sign * (value - self.value) > self._settings.min_delta:
            self.number, self.value, self.arrays = int(row["round"]), float(value), arrays
            self._waited = 0

    @property
    def exhausted(self) -> bool:
        """Whether the patience is at its end."""
        patience = self._settings.patience
        return patience is not None and self._waited >= patience

    def told(self) -> dict[str, Any]:
        """What the journal says."""
        return {
            "round": self.number,
            "metric": self._settings.metric,
            "of": self._settings.of,
            "value": self.value if self.number else None,
            "undefined": self.undefined,
        }


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
