"""What a site's rows must be like: ``schema.json`` beside ``data.py``, checked when they are read.

.. code-block:: json

    {"label": [0, 1],
     "columns": {"age": {"unit": "years", "low": 0, "high": 120},
                 "sex": {"values": [0, 1]},
                 "lab-*": {"low": 0, "missing": false}},
     "repeats": 0}

Every key may be left out. A name in ``columns`` may hold ``*`` and ``?``, and then stands for any
number of columns, of which the first fitting name counts. A column that no name fits is refused,
and so is a row that lacks one of the names without ``*`` and ``?``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from fedsm.errors import ConfigError, DataError
from fedsm.learning.sparse_tables import SparseTable
from fedsm.learning.tables import Table

FILE = "schema.json"

AnyTable = Table | SparseTable


@dataclass(frozen=True)
class Column:
    """What a column may hold.

    Attributes
    ----------
    unit : str
        For the message.
    low, high : float
        Bounds, which it may reach.
    values : tuple of float or of str, optional
        All that it may be.
    missing : bool
        Whether a value may be missing.
    """

    unit: str = ""
    low: float = -np.inf
    high: float = np.inf
    values: tuple[float | str, ...] | None = None
    missing: bool = True

    def fault(self, present: NDArray[Any], rows: int) -> str | None:
        """What is wrong with the values that are not missing, of so many rows."""
        unit = f" {self.unit}" if self.unit else ""
        if len(present) < rows and not self.missing:
            return f"lacks a value in {_rows(rows - len(present))}"
        text = present.dtype.kind == "U"
        if not text and self.low > -np.inf and (n := int((present < self.low).sum())):
            return f"is below {self.low:g}{unit} in {_rows(n)}"
        if not text and self.high < np.inf and (n := int((present > self.high).sum())):
            return f"is above {self.high:g}{unit} in {_rows(n)}"
        if self.values is not None:
            known = self.names if text else self.values
            # As numpy.isin, which takes ten times as long for a few values.
            found = np.logical_or.reduce([present == value for value in known])
            if n := len(present) - int(found.sum()):
                return f"is none of {', '.join(self.names)} in {_rows(n)}"
        return None

    @property
    def names(self) -> list[str]:
        """The values as text; a code is as a category is."""
        return [v if isinstance(v, str) else f"{v:g}" for v in self.values or ()]


@dataclass(frozen=True)
class Schema:
    """A whole ``schema.json``; without content it allows anything.

    Attributes
    ----------
    label : tuple of int or of str
        Values that the label may have; any where it is empty.
    columns : mapping of str to Column
        In the order of the file; any column where it is empty.
    repeats : int, optional
        How many different rows may stand more than once, in one channel or in both. None for any:
        rows of a few columns repeat by chance.
    """

    label: tuple[int | str, ...] = ()
    columns: Mapping[str, Column] = field(default_factory=dict)
    repeats: int | None = None

    @classmethod
    def read(cls, path: Path) -> Schema:
        """Read a file; where there is none, anything is allowed.

        Raises
        ------
        ConfigError
            It is no schema; every fault is listed.
        """
        try:
            raw = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return cls()
        except (OSError, ValueError) as error:
            raise _no_schema(path, [("", f"cannot be read ({type(error).__name__})")]) from None
        faults: list[tuple[str, str]] = []
        if not isinstance(raw, dict):
            raise _no_schema(path, [("", "holds no mapping")])
        faults += [
            (str(k), "there is no such key") for k in set(raw) - {"label", "columns", "repeats"}
        ]
        columns = raw.get("columns", {})
        columns = columns if isinstance(columns, dict) else {"columns": None}
        made = {name: _column(f"columns.{name}", value, faults) for name, value in columns.items()}
        label, repeats = raw.get("label", []), raw.get("repeats")
        if not isinstance(label, list) or not all(type(v) in (int, str) for v in label):
            faults.append(("label", "is no list of whole numbers or of texts"))
        if repeats is not None and (type(repeats) is not int or repeats < 0):
            faults.append(("repeats", "is no whole number"))
        if faults:
            raise _no_schema(path, faults)
        return cls(tuple(label), made, repeats)

    def check(self, table: AnyTable, *, label: str, where: str) -> None:
        """Refuse rows that are not as they must be.

        Parameters
        ----------
        table : Table or SparseTable
        label : str
            Name of the label's column, for the message.
        where : str
            Site and file, for the message.

        Raises
        ------
        DataError
            Names file, column and how many rows, never a value.
        """
        if self.columns:
            self._check_columns(table, where)
        if self.label and (n := int((~np.isin(table.labels, self.label)).sum())):
            raise DataError(
                f"the label, column {label!r}, is none of "
                f"{', '.join(map(str, self.label))} in {_rows(n)}",
                where=where,
                action="name the right label column, or encode the label as schema.json says",
            )

    def _check_columns(self, table: AnyTable, where: str) -> None:
        named = [name for name in self.columns if not _is_pattern(name)]
        columns = list(_values(table))
        if lacking := sorted(set(named) - {name for name, _ in columns}):
            raise DataError(
                f"lacks column {lacking[0]!r}",
                where=where,
                action="add it, or leave it out of schema.json at every site",
            )
        for name, read in columns:
            rule = self._rule(name)
            if rule is None:
                raise DataError(
                    f"has column {name!r}, which schema.json does not name",
                    where=where,
                    action="leave it out, or name it in schema.json at every site",
                )
            column = read()
            missing = column == "" if column.dtype.kind == "U" else np.isnan(column)
            if fault := rule.fault(column[~missing], len(column)):
                raise DataError(
                    f"column {name!r} {fault}",
                    where=where,
                    action="mend the rows: is the column in another unit or code?",
                )

    def _rule(self, name: str) -> Column | None:
        if (exact := self.columns.get(name)) is not None:
            return exact
        return next((rule for fits, rule in self._patterns if fits(name)), None)

    @cached_property
    def _patterns(self) -> list[tuple[Any, Column]]:
        return [
            (re.compile(re.escape(name).replace(r"\*", ".*").replace(r"\?", ".")).fullmatch, rule)
            for name, rule in self.columns.items()
            if _is_pattern(name)
        ]

    def check_repeats(self, train: AnyTable, validation: AnyTable, *, where: str) -> int:
        """Count different rows that stand more than once, and refuse more than the schema allows.

        Returns
        -------
        int
            Different rows of ``train`` that stand in ``validation`` too.

        Raises
        ------
        DataError
            There are too many within a channel, or in both; or the channels' columns differ.
        """
        if _names(train) != _names(validation):
            raise DataError(
                "the columns of validation are not those of train",
                where=where,
                action="give both channels the same columns in the same order",
            )
        keys = [row_keys(table) for table in (train, validation)]
        both = len(np.intersect1d(keys[0], keys[1]))
        if self.repeats is None:
            return both
        found = [("in train and in validation", both)]
        for channel, key in zip(("train", "validation"), keys, strict=True):
            found.append(
                (f"twice in {channel}", int((np.unique(key, return_counts=True)[1] > 1).sum()))
            )
        for place, n in found:
            if n > self.repeats:
                raise DataError(
                    f"{n} different rows stand {place}; schema.json allows {self.repeats}",
                    where=where,
                    action="remove duplicates before splitting",
                )
        return both


def _names(table: AnyTable) -> tuple[str, ...]:
    return (*table.columns, *(table.categories if isinstance(table, Table) else ()))


def row_keys(table: AnyTable) -> NDArray[Any]:
    """Each row's features as one comparable value; shape (rows,). The label is no part of it."""
    if isinstance(table, SparseTable):
        x = csr_array(table.features, copy=True)
        x.eliminate_zeros()
        x.sort_indices()
        ends = x.indptr.tolist()
        rows = [x.indices[a:b].tobytes() + x.data[a:b].tobytes() for a, b in pairwise(ends)]
        return np.array([hash(row) for row in rows], dtype=np.int64)
    # Adding zero makes -0.0 and 0.0 one value; a missing value gets one bit pattern.
    values = np.ascontiguousarray(table.features + 0.0)
    values[np.isnan(values)] = np.nan
    if not table.categories:
        width = values.itemsize * values.shape[1]
        return values.view(np.dtype((np.void, width))).reshape(len(values))
    pairs = zip(values, table.texts.tolist(), strict=True)
    return np.array([hash((row.tobytes(), *texts)) for row, texts in pairs], dtype=np.int64)


def _values(table: AnyTable) -> Iterator[tuple[str, Callable[[], NDArray[Any]]]]:
    """Name of each column, and what reads it."""
    if isinstance(table, Table):
        for names, values in ((table.columns, table.features), (table.categories, table.texts)):
            yield from ((name, partial(_dense, values, at)) for at, name in enumerate(names))
    else:
        by_column = table.features.tocsc()
        yield from (
            (name, partial(_stored, by_column, at)) for at, name in enumerate(table.columns)
        )


def _dense(values: NDArray[Any], at: int) -> NDArray[Any]:
    return values[:, at]


def _stored(by_column: Any, at: int) -> NDArray[Any]:
    column = np.zeros(by_column.shape[0], dtype=by_column.dtype)
    held = slice(by_column.indptr[at], by_column.indptr[at + 1])
    column[by_column.indices[held]] = by_column.data[held]
    return column


def _column(name: str, raw: Any, faults: list[tuple[str, str]]) -> Column:
    if not isinstance(raw, dict):
        faults.append((name, "holds no mapping"))
        return Column()
    kinds: dict[str, Any] = {
        "unit": str,
        "low": (int, float),
        "high": (int, float),
        "missing": bool,
    }
    for key, value in raw.items():
        if key == "values":
            if not isinstance(value, list) or not all(type(v) in (int, float, str) for v in value):
                faults.append((f"{name}.values", "is no list of numbers or texts"))
        elif key not in kinds:
            faults.append((f"{name}.{key}", "there is no such key"))
        elif not isinstance(value, kinds[key]) or (kinds[key] is not bool and type(value) is bool):
            faults.append((f"{name}.{key}", "is of another type"))
    known = {key: raw[key] for key in kinds if key in raw}
    values = raw.get("values")
    return Column(**known, values=tuple(values) if isinstance(values, list) else None)


def _is_pattern(name: str) -> bool:
    return "*" in name or "?" in name


def _rows(n: int) -> str:
    return f"{n} row{'s' * (n != 1)}"


def _no_schema(path: Path, faults: Sequence[tuple[str, str]]) -> ConfigError:
    return ConfigError(
        "is no schema",
        where=path.name,
        action="see fedsm/learning/schema.py",
        faults=tuple((key or path.name, fault) for key, fault in faults),
    )
