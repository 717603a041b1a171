"""The common shape of a data set over sites, with dense rows or sparse ones."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from fedsm.learning.sparse_tables import SparseTable, write_npz
from fedsm.learning.tables import Table, write_csv

TRAIN, VALIDATION = "train", "validation"

Rows = TypeVar("Rows", Table, SparseTable)


@dataclass(frozen=True)
class Channels(Generic[Rows]):
    """One site's rows."""

    train: Rows
    validation: Rows


@dataclass(frozen=True)
class Federated(Generic[Rows]):
    """Rows over sites, with rows held out for the coordinator.

    Attributes
    ----------
    name : str
    features : tuple of str
    label : str
        Name of the label's column in the CSV files.
    sites : mapping of str to Channels
    test : Table or SparseTable
        The coordinator's held-out rows; none of them is in a site's ``train``.
    """

    name: str
    features: tuple[str, ...]
    label: str
    sites: Mapping[str, Channels[Rows]]
    test: Rows


SiteTables = Channels[Table]

Dataset = Federated[Table]


def write_channels(
    dataset: Federated[Table] | Federated[SparseTable], directory: Path
) -> dict[str, dict[str, Path]]:
    """Write ``<directory>/<site>/<channel>/<channel>.csv`` and ``<directory>/test.csv``.

    Sparse rows are written as ``.npz``.

    Returns
    -------
    dict of str to dict of str to Path
        Site to channel to the channel's folder.
    """
    folders: dict[str, dict[str, Path]] = {}
    for site, tables in dataset.sites.items():
        folders[site] = {}
        for channel, table in ((TRAIN, tables.train), (VALIDATION, tables.validation)):
            folder = directory / site / channel
            _write(table, folder / channel, dataset.label)
            folders[site][channel] = folder
    _write(dataset.test, directory / "test", dataset.label)
    return folders


def sizes(dataset: Federated[Any]) -> list[str]:
    """How many rows each site has, and the coordinator, for people to read."""
    lines = [f"{len(dataset.features):,} columns, label {dataset.label}"]
    for site, rows in dataset.sites.items():
        held = f", {len(rows.validation):,} to validate on" if len(rows.validation) else ""
        lines.append(f"{site}: {len(rows.train):,} training rows{held}")
    return [*lines, f"coordinator: {len(dataset.test):,} rows to test on"]


def _write(table: Table | SparseTable, path: Path, label: str) -> None:
    if isinstance(table, SparseTable):
        write_npz(table, path.with_suffix(".npz"))
    else:
        write_csv(table, path.with_suffix(".csv"), label=label)
