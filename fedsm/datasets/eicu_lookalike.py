"""Made-up tables with eICU's schema and oddities, of any size: nothing in them is anyone's.

Same columns, file names, value types and habits as the published database, for tests, benchmarks
and demonstrations without a data-use agreement: charts before admission, an age of "> 89", blank
units, temperatures in Fahrenheit and FiO2 as a fraction, -1 for missing APACHE variables, words in
place of numbers, artefacts, charts entered twice, and hours without any. Sicker patients have worse
values and die more often, one in ten of all, and more often in some hospitals than in others.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from fedsm.datasets.eicu_lookalike_charts import CHARTS
from fedsm.datasets.eicu_lookalike_values import Stays, Table, frame, level, pick
from fedsm.datasets.eicu_rows import Vocabulary
from fedsm.datasets.eicu_schema import STAY

PROBLEMS = (
    "Abscess", "Aneurysm", "Arrest", "Bleeding", "Contusion", "Edema", "Embolism", "Failure",
    "Fistula", "Fracture", "Infarction", "Infection", "Inflammation", "Laceration", "Neoplasm",
    "Obstruction", "Overdose effect", "Perforation", "Rupture", "Sepsis", "Stenosis", "Thrombosis",
    "Transplant",
)  # fmt: skip
SYSTEMS = (
    "abdominal", "airway", "biliary", "bladder", "cardiac", "cerebral", "endocrine", "esophageal",
    "gastric", "hepatic", "intestinal", "pancreatic", "pulmonary", "renal", "spinal", "valvular",
    "vascular",
)  # fmt: skip
DIAGNOSES = tuple(f"{problem}, {system}" for problem in PROBLEMS for system in SYSTEMS)

VOCABULARY = Vocabulary(tuple(sorted(DIAGNOSES)))
"""With these 391 diagnoses a window has the published study's 442 columns."""

PATIENT: Table = (
    STAY, "patienthealthsystemstayid", "gender", "age", "ethnicity", "hospitalid", "wardid",
    "apacheadmissiondx", "admissionheight", "hospitaladmittime24", "hospitaladmitoffset",
    "hospitaladmitsource", "hospitaldischargeyear", "hospitaldischargetime24",
    "hospitaldischargeoffset", "hospitaldischargelocation", "hospitaldischargestatus", "unittype",
    "unitadmittime24", "unitadmitsource", "unitvisitnumber", "unitstaytype", "admissionweight",
    "dischargeweight", "unitdischargetime24", "unitdischargeoffset", "unitdischargelocation",
    "unitdischargestatus", "uniquepid",
)  # fmt: skip
APACHE_APS_VAR: Table = (
    "apacheapsvarid", STAY, "intubated", "vent", "dialysis", "eyes", "motor", "verbal", "meds",
    "urine", "wbc", "temperature", "respiratoryrate", "sodium", "heartrate", "meanbp", "ph",
    "hematocrit", "creatinine", "albumin", "pao2", "pco2", "bun", "glucose", "bilirubin", "fio2",
)  # fmt: skip

_ETHNICITIES = {
    "Caucasian": 76, "African American": 11, "Hispanic": 4, "Other/Unknown": 5, "Asian": 2,
    "Native American": 1, None: 1,
}  # fmt: skip

BLOCK = 2_000
"""Stays made at a time; memory is that of one block."""

EXCLUDED = 0.12
"""Stays that the cohort's criteria leave out, per stay that they keep."""

_FIRST_STAY, _GAP = 141_168, 60


def write_lookalike(
    directory: Path, patients: int, seed: int = 0, *, compressed: bool = True
) -> dict[str, int]:
    """Write the six tables.

    Parameters
    ----------
    directory : Path
    patients : int
        Stays that the cohort of :mod:`fedsm.datasets.eicu_cohort` keeps; about 590 rows each in
        ``vitalPeriodic``, 195 in ``nurseCharting``, 130 in ``lab``, 65 in ``vitalAperiodic``.
    seed : int
        The same seed and size give the same tables.
    compressed : bool
        Write CSV.gz, as published, or CSV.

    Returns
    -------
    dict of str to int
        Table to its rows.
    """
    directory.mkdir(parents=True, exist_ok=True)
    rows: dict[str, int] = {}
    ending = ".csv.gz" if compressed else ".csv"
    tables = ("patient", "apacheApsVar", *CHARTS)
    files = {name: (directory / f"{name}{ending}").open("wb") for name in tables}
    try:
        for block in _blocks(patients, seed):
            for name, table in _tables(block, rows):
                # A gzip file may have several members, one after the other: RFC 1952, 2.2.
                table.write_csv(
                    files[name],
                    include_header=name not in rows,
                    compression="gzip" if compressed else "uncompressed",
                    compression_level=1 if compressed else None,
                )
                rows[name] = rows.get(name, 0) + len(table)
    finally:
        for file in files.values():
            file.close()
    return rows


@dataclass(frozen=True)
class _Block:
    """Stays, why the cohort leaves each out (0 is not at all), and the number of the first."""

    stays: Stays
    way: NDArray[np.int64]
    first: int
    random: np.random.Generator


_KEPT, _SHORT, _NO_STATUS, _AGAIN = range(4)


def _blocks(patients: int, seed: int) -> Iterator[_Block]:
    hospitals = int(np.clip(patients // 150, 12, 208))
    common = np.random.default_rng([seed, 0])
    size = common.dirichlet(np.full(hospitals, 2.0))
    effect = common.normal(0, 0.4, hospitals)
    risk = common.normal(0, 0.5, len(DIAGNOSES))
    # The commonest diagnosis is four times as common as the rarest.
    frequency = 1 / np.linspace(1, 4, len(DIAGNOSES))
    first = 0
    for number, start in enumerate(range(0, patients, BLOCK), start=1):
        random = np.random.default_rng([seed, number])
        wanted = min(BLOCK, patients - start)
        n = wanted + round(EXCLUDED * wanted)
        way = np.zeros(n, dtype=np.int64)
        out = random.choice(n, n - wanted, replace=False)
        way[out] = 1 + np.arange(n - wanted) % 3
        hospital = random.choice(hospitals, n, p=size)
        diagnosis = random.choice(len(DIAGNOSES), n, p=frequency / frequency.sum())
        severity = random.normal(0, 1, n)
        age = np.clip(random.normal(65, 16, n), 18, 95).round()
        logit = -3.35 + 1.6 * severity + 0.03 * (age - 65) + effect[hospital] + risk[diagnosis]
        minutes = 2_880 + random.exponential(2_000, n).astype(np.int64)
        stays = Stays(
            ids=_FIRST_STAY + (first + np.arange(n)) * _GAP + random.integers(0, _GAP, n),
            hospital=hospital,
            diagnosis=diagnosis,
            severity=severity,
            age=age,
            died=random.random(n) < 1 / (1 + np.exp(-logit)),
            minutes=np.where(way == _SHORT, random.integers(60, 2_880, n), minutes),
        )
        yield _Block(stays, way, first, random)
        first += n


def _tables(block: _Block, rows: Mapping[str, int]) -> Iterator[tuple[str, pl.DataFrame]]:
    yield "patient", _patient(block)
    yield "apacheApsVar", _apache(block, rows.get("apacheApsVar", 0))
    for name, make in CHARTS.items():
        yield name, make(block.stays, rows.get(name, 0), block.random)


def _patient(block: _Block) -> pl.DataFrame:
    stays, random, n = block.stays, block.random, len(block.stays.ids)
    person = block.first + np.arange(n)
    again = np.flatnonzero(block.way == _AGAIN)
    # One person for all of a block's repeated stays, of which there may be one only.
    person[again] = person[again[0]] if len(again) > 1 else person[again]
    status = np.where(stays.died, "Expired", "Alive")
    return frame(
        PATIENT,
        {
            STAY: stays.ids,
            "patienthealthsystemstayid": 128_919 + np.arange(n) + block.first,
            "gender": pick(("Female", "Male", "Unknown", None), (460, 538, 1, 1), n, random),
            "ethnicity": pick(tuple(_ETHNICITIES), tuple(_ETHNICITIES.values()), n, random),
            "hospitalid": 56 + 2 * stays.hospital,
            "wardid": 60 + stays.hospital,
            "apacheadmissiondx": pl.Series(DIAGNOSES).gather(stays.diagnosis),
            "admissionheight": np.where(
                random.random(n) < 0.03, 0, random.normal(170, 10, n).round(1)
            ),
            "hospitaladmittime24": np.full(n, "12:00:00"),
            "hospitaladmitoffset": -random.exponential(400, n).astype(np.int64),
            "hospitaldischargeyear": random.integers(2014, 2016, n),
            "hospitaldischargeoffset": stays.minutes + random.integers(0, 9_000, n),
            "hospitaldischargestatus": np.where(block.way == _NO_STATUS, "", status),
            "unittype": pick(("Med-Surg ICU", "MICU", "Cardiac ICU"), (3, 1, 1), n, random),
            "unitvisitnumber": np.ones(n, dtype=np.int64),
            "unitstaytype": pick(("admit", "transfer"), (9, 1), n, random),
            "admissionweight": np.where(
                random.random(n) < 0.04, np.nan, random.normal(82, 18, n).round(1)
            ),
            "unitdischargeoffset": stays.minutes,
            "unitdischargestatus": status,
            "uniquepid": [f"{p // 100_000:03d}-{p % 100_000:05d}" for p in person.tolist()],
            "age": [
                _age(age, drawn) for age, drawn in zip(stays.age, random.random(n), strict=True)
            ],
        },
    ).with_columns(
        pl.col("hospitaldischargestatus").replace("", None),
        pl.when(pl.lit(pl.Series(random.random(n) > 0.02))).then("apacheadmissiondx"),
    )


def _age(age: float, drawn: float) -> str | None:
    if drawn < 0.002:
        return None
    return "> 89" if age > 89 else f"{age:.0f}"


def _apache(block: _Block, rows: int) -> pl.DataFrame:
    """The first day's variables of nine stays in ten, -1 where one is missing."""
    stays, random = block.stays, block.random
    at = np.flatnonzero(random.random(len(stays.ids)) < 0.9)

    def make(name: str, missing: float, digits: int = 0) -> NDArray[np.float64]:
        values = level(name, stays, at, random, digits)
        return np.where(random.random(len(at)) < missing, -1, values)

    scores = {name: make(name, 0.02) for name in ("eyes", "motor", "verbal")}
    return frame(
        APACHE_APS_VAR,
        {
            "apacheapsvarid": 92_788 + rows + np.arange(len(at)),
            STAY: stays.ids[at],
            **{name: values.astype(np.int64) for name, values in scores.items()},
            "temperature": make("temperature", 0.05, 1),
            "respiratoryrate": make("respiration", 0.02),
            "heartrate": make("heart-rate", 0.01),
            "meanbp": make("mean", 0.01),
            "ph": make("ph", 0.75, 2),
            "glucose": make("glucose", 0.1),
            "fio2": make("fio2", 0.75),
        },
    )
