"""The files of a channel as one table, checked."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fedsm.errors import DataError
from fedsm.learning import sparse_tables, tables
from fedsm.learning.schema import AnyTable, Schema

ENDINGS = (".csv", ".npz")


def read_rows(
    folder: Path,
    *,
    label: str,
    categories: Sequence[str] = (),
    schema: Schema | None = None,
    where: str = "",
) -> AnyTable:
    """All files of a folder as one table.

    Parameters
    ----------
    folder : Path
        Holds ``*.csv``, as in :mod:`fedsm.learning.tables`, or ``*.npz``, as in
        :mod:`fedsm.learning.sparse_tables`; folders in it are looked into.
    label : str
        Name of the label's column in CSV.
    categories : sequence of str
        Names of the columns of CSV that hold categories.
    schema : Schema, optional
        What each file's rows must be like.
    where : str
        Site and channel, for messages.

    Raises
    ------
    DataError
        There is no file, or are files of both kinds; one cannot be read, has other columns than the
        first, or is not as the schema says. Names site, channel, file and column.
    """
    files = sorted(path for path in folder.rglob("*") if path.suffix in ENDINGS)
    if len(endings := {path.suffix for path in files}) != 1:
        raise DataError(
            f"there are both {' and '.join(ENDINGS)} files" if endings else "there is no CSV file",
            where=where or None,
            action="give files of one kind, and one at least",
        )
    parts: list[Any] = []
    for file in files:
        at = f"{where}/{file.name}" if where else file.name
        try:
            part = read_file(file, label=label, categories=categories)
        except DataError as error:
            raise DataError(error.what, where=at, action=error.action) from None
        if schema is not None:
            schema.check(part, label=label, where=at)
        if parts and part.columns != parts[0].columns:
            raise DataError(
                "has other columns than the file before it",
                where=at,
                action="give all files of a channel the same header",
            )
        parts.append(part)
    if len(parts) == 1:
        return parts[0]  # type: ignore[no-any-return]
    kind = sparse_tables if endings == {".npz"} else tables
    return kind.concatenate(parts)  # type: ignore[no-any-return]


def read_file(path: Path, *, label: str, categories: Sequence[str] = ()) -> AnyTable:
    """One ``.csv`` or ``.npz`` file.

    Raises
    ------
    DataError
        It cannot be read.
    """
    if path.suffix == ".npz":
        return sparse_tables.read_npz(path)
    return tables.read_csv([path], label=label, categories=categories)
