"""The chart tables of :mod:`fedsm.datasets.eicu_lookalike`, a block of stays at a time."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from fedsm.datasets.eicu_lookalike_values import (
    Numbers,
    Random,
    Stays,
    Table,
    frame,
    holes,
    level,
)
from fedsm.datasets.eicu_schema import STAY

VITAL_PERIODIC: Table = (
    "vitalperiodicid", STAY, "observationoffset", "temperature", "sao2", "heartrate", "respiration",
    "cvp", "etco2", "systemicsystolic", "systemicdiastolic", "systemicmean", "pasystolic",
    "padiastolic", "pamean", "st1", "st2", "st3", "icp",
)  # fmt: skip
VITAL_APERIODIC: Table = (
    "vitalaperiodicid", STAY, "observationoffset", "noninvasivesystolic", "noninvasivediastolic",
    "noninvasivemean", "paop", "cardiacoutput", "cardiacinput", "svr", "svri", "pvr", "pvri",
)  # fmt: skip
LAB: Table = (
    "labid", STAY, "labresultoffset", "labtypeid", "labname", "labresult", "labresulttext",
    "labmeasurenamesystem", "labmeasurenameinterface", "labresultrevisedoffset",
)  # fmt: skip
NURSE_CHARTING: Table = (
    "nursingchartid", STAY, "nursingchartoffset", "nursingchartentryoffset",
    "nursingchartcelltypecat", "nursingchartcelltypevallabel", "nursingchartcelltypevalname",
    "nursingchartvalue",
)  # fmt: skip

EARLIEST, CALM = -6, 0.78
"""The first hour of charts, and how many of the hours after admission have some."""

MOST_HOURS = 57
"""Hours after admission with charts; longer stays go on uncharted, to bound the tables."""

TWICE = 0.01
"""Share of charts that were entered twice."""


@dataclass(frozen=True)
class _Times:
    """Charts of a block: each row's stay and minute, stay after stay and in no order within."""

    stay: NDArray[np.intp]
    minute: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.stay)


def _times(stays: Stays, per_hour: float, random: Random) -> _Times:
    """Rows at random minutes of the hours that have charts, the same hours for every table."""
    hours = np.arange(EARLIEST, MOST_HOURS)
    same = np.random.default_rng([int(stays.ids[0]), 1])
    charted = same.random((len(stays.ids), len(hours))) < np.where(hours < 0, CALM / 3, CALM)
    charted &= hours * 60 < stays.minutes[:, None]
    rows = charted * np.floor(per_hour + random.random(charted.shape, dtype=np.float32))
    stay, hour = (np.repeat(at, rows[charted].astype(int)) for at in np.nonzero(charted))
    minute = 60 * hours[hour] + random.integers(0, 60, len(hour))
    order = np.argsort(stay + random.random(len(stay)))
    return _Times(stay[order], np.minimum(minute, stays.minutes[stay] - 1)[order])


def _entered_twice(table: pl.DataFrame, value: str, row_id: str, random: Random) -> pl.DataFrame:
    """Add copies of some rows: half of them altogether equal, half with a new id and value."""
    n = len(table)
    copies = table[np.sort(random.choice(n, round(TWICE * n), replace=False))]
    first = pl.int_range(pl.len()) < len(copies) // 2
    last = table[row_id].max()
    copies = copies.with_columns(
        pl.when(first).then(row_id).otherwise(pl.lit(last) + 1 + pl.int_range(pl.len())),
        pl.when(first).then(value).otherwise(pl.col(value).shift(1)),
    )
    return pl.concat([table, copies])


def _ids(rows: int, n: int, random: Random) -> NDArray[np.int64]:
    """Ids in no order, with room after each block's for those of copies."""
    return 37_000_000 + 2 * rows + random.permutation(n)


def vital_periodic(stays: Stays, rows: int, random: Random) -> pl.DataFrame:
    """Monitors, every five minutes."""
    times = _times(stays, 12, random)
    n = len(times)

    def make(name: str, missing: float, digits: int = 0) -> Numbers:
        return holes(level(name, stays, times.stay, random, digits), missing, random)

    whole = {
        "sao2": make("saturation", 0.12),
        "heartrate": make("heart-rate", 0.03),
        "respiration": make("respiration", 0.15),
        "systemicsystolic": make("systolic", 0.75),
        "systemicdiastolic": make("diastolic", 0.75),
        "systemicmean": make("mean", 0.75),
    }
    table = frame(
        VITAL_PERIODIC,
        {
            "vitalperiodicid": _ids(rows, n, random),
            STAY: stays.ids[times.stay],
            "observationoffset": times.minute,
            "temperature": make("temperature", 0.9, 1),
            **whole,
            "st1": holes(random.normal(0, 1, n).round(1), 0.6, random),
        },
    ).with_columns(pl.col(tuple(whole)).cast(pl.Int32))
    return _entered_twice(table, "heartrate", "vitalperiodicid", random)


def vital_aperiodic(stays: Stays, rows: int, random: Random) -> pl.DataFrame:
    """Blood pressure by the cuff."""
    times = _times(stays, 1.33, random)
    pressures = {
        f"noninvasive{name}": holes(level(name, stays, times.stay, random), 0.02, random)
        for name in ("systolic", "diastolic", "mean")
    }
    table = frame(
        VITAL_APERIODIC,
        {
            "vitalaperiodicid": _ids(rows, len(times), random),
            STAY: stays.ids[times.stay],
            "observationoffset": times.minute,
            **pressures,
        },
    ).with_columns(pl.col(tuple(pressures)).cast(pl.Int32))
    return _entered_twice(table, "noninvasivemean", "vitalaperiodicid", random)


_LABS = (
    ("glucose", "mg/dL", 0.06), ("bedside glucose", "mg/dL", 0.12), ("pH", "Units", 0.04),
    ("FiO2", "%", 0.04), ("potassium", "mmol/L", 0.13), ("sodium", "mmol/L", 0.13),
    ("creatinine", "mg/dL", 0.12), ("BUN", "mg/dL", 0.12), ("Hgb", "g/dL", 0.12),
    ("WBC x 1000", "K/mcL", 0.12),
)  # fmt: skip


def lab(stays: Stays, rows: int, random: Random) -> pl.DataFrame:
    """Laboratory results; units are blank in a tenth, and FiO2 a fraction in half the hospitals."""
    times = _times(stays, 2.66, random)
    n = len(times)
    weights = np.array([share for *_, share in _LABS])
    item = random.choice(len(_LABS), n, p=weights / weights.sum())
    values = random.lognormal(2, 0.5, n).round(2)
    for code, name in enumerate(("glucose", "glucose", "ph", "fio2")):
        at = np.flatnonzero(item == code)
        values[at] = level(name, stays, times.stay[at], random, 2 if name == "ph" else 0)
    fraction = (item == 3) & (stays.hospital[times.stay] % 2 == 0)
    values[fraction] /= 100
    values = holes(values, 0.005, random)
    names = pl.Series([name for name, *_ in _LABS])
    units = pl.Series([unit for _, unit, _ in _LABS])
    table = frame(
        LAB,
        {
            "labid": _ids(rows, n, random),
            STAY: stays.ids[times.stay],
            "labresultoffset": times.minute,
            "labtypeid": 1 + item % 4,
            "labname": names.gather(item),
            "labresult": values,
            "labresultrevisedoffset": times.minute + random.integers(0, 90, n),
        },
    ).with_columns(
        labresulttext=pl.col("labresult").cast(pl.String),
        labmeasurenamesystem=pl.when(pl.lit(pl.Series(random.random(n) > 0.1))).then(
            pl.lit(units.gather(item))
        ),
    )
    return _entered_twice(table, "labresult", "labid", random)


_VITALS, _SCORES = "Vital Signs", "Scores"
_GCS = "Glasgow coma score"
_CHARTS = (
    (_VITALS, "Heart Rate", "Heart Rate", "heart-rate", 0.16),
    (_VITALS, "Respiratory Rate", "Respiratory Rate", "respiration", 0.15),
    (_VITALS, "O2 Saturation", "O2 Saturation", "saturation", 0.16),
    (_VITALS, "Non-Invasive BP", "Non-Invasive BP Systolic", "systolic", 0.08),
    (_VITALS, "Non-Invasive BP", "Non-Invasive BP Diastolic", "diastolic", 0.08),
    (_VITALS, "Non-Invasive BP", "Non-Invasive BP Mean", "mean", 0.05),
    (_VITALS, "Invasive BP", "Invasive BP Systolic", "systolic", 0.02),
    (_VITALS, "Invasive BP", "Invasive BP Diastolic", "diastolic", 0.02),
    (_VITALS, "Temperature", "Temperature (C)", "temperature", 0.03),
    (_VITALS, "Temperature", "Temperature (F)", "temperature", 0.03),
    ("Other Vital Signs and Infusions", "MAP (mmHg)", "Value", "mean", 0.01),
    (_SCORES, _GCS, "GCS Total", "total", 0.03),
    (_SCORES, _GCS, "Eyes", "eyes", 0.03),
    (_SCORES, _GCS, "Motor", "motor", 0.03),
    (_SCORES, _GCS, "Verbal", "verbal", 0.03),
    (_SCORES, "Pain Score/Goal", "Pain Score", "", 0.06),
    (_SCORES, "Sedation Scale/Score/Goal", "Sedation Score", "", 0.03),
)


def nurse_charting(stays: Stays, rows: int, random: Random) -> pl.DataFrame:
    """Nurses' charts, whose values are text."""
    times = _times(stays, 4, random)
    n = len(times)
    weights = np.array([share for *_, share in _CHARTS])
    item = random.choice(len(_CHARTS), n, p=weights / weights.sum())
    values = random.integers(0, 10, n).astype(np.float64)
    for code, (_, _, name, variable, _) in enumerate(_CHARTS):
        at = np.flatnonzero(item == code)
        if variable == "total":
            parts = ("eyes", "motor", "verbal")
            values[at] = sum(level(part, stays, times.stay[at], random) for part in parts)
        elif variable:
            digits = 1 if variable == "temperature" else 0
            values[at] = level(variable, stays, times.stay[at], random, digits)
        if name.endswith("(F)"):
            values[at] = (values[at] * 9 / 5 + 32).round(1)
    number = pl.col("nursingchartvalue")
    catalogue = {
        column: pl.Series([row[part] for row in _CHARTS]).gather(item)
        for part, column in enumerate(NURSE_CHARTING[4:7])
    }
    table = frame(
        NURSE_CHARTING,
        {
            "nursingchartid": _ids(rows, n, random),
            STAY: stays.ids[times.stay],
            "nursingchartoffset": times.minute,
            "nursingchartentryoffset": times.minute + random.integers(0, 20, n),
            **catalogue,
            "nursingchartvalue": holes(values, 0.01, random),
        },
    ).with_columns(
        pl.when(pl.lit(pl.Series(random.random(n) < 0.005)))
        .then(pl.lit("Unable to score due to medication"))
        .when(number == number.round())
        .then(number.cast(pl.Int64, strict=False).cast(pl.String))
        .otherwise(number.cast(pl.String))
        .alias("nursingchartvalue")
    )
    return _entered_twice(table, "nursingchartvalue", "nursingchartid", random)


CHARTS: Mapping[str, Callable[[Stays, int, Random], pl.DataFrame]] = {
    "vitalPeriodic": vital_periodic,
    "vitalAperiodic": vital_aperiodic,
    "lab": lab,
    "nurseCharting": nurse_charting,
}
"""Table to what makes it, from the stays, the rows that the table has already, and chance."""
