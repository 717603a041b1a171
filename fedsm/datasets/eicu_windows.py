"""eICU's charts as hourly windows: per stay, hour and variable the last value charted.

Each table is read once, lazily and in batches; what is held is one value and one byte per stay,
window and variable, whatever the length of the tables and the order of their rows.

Of several charts in a window the latest counts; of one minute's, the later table's in
:data:`~fedsm.datasets.eicu_schema.TABLES`, and within a table that with the larger row id.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from fedsm.datasets.eicu_schema import (
    CHARTED,
    CODE,
    STAY,
    TABLES,
    LongTable,
    Variable,
    WideTable,
)
from fedsm.datasets.eicu_tables import Source, Types, find
from fedsm.errors import DataError

HOUR = 60

# A minute of an hour needs 6 bits; so do the 63 of a positive Int64 leave 57 to the row's id.
_ID_BITS = 57

MOST_OUTSIDE, FEW = 0.5, 10
"""Share of a column's values beyond the variable's range over which its unit is doubted, and the
number of values from which on it is asked."""

_CELL, _KEY, _CODE = "cell", "key", "code"


@dataclass(frozen=True)
class Span:
    """Which hours are looked at.

    Attributes
    ----------
    hours : int
        After admission to the unit: 24 or 48, and not more than the shortest stay has.
    before : int
        Before it. Charts from then have negative offsets.
    """

    hours: int = 48
    before: int = 2

    def __post_init__(self) -> None:
        if not (1 <= self.hours <= 48 and 0 <= self.before <= 24):
            raise ValueError("a span has 1 to 48 hours after admission and 0 to 24 before")

    def __len__(self) -> int:
        return self.before + self.hours


@dataclass(frozen=True)
class Windows:
    """Charted values, cleaned and in their usual units.

    Attributes
    ----------
    values : ndarray of float32, shape (stays, windows, variables)
        Variables in the order of :data:`~fedsm.datasets.eicu_schema.CHARTED`; undefined where
        nothing was charted.
    charted : ndarray of bool, of the same shape
    outside : mapping of str to int
        ``table.column`` to its values beyond the variable's range, which were taken as missing.
    """

    values: NDArray[np.float32]
    charted: NDArray[np.bool_]
    outside: Mapping[str, int]

    @property
    def records(self) -> int:
        """Windows with a chart."""
        return int(self.charted.any(axis=2).sum())

    @property
    def never_charted(self) -> tuple[str, ...]:
        """Variables without any value."""
        never = np.flatnonzero(~self.charted.any(axis=(0, 1)))
        return tuple(CHARTED[code].name for code in never)


def read_windows(directory: Path, stays: NDArray[np.int64], span: Span) -> Windows:
    """Read the charted values of the stays.

    Parameters
    ----------
    directory : Path
        Holds the tables as CSV or CSV.gz.
    stays : ndarray of int64, shape (stays,)
        ``patientunitstayid``, each once.
    span : Span

    Raises
    ------
    DataError
        A table is missing, lacks a column or holds another type, or more than half of a column's
        values lie beyond the range of what it should hold.
    """
    # One plane a variable, so that its charts fall close together.
    shape = (len(CHARTED), len(stays) * len(span))
    values = np.zeros(shape, dtype=np.float32)
    # When each value was charted: 4 * minute of the hour + rank of its table + 1; 0 is never.
    charted_at = np.zeros(shape, dtype=np.uint8)
    outside: dict[str, int] = {}
    sources = [find(directory, table.name, _types(table)) for table in TABLES]
    for rank, (table, source) in enumerate(zip(TABLES, sources, strict=True)):
        for chart in _last_charts(table, source, stays, span):
            at = (4 * (chart.key >> _ID_BITS) + rank + 1).astype(np.uint8)
            later = at > charted_at[chart.code, chart.cell]
            cell = chart.cell[later]
            charted_at[chart.code, cell] = at[later]
            values[chart.code, cell] = chart.value[later]
            if chart.outside:
                outside[f"{table.name}.{chart.name}"] = chart.outside
    cube = (len(CHARTED), len(stays), len(span))
    return Windows(
        np.moveaxis(values.reshape(cube), 0, 2),
        np.moveaxis(charted_at.reshape(cube) > 0, 0, 2),
        outside,
    )


def _types(table: WideTable | LongTable) -> Types:
    types: dict[str, type[pl.DataType]] = {
        table.row_id: pl.Int64,
        STAY: pl.Int64,
        table.offset: pl.Int64,
    }
    if isinstance(table, WideTable):
        return types | dict.fromkeys(table.columns, pl.Float64)
    value: type[pl.DataType] = pl.String if table.text else pl.Float64
    return types | dict.fromkeys(table.keys, pl.String) | {table.value: value}


@dataclass(frozen=True)
class _Charts:
    """The last chart of one variable in each window that has one; arrays of that many entries."""

    name: str
    code: int
    cell: NDArray[np.int64]
    value: NDArray[np.float64]
    key: NDArray[np.int64]
    outside: int


def _last_charts(
    table: WideTable | LongTable, source: Source, stays: NDArray[np.int64], span: Span
) -> Iterator[_Charts]:
    rows = source.scan().filter(
        pl.col(table.offset).is_between(-span.before * HOUR, span.hours * HOUR - 1)
    )
    if isinstance(table, LongTable):
        rows = rows.join(_items(table).lazy(), on=table.keys)
    first = pl.DataFrame({STAY: stays, _CELL: np.arange(len(stays)) * len(span)})
    minute = pl.col(table.offset) + span.before * HOUR
    rows = rows.join(first.lazy(), on=STAY).with_columns(
        (pl.col(_CELL) + minute // HOUR).alias(_CELL),
        # A row without an id yields to the others of its minute.
        (minute % HOUR * 2**_ID_BITS + pl.col(table.row_id).fill_null(0)).alias(_KEY),
    )
    if isinstance(table, WideTable):
        return _from_wide(table, source, rows)
    return _from_long(table, source, rows)


def _from_wide(table: WideTable, source: Source, rows: pl.LazyFrame) -> Iterator[_Charts]:
    """One group a window, one set of aggregates a column."""
    aggregates = []
    for column, name in table.columns.items():
        variable = CHARTED[CODE[name]]
        given = pl.col(column)
        aggregates += _aggregates(given, _clean(given, *_bounds(variable)), prefix=column)
    last = source.collect(rows.group_by(_CELL).agg(aggregates))
    for column, name in table.columns.items():
        yield _charts(source, last, column, name, column, prefix=column)


def _from_long(table: LongTable, source: Source, rows: pl.LazyFrame) -> Iterator[_Charts]:
    """One group a window and variable; the bounds stand beside each row."""
    given = pl.col(table.value)
    if table.text:
        given = given.str.strip_chars().cast(pl.Float64, strict=False)
    place = pl.col(_CELL) * len(CHARTED) + pl.col(_CODE)
    rows = rows.select(_KEY, *_BOUNDS, place=place, given=given).with_columns(
        clean=_clean(pl.col("given"), *(pl.col(name) for name in _BOUNDS))
    )
    aggregates = _aggregates(pl.col("given"), pl.col("clean"), prefix=table.value)
    last = source.collect(rows.group_by("place").agg(aggregates)).with_columns(
        (pl.col("place") // len(CHARTED)).alias(_CELL),
        (pl.col("place") % len(CHARTED)).alias(_CODE),
    )
    for code in last[_CODE].unique().sort():
        name = CHARTED[code].name
        part = last.filter(pl.col(_CODE) == code)
        yield _charts(source, part, table.value, name, name, prefix=table.value)


_BOUNDS = ("low", "high", "step", "other low", "other high", "shift", "factor")


def _bounds(variable: Variable) -> tuple[float | None, ...]:
    other = variable.other_unit
    change = (other.low, other.high, other.shift, other.factor) if other else (None,) * 4
    return (variable.low, variable.high, 1.0 if variable.whole else None, *change)


def _items(table: LongTable) -> pl.DataFrame:
    """What the table's keys hold, with the variable's code and bounds."""
    columns = dict(zip(table.keys, zip(*table.items, strict=True), strict=True))
    codes = [CODE[name] for name in table.items.values()]
    bounds = zip(*(_bounds(CHARTED[code]) for code in codes), strict=True)
    return pl.DataFrame(
        {**columns, _CODE: codes, **dict(zip(_BOUNDS, bounds, strict=True))},
        schema_overrides=dict.fromkeys(_BOUNDS, pl.Float64),
    )


def _clean(given: pl.Expr, *bounds: pl.Expr | float | None) -> pl.Expr:
    """The value in its usual unit, or nothing where it lies beyond the range.

    A bound is a number, or a column beside the value; there is none where it is None or null.
    """
    low, high, step, other_low, other_high, shift, factor = bounds
    usual = given
    if other_low is not None:
        converted = (given - shift) * factor
        usual = pl.when(given.is_between(other_low, other_high)).then(converted).otherwise(given)
    sound = usual.is_between(low, high)
    if step is not None:
        sound &= (usual % step == 0).fill_null(value=True)
    return pl.when(sound).then(usual)


def _aggregates(given: pl.Expr, clean: pl.Expr, prefix: str) -> list[pl.Expr]:
    key = pl.when(clean.is_not_null()).then(pl.col(_KEY))
    return [
        clean.max_by(key).alias(f"{prefix} value"),
        key.max().alias(f"{prefix} key"),
        given.count().alias(f"{prefix} given"),
        clean.count().alias(f"{prefix} kept"),
    ]


def _charts(
    source: Source, last: pl.DataFrame, column: str, variable: str, name: str, *, prefix: str
) -> _Charts:
    given, kept = int(last[f"{prefix} given"].sum()), int(last[f"{prefix} kept"].sum())
    if given >= FEW and given - kept > MOST_OUTSIDE * given:
        v = CHARTED[CODE[variable]]
        raise DataError(
            f"{given - kept} of {given} values of column {column!r} lie beyond the range of "
            f"{variable}, {v.low:g} to {v.high:g} {v.unit}".rstrip(),
            where=str(source.path),
            action="see in which unit the column is, and convert it",
        )
    last = last.filter(pl.col(f"{prefix} key").is_not_null())
    return _Charts(
        name,
        CODE[variable],
        last[_CELL].to_numpy(),
        last[f"{prefix} value"].to_numpy(),
        last[f"{prefix} key"].to_numpy(),
        given - kept,
    )
