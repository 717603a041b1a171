from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest

from fedsm.datasets.eicu import prepare
from fedsm.datasets.eicu_cohort import read_cohort
from fedsm.datasets.eicu_schema import ETHNICITIES, GENDERS
from fedsm.errors import DataError
from tests.datasets.eicu_by_hand import HEADERS, PATIENT, patients, write

FILES = list(HEADERS)


@pytest.fixture
def tables(tmp_path: Path) -> Path:
    rows = {
        "patient": patients((10, 1, "Alive"), (20, 1, "Expired")),
        "apacheApsVar": ["10,4,6,5,36.5,20,90,80,7.4,110,21"],
        "vitalPeriodic": ["1,10,5,37.1,97,91,18,120,70,90"],
        "vitalAperiodic": ["1,10,5,120,70,90"],
        "lab": ["1,10,5,glucose,110"],
        "nurseCharting": ["1,10,5,Heart Rate,Heart Rate,90"],
    }
    return write(tmp_path / "tables", rows)


def edit(path: Path, old: str, new: str) -> None:
    text = gzip.decompress(path.read_bytes()).decode()
    assert old in text
    path.write_bytes(gzip.compress(text.replace(old, new).encode()))


def refusal(tables: Path) -> str:
    with pytest.raises(DataError) as caught:
        prepare(tables)
    assert caught.value.__cause__ is None
    return str(caught.value)


def test_plain_and_compressed_tables_give_the_same_rows(tables: Path, tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    plain.mkdir()
    for name in FILES:
        text = gzip.decompress((tables / f"{name}.csv.gz").read_bytes())
        (plain / f"{name}.csv").write_bytes(text)
    one, other = prepare(tables).rows.features, prepare(plain).rows.features
    np.testing.assert_array_equal(one.data, other.data)
    np.testing.assert_array_equal(one.indices, other.indices)


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_named(tables: Path, name: str) -> None:
    (tables / f"{name}.csv.gz").unlink()
    assert f"holds neither {name}.csv nor {name}.csv.gz" in refusal(tables)


@pytest.mark.parametrize("name", FILES)
def test_a_missing_column_is_named(tables: Path, name: str) -> None:
    column = HEADERS[name].split(",")[-1]
    edit(tables / f"{name}.csv.gz", f",{column}\n", ",other\n")
    assert refusal(tables).startswith(f"{tables / name}.csv.gz: lacks column '{column}'")


def test_a_column_named_twice_is_refused(tables: Path) -> None:
    edit(tables / "lab.csv.gz", "labname,labresult", "labname,labname")
    assert "lab.csv.gz: names column 'labname' twice" in refusal(tables)


def test_both_forms_of_a_table_are_one_too_many(tables: Path) -> None:
    (tables / "lab.csv").write_text("labid\n")
    assert "holds both lab.csv and lab.csv.gz" in refusal(tables)


@pytest.mark.parametrize(
    ("name", "old", "new", "message"),
    [
        ("vitalPeriodic", ",91,", ",secret,", "column 'heartrate' is not a number in 1 lines"),
        ("vitalAperiodic", ",120,", ",a,", "column 'noninvasivesystolic' is not a number"),
        (
            "lab",
            ",110",
            ",secret",
            "column 'labresult' is not a number in 1 lines, first in line 2",
        ),
        ("lab", "1,10,5", "1,10,5.5", "column 'labresultoffset' is not a whole number"),
        ("nurseCharting", "1,10,5", "1,x,5", "column 'patientunitstayid' is not a whole number"),
        ("apacheApsVar", "36.5", "secret", "column 'temperature' is not a number"),
        ("patient", ",3000\n", ",secret\n", "column 'unitdischargeoffset' is not a whole number"),
    ],
)
def test_a_wrong_type_is_named_by_file_column_and_line_and_never_shown(
    tables: Path, name: str, old: str, new: str, message: str
) -> None:
    edit(tables / f"{name}.csv.gz", old, new)
    said = refusal(tables)
    assert said.startswith(f"{tables / name}.csv.gz: {message}")
    assert "secret" not in said


@pytest.mark.parametrize("name", FILES)
def test_a_broken_file_is_named(tables: Path, name: str) -> None:
    path = tables / f"{name}.csv.gz"
    path.write_bytes(path.read_bytes()[:30])
    assert refusal(tables).startswith(f"{path}: cannot be read as CSV")


def test_a_file_that_is_not_compressed_is_named(tables: Path) -> None:
    (tables / "lab.csv.gz").write_bytes(b"labid,labname\n")
    assert "lab.csv.gz: cannot be read as CSV" in refusal(tables)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("Expired", "Unknown", "column 'hospitaldischargestatus' is neither 'Alive' nor 'Expired'"),
        ("20,p20", "10,p20", "column 'patientunitstayid' names a stay twice"),
        ("20,p20,1", "20,p20,", "column 'hospitalid' is missing in 1 rows"),
        (",71,", ",old,", "column 'age' is neither a number nor '> 89' nor blank in 2 rows"),
        (",3000\n", ",100\n", "no stay is left: no hospital discharge status 0, a stay under 48"),
    ],
)
def test_what_a_patient_row_cannot_say_is_refused(
    tables: Path, old: str, new: str, message: str
) -> None:
    edit(tables / "patient.csv.gz", old, new)
    said = refusal(tables)
    assert said.startswith(f"{tables / 'patient.csv.gz'}: {message}")
    assert "Unknown" not in said


def test_two_rows_of_apache_variables_are_refused_unless_they_are_one(tables: Path) -> None:
    path = tables / "apacheApsVar.csv.gz"
    row = "10,4,6,5,36.5,20,90,80,7.4,110,21\n"
    edit(path, row, row * 2)
    assert prepare(tables).report.stays == 2
    edit(path, row * 2, row + row.replace("36.5", "39"))
    assert "apacheApsVar.csv.gz: column 'patientunitstayid' names a stay twice" in refusal(tables)


def cohort_of(folder: Path, *rows: str) -> list[int]:
    return read_cohort(write(folder, {"patient": list(rows)})).stays.tolist()


def test_the_cohort_is_of_adults_with_a_status_and_48_hours_and_one_stay(tmp_path: Path) -> None:
    kept = PATIENT.format(stay=1, hospital=7, status="Alive")
    rows = (
        kept,
        kept,  # the same row again
        kept.replace("1,p1", "2,p2").replace("Alive", ""),
        kept.replace("1,p1", "3,p3").replace("3000", "2879"),
        kept.replace("1,p1", "4,p4").replace("3000", "2880"),
        kept.replace("1,p1", "5,p5").replace(",71,", ",17,"),
        kept.replace("1,p1", "6,p6"),
        kept.replace("1,p1", "7,p6").replace("3000", "60"),
        kept.replace("1,p1", "8,p8").replace(",71,", ",> 89,"),
        kept.replace("1,p1", "9,").replace(",71,", ",,"),
        kept.replace("1,p1", "10,"),
    )
    assert cohort_of(tmp_path, *rows) == [1, 4, 8, 9, 10]
    cohort = read_cohort(tmp_path)
    assert dict(cohort.excluded) == {
        "no hospital discharge status": 1,
        "a stay under 48 hours": 2,
        "under 18 years": 1,
        "another stay of the same person": 1,
    }
    assert cohort.admission[:, 2].tolist() == [71, 71, 90, 65, 71]


def test_what_is_known_at_admission_is_cleaned_and_imputed(tmp_path: Path) -> None:
    row = PATIENT.format(stay=1, hospital=7, status="Expired")
    odd = (
        row.replace("1,p1", "2,p2")
        .replace("165,80", "0,500")
        .replace("Female", "Unknown")
        .replace("Caucasian", "Other/Unknown")
        .replace("Sepsis", "")
    )
    write(tmp_path, {"patient": [odd, row]})
    cohort = read_cohort(tmp_path)
    assert cohort.admission.tolist() == [[165, 80, 71], [170, 81, 71]]
    assert [GENDERS[code] for code in cohort.genders] == ["Female", "other"]
    assert [ETHNICITIES[code] for code in cohort.ethnicities] == ["Caucasian", "other"]
    assert cohort.diagnoses.tolist() == ["Sepsis", "other"]
    assert cohort.labels.tolist() == [1, 1]
