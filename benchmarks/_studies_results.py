"""From what was found on each split to rows of results, and to the figures that they must reach."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy import stats

from benchmarks._studies_gains import Gain
from benchmarks._studies_splits import CMS
from benchmarks._studies_variants import Found, Key

CONFIDENCE = 0.95

PREPARATIONS: dict[str, str | dict[str, str]] = {
    "seed-recipe": {
        "cms-fraud": "raw, SMOTE",
        "heart-disease": "each site its own",
        "heart-disease-flamby": "each site its own",
    },
    "pooled-quantile": "quantiles, pooled",
    "quantile-exact": "quantiles, federated",
    "pooled-smote": "standardised, SMOTE, pooled",
    "smote-exact": "standardised, SMOTE, federated",
    "pooled": "standardised, pooled",
    "local-only": "standardised, each site its own",
}

BEST = {"cms-fraud": "fedadam", "heart-disease": "fedavg", "heart-disease-flamby": "fedavg"}
"""Study to the averaging strategy that counts as its best: fixed beforehand, see AVERAGING."""


def mean_and_interval(values: Sequence[float]) -> tuple[float, float, float]:
    """Mean and its 95 % t-interval; a single value has none, so it is NaN.

    The splits share rows, so the interval is that of the spread over splits of these rows, and not
    of what other patients would give.
    """
    x = np.asarray(values, dtype=np.float64)
    mean = float(x.mean())
    if len(x) < 2:
        return mean, math.nan, math.nan
    half = float(stats.t.ppf((1 + CONFIDENCE) / 2, len(x) - 1) * x.std(ddof=1) / math.sqrt(len(x)))
    return mean, mean - half, mean + half


def rows_of(study: str, splits: Sequence[Mapping[Key, Found]]) -> list[dict[str, Any]]:
    """One row a variant, over the splits of a study that have it."""
    rows = []
    for key in splits[0]:
        variant, sites = key
        had = [one for one in splits if key in one]
        found, pooled = [one[key] for one in had], [one["pooled", ""].auc for one in had]
        auc, low, high = mean_and_interval([f.auc for f in found])
        gap = mean_and_interval([f.auc - p for f, p in zip(found, pooled, strict=True)])
        rounds = [f.rounds for f in found if f.rounds is not None]
        diffs = [f.coef_diff for f in found if f.coef_diff is not None]
        rows.append(
            {
                "study": study,
                "variant": variant,
                "sites": sites or None,
                "preparation": _preparation(variant, study),
                "auc": auc,
                "auc_low": _defined(low),
                "auc_high": _defined(high),
                "accuracy": float(np.mean([f.accuracy for f in found])),
                "rounds": max(rounds) if rounds else None,
                "max_abs_coef_diff": max(diffs) if diffs else None,
                "difference_to_pooled": gap[0],
                "difference_low": _defined(gap[1]),
                "difference_high": _defined(gap[2]),
                "splits": len(found),
            }
        )
    return rows


def _preparation(variant: str, study: str) -> str:
    found = PREPARATIONS.get(variant, "standardised, federated")
    return found if isinstance(found, str) else found[study]


def _defined(value: float) -> float | None:
    return None if math.isnan(value) else value


def gain_rows(study: str, splits: Sequence[Sequence[Gain]]) -> list[dict[str, Any]]:
    """Per site the mean paired gain of a model over the site's own, over the splits of a study.

    A split is undefined, and counted, where a site's test rows or its training rows have one class.
    """
    pairs: dict[tuple[str, str, str], list[Gain]] = {}
    for gain in (gain for split in splits for gain in split):
        pairs.setdefault((gain.sites, gain.site, gain.variant), []).append(gain)
    rows = []
    for (sites, site, variant), pair in pairs.items():
        found = [gain for gain in pair if math.isfinite(gain.other - gain.alone)]
        nothing = (math.nan, math.nan, math.nan)
        gaps = [gain.other - gain.alone for gain in found]
        mean, low, high = mean_and_interval(gaps) if found else nothing
        rows.append(
            {
                "study": study,
                "sites": sites,
                "site": site,
                "variant": variant,
                "auc": float(np.mean([gain.other for gain in found])) if found else None,
                "auc_local_only": float(np.mean([gain.alone for gain in found])) if found else None,
                "difference_to_local_only": _defined(mean),
                "difference_low": _defined(low),
                "difference_high": _defined(high),
                "splits": len(found),
                "undefined": len(pair) - len(found),
            }
        )
    return rows


def figure(what: str, value: float | None, bound: str, met: bool) -> dict[str, Any]:
    """A figure to reach."""
    return {"what": what, "value": value, "bound": bound, "met": bool(met)}


def figures_of(rows: Sequence[Mapping[str, Any]], gains: Sequence[Mapping[str, Any]]) -> list[Any]:
    """The figures that rows and gains must reach, as far as they are there."""
    at = {(row["study"], row["variant"], row["sites"]): row for row in rows}
    found = []
    for row in rows:
        name = _name(row)
        if row["variant"] == "exact" and row["max_abs_coef_diff"] is not None:
            diff = row["max_abs_coef_diff"]
            found.append(figure(f"{name}: max_abs_coef_diff", diff, "<= 1e-6", diff <= 1e-6))
            found.append(figure(f"{name}: rounds", row["rounds"], "<= 10", row["rounds"] <= 10))
        if row["variant"] == "scaffold" and row["study"].startswith("heart"):
            found.append(_near(name, row, 0.0005))
        if row["study"] == "cms-fraud" and row["variant"] == "exact":
            found.append(figure(f"{name}: auc", row["auc"], ">= 0.840", row["auc"] >= 0.840))
            found.append(_near(name, row, 1e-4))
        if row["variant"] == "quantile-exact":
            auc = row["auc"]
            found.append(figure(f"{name}: auc", auc, ">= 0.850", auc >= 0.850))
            if (pooled := at.get((row["study"], "pooled-quantile", None))) is not None:
                gap = auc - pooled["auc"]
                what = f"{name}: auc against pooled-quantile"
                found.append(figure(what, gap, "within 0.002", abs(gap) <= 0.002))
        if BEST.get(row["study"]) == row["variant"]:
            found.append(_near(f"{name} (best averaging)", row, 0.003))
    for gain in gains:
        if gain["variant"] != "personalized" or gain["study"] == CMS:
            continue
        name = f"{gain['study']}, {gain['site']}: personalized against local-only"
        if gain["undefined"]:
            name += f" ({gain['undefined']} of {gain['undefined'] + gain['splits']} undefined)"
        value, high = gain["difference_to_local_only"], gain["difference_high"]
        if value is None:
            continue
        found.append(figure(name, value, ">= -0.005", value >= -0.005))
        if high is not None:
            found.append(figure(f"{name}, upper end", high, ">= 0", high >= 0))
    return found


def _near(name: str, row: Mapping[str, Any], bound: float) -> dict[str, Any]:
    gap = row["difference_to_pooled"]
    return figure(f"{name}: auc against pooled", gap, f"within {bound:g}", abs(gap) <= bound)


def _name(row: Mapping[str, Any]) -> str:
    return f"{row['study']}, {row['variant']}" + (f", {row['sites']}" if row["sites"] else "")
