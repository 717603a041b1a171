"""Stays and values of :mod:`fedsm.datasets.eicu_lookalike`, and the frames that hold them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

Numbers = NDArray[np.float64]
Random = np.random.Generator
Table = tuple[str, ...]

ARTEFACTS = 0.002
"""Share of values that are artefacts."""


@dataclass(frozen=True)
class Stays:
    """Made-up stays; every array has one entry per stay.

    Attributes
    ----------
    ids, hospital, diagnosis : ndarray of int64
    severity, age : ndarray of float64
        The former standard normal.
    died : ndarray of bool
    minutes : ndarray of int64
        Length.
    """

    ids: NDArray[np.int64]
    hospital: NDArray[np.int64]
    diagnosis: NDArray[np.int64]
    severity: Numbers
    age: Numbers
    died: NDArray[np.bool_]
    minutes: NDArray[np.int64]


# Mean, shift per unit of severity, spread between stays and spread within one.
_LEVELS = {
    "heart-rate": (86, 8, 10, 6),
    "systolic": (122, -7, 12, 9),
    "diastolic": (62, -4, 8, 6),
    "mean": (80, -5, 9, 6),
    "saturation": (96.5, -0.8, 1, 1.2),
    "respiration": (19, 2.2, 3, 3),
    "temperature": (37, 0.15, 0.4, 0.2),
    "glucose": (135, 16, 25, 18),
    "ph": (7.38, -0.03, 0.03, 0.02),
    "fio2": (40, 9, 9, 3),
    "eyes": (3.6, -0.6, 0.4, 0.2),
    "motor": (5.6, -0.7, 0.5, 0.2),
    "verbal": (4.3, -1.1, 0.7, 0.3),
}
_MOST = {"saturation": 100, "fio2": 100, "eyes": 4, "motor": 6, "verbal": 5}
_LEAST = {"saturation": 50, "fio2": 21, "eyes": 1, "motor": 1, "verbal": 1}


def level(
    name: str, stays: Stays, at: NDArray[np.intp], random: Random, digits: int = 0
) -> Numbers:
    """Values of a variable for the stays at the given positions."""
    mean, slope, between, within = _LEVELS[name]
    # A stay's own level must not change from table to table.
    own = np.random.default_rng([int(stays.ids[0]), *name.encode()]).normal(0, 1, len(stays.ids))
    base = mean + slope * stays.severity + between * own
    values = base[at] + within * random.standard_normal(len(at), dtype=np.float32)
    return np.clip(values, _LEAST.get(name, 0), _MOST.get(name, 1_000)).round(digits)


def frame(columns: Table, values: Mapping[str, object]) -> pl.DataFrame:
    """The table with its columns in order, blank where none is given."""
    made = pl.DataFrame(values, nan_to_null=True)
    blank = [pl.lit(None, pl.String).alias(c) for c in columns if c not in made.columns]
    return made.with_columns(blank).select(columns)


def pick(
    names: Sequence[str | None], weights: Sequence[float], n: int, random: Random
) -> pl.Series:
    """Names drawn at random."""
    codes = random.choice(len(names), n, p=np.array(weights) / sum(weights))
    return pl.Series(names, dtype=pl.String).gather(codes)


def holes(values: NDArray[np.generic], share: float, random: Random) -> Numbers:
    """The values, a share of them missing, and a few of them artefacts."""
    drawn = random.random(len(values), dtype=np.float32)
    values = np.where(drawn > 1 - ARTEFACTS, np.where(drawn > 1 - ARTEFACTS / 2, -9, 9_999), values)
    return np.where(drawn < share, np.nan, values)
