"""A site's answer to ``evaluate.report``, read with care: it comes over the network."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedsm.errors import DataError
from fedsm.learning import score_counts
from fedsm.learning.checks import MAX_WEIGHT
from fedsm.learning.groups import NO_COLUMN, TOO_MANY, Groups
from fedsm.learning.metrics import judged
from fedsm.metric_names import MODEL, WEIGHT

Counts = NDArray[np.int64]
Entry = dict[str, Any]

_RANGES = {
    "loss": (0.0, 1e6),
    "brier": (0.0, 2.0),
    "calibration-slope": (-1e7, 1e7),
    "calibration-intercept": (-1e7, 1e7),
    "gap": (-1.0, 1.0),
}
"""What a metric may be; else from 0 to 1."""


@dataclass(frozen=True)
class Reported:
    """What one site told.

    Attributes
    ----------
    entry : dict
        For people: ``n``, ``classes``, ``prevalence``, the metrics of each model, ``undefined``
        (metric to the reason) and ``withheld`` (names).
    scores : tuple of ndarray of int, shape (judged classes, bins), or None
        Histograms of positives and of negatives.
    confusion : ndarray of int, shape (classes, classes), or None
    groups : mapping of (column, value) to ndarray of int or int
        Rows by class and predicted class, or their number where that is withheld.
    few : mapping of int to int
        Column to the number of groups that are not told; negative where the column gives none.
    importance : tuple of float
    """

    entry: Entry
    scores: tuple[Counts, Counts] | None = None
    confusion: Counts | None = None
    groups: Mapping[tuple[int, float], Counts | int] = field(default_factory=dict)
    few: Mapping[int, int] = field(default_factory=dict)
    importance: tuple[float, ...] = ()


def read(
    metrics: Mapping[str, Any],
    classes: int,
    groups: Groups,
    importance: tuple[str, ...],
    withheld: list[str],
    categories: Mapping[str, Sequence[str]] = MappingProxyType({}),
) -> Reported:
    """Read one answer; ``categories`` are the vocabularies of columns that have one.

    Raises
    ------
    DataError
        A value is not what :func:`fedsm.learning.site_report.SiteReport.answer` could give; names
        the metric.
    """
    reader = _Reader(metrics, classes)
    n = reader.count(WEIGHT)
    entry: Entry = {"n": n, **reader.model("")}
    rows = reader.counts("num-classes", classes)
    if rows is not None and rows.sum() != n:
        raise _wrong("num-classes")
    entry["classes"] = None if rows is None else rows.tolist()
    if rows is not None and not rows.all():  # nothing ranks a class that is not there
        for prefix in ("", "local-", "personal-"):
            for name in ("auc", "average-precision"):
                if reader.number(prefix + name) is not None:
                    raise _wrong(prefix + name)
    entry["prevalence"] = rows[1] / n if rows is not None and n and classes == 2 else None
    for key, prefix in (("local_only", "local-"), ("personalized", "personal-")):
        if any(f"{prefix}{name}" in metrics for name in MODEL):
            entry[key] = {**reader.model(prefix), "gap": reader.estimate(f"{prefix}gap")}
    confusion = reader.counts("num-confusion", classes * classes)
    if confusion is not None:
        confusion = confusion.reshape(classes, classes)
        if rows is None or (confusion.sum(axis=1) != rows).any():
            raise _wrong("num-confusion")
        entry["confusion"] = confusion.tolist()
    entry["undefined"] = _undefined(entry, metrics, classes, withheld)
    entry["suppressed"] = [
        name for name, found in (("classes", rows), ("confusion", confusion)) if n and found is None
    ]
    entry["withheld"] = withheld
    told, few = reader.groups(groups, n, categories)
    return Reported(
        entry, reader.scores(rows, n), confusion, told, few, reader.importance(importance)
    )


class _Reader:
    def __init__(self, metrics: Mapping[str, Any], classes: int) -> None:
        self._metrics = metrics
        self._classes = classes

    def model(self, prefix: str) -> Entry:
        """The metrics of one model."""
        slope, intercept, error = (
            self.number(f"{prefix}calibration-{part}") for part in ("slope", "intercept", "error")
        )
        return {
            "loss": self.number(prefix + "loss"),
            "accuracy": self.number(prefix + "accuracy"),
            "auc": self.estimate(prefix + "auc"),
            "average_precision": self.estimate(prefix + "average-precision"),
            "brier": self.number(prefix + "brier"),
            "calibration": {"slope": slope, "intercept": intercept, "error": error},
        }

    def number(self, name: str) -> float | None:
        """A metric, None where it is undefined or not told."""
        value = self._metrics.get(name, math.nan)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise _wrong(name)
        if math.isnan(value):
            return None
        bare = name.removeprefix("local-").removeprefix("personal-")
        low, high = _RANGES.get(bare, (0.0, 1.0))
        if not low - 1e-9 <= value <= high + 1e-9:
            raise _wrong(name)
        return float(value)

    def estimate(self, name: str) -> dict[str, float | None]:
        """A metric with its interval."""
        value, bounds = self.number(name), self._metrics.get(f"{name}-interval", math.nan)
        low, high = self._bounds(name, bounds)
        if value is None or low is None or high is None:
            return {"value": value, "low": None, "high": None}
        if not low - 1e-9 <= value <= high + 1e-9:
            raise _wrong(f"{name}-interval")
        return {"value": value, "low": low, "high": high}

    def _bounds(self, name: str, bounds: Any) -> tuple[float | None, float | None]:
        if not isinstance(bounds, list):
            bounds = [bounds, bounds]
        if len(bounds) != 2 or not all(isinstance(bound, int | float) for bound in bounds):
            raise _wrong(f"{name}-interval")
        if any(math.isnan(bound) for bound in bounds):
            return None, None
        if not all(-1 - 1e-9 <= bound <= 1 + 1e-9 for bound in bounds):
            raise _wrong(f"{name}-interval")
        return float(bounds[0]), float(bounds[1])

    def count(self, name: str) -> int:
        value = self._metrics.get(name)
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= MAX_WEIGHT:
            raise _wrong(name)
        return value

    def counts(self, name: str, length: int) -> Counts | None:
        """A list of counts; None where it is not told."""
        found = self._list(name)
        if found is None:
            return None
        if len(found) != length or not all(type(v) is int and 0 <= v <= MAX_WEIGHT for v in found):
            raise _wrong(name)
        return np.array(found, dtype=np.int64)

    def _list(self, name: str) -> list[Any] | None:
        value = self._metrics.get(name)
        if isinstance(value, float) and math.isnan(value):  # the owner's terms hold it back
            return None
        if value is not None and not isinstance(value, list):
            raise _wrong(name)
        return value

    def scores(self, rows: Counts | None, n: int) -> tuple[Counts, Counts] | None:
        """Histograms that agree with the rows of each class."""
        told = list(judged(self._classes))
        bins = score_counts.bins_for(self._classes)
        positives, negatives = (
            self.counts(f"num-scores-{which}", bins * len(told))
            for which in ("positive", "negative")
        )
        if positives is None or negatives is None:
            return None
        p, q = positives.reshape(len(told), bins), negatives.reshape(len(told), bins)
        for found, expected, name in (
            (p, None if rows is None else rows[told], "num-scores-positive"),
            (q, None if rows is None else n - rows[told], "num-scores-negative"),
        ):
            if expected is None or (found.sum(axis=1) != expected).any():
                raise _wrong(name)
        return p, q

    def groups(
        self, groups: Groups, n: int, categories: Mapping[str, Sequence[str]]
    ) -> tuple[dict[tuple[int, float], Counts | int], dict[int, int]]:
        """Rows by group, and the groups that are not told."""
        columns, values = self._list("group-column"), self._list("group-value")
        few = self._list("groups-withheld") or []
        if len(few) not in (0, len(groups.columns)) or not all(
            v in (TOO_MANY, NO_COLUMN) or (_whole(v) and 0 <= v <= n) for v in few
        ):
            raise _wrong("groups-withheld")
        suppressed = {column: int(number) for column, number in enumerate(few)}
        rows = None if columns is None else self.counts("num-group-rows", len(columns))
        if columns is None or values is None or rows is None:
            return {}, suppressed
        if not all(_whole(v) and 0 <= v < len(groups.columns) for v in columns):
            raise _wrong("group-column")
        keys = list(zip(map(int, columns), map(_finite, values), strict=False))
        if len(values) != len(columns) or len(set(keys)) != len(keys):
            raise _wrong("group-value")
        for column, value in keys:
            known = categories.get(groups.columns[column])
            if value is None or not groups.has(column, value, known):
                raise _wrong("group-value")
        for column in range(len(groups.columns)):
            if sum(int(r) for r, (at, _) in zip(rows, keys, strict=True) if at == column) > n:
                raise _wrong("num-group-rows")
        k = self._classes
        cells = self.counts("num-group-confusion", len(keys) * k * k)
        told: dict[tuple[int, float], Counts | int] = {}
        for at, (column, value) in enumerate(keys):
            key = column, float(value or 0.0)
            told[key] = int(rows[at])
            own = np.zeros((k, k), dtype=np.int64)
            if cells is not None:
                own = cells[at * k * k : (at + 1) * k * k].reshape(k, k)
            if own.sum() not in (0, rows[at]):
                raise _wrong("num-group-confusion")
            if own.any():
                told[key] = own
        return told, suppressed

    def importance(self, features: tuple[str, ...]) -> tuple[float, ...]:
        found = self._list("importance")
        if found is None:
            return ()
        if len(found) != len(features) or not all(
            isinstance(v, int | float) and (math.isnan(v) or -1 <= v <= 1) for v in found
        ):
            raise _wrong("importance")
        return tuple(float(v) for v in found)


def _undefined(
    entry: Entry, metrics: Mapping[str, Any], classes: int, withheld: list[str]
) -> dict[str, str]:
    """Why a metric that is asked for has no value."""
    n, out = entry["n"], {}
    for name in ("loss", "accuracy", "brier"):
        if entry[name] is None:
            out[name] = "withheld" if name in withheld else "there are no rows"
    for key, name in (("auc", "auc"), ("average_precision", "average-precision")):
        found = entry[key]
        if found["value"] is None:
            present = "one class" if classes == 2 else f"not all {classes} classes"
            why = f"{present} among {n} rows" if n else "there are no rows"
            out[key] = "withheld" if name in withheld else why
        elif found["low"] is None and classes == 2:
            held = f"{name}-interval" in withheld
            out[f"{key} interval"] = "withheld" if held else _NO_INTERVAL
    if classes == 2 and n and entry["calibration"]["slope"] is None:
        held = "calibration-slope" in withheld
        out["calibration"] = "withheld" if held else "the rows have no finite calibration slope"
    own = entry.get("local_only")
    if own is not None and own["loss"] is None and n:
        held = "local-loss" in withheld
        out["local_only"] = "withheld" if held else "its training rows give no model of their own"
    elif own is not None and own["gap"]["value"] is None and "auc" not in out and n:
        out["gap"] = "withheld" if "local-gap" in withheld else "no AUC to compare"
    elif own is not None and own["gap"]["value"] is not None and own["gap"]["low"] is None:
        held = "local-gap-interval" in withheld
        out["gap interval"] = "withheld" if held else "too few rows of a class, or equal rankings"
    return out


_NO_INTERVAL = "too few rows of a class, or a perfect ranking: no interval follows"


def _finite(value: Any) -> float | None:
    number = isinstance(value, int | float) and math.isfinite(value)
    return float(value) if number else None


def _whole(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value) and float(value).is_integer()


def _wrong(name: str) -> DataError:
    return DataError(
        f"metric {name!r} of its report is not what a site can find",
        action="let evaluate.report answer with fedsm.learning.site_app",
    )
