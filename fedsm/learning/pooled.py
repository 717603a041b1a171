"""The sites' reports put together: what holds for all their rows, none of which is seen. Pure.

Loss, accuracy, Brier score and confusion matrix of all rows follow exactly from the sites'. The ROC
curve, AUC, average precision and calibration of all rows are read from summed histograms. Gathering
small counts narrows each class a little; by how much is known at each site, whose own AUC is exact,
and the mean of that is taken off (a control variate).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedsm.learning import fairness, score_counts, scores
from fedsm.learning.groups import Groups
from fedsm.learning.reported import Counts, Reported

Vector = NDArray[np.float64]
Tally = tuple[Vector, Vector]


def pooled(sites: Mapping[str, Reported], labels: Sequence[str]) -> dict[str, Any]:
    """Metrics of all sites' rows together.

    Parameters
    ----------
    sites : mapping of str to Reported
    labels : sequence of str
        Names of the classes.

    Returns
    -------
    dict
        As a site's entry, with ``roc`` (pairs of false- and true-positive rate),
        ``classification_report`` and ``without``: metric to the sites that it leaves out.
    """
    full = {site: told for site, told in sites.items() if told.entry["n"]}
    n = sum(told.entry["n"] for told in full.values())
    out: dict[str, Any] = {"n": n, "sites": sorted(full)}
    without: dict[str, list[str]] = {}
    for name in ("loss", "accuracy", "brier"):
        values = {s: t.entry[name] for s, t in full.items() if t.entry[name] is not None}
        rows = sum(full[site].entry["n"] for site in values)
        total = sum(full[site].entry["n"] * value for site, value in values.items())
        out[name] = total / rows if rows else None
        without[name] = sorted(set(full) - set(values))
    told = {site: t for site, t in full.items() if t.scores is not None}
    untold = sorted(set(full) - set(told))
    out |= _ranked(list(told.values()))
    without["auc"] = untold if out["auc"]["value"] is not None else sorted(full)
    confusion, source = _confusion(full, len(labels))
    without["confusion"] = [] if source else sorted(full)
    if source == "counts":
        without["confusion"] = sorted(s for s, t in full.items() if t.confusion is None)
    elif source == "scores":
        without["confusion"] = untold
    if confusion is not None:
        out["confusion"], out["confusion_from"] = confusion.tolist(), source
        out["classification_report"] = classification_report(confusion, labels)
    classes = [t.entry["classes"] for t in full.values()]
    if classes and all(c is not None for c in classes):
        out["classes"] = np.sum(classes, axis=0).tolist()
        if len(labels) == 2:
            out["prevalence"] = out["classes"][1] / n
    out["without"] = {name: left for name, left in without.items() if left}
    return out


def classification_report(confusion: Counts, labels: Sequence[str]) -> dict[str, Any]:
    """scikit-learn's ``classification_report`` of a confusion matrix; NaN where undefined."""
    from sklearn.metrics import classification_report as report

    actual, predicted = (part.ravel() for part in np.indices(confusion.shape))
    found: dict[str, Any] = report(
        actual,
        predicted,
        sample_weight=confusion.ravel(),
        labels=range(len(labels)),
        target_names=[str(label) for label in labels],
        output_dict=True,
        zero_division=np.nan,
    )
    return found


def by_group(
    sites: Mapping[str, Reported], groups: Groups, texts: Mapping[str, tuple[str, ...]]
) -> dict[str, Any]:
    """Per column its groups' rows and confusion matrices, and how far groups are apart.

    Returns
    -------
    dict
        Per column: ``groups`` (label to ``n`` and, where told, ``confusion``), ``suppressed``
        (site to how many groups it did not tell, or why there are none), ``matrices_untold`` (site
        to how many groups it told by their rows alone), and of two classes
        fairlearn's ``fairness``, or ``how`` to get it.
    """
    out: dict[str, Any] = {}
    for column, name in enumerate(groups.columns):
        summed: dict[float, dict[str, Any]] = {}
        for told in sites.values():
            for (at, value), found in told.groups.items():
                if at != column:
                    continue
                own = summed.setdefault(value, {"n": 0, "confusion": None})
                own["n"] += found if isinstance(found, int) else int(found.sum())
                if not isinstance(found, int):
                    own["confusion"] = found + (0 if own["confusion"] is None else own["confusion"])
        named = {
            groups.label(column, value, texts.get(name, ())): own
            for value, own in sorted(summed.items())
        }
        suppressed = {
            site: _SUPPRESSED.get(few, few)
            for site, told in sites.items()
            if (few := told.few.get(column, 0))
        }
        matrices = {label: own["confusion"] for label, own in named.items()}
        told_fully = {label: m for label, m in matrices.items() if m is not None}
        out[name] = {
            "groups": {
                label: {"n": own["n"], "confusion": _listed(own["confusion"])}
                for label, own in named.items()
            },
            "suppressed": suppressed,
            "matrices_untold": _untold(sites, column),
        }
        if told_fully and all(m.shape == (2, 2) for m in told_fully.values()):
            if fairness.available():
                out[name]["fairness"] = fairness.measures(told_fully)
            else:
                out[name]["how"] = fairness.HOW
    return out


def importances(sites: Mapping[str, Reported], features: Sequence[str]) -> list[dict[str, Any]]:
    """Mean drop of the AUC over the sites that measured it, the largest first."""
    drops = [told.importance for told in sites.values() if told.importance]
    out = []
    for at, feature in enumerate(features):
        values = [drop[at] for drop in drops if not math.isnan(drop[at])]
        if values:
            mean = float(np.mean(values))
            out.append({"feature": feature, "auc_drop": mean, "sites": len(values)})
    return sorted(out, key=lambda row: -row["auc_drop"])


def _untold(sites: Mapping[str, Reported], column: int) -> dict[str, int]:
    counts = {
        site: sum(at == column and isinstance(found, int) for (at, _), found in told.groups.items())
        for site, told in sites.items()
    }
    return {site: count for site, count in counts.items() if count}


_SUPPRESSED = {-1: "too many values: give edges of bands", -2: "there is no such column"}


def _ranked(told: Sequence[Reported]) -> dict[str, Any]:
    """AUC, average precision, ROC curve and calibration from histograms."""
    spread = [_tallies(report) for report in told]
    sums = [
        (np.sum([s[c][0] for s in spread], axis=0), np.sum([s[c][1] for s in spread], axis=0))
        for c in range(len(spread[0]) if spread else 0)
    ]
    out: dict[str, Any] = {}
    for name, measure in (("auc", scores.area), ("average_precision", scores.precision)):
        value = _mean(measure, sums)
        off = [
            (weight, _mean(measure, tallies) - exact)
            for tallies, report in zip(spread, told, strict=True)
            if (exact := report.entry[name]["value"]) is not None
            and all(p.any() and q.any() for p, q in tallies)
            and (weight := sum(p.sum() * q.sum() for p, q in tallies))
        ]
        if off:
            value -= float(np.average([bias for _, bias in off], weights=[w for w, _ in off]))
        out[name] = _estimate(name, float(np.clip(value, 0, 1)), sums)
    if len(sums) == 1:
        positives, negatives = sums[0]
        out["roc"] = _roc(positives, negatives)
        out["calibration"] = _calibration(positives, negatives)
    return out


def _tallies(report: Reported) -> list[Tally]:
    assert report.scores is not None  # noqa: S101
    return [(_spread(p), _spread(q)) for p, q in zip(*report.scores, strict=True)]


def _spread(counts: Counts) -> Vector:
    """By the smallest count there is: the threshold of the owner's terms is not told."""
    return score_counts.spread(counts, int(counts[counts > 0].min(initial=1 << 60)))


def _mean(measure: Callable[[Vector, Vector], float], tallies: Sequence[Tally]) -> float:
    return float(np.mean([measure(*tally) for tally in tallies])) if tallies else math.nan


def _estimate(name: str, value: float, sums: Sequence[Tally]) -> dict[str, float | None]:
    """A value with its interval, which is of two classes."""
    found = scores.Estimate(value)
    if len(sums) == 1 and not math.isnan(value):
        p, q = (float(counts.sum()) for counts in sums[0])
        auc = name == "auc"
        found = scores.auc_from_value(value, p, q) if auc else scores.precision_from_value(value, p)
    return {key: _or_none(getattr(found, key)) for key in ("value", "low", "high")}


def _roc(positives: Vector, negatives: Vector) -> list[list[float]]:
    p, n = positives.sum(), negatives.sum()
    if not (p and n):
        return []
    kept = (positives + negatives)[::-1] > 0
    true, false = (np.cumsum(c[::-1])[kept] / c.sum() for c in (positives, negatives))
    return [[0.0, 0.0], *([float(f), float(t)] for f, t in zip(false, true, strict=True))]


def _calibration(positives: Vector, negatives: Vector) -> dict[str, Any]:
    """Slope, intercept, error, and a point for each tenth of the probabilities."""
    rows = positives + negatives
    at = rows > 0
    probability, weight = score_counts.centres(len(rows))[at], rows[at]
    outcome = positives[at] / weight
    fit = scores.calibration(outcome, probability, weight)
    tenth = np.minimum((probability * 10).astype(int), 9)
    points = [
        {
            "rows": float(weight[here].sum()),
            "predicted": float(np.average(probability[here], weights=weight[here])),
            "observed": float(np.average(outcome[here], weights=weight[here])),
        }
        for t in range(10)
        if (here := tenth == t).any()
    ]
    return {
        "slope": _or_none(fit.slope),
        "intercept": _or_none(fit.intercept),
        "error": _or_none(fit.error),
        "points": points,
    }


def _confusion(full: Mapping[str, Reported], classes: int) -> tuple[Counts | None, str]:
    """All sites' matrices, or of two classes those that their histograms give about 0.5."""
    known = [t.confusion for t in full.values() if t.confusion is not None]
    if known and len(known) == len(full):
        return np.sum(known, axis=0), "counts"
    if classes == 2 and any(t.scores is not None for t in full.values()):
        parts = [
            t.confusion if t.confusion is not None else _about_half(t.scores)
            for t in full.values()
            if t.confusion is not None or t.scores is not None
        ]
        return np.sum(parts, axis=0), "scores"
    return (np.sum(known, axis=0), "counts") if known else (None, "")


def _about_half(histograms: tuple[Counts, Counts] | None) -> Counts:
    assert histograms is not None  # noqa: S101
    halves = [_spread(h[0]).reshape(2, -1).sum(axis=1) for h in histograms[::-1]]
    low = np.rint([half[0] for half in halves])
    rows = np.array([h.sum() for h in histograms[::-1]])
    return np.column_stack([low, rows - low]).astype(np.int64)


def _listed(counts: Counts | None) -> list[list[int]] | None:
    return None if counts is None else counts.tolist()


def _or_none(value: float) -> float | None:
    return None if math.isnan(value) else value
