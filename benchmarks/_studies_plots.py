"""Plots of the studies as SVG: ROC, calibration, what each site gains. Same rows, same bytes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from sklearn.metrics import roc_curve

from benchmarks._studies_splits import Split
from benchmarks._studies_variants import Found, Key

SHOWN = {
    "pooled": "black",
    "exact": "#1b9e77",
    "quantile-exact": "#66a61e",
    "scaffold": "#7570b3",
    "fedavg": "#d95f02",
    "seed-recipe": "#e7298a",
}
"""Variants that are drawn, and their colours."""

GRID = np.linspace(0.0, 1.0, 101)
BINS = 10

Scored = Sequence[tuple[NDArray[np.bool_], NDArray[np.float64]]]
"""Labels and scores of the test rows of each split."""


def plot_study(
    study: str, found: Sequence[Mapping[Key, Found]], splits: Sequence[Split], docs: Path
) -> None:
    """Draw all splits of a study; of several ways of its sites the last, the least alike."""
    last = list(splits[0].sites)[-1]
    scored: dict[str, Scored] = {}
    for variant in SHOWN:
        key = (variant, "") if variant == "pooled" else (variant, last)
        if key in found[0]:
            scored[variant] = [
                (split.test.labels == 1, _scores(one[key]))
                for split, one in zip(splits, found, strict=True)
                if key in one
            ]
    _draw(study, scored, docs)


def _scores(found: Found) -> NDArray[np.float64]:
    assert found.scores is not None
    return found.scores


def plot_scores(
    study: str, scores: Mapping[str, NDArray[np.float64]], positive: NDArray[np.bool_], docs: Path
) -> None:
    """Draw a study of one split."""
    _draw(study, {name: [(positive, scores[name])] for name in SHOWN if name in scores}, docs)


def _draw(study: str, scored: Mapping[str, Scored], docs: Path) -> None:
    figure = Figure(figsize=(8.0, 3.8), layout="constrained")
    roc, calibration = figure.subplots(1, 2)
    for variant, splits in scored.items():
        colour = SHOWN[variant]
        roc.plot(GRID, _mean_roc(splits), color=colour, label=variant, linewidth=1.2)
        told, seen = _calibration(splits)
        calibration.plot(told, seen, color=colour, marker="o", markersize=3, linewidth=1.0)
    for axes in (roc, calibration):
        axes.plot([0, 1], [0, 1], color="0.7", linewidth=0.8, linestyle="--")
        axes.set_aspect("equal")
    roc.set(xlabel="1 - specificity", ylabel="sensitivity", title=f"{study}: ROC")
    calibration.set(xlabel="predicted", ylabel="observed", title="calibration")
    roc.legend(loc="lower right", fontsize="small", frameon=False)
    save(figure, docs / "studies" / f"{study}.svg")


def _mean_roc(splits: Scored) -> Any:
    """Mean over splits of the sensitivity at each specificity (vertical averaging)."""
    curves = []
    for positive, scores in splits:
        false, true, _ = roc_curve(positive, scores)
        curves.append(np.interp(GRID, false, true))
    mean = np.mean(curves, axis=0)
    mean[0] = 0.0
    return mean


def _calibration(splits: Scored) -> tuple[Any, Any]:
    """Mean score and share of class 1 in tenths of all splits' test rows, by score."""
    positive = np.concatenate([p for p, _ in splits])
    scores = np.concatenate([s for _, s in splits])
    order = np.argsort(scores, kind="stable")
    parts = np.array_split(order, BINS)
    return [scores[p].mean() for p in parts], [positive[p].mean() for p in parts]


def plot_gains(gains: Sequence[Mapping[str, Any]], docs: Path) -> None:
    """What each site gains over its own model, with the 95 % intervals over splits."""
    for study in dict.fromkeys(gain["study"] for gain in gains):
        own = [gain for gain in gains if gain["study"] == study and gain["splits"]]
        places = list(dict.fromkeys((gain["sites"], gain["site"]) for gain in own))
        figure = Figure(figsize=(6.0, 1.0 + 0.4 * len(places)), layout="constrained")
        axes = figure.subplots()
        for shift, variant in ((-0.12, "exact"), (0.12, "personalized")):
            rows = {(g["sites"], g["site"]): g for g in own if g["variant"] == variant}
            at = [i + shift for i, place in enumerate(places) if place in rows]
            found = [rows[place] for place in places if place in rows]
            means = np.array([gain["difference_to_local_only"] for gain in found])
            lows = [_or(gain["difference_low"], m) for gain, m in zip(found, means, strict=True)]
            highs = [_or(gain["difference_high"], m) for gain, m in zip(found, means, strict=True)]
            axes.errorbar(
                means,
                at,
                xerr=[means - lows, highs - means],
                fmt="o",
                markersize=4,
                capsize=2,
                color={"exact": SHOWN["exact"], "personalized": "#386cb0"}[variant],
                label=variant,
            )
        axes.axvline(0.0, color="0.7", linewidth=0.8)
        names = [
            f"{site}" if sites == "hospitals" else f"{sites}, {site}" for sites, site in places
        ]
        axes.set_yticks(range(len(places)), names)
        axes.invert_yaxis()
        axes.set(xlabel="AUC gained over the site's own model", title=f"{study}: gain per site")
        axes.legend(fontsize="small", frameon=False)
        save(figure, docs / "studies" / f"{study}-gain.svg")


def _or(value: float | None, other: float) -> float:
    return other if value is None else value


def save(figure: Figure, path: Path) -> None:
    """Write an SVG that depends on what is drawn and on nothing else."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with mpl.rc_context({"svg.hashsalt": path.name, "svg.fonttype": "none"}):
        figure.savefig(path, metadata={"Date": None, "Creator": None})
