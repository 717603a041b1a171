"""The stays that mortality is predicted for, and what is known of each at admission.

A stay of an adult in an intensive care unit for which the hospital's discharge status is recorded
and which lasts at least 48 hours, because the first 24 or 48 are looked at: a shorter one would
tell its end. Of persons with several stays none is taken, so that nobody stands on both sides of a
split (Sheikhalishahi et al. 2020).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from fedsm.datasets.eicu_schema import ADMISSION, ETHNICITIES, GENDERS, OTHER, STAY, Variable
from fedsm.datasets.eicu_tables import Source, Types, find
from fedsm.errors import DataError

STATUS = "hospitaldischargestatus"

PATIENT: Types = {
    STAY: pl.Int64,
    "uniquepid": pl.String,
    "hospitalid": pl.Int64,
    "gender": pl.String,
    "age": pl.String,
    "ethnicity": pl.String,
    "apacheadmissiondx": pl.String,
    "admissionheight": pl.Float64,
    "admissionweight": pl.Float64,
    STATUS: pl.String,
    "unitdischargeoffset": pl.Int64,
}

LEAST_HOURS = 48

ADULT = 18

DIED, ALIVE = "Expired", "Alive"

OLDEST = "> 89"


@dataclass(frozen=True)
class Cohort:
    """Stays in ascending order of their id; every array has one entry per stay.

    Attributes
    ----------
    stays, hospitals : ndarray of int64
        ``patientunitstayid`` and ``hospitalid``.
    labels : ndarray of int64
        1 where the patient died in hospital.
    admission : ndarray of float32, shape (stays, 3)
        :data:`~fedsm.datasets.eicu_schema.ADMISSION`; what is missing is imputed.
    genders, ethnicities : ndarray of uint8
        Positions in ``GENDERS`` and ``ETHNICITIES`` of :mod:`~fedsm.datasets.eicu_schema`.
    diagnoses : ndarray of str
        ``apacheadmissiondx``; ``other`` where it is blank.
    excluded : mapping of str to int
        Reason to the stays left out for it, each counted once, in the order of the criteria.
    """

    stays: NDArray[np.int64]
    hospitals: NDArray[np.int64]
    labels: NDArray[np.int64]
    admission: NDArray[np.float32]
    genders: NDArray[np.uint8]
    ethnicities: NDArray[np.uint8]
    diagnoses: NDArray[np.str_]
    excluded: Mapping[str, int]

    def __len__(self) -> int:
        return len(self.stays)


def read_cohort(directory: Path) -> Cohort:
    """Select the stays of ``patient.csv`` or ``patient.csv.gz``.

    Raises
    ------
    DataError
        The file is missing, lacks a column or holds another type; a stay is listed twice with
        different content; a discharge status is neither "Alive" nor "Expired"; an age is no number
        and not "> 89"; a hospital is not given; or nothing is left.
    """
    source = find(directory, "patient", PATIENT)
    rows = source.collect(source.scan()).unique(maintain_order=True)
    _check(rows, source)
    age = pl.when(pl.col("age").str.strip_chars() == OLDEST).then(pl.lit(90.0)).otherwise(_age())
    rows = rows.with_columns(age=age)
    reasons = {
        "no hospital discharge status": pl.col(STATUS).is_null(),
        f"a stay under {LEAST_HOURS} hours": ~(
            pl.col("unitdischargeoffset").fill_null(0) >= LEAST_HOURS * 60
        ),
        f"under {ADULT} years": (pl.col("age") < ADULT).fill_null(value=False),
        "another stay of the same person": pl.col("uniquepid").is_duplicated()
        & pl.col("uniquepid").is_not_null(),
    }
    # Of all stays, before any is left out.
    rows = rows.with_columns(**reasons)
    excluded = {}
    for reason in reasons:
        excluded[reason] = int(rows[reason].sum())
        rows = rows.filter(~pl.col(reason))
    if not len(rows):
        counts = ", ".join(f"{reason} {count}" for reason, count in excluded.items())
        raise DataError(
            f"no stay is left: {counts}",
            where=str(source.path),
            action="give the tables of a hospital with longer stays",
        )
    return _cohort(rows.sort(STAY), excluded)


def _age() -> pl.Expr:
    return pl.col("age").str.strip_chars().cast(pl.Float64, strict=False)


def _check(rows: pl.DataFrame, source: Source) -> None:
    age = pl.col("age").str.strip_chars()
    wrong_age = _age().is_null() & (age != OLDEST) & (age != "")
    faults = (
        (STAY, "is missing", pl.col(STAY).is_null()),
        (STAY, "names a stay twice, with different content,", pl.col(STAY).is_duplicated()),
        ("hospitalid", "is missing", pl.col("hospitalid").is_null()),
        (
            STATUS,
            f"is neither {ALIVE!r} nor {DIED!r} nor blank",
            ~pl.col(STATUS).is_in([ALIVE, DIED]),
        ),
        ("age", f"is neither a number nor {OLDEST!r} nor blank", wrong_age),
    )
    for column, fault, wrong in faults:
        if count := int(rows.select(wrong.sum()).item()):
            raise DataError(
                f"column {column!r} {fault} in {count} rows",
                where=str(source.path),
                action="mend the file, or fetch it again",
            )


def _cohort(rows: pl.DataFrame, excluded: Mapping[str, int]) -> Cohort:
    columns = ("admissionheight", "admissionweight", "age")
    admission = [_number(rows[column], v) for column, v in zip(columns, ADMISSION, strict=True)]
    return Cohort(
        stays=rows[STAY].to_numpy(),
        hospitals=rows["hospitalid"].to_numpy(),
        labels=(rows[STATUS] == DIED).cast(pl.Int64).to_numpy(),
        admission=np.column_stack(admission),
        genders=_positions(rows["gender"], GENDERS),
        ethnicities=_positions(rows["ethnicity"], ETHNICITIES),
        diagnoses=np.array(rows["apacheadmissiondx"].fill_null(OTHER).to_list(), dtype=np.str_),
        excluded=excluded,
    )


def _number(column: pl.Series, variable: Variable) -> NDArray[np.float32]:
    values = column.fill_null(np.nan).to_numpy()
    known = (values >= variable.low) & (values <= variable.high)
    return np.where(known, values, variable.typical).astype(np.float32)


def _positions(column: pl.Series, categories: tuple[str, ...]) -> NDArray[np.uint8]:
    codes = {name: code for code, name in enumerate(categories)}
    return column.replace_strict(codes, default=codes[OTHER], return_dtype=pl.UInt8).to_numpy()
