"""From hourly windows to one sparse row a stay: forward fill, imputation, one column a category.

A window has 13 numbers and seven categorical variables, each of which is one column per category
with a 1 in one of them, so that a row holds 20 values a window whatever its width. Numbers keep
their units: scaling them is the federation's part.

A value holds until the next is charted. Before the first chart of a stay it is the first day's
APACHE variable, without that the variable's typical value; a Glasgow total that nobody charted is
the sum of its three parts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.sparse import csr_array

from fedsm.datasets.eicu_cohort import Cohort
from fedsm.datasets.eicu_schema import (
    ADMISSION,
    APACHE,
    CHARTED,
    CODE,
    ETHNICITIES,
    GENDERS,
    MEASURED,
    OTHER,
    SCORES,
    STAY,
)
from fedsm.datasets.eicu_tables import Types, find
from fedsm.datasets.eicu_windows import Span, Windows
from fedsm.errors import DataError

LEAST = 11
"""Fewer stays than this of a diagnosis do not leave a site: the cell size under which CMS
suppresses counts."""

_TYPES: Types = {STAY: pl.Int64, **dict.fromkeys(APACHE, pl.Float64)}


@dataclass(frozen=True)
class Vocabulary:
    """The categories that have a column, alike at every site.

    Attributes
    ----------
    diagnoses : tuple of str
        Named diagnoses, sorted; all others share the column ``other``.
    """

    diagnoses: tuple[str, ...]

    @property
    def blocks(self) -> Mapping[str, tuple[str, ...]]:
        """Categorical variable to its categories, in the order of the columns."""
        scores = {v.name: tuple(str(n) for n in range(int(v.low), int(v.high) + 1)) for v in SCORES}
        rest = {"gender": GENDERS, "ethnicity": ETHNICITIES, "diagnosis": (*self.diagnoses, OTHER)}
        return scores | rest

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of one window's columns."""
        numbers = [variable.name for variable in (*ADMISSION, *MEASURED)]
        categories = [f"{name}={c}" for name, names in self.blocks.items() for c in names]
        return (*numbers, *categories)


def diagnosis_counts(diagnoses: NDArray[np.str_], least: int = LEAST) -> dict[str, int]:
    """What a site tells of its diagnoses: those that at least ``least`` of its stays have."""
    counts = Counter(diagnoses.tolist())
    return {name: n for name, n in sorted(counts.items()) if n >= least and name != OTHER}


def agree(counts: Mapping[str, Mapping[str, int]]) -> Vocabulary:
    """The vocabulary of a federation, from what each site tells.

    Parameters
    ----------
    counts : mapping of str to mapping of str to int
        Site to :func:`diagnosis_counts`. A diagnosis that one site alone names has its column.
    """
    return Vocabulary(tuple(sorted({name for site in counts.values() for name in site})))


def read_apache(directory: Path, stays: NDArray[np.int64]) -> NDArray[np.float32]:
    """What holds before a stay's first chart; shape (stays, variables of ``CHARTED``).

    Raises
    ------
    DataError
        ``apacheApsVar`` is missing, lacks a column, holds another type, or has two different rows
        of a stay.
    """
    source = find(directory, "apacheApsVar", _TYPES)
    wanted = pl.LazyFrame({STAY: stays, "row": np.arange(len(stays))})
    rows = source.collect(source.scan().join(wanted, on=STAY)).unique()
    if twice := int(rows["row"].is_duplicated().sum()):
        raise DataError(
            f"column {STAY!r} names a stay twice, with different content, in {twice} rows",
            where=str(source.path),
            action="mend the file, or fetch it again",
        )
    start = np.tile(np.array([v.typical for v in CHARTED], dtype=np.float32), (len(stays), 1))
    # To be summed from its parts.
    start[:, CODE["gcs-total"]] = np.nan
    at = rows["row"].to_numpy()
    for column, name in APACHE.items():
        variable = CHARTED[CODE[name]]
        values = rows[column].fill_null(np.nan).to_numpy()
        if variable.other_unit is not None:
            unit = variable.other_unit
            other = (values >= unit.low) & (values <= unit.high)
            values = np.where(other, (values - unit.shift) * unit.factor, values)
        sound = (values >= variable.low) & (values <= variable.high)
        if variable.whole:
            sound &= values % 1 == 0
        start[at[sound], CODE[name]] = values[sound]
    return start


def fill_forward(windows: Windows, start: NDArray[np.float32]) -> NDArray[np.float32]:
    """Values without a gap; shape (stays, windows, variables).

    Parameters
    ----------
    windows : Windows
    start : ndarray of float32, shape (stays, variables)
        What holds before the first chart; NaN for a Glasgow total that its parts make.
    """
    filled = np.empty_like(windows.values)
    last = start
    for hour in range(filled.shape[1]):
        last = np.where(windows.charted[:, hour], windows.values[:, hour], last)
        filled[:, hour] = last
    total = filled[..., CODE["gcs-total"]]
    parts = sum(filled[..., CODE[f"gcs-{part}"]] for part in ("eyes", "motor", "verbal"))
    np.copyto(total, parts, where=np.isnan(total))
    return filled


def one_row_a_stay(
    cohort: Cohort, filled: NDArray[np.float32], vocabulary: Vocabulary
) -> csr_array:
    """The sparse rows.

    Returns
    -------
    csr_array of float32, shape (stays, windows x columns of a window)
        20 stored values a window, in the order of the columns.
    """
    stays, hours, _ = filled.shape
    sizes = np.array([len(names) for names in vocabulary.blocks.values()])
    numbers = len(ADMISSION) + len(MEASURED)
    begins = numbers + np.cumsum(sizes) - sizes
    width = numbers + int(sizes.sum())
    diagnosis = {name: code for code, name in enumerate(vocabulary.diagnoses)}
    diagnoses = [diagnosis.get(name, len(diagnosis)) for name in cohort.diagnoses.tolist()]
    data = np.ones((stays, hours, numbers + len(sizes)), dtype=np.float32)
    data[..., : len(ADMISSION)] = cohort.admission[:, None]
    data[..., len(ADMISSION) : numbers] = filled[..., : len(MEASURED)]
    column = np.empty(data.shape, dtype=np.int32)
    column[..., :numbers] = np.arange(numbers)
    lowest = np.array([score.low for score in SCORES], dtype=np.float32)
    scores = slice(numbers, numbers + len(SCORES))
    column[..., scores] = filled[..., len(MEASURED) :] - lowest + begins[: len(SCORES)]
    fixed = np.column_stack([cohort.genders, cohort.ethnicities, diagnoses])
    column[..., scores.stop :] = (fixed + begins[len(SCORES) :])[:, None]
    column += (np.arange(hours, dtype=np.int32) * width)[:, None]
    ends = np.arange(stays + 1) * (hours * data.shape[2])
    rows = csr_array((data.ravel(), column.ravel(), ends), shape=(stays, hours * width))
    # The blocks stand in the columns' order, so that nothing need be sorted.
    rows.has_canonical_format = True
    return rows


def column_names(vocabulary: Vocabulary, span: Span) -> tuple[str, ...]:
    """Names of a row's columns: ``heart-rate@-2h`` is of the second hour before admission."""
    hours = range(-span.before, span.hours)
    return tuple(f"{name}@{hour}h" for hour in hours for name in vocabulary.columns)
