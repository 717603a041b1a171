"""Rows with a label: the one shape in which data is handed around, and its CSV form.

A CSV file has a header, one column per feature and the label's column. Features are numbers; an
empty field, ``?``, ``NA`` or ``nan`` is missing. Labels are whole numbers or text.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fedsm.errors import DataError

MISSING = frozenset({"", "?", "na", "nan", "null"})

Labels = NDArray[np.int64] | NDArray[np.str_]


@dataclass(frozen=True)
class Table:
    """Rows of one site or one split.

    Attributes
    ----------
    columns : tuple of str
        Names of the features, in the order of the columns of ``features``.
    features : ndarray of float64, shape (rows, columns)
        NaN where a value is missing.
    labels : ndarray of int64 or str, shape (rows,)
    """

    columns: tuple[str, ...]
    features: NDArray[np.float64]
    labels: Labels

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, rows: NDArray[np.intp]) -> Table:
        """The given rows, in the given order."""
        return Table(self.columns, self.features[rows], self.labels[rows])


def concatenate(tables: Sequence[Table]) -> Table:
    """All rows of tables that have the same columns, in order."""
    return Table(
        tables[0].columns,
        np.vstack([t.features for t in tables]),
        np.concatenate([t.labels for t in tables]),
    )


def write_csv(table: Table, path: Path, *, label: str) -> None:
    """Write a table; reading it back gives the same float64 values."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([*table.columns, label])
        for row, target in zip(table.features.tolist(), table.labels.tolist(), strict=True):
            writer.writerow([*("" if math.isnan(v) else repr(v) for v in row), target])


def read_csv(paths: Iterable[Path], *, label: str) -> Table:
    """Read files of one header as one table.

    Raises
    ------
    DataError
        A file cannot be read, lacks the label or a column, or holds a value that is neither a
        number nor missing. The message names file, line and column, never the value.
    """
    columns: list[str] | None = None
    features: list[list[float]] = []
    targets: list[str] = []
    for path in paths:
        try:
            with path.open(encoding="utf-8-sig", newline="") as file:
                header = _read_rows(file, path, label, columns, features, targets)
        except (OSError, UnicodeDecodeError, csv.Error) as error:
            raise DataError(
                f"cannot be read as CSV ({type(error).__name__})",
                where=path.name,
                action="give UTF-8 text with commas and a header",
            ) from None
        columns = columns or header
    if columns is None:
        raise DataError("there is no CSV file", action="give one file at least")
    width = len(columns) - 1
    return Table(
        tuple(name for name in columns if name != label),
        np.array(features, dtype=np.float64).reshape(len(features), width),
        _labels(targets),
    )


def _read_rows(
    file: Iterable[str],
    path: Path,
    label: str,
    columns: list[str] | None,
    features: list[list[float]],
    targets: list[str],
) -> list[str]:
    reader = csv.reader(file)
    header = [name.strip() for name in next(reader, [])]
    _check_header(header, path, label, columns)
    at = header.index(label)
    for row in reader:
        if not row:
            continue
        if len(row) != len(header):
            raise DataError(
                f"line {reader.line_num} has {len(row)} fields, the header has {len(header)}",
                where=path.name,
                action="mend the line",
            )
        target = row.pop(at).strip()
        if target.lower() in MISSING:
            raise _bad_value(path, reader.line_num, label, "is missing")
        targets.append(target)
        features.append(
            [
                _number(text, path, reader.line_num, header, i + (i >= at))
                for i, text in enumerate(row)
            ]
        )
    return header


def _check_header(header: list[str], path: Path, label: str, columns: list[str] | None) -> None:
    if label not in header:
        raise DataError(
            f"has no label column {label!r}",
            where=path.name,
            action="name the label column in the hyperparameter `label`",
        )
    if len(header) < 2:
        raise DataError("has no feature column", where=path.name, action="add the features")
    twice = sorted({name for name in header if header.count(name) > 1})
    if twice:
        raise DataError(
            f"names column {twice[0]!r} twice", where=path.name, action="rename one of them"
        )
    if columns is not None and header != columns:
        raise DataError(
            "has other columns than the file before it",
            where=path.name,
            action="give all files of a channel the same header",
        )


def _number(text: str, path: Path, line: int, header: list[str], column: int) -> float:
    text = text.strip()
    if text.lower() in MISSING:
        return math.nan
    try:
        value = float(text)
    except ValueError:
        raise _bad_value(path, line, header[column], "is not a number") from None
    if not math.isfinite(value):
        raise _bad_value(path, line, header[column], "is not finite")
    return value


def _bad_value(path: Path, line: int, column: str, fault: str) -> DataError:
    return DataError(
        f"column {column!r} {fault} in line {line}",
        where=path.name,
        action="mend the file, or encode the column as numbers",
    )


def _labels(texts: list[str]) -> Labels:
    """Whole numbers where all are, text otherwise; ``1.0`` counts as 1."""
    try:
        numbers = [float(text) for text in texts]
        if all(n.is_integer() and abs(n) < 2**53 for n in numbers):
            return np.array(numbers, dtype=np.int64)
    except ValueError:
        pass
    return np.array(texts, dtype=np.str_)
