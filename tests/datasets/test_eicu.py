from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fedsm.datasets import write_channels
from fedsm.datasets.eicu import SparseDataset, eicu, own_site, prepare
from fedsm.datasets.eicu_cohort import read_cohort
from fedsm.datasets.eicu_lookalike import VOCABULARY, write_lookalike
from fedsm.datasets.eicu_rows import Vocabulary, agree, diagnosis_counts
from fedsm.datasets.eicu_schema import CHARTED, CODE
from fedsm.datasets.eicu_split import HospitalSplit, SiteHospitals, hold_out, split_hospitals
from fedsm.datasets.eicu_windows import Span
from fedsm.errors import DataError
from fedsm.learning.sparse_tables import read_npz
from tests.datasets.eicu_by_hand import last_charts, patients, read, write


@pytest.fixture(scope="module")
def made_up(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("eicu")
    write_lookalike(directory, 300, seed=2)
    return directory


@pytest.fixture(scope="module")
def dataset(made_up: Path) -> SparseDataset:
    return eicu(made_up, seed=1, least=2)


def dense(found: np.ndarray, names: tuple[str, ...], wanted: str) -> np.ndarray:
    return found[:, names.index(wanted)]


def test_a_row_holds_what_was_charted_last_and_what_is_imputed(tmp_path: Path) -> None:
    directory = write(
        tmp_path,
        {
            "patient": patients((10, 1, "Alive"), (20, 1, "Expired")),
            "apacheApsVar": ["10,3,6,-1,98.6,-1,-1,-1,-1,-1,0.5"],
            "vitalPeriodic": ["1,10,65,,,91,,,,", "2,10,200,,,99,,,,"],
            "nurseCharting": ["3,10,130,Glasgow coma score,Motor,2"],
        },
    )
    prepared = prepare(directory, vocabulary=Vocabulary(("Burn", "Sepsis")), span=Span(4, 1))
    x, names = prepared.rows.features.toarray(), prepared.rows.columns
    assert x.shape == (2, 5 * (13 + 13 + 4 + 6 + 5 + 3 + 6 + 3))
    assert prepared.stays.tolist() == [10, 20]
    assert prepared.rows.labels.tolist() == [0, 1]

    def over_time(name: str, stay: int = 0) -> list[float]:
        return [float(dense(x, names, f"{name}@{hour}h")[stay]) for hour in range(-1, 4)]

    assert over_time("heart-rate") == [86, 86, 91, 91, 99]  # typical, then charted
    assert over_time("temperature") == [37] * 5  # the first day's, from Fahrenheit
    assert over_time("fio2") == [50] * 5
    assert over_time("fio2", stay=1) == [21] * 5
    assert over_time("gcs-motor=6") == [1, 1, 1, 0, 0]
    assert over_time("gcs-motor=2") == [0, 0, 0, 1, 1]
    assert over_time("gcs-total=14") == [1, 1, 1, 0, 0]  # 3 + 6 + 5
    assert over_time("gcs-total=10") == [0, 0, 0, 1, 1]
    assert over_time("gcs-total=15", stay=1) == [1] * 5
    assert over_time("diagnosis=Sepsis") == [1] * 5
    assert over_time("age") == [71] * 5
    assert prepared.report.records == 3
    assert "ph" in prepared.report.never_charted


def test_made_up_rows_agree_with_a_reading_chart_by_chart(made_up: Path) -> None:
    prepared = prepare(made_up, vocabulary=VOCABULARY)
    assert prepared.rows.features.shape == (300, 22_100)
    assert prepared.rows.features.nnz == 300 * 50 * 20
    assert prepared.rows.features.has_sorted_indices
    charts = last_charts(made_up, before=2, hours=48)
    apache = {int(row["patientunitstayid"]): row for row in read(made_up, "apacheApsVar")}
    x, width = prepared.rows.features.tocsr(), 442
    columns = VOCABULARY.columns
    for row, stay in enumerate(prepared.stays[:40].tolist()):
        pressure, eyes = 77.0, 4.0
        if stay in apache:
            known = float(apache[stay]["meanbp"]), float(apache[stay]["eyes"])
            pressure = known[0] if 14 <= known[0] <= 330 else pressure
            eyes = known[1] if 1 <= known[1] <= 4 else eyes
        values = x[[row]].toarray()[0]
        for window in range(50):
            part = values[window * width : (window + 1) * width]
            pressure = charts.get((stay, window, CODE["mean-arterial-pressure"]), (0, pressure))[1]
            eyes = charts.get((stay, window, CODE["gcs-eyes"]), (0, eyes))[1]
            assert part[columns.index("mean-arterial-pressure")] == np.float32(pressure)
            assert part[columns.index(f"gcs-eyes={eyes:.0f}")] == 1
            assert part[13:].sum() == 7


def test_the_report_counts_and_weighs(made_up: Path) -> None:
    report = prepare(made_up).report
    assert report.stays == 300 == sum(report.class_counts.values())
    assert report.class_weights[1] > 3 * report.class_weights[0]
    assert 30 * 300 < report.records < 45 * 300
    assert sum(report.excluded.values()) == 36
    assert not report.never_charted


def test_a_shorter_span_is_the_beginning_of_a_longer_one(made_up: Path) -> None:
    day = prepare(made_up, vocabulary=VOCABULARY, span=Span(24, 2)).rows.features
    whole = prepare(made_up, vocabulary=VOCABULARY).rows.features
    assert day.shape == (300, 26 * 442)
    assert (whole[:, : day.shape[1]] != day).nnz == 0


def test_rare_diagnoses_do_not_leave_a_site() -> None:
    north = np.array(["Burn"] * 3 + ["Sepsis"] * 2 + ["other"] * 9)
    told = {"north": diagnosis_counts(north, least=3), "south": {"Stroke": 5}}
    assert told["north"] == {"Burn": 3}
    vocabulary = agree(told)
    assert vocabulary.diagnoses == ("Burn", "Stroke")
    assert vocabulary.columns[-3:] == ("diagnosis=Burn", "diagnosis=Stroke", "diagnosis=other")


def test_no_hospital_is_in_two_places(dataset: SparseDataset, made_up: Path) -> None:
    split = dataset.split
    groups = [split.test]
    for hospitals in split.sites.values():
        assert hospitals.train
        assert hospitals.validation
        groups += [hospitals.train, hospitals.validation]
    everyone = frozenset().union(*groups)
    assert sum(map(len, groups)) == len(everyone)
    assert everyone == set(read_cohort(made_up).hospitals.tolist())


def test_every_stay_is_in_one_split(dataset: SparseDataset) -> None:
    parts = [part for t in dataset.sites.values() for part in (t.train, t.validation)]
    assert sum(map(len, parts)) + len(dataset.test) == 300
    assert all(part.columns == dataset.features for part in parts)
    assert dataset.features[0] == "admission-height@-2h"


def test_a_seed_gives_the_same_split_and_another_seed_another(made_up: Path) -> None:
    hospitals = read_cohort(made_up).hospitals
    one, same, other = (split_hospitals(hospitals, ("a", "b"), seed) for seed in (1, 1, 5))
    assert one == same
    assert one != other


def test_sites_are_of_about_equal_size_and_a_tenth_is_held_out() -> None:
    random = np.random.default_rng(0)
    hospitals = random.choice(200, 30_000, p=random.dirichlet(np.full(200, 2.0)))
    split = split_hospitals(hospitals, ("a", "b", "c", "d"))

    def stays(group: frozenset[int]) -> int:
        return int(np.isin(hospitals, list(group)).sum())

    sizes = [stays(s.train | s.validation) for s in split.sites.values()]
    assert max(sizes) - min(sizes) < 200
    assert 2_700 < stays(split.test) <= 3_000
    for site in split.sites.values():
        assert 0.07 < stays(site.validation) / stays(site.train | site.validation) <= 0.1


def test_one_large_hospital_leaves_the_others_enough() -> None:
    hospitals = np.array([1] * 900 + [2, 3, 4, 5])
    split = split_hospitals(hospitals, ("a", "b"))
    assert all(s.train and s.validation for s in split.sites.values())
    assert split.test


def test_a_site_validates_on_other_hospitals_of_its_own(made_up: Path) -> None:
    prepared = prepare(made_up, span=Span(1, 0))
    validation = set(hold_out(prepared.hospitals).tolist())
    hospitals = prepared.hospitals.tolist()
    own = {hospitals[row] for row in validation}
    assert validation == {row for row, hospital in enumerate(hospitals) if hospital in own}
    tables = own_site(prepared)
    assert 0 < len(tables.validation) == len(validation) < len(tables.train)
    assert len(tables.train) + len(tables.validation) == 300


def test_a_site_that_is_one_hospital_validates_on_other_stays() -> None:
    validation = hold_out(np.full(50, 7))
    assert len(set(validation.tolist())) == 5


def site(*train: int, validation: tuple[int, ...] = ()) -> SiteHospitals:
    return SiteHospitals(frozenset(train), frozenset(validation))


@pytest.mark.parametrize(
    ("sites", "test", "message"),
    [
        ({"a": site(1, 2), "b": site(2)}, {9}, "hospital 2 is in a's train and in b's train"),
        ({"a": site(1), "b": site(2)}, {2}, "hospital 2 is in the test and in b's train"),
        (
            {"a": site(1, validation=(1,))},
            {9},
            "hospital 1 is in a's train and in a's validation",
        ),
        ({"a": site(1), "b": site()}, {9}, "b: has no hospital to train on"),
    ],
)
def test_a_split_with_leakage_or_an_empty_site_is_refused(
    sites: dict[str, SiteHospitals], test: set[int], message: str
) -> None:
    with pytest.raises(DataError) as caught:
        HospitalSplit(sites, frozenset(test))
    assert message in str(caught.value)


def test_too_few_hospitals_are_refused() -> None:
    with pytest.raises(DataError, match="of 4 hospitals; 2 sites need 5"):
        split_hospitals(np.array([1, 2, 3, 4]), ("a", "b"))


def test_a_site_whose_hospitals_have_no_stay_is_named(made_up: Path) -> None:
    hospitals = np.unique(read_cohort(made_up).hospitals).tolist()
    split = HospitalSplit({"a": site(*hospitals[2:]), "b": site(999_999)}, frozenset(hospitals[:2]))
    with pytest.raises(DataError, match=r"^b, train: none of its hospitals has a stay"):
        eicu(made_up, sites=split)


def test_one_class_in_all_training_rows_is_refused(tmp_path: Path) -> None:
    stays = [(10 + i, i % 4, "Alive" if i % 4 else "Expired") for i in range(12)]
    directory = write(tmp_path, {"patient": patients(*stays)})
    split = HospitalSplit({"a": site(1, 2)}, frozenset({0, 3}))
    with pytest.raises(DataError, match="train, hospitaldischargestatus: the label has 1 class"):
        eicu(directory, sites=split)


def test_channels_read_back(dataset: SparseDataset, tmp_path: Path) -> None:
    folders = write_channels(dataset, tmp_path)
    assert set(folders) == set(dataset.sites)
    for name, tables in dataset.sites.items():
        for channel, table in (("train", tables.train), ("validation", tables.validation)):
            back = read_npz(folders[name][channel] / f"{channel}.npz")
            assert back.columns == dataset.features
            assert (back.features != table.features).nnz == 0
            np.testing.assert_array_equal(back.labels, table.labels)
    assert len(read_npz(tmp_path / "test.npz")) == len(dataset.test)


def test_charted_variables_are_those_of_the_published_table() -> None:
    assert len(CHARTED) == 14
    assert len(VOCABULARY.columns) == 442
    assert len(set(VOCABULARY.columns)) == 442
