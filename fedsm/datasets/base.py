"""The common shape of a data set over sites."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from fedsm.learning.tables import Table, write_csv

TRAIN, VALIDATION = "train", "validation"


@dataclass(frozen=True)
class SiteTables:
    """One site's rows."""

    train: Table
    validation: Table


@dataclass(frozen=True)
class Dataset:
    """Rows over sites, with rows held out for the coordinator.

    Attributes
    ----------
    name : str
    features : tuple of str
    label : str
        Name of the label's column in the CSV files.
    sites : mapping of str to SiteTables
    test : Table
        The coordinator's held-out rows; none of them is in a site's ``train``.
    """

    name: str
    features: tuple[str, ...]
    label: str
    sites: Mapping[str, SiteTables]
    test: Table


def write_channels(dataset: Dataset, directory: Path) -> dict[str, dict[str, Path]]:
    """Write ``<directory>/<site>/<channel>/<channel>.csv`` and ``<directory>/test.csv``.

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
            write_csv(table, folder / f"{channel}.csv", label=dataset.label)
            folders[site][channel] = folder
    write_csv(dataset.test, directory / "test.csv", label=dataset.label)
    return folders
