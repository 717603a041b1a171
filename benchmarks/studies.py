"""The three studies, and what their figures must reach.

``python -m benchmarks.studies --json``; ``--quick`` for fewer splits and small tables, ``--study``
for one of them, ``--docs docs`` to write the tables and plots of docs/studies.md too.

Every variant of a study is trained and judged on the same rows, from fixed seeds: heart disease
over its four hospitals, ten splits; Medicare fraud over four IID and four skewed sites, ten times
stratified five-fold; eICU look-alikes over four sites of whole hospitals. ``local-only`` is the
mean over sites, each site's own model on all test rows. Two processes, one BLAS thread each.
"""

from __future__ import annotations

import argparse
import json
import logging
import multiprocessing
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import threadpoolctl

from benchmarks._processes import progress
from benchmarks._studies_gains import Gain, gains_of
from benchmarks._studies_results import figures_of, gain_rows, rows_of
from benchmarks._studies_splits import CMS, HEART, Split, cms_splits, heart_splits
from benchmarks._studies_variants import AVERAGING, Found, Key, variants

EICU, EXACT, SITES = "eicu", "exact", "simulated-sites"
STUDIES = (*HEART, CMS, EICU, EXACT, SITES)
WORKERS = 2

HEART_SEEDS, CMS_REPEATS = 10, 10
BESIDE = 10
"""Splits of Medicare fraud with everything; the others have what the figures need."""

QUICK_SEEDS, QUICK_REPEATS, QUICK_PATIENTS = 3, 1, 400
QUICK_SITES = (10, 100)


@dataclass(frozen=True)
class Judged:
    """All that was found on one split."""

    split: Split
    found: dict[Key, Found]
    gains: list[Gain]


def quick_ones(variant: str, sites: str) -> bool:
    """What ``--quick`` leaves: of averaging the skewed sites, and no SMOTE but the seed's."""
    slow = variant in ("pooled-smote", "smote-exact", "scaffold")
    return not (slow or (variant in AVERAGING[CMS] and sites == "iid"))


def needed_ones(variant: str, _sites: str) -> bool:
    """Medicare fraud after :data:`BESIDE` splits: without what only stands beside the figures."""
    return variant not in ("pooled-smote", "smote-exact", "fedavg", "scaffold")


def judge(split: Split, quick: bool = False) -> Judged:
    """Train and judge the variants of a split."""
    logging.getLogger("flwr").setLevel(logging.ERROR)
    later = split.study == CMS and split.number >= BESIDE
    with threadpoolctl.threadpool_limits(1):
        if quick and split.study == CMS:
            found = variants(split, quick_ones)
        else:
            found = variants(split, needed_ones) if later else variants(split)
        return Judged(split, found, [] if later else gains_of(split))


def splits_of(study: str, data: Path, quick: bool) -> Iterable[Split]:
    """The splits of a study of public rows."""
    if study == CMS:
        return cms_splits(data, QUICK_REPEATS if quick else CMS_REPEATS)
    return heart_splits(study, data, QUICK_SEEDS if quick else HEART_SEEDS)


def report(study: str, judged: Sequence[Judged]) -> dict[str, Any]:
    """Rows, gains and figures of a study of public rows."""
    rows = rows_of(study, [one.found for one in judged])
    gains = gain_rows(study, [one.gains for one in judged])
    return {"rows": rows, "gains": gains, "figures": figures_of(rows, gains)}


def of_public_rows(study: str, data: Path, quick: bool, docs: Path | None) -> dict[str, Any]:
    """A study of public rows, in two processes."""
    judged, start = [], time.monotonic()
    # A process that is forked beside gRPC's or BLAS's threads may hang.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(WORKERS, mp_context=context) as pool:
        for one in pool.map(partial(judge, quick=quick), splits_of(study, data, quick)):
            judged.append(one)
            progress(f"{study}: split {one.split.number}, {time.monotonic() - start:.0f} s")
    if docs is not None:
        from benchmarks._studies_plots import plot_study

        plot_study(study, [one.found for one in judged], [o.split for o in judged], docs)
    return report(study, judged)


def of_eicu(quick: bool, docs: Path | None, tables: Path | None = None) -> dict[str, Any]:
    """Preparation, models and the gap to the optimum."""
    from benchmarks import _studies_eicu as made

    patients = QUICK_PATIENTS if quick else made.SEED_PATIENTS
    with ExitStack() as stack:
        tenth = None if quick else stack.enter_context(made.lookalike(made.TENTH, tables))
        directory = stack.enter_context(made.lookalike(patients, tables))
        measured = made.preparation(directory, patients, tenth)
        rows, scores, positive = made.study(directory)
    if docs is not None:
        from benchmarks._studies_plots import plot_scores

        plot_scores(EICU, scores, positive, docs)
    gaps = [] if quick else made.gap_rows()
    return {
        "rows": rows,
        "eicu_preparation": measured,
        "exact_gaps": gaps,
        "figures": [
            *made.fedavg_figure(rows),
            *made.preparation_figures(measured),
            *made.gap_figures(gaps),
        ],
    }


def of_exact(data: Path, quick: bool) -> dict[str, Any]:
    """The exact strategy on small rows, with little and with much penalty."""
    from benchmarks import _studies_exact as made

    rows = made.rows_of(data, quick)
    return {"exact_coefficients": rows, "figures": made.figures_of(rows)}


def of_sites(quick: bool, _docs: Path | None) -> dict[str, Any]:
    """Simulated sites."""
    from benchmarks import _studies_sites as made

    rows = made.simulated_sites(QUICK_SITES, 1) if quick else made.simulated_sites()
    return {"simulated_sites": rows, "figures": made.figures_of(rows)}


def measure(
    studies: Sequence[str], data: Path, quick: bool, docs: Path | None, tables: Path | None = None
) -> dict[str, Any]:
    """All that is asked for, as one document."""
    makers: dict[str, Callable[[], dict[str, Any]]] = {
        **{name: partial(of_public_rows, name, data, quick, docs) for name in (*HEART, CMS)},
        EICU: partial(of_eicu, quick, docs, tables),
        EXACT: partial(of_exact, data, quick),
        SITES: partial(of_sites, quick, docs),
    }
    document: dict[str, Any] = {"rows": [], "gains": []}
    figures: list[Any] = []
    failed: list[str] = []
    for name in studies:
        try:
            found = makers[name]()
        except Exception:  # the others' results are kept
            traceback.print_exc()
            failed.append(name)
            continue
        figures += [{"study": name, **figure} for figure in found.pop("figures")]
        for key in ("rows", "gains"):
            document[key] += found.pop(key, [])
        document |= found
    return {**document, "quick": quick, "figures": figures, "failed": failed}


def joined(earlier: Mapping[str, Any], document: dict[str, Any]) -> dict[str, Any]:
    """A document with what an earlier one of the same kind has of other studies."""
    measured = {figure["study"] for figure in document["figures"]}
    lists = {
        key: sorted(
            [one for one in earlier[key] if one["study"] not in measured] + document[key],
            key=lambda one: STUDIES.index(one["study"]),
        )
        for key in ("rows", "gains", "figures")
    }
    return {**earlier, **document, **lists}


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--study", choices=STUDIES, action="append", help="only this; repeatable")
    parser.add_argument("--quick", action="store_true", help="fewer splits, small tables")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--eicu-tables", type=Path, help="folder that keeps eICU's made-up tables")
    parser.add_argument("--docs", type=Path, help="folder of studies.md: write tables and plots")
    parser.add_argument("--json", action="store_true", help="one JSON document on stdout")
    arguments = parser.parse_args()
    logging.getLogger("flwr").setLevel(logging.ERROR)
    studies = arguments.study or STUDIES
    document = measure(
        studies, arguments.data, arguments.quick, arguments.docs, arguments.eicu_tables
    )
    if arguments.docs is not None:
        from benchmarks._studies_tables import write_tables

        kept = arguments.docs / "studies" / "results.json"
        earlier = json.loads(kept.read_text()) if kept.is_file() else {}
        if earlier.get("quick") == arguments.quick:
            document = joined(earlier, document)
        kept.parent.mkdir(exist_ok=True)
        kept.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
        write_tables(document, arguments.docs / "studies.md")
    if arguments.json:
        json.dump(document, sys.stdout, indent=1)
        sys.stdout.write("\n")
    else:
        from benchmarks._studies_tables import as_text

        print(as_text(document))
    if document["failed"]:
        raise SystemExit(f"failed: {', '.join(document['failed'])}")


if __name__ == "__main__":
    main()
