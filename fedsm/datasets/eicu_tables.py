"""Reading eICU's tables with polars: found, checked and typed before anything is computed.

Errors name file, column and line; what polars says of a bad value quotes it, and is kept back.
"""

from __future__ import annotations

import csv
import gzip
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from fedsm.errors import DataError

Types = Mapping[str, type[pl.DataType]]

SOURCE = "https://physionet.org/content/eicu-crd/2.0/"


@dataclass(frozen=True)
class Source:
    """One table's file, and the columns that are read of it.

    Attributes
    ----------
    path : Path
    types : mapping of str to polars type
    """

    path: Path
    types: Types

    def scan(self) -> pl.LazyFrame:
        """The columns, to be read when the query is collected."""
        return pl.scan_csv(self.path, schema_overrides=dict(self.types), infer_schema=False).select(
            *self.types
        )

    def collect(self, query: pl.LazyFrame) -> pl.DataFrame:
        """Run a query over this table in batches, in memory of its result's size.

        Raises
        ------
        DataError
            The file is broken, or a column holds a value of another type.
        """
        try:
            return query.collect(engine="streaming")
        except (pl.exceptions.PolarsError, OSError, UnicodeError):
            raise self._fault() from None

    def _fault(self) -> DataError:
        """Say what the file's first fault is, reading it as text."""
        numbers = {name: type_ for name, type_ in self.types.items() if type_ != pl.String}
        text = pl.scan_csv(self.path, infer_schema=False).select(*numbers).with_row_index("line", 2)
        bad = {
            name: pl.col(name).is_not_null() & pl.col(name).cast(type_, strict=False).is_null()
            for name, type_ in numbers.items()
        }
        counts = [wrong.sum().alias(f"{name} count") for name, wrong in bad.items()]
        lines = [pl.col("line").filter(wrong).min().alias(name) for name, wrong in bad.items()]
        try:
            found = text.select(*counts, *lines).collect(engine="streaming").row(0, named=True)
        except (pl.exceptions.PolarsError, OSError, UnicodeError):
            found = {}
        for name, type_ in numbers.items():
            if found.get(f"{name} count"):
                kind = "whole number" if type_ == pl.Int64 else "number"
                return DataError(
                    f"column {name!r} is not a {kind} in {found[f'{name} count']} lines, first in "
                    f"line {found[name]}",
                    where=str(self.path),
                    action="mend the file, or fetch it again",
                )
        return _unreadable(self.path)


def find(directory: Path, name: str, types: Types) -> Source:
    """A table's file, ``<name>.csv`` or ``<name>.csv.gz``, once its header has been checked.

    Raises
    ------
    DataError
        There is no such file, or there are both; it cannot be read; or it lacks a column.
    """
    found = [path for path in _paths(directory, name) if path.is_file()]
    if not found:
        raise DataError(
            f"holds neither {name}.csv nor {name}.csv.gz",
            where=str(directory),
            action=f"fetch the tables from {SOURCE} and give their folder with --from",
        )
    if len(found) > 1:
        raise DataError(
            f"holds both {name}.csv and {name}.csv.gz",
            where=str(directory),
            action="leave the one that is meant",
        )
    path = found[0]
    header = _header(path)
    lacking = [column for column in types if header.count(column) != 1]
    if lacking:
        fault = "names column {!r} twice" if lacking[0] in header else "lacks column {!r}"
        raise DataError(
            fault.format(lacking[0]),
            where=str(path),
            action="give the table as published, with its header",
        )
    return Source(path, types)


def _paths(directory: Path, name: str) -> tuple[Path, Path]:
    return directory / f"{name}.csv", directory / f"{name}.csv.gz"


def _header(path: Path) -> list[str]:
    try:
        opened = gzip.open if path.suffix == ".gz" else open
        with opened(path, "rt", encoding="utf-8-sig", newline="") as file:
            return next(csv.reader(file), [])
    except (OSError, EOFError, UnicodeError, csv.Error):
        raise _unreadable(path) from None


def _unreadable(path: Path) -> DataError:
    return DataError(
        "cannot be read as CSV",
        where=str(path),
        action="see that the file is whole, and fetch it again if not",
    )
