from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fedsm.datasets.eicu_cohort import read_cohort
from fedsm.datasets.eicu_lookalike import write_lookalike
from fedsm.datasets.eicu_schema import CHARTED, CODE
from fedsm.datasets.eicu_windows import Span, Windows, read_windows
from fedsm.errors import DataError
from tests.datasets.eicu_by_hand import last_charts, write

STAYS = np.array([10, 20])


def windows(folder: Path, span: Span | None = None, **rows: list[str]) -> Windows:
    return read_windows(write(folder, rows), STAYS, span or Span())


def value(found: Windows, name: str, hour: int, stay: int = 0, before: int = 2) -> float | None:
    at = stay, hour + before, CODE[name]
    return float(found.values[at]) if found.charted[at] else None


@pytest.mark.parametrize("span", [Span(), Span(hours=24, before=0), Span(hours=48, before=5)])
def test_made_up_tables_agree_with_a_reading_chart_by_chart(tmp_path: Path, span: Span) -> None:
    write_lookalike(tmp_path, 40, seed=4)
    stays = read_cohort(tmp_path).stays
    found = read_windows(tmp_path, stays, span)
    row = {stay: i for i, stay in enumerate(stays.tolist())}
    charts = {
        (row[stay], window, code): np.float32(v)
        for (stay, window, code), (_, v) in last_charts(tmp_path, span.before, span.hours).items()
        if stay in row
    }
    assert len(charts) > 5_000
    assert found.charted.sum() == len(charts)
    for place, expected in charts.items():
        assert found.charted[place]
        assert found.values[place] == expected
    assert found.records == len({place[:2] for place in charts})


def test_the_last_minute_counts_then_the_later_table_then_the_larger_id(tmp_path: Path) -> None:
    nurse = "{},10,{},Heart Rate,Heart Rate,{}"
    found = windows(
        tmp_path,
        vitalPeriodic=[
            "9,10,5,,,91,,,,",
            "8,10,7,,,92,,,,",
            "7,10,7,,,93,,,,",
            "6,10,61,,,94,,,,",
            "5,10,-1,,,95,,,,",
            "4,10,-120,,,96,,,,",
            "3,10,-121,,,97,,,,",
            "2,10,2880,,,98,,,,",
            "1,30,5,,,99,,,,",
        ],
        nurseCharting=[nurse.format(1, 61, 81), nurse.format(2, 3, 82)],
    )
    assert value(found, "heart-rate", 0) == 92  # minute 7, id 8 over 7
    assert value(found, "heart-rate", 1) == 81  # the nurse's of the same minute
    assert value(found, "heart-rate", -1) == 95
    assert value(found, "heart-rate", -2) == 96
    assert found.charted.sum() == 4
    assert found.records == 4


def test_a_later_value_that_is_no_value_does_not_hide_an_earlier_one(tmp_path: Path) -> None:
    found = windows(
        tmp_path,
        vitalPeriodic=["1,10,5,,,91,,,,", "2,10,6,,,,18,,,", "3,10,7,,,9999,,,,"],
        nurseCharting=["4,10,8,Heart Rate,Heart Rate,Unable to score"],
    )
    assert value(found, "heart-rate", 0) == 91
    assert value(found, "respiratory-rate", 0) == 18
    assert found.outside == {"vitalPeriodic.heartrate": 1}


def test_a_row_without_an_id_yields_to_its_minutes_others(tmp_path: Path) -> None:
    rows = [",10,5,,,91,,,,", "1,10,5,,,92,,,,", ",20,5,,,93,,,,"]
    found = windows(tmp_path, vitalPeriodic=rows)
    assert value(found, "heart-rate", 0) == 92
    assert value(found, "heart-rate", 0, stay=1) == 93


def test_units_are_told_by_magnitude(tmp_path: Path) -> None:
    nurse = "{},10,{},Temperature,Temperature ({}),{}"
    found = windows(
        tmp_path,
        vitalPeriodic=["1,10,0,98.6,,,,,,"],
        lab=["1,10,0,FiO2,0.4", "2,10,60,FiO2,40", "3,10,120,FiO2,1", "4,10,180,FiO2,0.1"],
        nurseCharting=[nurse.format(1, 60, "F", 100.4), nurse.format(2, 120, "C", 37.5)],
    )
    temperatures = [value(found, "temperature", hour) for hour in range(3)]
    assert temperatures == pytest.approx([37, 38, 37.5])
    assert [value(found, "fio2", hour) for hour in range(4)] == [40, 40, 100, None]


def test_scores_are_whole_numbers_of_their_scale(tmp_path: Path) -> None:
    row = "{},10,{},Glasgow coma score,{},{}"
    charts = [("Eyes", 4), ("Eyes", 5), ("Eyes", 2.5), ("Eyes", " 3 "), ("GCS Total", 2)]
    found = windows(
        tmp_path,
        nurseCharting=[row.format(i, 60 * i, *chart) for i, chart in enumerate(charts)],
    )
    assert [value(found, "gcs-eyes", hour) for hour in range(4)] == [4, None, None, 3]
    assert value(found, "gcs-total", 4) is None
    assert found.outside == {"nurseCharting.gcs-eyes": 2, "nurseCharting.gcs-total": 1}


def test_variables_without_a_chart_are_listed(tmp_path: Path) -> None:
    found = windows(tmp_path, vitalAperiodic=["1,10,5,120,70,90"])
    pressures = {"systolic-pressure", "diastolic-pressure", "mean-arterial-pressure"}
    assert set(found.never_charted) == {v.name for v in CHARTED} - pressures


def test_a_column_in_another_unit_is_doubted(tmp_path: Path) -> None:
    # Kilopascal instead of mmHg.
    rows = [f"{i},10,{i},,,,,,,{4 + i / 10}" for i in range(20)]
    with pytest.raises(DataError) as caught:
        windows(tmp_path, vitalPeriodic=rows)
    assert str(caught.value) == (
        f"{tmp_path / 'vitalPeriodic.csv.gz'}: 20 of 20 values of column 'systemicmean' lie beyond "
        "the range of mean-arterial-pressure, 14 to 330 mmHg. "
        "Next: see in which unit the column is, and convert it"
    )


def test_a_span_is_within_the_shortest_stay() -> None:
    assert len(Span()) == 50
    for hours, before in ((0, 0), (49, 0), (24, -1)):
        with pytest.raises(ValueError, match="1 to 48 hours"):
            Span(hours, before)
