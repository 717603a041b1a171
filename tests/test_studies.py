"""The quick part of the three studies, with the figures that hold on few splits already."""

from __future__ import annotations

import hashlib
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks._studies_gains import Gain, gains_of
from benchmarks._studies_plots import plot_gains, plot_study
from benchmarks._studies_results import figures_of, gain_rows, mean_and_interval, rows_of
from benchmarks._studies_sites import figures_of as sites_figures
from benchmarks._studies_splits import CMS, HEART, cms_splits, heart_splits
from benchmarks._studies_tables import places, write_tables
from benchmarks._studies_variants import Found, variants
from benchmarks.studies import joined

ROOT = Path(__file__).resolve().parents[1]
DATA = ROOT.parent / "shared" / "data"

needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="the data are not on this machine")

QUICK_HEART = {"exact", "scaffold", "local-only"}
QUICK_CMS = {"exact", "quantile-exact", "pooled-quantile", "seed-recipe"}


def unmet(figures: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [figure for figure in figures if not figure["met"]]


def row(rows: list[dict[str, Any]], variant: str, sites: str | None) -> dict[str, Any]:
    return next(r for r in rows if (r["variant"], r["sites"]) == (variant, sites))


@needs_data
@pytest.mark.parametrize("study", list(HEART))
def test_heart_disease(study: str, tmp_path: Path) -> None:
    splits, digests = list(heart_splits(study, DATA, 1)), set()
    found = [variants(split, lambda variant, _: variant in QUICK_HEART) for split in splits]
    rows = rows_of(study, found)
    assert not unmet(figures_of(rows, []))
    exact = row(rows, "exact", "hospitals")
    assert exact["rounds"] <= 10
    assert exact["max_abs_coef_diff"] <= 1e-6
    assert abs(row(rows, "scaffold", "hospitals")["difference_to_pooled"]) <= 0.0005
    assert row(rows, "local-only", "hospitals")["difference_to_pooled"] < -0.02
    assert json.loads(json.dumps(rows, allow_nan=False)) == rows
    for _ in range(2):
        plot_study(study, found, splits, tmp_path)
        (drawn,) = (tmp_path / "studies").iterdir()
        digests.add(hashlib.sha256(drawn.read_bytes()).hexdigest())
    assert len(digests) == 1
    assert drawn.stat().st_size < 100_000


@needs_data
def test_what_each_hospital_gains(tmp_path: Path) -> None:
    (split,) = heart_splits("heart-disease", DATA, 1)
    gains = gain_rows(split.study, [gains_of(split)])
    assert {gain["site"] for gain in gains} <= set(split.sites["hospitals"])
    assert {gain["variant"] for gain in gains} == {"exact", "personalized"}
    plot_gains(gains, tmp_path)
    assert (tmp_path / "studies" / "heart-disease-gain.svg").stat().st_size < 100_000


@needs_data
def test_medicare_fraud() -> None:
    splits = list(cms_splits(DATA, 1))
    tested = np.concatenate([split.test.features[:, 0] for split in splits])
    assert len(tested) == 5462
    found = [
        variants(split, lambda name, at: name in QUICK_CMS and at != "iid") for split in splits
    ]
    rows = rows_of(CMS, found)
    assert not unmet(figures_of(rows, []))
    exact, quantile = (row(rows, name, "skewed") for name in ("exact", "quantile-exact"))
    assert exact["auc"] >= 0.840
    assert abs(exact["difference_to_pooled"]) <= 1e-4
    assert quantile["auc"] >= 0.850
    assert row(rows, "seed-recipe", "skewed")["difference_to_pooled"] < -0.1


def test_a_figure_that_is_missed_is_told() -> None:
    pooled = Found(auc=0.9, accuracy=0.8)
    off = Found(auc=0.89, accuracy=0.8, rounds=12, coef_diff=1e-3)
    rows = rows_of(CMS, [{("pooled", ""): pooled, ("exact", "iid"): off, ("fedadam", "iid"): off}])
    gains = gain_rows(
        "heart-disease",
        [[Gain("hospitals", "va", "personalized", 0.9, 0.8 - i / 100)] for i in (0, 1)],
    )
    missed = {figure["what"] for figure in unmet(figures_of(rows, gains))}
    assert missed == {
        "cms-fraud, exact, iid: max_abs_coef_diff",
        "cms-fraud, exact, iid: rounds",
        "cms-fraud, exact, iid: auc against pooled",
        "cms-fraud, fedadam, iid (best averaging): auc against pooled",
        "heart-disease, va: personalized against local-only",
        "heart-disease, va: personalized against local-only, upper end",
    }
    few = {"sites": 10, "seconds_per_round": 0.1, "mb_for_sites": 1.0}
    many = {"sites": 100, "seconds_per_round": 5.0, "mb_for_sites": 9.0}
    assert [figure["met"] for figure in sites_figures([few, many])] == [False, True]


def test_intervals_are_students() -> None:
    mean, low, high = mean_and_interval([1.0, 2.0, 4.0])
    assert mean == pytest.approx(7 / 3)
    assert high - mean == pytest.approx(4.302653 * math.sqrt(7 / 3) / math.sqrt(3))
    assert mean - low == pytest.approx(high - mean)
    assert math.isnan(mean_and_interval([1.0])[1])


def test_tables_stand_in_their_places_and_a_page_without_one_is_refused(tmp_path: Path) -> None:
    found = {("pooled", ""): Found(0.9, 0.8), ("exact", "iid"): Found(0.9, 0.8, 9, 1e-9)}
    document = {"rows": rows_of(CMS, [found, found]), "gains": [], "figures": []}
    page = tmp_path / "studies.md"
    page.write_text("a\n<!-- cms-fraud -->\nold\n<!-- /cms-fraud -->\nz\n")
    write_tables(document, page)
    once = page.read_text()
    assert "old" not in once
    assert "| exact | iid |" in once
    write_tables(document, page)
    assert page.read_text() == once
    page.write_text("nothing")
    with pytest.raises(SystemExit, match="cms-fraud"):
        write_tables(document, page)


def test_a_run_of_one_study_leaves_the_others_results() -> None:
    def document(study: str, auc: float) -> dict[str, Any]:
        lists = {key: [{"study": study, "auc": auc}] for key in ("rows", "gains", "figures")}
        return {**lists, "quick": False, "failed": []}

    first = document("cms-fraud", 0.1)
    both = joined(joined(first, document("heart-disease", 0.3)), document("cms-fraud", 0.2))
    found = [(row["study"], row["auc"]) for row in both["rows"]]
    assert found == [("heart-disease", 0.3), ("cms-fraud", 0.2)]


def test_the_page_has_a_place_for_everything() -> None:
    text = (ROOT / "docs" / "studies.md").read_text(encoding="utf-8")
    studies = [*HEART, CMS, "eicu"]
    names = [*studies, *(f"{name}-gain" for name in (*HEART, CMS))]
    names += ["eicu_preparation", "exact_gaps", "exact_coefficients", "simulated_sites"]
    names += ["figures"]
    for name in names:
        assert text.count(f"<!-- {name} -->\n") == text.count(f"<!-- /{name} -->") == 1
    assert not places({"rows": [], "gains": []})
