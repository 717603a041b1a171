from __future__ import annotations

import gzip
from collections import Counter
from pathlib import Path

import pytest

from fedsm.datasets import eicu_lookalike as lookalike
from fedsm.datasets.eicu_cohort import read_cohort
from fedsm.datasets.eicu_schema import TABLES
from tests.datasets.eicu_by_hand import read


@pytest.fixture(scope="module")
def made_up(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("eicu")
    rows = lookalike.write_lookalike(directory, 300, seed=5)
    for name, count in rows.items():
        assert sum(1 for _ in read(directory, name)) == count
    return directory


def column(made_up: Path, table: str, name: str) -> list[str]:
    return [row[name] for row in read(made_up, table)]


def test_the_cohort_has_as_many_stays_as_asked_for(made_up: Path) -> None:
    cohort = read_cohort(made_up)
    assert len(cohort) == 300
    assert 0.05 < cohort.labels.mean() < 0.2
    assert len(set(cohort.hospitals.tolist())) == 12


def test_sizes_follow_the_published_study(made_up: Path) -> None:
    per_stay = {t.name: len(column(made_up, t.name, t.row_id)) / 300 for t in TABLES}
    published = {"vitalPeriodic": 587, "nurseCharting": 196, "lab": 130, "vitalAperiodic": 65}
    assert per_stay == pytest.approx(published, rel=0.07)


def test_it_has_the_databases_oddities(made_up: Path) -> None:
    patient = list(read(made_up, "patient"))
    assert "> 89" in {row["age"] for row in patient}
    assert {"", "Alive", "Expired"} == {row["hospitaldischargestatus"] for row in patient}
    assert "-1" in column(made_up, "apacheApsVar", "eyes")
    assert "" in column(made_up, "lab", "labmeasurenamesystem")
    fio2 = [
        float(r["labresult"])
        for r in read(made_up, "lab")
        if r["labname"] == "FiO2" and r["labresult"]
    ]
    assert min(fio2) < 1 < 20 < max(fio2)
    names = set(column(made_up, "nurseCharting", "nursingchartcelltypevalname"))
    assert {"Temperature (C)", "Temperature (F)"} <= names
    values = column(made_up, "nurseCharting", "nursingchartvalue")
    assert any(value.startswith("Unable") for value in values)
    for table in TABLES:
        offsets = [int(text) for text in column(made_up, table.name, table.offset)]
        assert min(offsets) < 0
        assert max(offsets) > 48 * 60
        assert offsets != sorted(offsets)


def test_some_charts_are_entered_twice_alike_and_some_with_another_value(made_up: Path) -> None:
    for table in TABLES:
        rows = [tuple(row.values()) for row in read(made_up, table.name)]
        ids = Counter(row[0] for row in rows)
        alike = len(rows) - len(set(rows))
        assert alike > 0.003 * len(rows)
        # An id tells one row from another.
        assert len(rows) - len(ids) == alike


def test_blocks_follow_each_other_as_one_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lookalike, "BLOCK", 20)
    rows = lookalike.write_lookalike(tmp_path, 50, seed=1)
    assert len(read_cohort(tmp_path)) == 50
    for name, count in rows.items():
        lines = gzip.decompress((tmp_path / f"{name}.csv.gz").read_bytes()).splitlines()
        assert len(lines) == count + 1
        assert lines.count(lines[0]) == 1
    stays = column(tmp_path, "patient", "patientunitstayid")
    assert len(set(stays)) == len(stays) == 50 + 2 + 2 + 1


def test_a_seed_gives_the_same_tables_plain_or_compressed(tmp_path: Path) -> None:
    lookalike.write_lookalike(tmp_path / "one", 20, seed=3)
    lookalike.write_lookalike(tmp_path / "two", 20, seed=3, compressed=False)
    lookalike.write_lookalike(tmp_path / "other", 20, seed=4)
    for path in sorted((tmp_path / "one").iterdir()):
        text = gzip.decompress(path.read_bytes())
        assert text == (tmp_path / "two" / path.stem).read_bytes()
        assert text != gzip.decompress((tmp_path / "other" / path.name).read_bytes())
