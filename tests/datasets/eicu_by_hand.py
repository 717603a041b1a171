"""eICU tables of a few rows, and the preparation again in plain Python, one chart at a time."""

from __future__ import annotations

import csv
import gzip
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from fedsm.datasets.eicu_schema import CHARTED, CODE, TABLES, LongTable

HEADERS = {
    "patient": "patientunitstayid,uniquepid,hospitalid,gender,age,ethnicity,apacheadmissiondx,"
    "admissionheight,admissionweight,hospitaldischargestatus,unitdischargeoffset",
    "apacheApsVar": "patientunitstayid,eyes,motor,verbal,temperature,respiratoryrate,heartrate,"
    "meanbp,ph,glucose,fio2",
    "vitalPeriodic": "vitalperiodicid,patientunitstayid,observationoffset,temperature,sao2,"
    "heartrate,respiration,systemicsystolic,systemicdiastolic,systemicmean",
    "vitalAperiodic": "vitalaperiodicid,patientunitstayid,observationoffset,noninvasivesystolic,"
    "noninvasivediastolic,noninvasivemean",
    "lab": "labid,patientunitstayid,labresultoffset,labname,labresult",
    "nurseCharting": "nursingchartid,patientunitstayid,nursingchartoffset,"
    "nursingchartcelltypevallabel,nursingchartcelltypevalname,nursingchartvalue",
}

PATIENT = "{stay},p{stay},{hospital},Female,71,Caucasian,Sepsis,165,80,{status},3000"


def patients(*stays: tuple[int, int, str]) -> list[str]:
    """Rows of patients who are kept: stay, hospital and discharge status."""
    return [PATIENT.format(stay=s, hospital=h, status=status) for s, h, status in stays]


def write(directory: Path, rows: Mapping[str, list[str]], *, compressed: bool = True) -> Path:
    """Write the six tables, those that are not given without a row."""
    directory.mkdir(parents=True, exist_ok=True)
    for name, header in HEADERS.items():
        text = "\n".join([header, *rows.get(name, [])]) + "\n"
        if compressed:
            (directory / f"{name}.csv.gz").write_bytes(gzip.compress(text.encode()))
        else:
            (directory / f"{name}.csv").write_text(text)
    return directory


def read(directory: Path, name: str) -> Iterator[dict[str, str]]:
    with gzip.open(directory / f"{name}.csv.gz", "rt") as file:
        yield from csv.DictReader(file)


def clean(text: str, code: int) -> float | None:
    """A value in its usual unit and range, or None."""
    try:
        value = float(text)
    except ValueError:
        return None
    variable = CHARTED[code]
    if (unit := variable.other_unit) and unit.low <= value <= unit.high:
        value = (value - unit.shift) * unit.factor
    if not variable.low <= value <= variable.high or (variable.whole and value % 1):
        return None
    return value


def last_charts(
    directory: Path, before: int, hours: int
) -> dict[tuple[int, int, int], tuple[Any, float]]:
    """Stay, window and variable to the order and value of the last chart."""
    found: dict[tuple[int, int, int], tuple[Any, float]] = {}
    for rank, table in enumerate(TABLES):
        for row in read(directory, table.name):
            offset = int(row[table.offset])
            if not -60 * before <= offset < 60 * hours:
                continue
            if isinstance(table, LongTable):
                name = table.items.get(tuple(row[key] for key in table.keys))
                charts = [(name, row[table.value])] if name else []
            else:
                charts = [(name, row[column]) for column, name in table.columns.items()]
            for name, text in charts:
                value = clean(text, CODE[name])
                place = (int(row["patientunitstayid"]), offset // 60 + before, CODE[name])
                order = (offset, rank, int(row[table.row_id]))
                if value is not None and (place not in found or order > found[place][0]):
                    found[place] = (order, value)
    return found
