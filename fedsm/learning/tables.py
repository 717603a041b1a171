"""Rows with a label: the one shape in which data is handed around, and its CSV form.

A CSV file has a header, one column per feature and the label's column. Features are numbers, but
for the columns that are named as categories, which are text or codes (``1.0`` is ``1``); an empty
field, ``?``, ``NA`` or ``nan`` is missing. Labels are whole numbers or text.
"""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedsm.errors import DataError

MISSING = frozenset({"", "?", "na", "nan", "null"})

MAX_CLASSES, MAX_LABEL = 100, 64
"""Most classes of a federation; most characters of one."""

Labels = NDArray[np.int64] | NDArray[np.str_]
Texts = NDArray[np.str_]

_DECIMAL = re.compile(r"([+-]?\d+)\.0*")


@dataclass(frozen=True)
class Table:
    """Rows of one site or one split.

    Attributes
    ----------
    columns : tuple of str
        Names of the numeric features, in the order of the columns of ``features``.
    features : ndarray of float64, shape (rows, columns)
        NaN where a value is missing.
    labels : ndarray of int64 or str, shape (rows,)
    categories : tuple of str
        Names of the features that are categories, in the order of the columns of ``texts``.
    texts : ndarray of str, shape (rows, categories)
        Empty where a category is missing.
    """

    columns: tuple[str, ...]
    features: NDArray[np.float64]
    labels: Labels
    categories: tuple[str, ...] = ()
    texts: Texts = field(default_factory=lambda: np.zeros((0, 0), dtype=np.str_))

    def __post_init__(self) -> None:
        if not self.categories:
            object.__setattr__(self, "texts", np.zeros((len(self.labels), 0), dtype=np.str_))

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, rows: NDArray[np.intp]) -> Table:
        """The given rows, in the given order."""
        return Table(
            self.columns,
            self.features[rows],
            self.labels[rows],
            self.categories,
            self.texts[rows],
        )

    def rows(self) -> NDArray[Any]:
        """Raw rows as the final model takes them, shape (rows, columns + categories).

        Of float64 where there are no categories; of objects otherwise, numbers before texts.
        """
        if not self.categories:
            return self.features
        return np.hstack([self.features.astype(object), self.texts.astype(object)])


def are_classes(given: Sequence[Any]) -> bool:
    """Whether these can be classes; values of a column that tells rows apart cannot."""
    return len(given) <= MAX_CLASSES and all(
        isinstance(c, int) or (isinstance(c, str) and len(c) <= MAX_LABEL and c.isprintable())
        for c in given
    )


def concatenate(tables: Sequence[Table]) -> Table:
    """All rows of tables that have the same columns, in order."""
    return Table(
        tables[0].columns,
        np.vstack([t.features for t in tables]),
        np.concatenate([t.labels for t in tables]),
        tables[0].categories,
        np.vstack([t.texts for t in tables]),
    )


def category_names(hyperparameters: Mapping[str, Any]) -> tuple[str, ...]:
    """Columns that the hyperparameter ``categories`` names, such as ``cp,restecg``."""
    names = str(hyperparameters.get("categories", "")).split(",")
    return tuple(name.strip() for name in names if name.strip())


def category(text: str) -> str:
    """A category as it is compared: ``1.0`` is ``1``, a missing one is empty."""
    text = text.strip()
    if text.lower() in MISSING:
        return ""
    decimal = _DECIMAL.fullmatch(text)
    return decimal[1] if decimal else text


def write_csv(table: Table, path: Path, *, label: str) -> None:
    """Write a table; reading it back gives the same values."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([*table.columns, *table.categories, label])
        for row, texts, target in zip(
            table.features.tolist(), table.texts.tolist(), table.labels.tolist(), strict=True
        ):
            numbers = ("" if math.isnan(v) else repr(v) for v in row)
            writer.writerow([*numbers, *texts, target])


def read_csv(paths: Iterable[Path], *, label: str, categories: Sequence[str] = ()) -> Table:
    """Read files of one header as one table.

    Parameters
    ----------
    paths : iterable of Path
    label : str
        Name of the label's column.
    categories : sequence of str
        Names of the columns that hold categories, see :func:`category_names`.

    Raises
    ------
    DataError
        A file cannot be read, lacks the label or a column, or holds a value that is neither a
        number nor missing. The message names file, line and column, never the value.
    """
    columns: list[str] | None = None
    features: list[list[float]] = []
    texts: list[list[str]] = []
    targets: list[str] = []
    for path in paths:
        try:
            with path.open(encoding="utf-8-sig", newline="") as file:
                reader = csv.reader(file)
                header = _header(reader, path, label, columns, categories)
                _read_rows(reader, path, label, header, categories, features, texts, targets)
        except (OSError, UnicodeDecodeError, csv.Error) as error:
            raise DataError(
                f"cannot be read as CSV ({type(error).__name__})",
                where=path.name,
                action="give UTF-8 text with commas and a header",
            ) from None
        columns = columns or header
    if columns is None:
        raise DataError("there is no CSV file", action="give one file at least")
    kept = {label, *categories}
    numeric = tuple(name for name in columns if name not in kept)
    return Table(
        numeric,
        np.array(features, dtype=np.float64).reshape(len(features), len(numeric)),
        _labels(targets),
        tuple(name for name in columns if name in categories),
        np.array(texts, dtype=np.str_).reshape(len(texts), len(categories)),
    )


def _header(
    reader: Iterator[list[str]],
    path: Path,
    label: str,
    columns: list[str] | None,
    categories: Sequence[str],
) -> list[str]:
    header = [name.strip() for name in next(reader, [])]
    _check_header(header, path, label, columns)
    for name in categories:
        if name not in header or name == label:
            fault = "is the label" if name == label else "is not in the header"
            raise DataError(
                f"column {name!r} of categories {fault}",
                where=path.name,
                action="name other columns in the hyperparameter `categories`",
            )
    return header


def _read_rows(
    reader: Any,
    path: Path,
    label: str,
    header: list[str],
    categories: Sequence[str],
    features: list[list[float]],
    texts: list[list[str]],
    targets: list[str],
) -> None:
    at = header.index(label)
    of_text = [i for i, name in enumerate(header) if name in categories]
    of_numbers = [i for i, name in enumerate(header) if i != at and name not in categories]
    for row in reader:
        if not row:
            continue
        line = reader.line_num
        if len(row) != len(header):
            raise DataError(
                f"line {line} has {len(row)} fields, the header has {len(header)}",
                where=path.name,
                action="mend the line",
            )
        target = row[at].strip()
        if target.lower() in MISSING:
            raise _bad_value(path, line, label, "is missing")
        targets.append(target)
        features.append([_number(row[i], path, line, header, i) for i in of_numbers])
        texts.append([category(row[i]) for i in of_text])


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
