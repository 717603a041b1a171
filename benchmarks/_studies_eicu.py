"""The eICU study over look-alike tables: preparing them, and four sites of whole hospitals.

The rows of a site are hours of sparse inputs, 22,100 with the published vocabulary and span. Test
rows are of hospitals that no site has. There is one split; the intervals are of resampled test
rows (Efron and Tibshirani 1993, percentile bootstrap).
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

import fedsm
from benchmarks import eicu as preparing
from benchmarks import exact as gaps
from benchmarks._exact_data import HOURS, stays
from benchmarks._processes import progress
from benchmarks._studies_results import CONFIDENCE, figure
from fedsm.datasets.eicu import eicu
from fedsm.datasets.eicu_lookalike import VOCABULARY, write_lookalike
from fedsm.learning.metrics import area_under_roc
from fedsm.learning.sparse_tables import SparseTable, concatenate
from fedsm.simulation import Simulation, simulate

STUDY = "eicu"
SETTINGS: dict[str, Any] = yaml.safe_load(
    (Path(fedsm.__file__).parent / "studies" / STUDY / "training.yaml").read_text()
)
"""Of ``fedsm demo --dataset eicu``; the study's README says how C was chosen."""

HYPERPARAMETERS: dict[str, Any] = SETTINGS["hyperparameters"]
C: float = HYPERPARAMETERS["c"]
ROUNDS: int = SETTINGS["rounds"]
EXACT_ROUNDS = 200
RESAMPLES = 1000
SEED_PATIENTS = preparing.SEED_PATIENTS
TENTH = SEED_PATIENTS // 10
GAP_BOUNDS = {0.01: {"1e-06": 200}, 1.0: {"1e-03": 100, "1e-04": 200}}
"""C to relative gap to the rounds that it may take."""

MB_A_ROUND = 1.5

Scores = NDArray[np.float64]


@contextmanager
def lookalike(patients: int, tables: Path | None = None) -> Iterator[Path]:
    """Made-up raw tables in a folder that does not outlive the block, or kept in ``tables``."""
    if tables is not None:
        kept = tables / str(patients)
        if not kept.exists():
            part = kept.with_name(f"{patients}.part")
            part.mkdir(parents=True, exist_ok=True)
            progress(f"made: {write_lookalike(part, patients)}")
            part.rename(kept)  # whole or not at all
        yield kept
        return
    with tempfile.TemporaryDirectory() as folder:
        progress(f"made: {write_lookalike(Path(folder), patients)}")
        yield Path(folder)


def preparation(directory: Path, patients: int, tenth: Path | None) -> dict[str, Any]:
    """Seconds, memory and times faster than pandas, at full size and at a tenth."""
    measured = preparing.measure(directory, 1) | {"patients": patients}
    if tenth is not None:
        measured["tenth"] = preparing.measure(tenth, 3) | {"patients": TENTH}
    return measured


def preparation_figures(measured: dict[str, Any]) -> list[dict[str, Any]]:
    """What the preparation must reach, at the size at which it must."""
    if measured["patients"] != SEED_PATIENTS:
        return []
    seconds, peak = measured["seconds"], measured["peak_mb"]
    faster, tenth = (m["times_faster_than_pandas"] for m in (measured, measured["tenth"]))
    name = "eicu preparation"
    return [
        figure(f"{name}: seconds", seconds, "<= 60", seconds <= 60),
        figure(f"{name}: peak_mb", peak, "<= 2500", peak <= 2500),
        figure(f"{name}: times faster than pandas", faster, ">= 2", faster >= 2),
        figure(f"{name}, a tenth: times faster than pandas", tenth, ">= 1.5", tenth >= 1.5),
    ]


def study(directory: Path) -> tuple[list[dict[str, Any]], dict[str, Scores], NDArray[np.bool_]]:
    """Rows of results, each variant's scores of the test rows, and their labels."""
    dataset = eicu(directory, vocabulary=VOCABULARY)
    sites, test = dataset.sites, dataset.test
    pooled = concatenate([tables.train for tables in sites.values()])
    positive = test.labels == 1
    scores: dict[str, Scores] = {}
    rounds: dict[str, int] = {}

    def run(variant: str, make: Callable[[], Simulation]) -> None:
        found = make()
        scores[variant] = found.build().predict_proba(test.features)[:, 1]
        rounds[variant] = len(found.history)
        progress(f"{STUDY}, {variant}: {rounds[variant]} rounds")

    scores["pooled"] = _scores(pooled, test)
    alone = [_scores(tables.train, test) for tables in sites.values()]
    quiet = {"fraction-evaluate": 0.0}
    run(
        "fedavg",
        lambda: simulate(sites, rounds=ROUNDS, options=quiet, hyperparameters=HYPERPARAMETERS),
    )
    options = {"c": C, "class_weight": "balanced", "windows": HOURS, "objective_tolerance": 1e-7}
    run("exact", lambda: simulate(sites, "exact", rounds=EXACT_ROUNDS, options=options))
    rows = [_row(name, scores, positive, rounds.get(name)) for name in scores]
    rows.insert(1, _local_row(alone, scores["pooled"], positive))
    return rows, scores, positive


def _model() -> Pipeline:
    """Scaled and not centred, as sparse rows are."""
    return make_pipeline(
        StandardScaler(with_mean=False),
        LogisticRegression(C=C, class_weight="balanced", solver="newton-cg", tol=1e-8),
    )


def _scores(train: SparseTable, test: SparseTable) -> Scores:
    """What the model of these rows says of the test rows; with one class it knows only that."""
    if len(np.unique(train.labels)) < 2:
        return np.full(len(test), float(train.labels[0]))
    # In single precision, which the rows have, scikit-learn stops far from the optimum.
    model = _model().fit(train.features.astype(np.float64), train.labels)
    scores: Scores = model.predict_proba(test.features.astype(np.float64))[:, 1]
    return scores


def _row(
    name: str, scores: dict[str, Scores], positive: NDArray[np.bool_], rounds: int | None
) -> dict[str, Any]:
    own, pooled = scores[name], scores["pooled"]
    return _as_row(
        name,
        lambda rows: area_under_roc(positive[rows], own[rows]),
        lambda rows: area_under_roc(positive[rows], pooled[rows]),
        float(((own > 0.5) == positive).mean()),
        positive,
        rounds,
    )


def _local_row(alone: list[Scores], pooled: Scores, positive: NDArray[np.bool_]) -> dict[str, Any]:
    return _as_row(
        "local-only",
        lambda rows: float(np.mean([area_under_roc(positive[rows], s[rows]) for s in alone])),
        lambda rows: area_under_roc(positive[rows], pooled[rows]),
        float(np.mean([((s > 0.5) == positive).mean() for s in alone])),
        positive,
        None,
    )


def _as_row(
    variant: str,
    auc: Callable[[Any], float],
    pooled: Callable[[Any], float],
    accuracy: float,
    positive: NDArray[np.bool_],
    rounds: int | None,
) -> dict[str, Any]:
    random = np.random.default_rng(0)
    everything = np.arange(len(positive))
    drawn: list[tuple[float, float]] = []
    while len(drawn) < RESAMPLES:
        rows = random.integers(len(positive), size=len(positive))
        if 0 < positive[rows].sum() < len(rows):
            drawn.append((auc(rows), auc(rows) - pooled(rows)))
    tail = (1 - CONFIDENCE) / 2
    (low, gap_low), (high, gap_high) = np.quantile(drawn, [tail, 1 - tail], axis=0).tolist()
    value = auc(everything)
    return {
        "study": STUDY,
        "variant": variant,
        "sites": None if variant == "pooled" else "hospitals",
        "preparation": "scaled, each site its own" if variant == "local-only" else "scaled",
        "auc": value,
        "auc_low": low,
        "auc_high": high,
        "accuracy": accuracy,
        "rounds": rounds,
        "max_abs_coef_diff": None,
        "difference_to_pooled": value - pooled(everything),
        "difference_low": gap_low,
        "difference_high": gap_high,
        "splits": 1,
    }


def gap_rows(patients: int = 27_000) -> list[dict[str, Any]]:
    """Rounds of the exact strategy to a gap to the pooled optimum, over the transport."""
    wide = stays(patients)
    return [gaps.wide_row(wide, c, EXACT_ROUNDS, 1000) for c in GAP_BOUNDS]


def gap_figures(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What they must reach."""
    found = []
    for row in rows:
        for gap, bound in GAP_BOUNDS[row["c"]].items():
            taken = row["rounds_to_gap"][gap]
            name = f"exact, {row['features']} inputs, C={row['c']:g}: rounds to a gap of {gap}"
            found.append(figure(name, taken, f"<= {bound}", taken is not None and taken <= bound))
        mb = row["mb_a_round"]
        name = f"exact, {row['features']} inputs, C={row['c']:g}: MB a round"
        found.append(figure(name, mb, f"<= {MB_A_ROUND}", mb <= MB_A_ROUND))
    return found


def fedavg_figure(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Whether FedAvg's rounds completed."""
    done = [row["rounds"] for row in rows if row["study"] == STUDY and row["variant"] == "fedavg"]
    return [figure("eicu, fedavg: rounds completed", n, f"= {ROUNDS}", n == ROUNDS) for n in done]
