"""Splitting rows without leakage: duplicates, strata, shares over sites, and the check of a split.

Two rows are duplicates when all their features are equal, missing values included.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from fedsm.datasets.base import Dataset, SiteTables
from fedsm.errors import DataError
from fedsm.learning.schema import row_keys
from fedsm.learning.tables import Labels, Table

Rows = NDArray[np.intp]

COMPASS = ("north", "east", "south", "west")
"""Names of the sites of a data set that has none of its own."""


def row_groups(table: Table) -> Rows:
    """Number of each row's group of duplicates, counted from 0; shape (rows,)."""
    _, group = np.unique(row_keys(table), return_inverse=True)
    return np.asarray(group, dtype=np.intp)


def without_duplicates(table: Table, where: str) -> Table:
    """The first row of each group of duplicates, in the table's order.

    Parameters
    ----------
    table : Table
    where : str
        File or site, for the message.

    Raises
    ------
    DataError
        Duplicates have different labels, so that no choice among them is right.
    """
    group = row_groups(table)
    _, first = np.unique(group, return_index=True)
    torn = int((table.labels[first][group] != table.labels).sum())
    if torn:
        raise DataError(
            f"{torn} rows equal an earlier row in every feature and not in the label",
            where=where,
            action="find out which label is right, or leave such rows out",
        )
    return table.take(np.sort(first))


def stratified(labels: Labels, share: float, random: np.random.Generator) -> tuple[Rows, Rows]:
    """Part rows at random with the same share of every class.

    Parameters
    ----------
    labels : ndarray, shape (rows,)
    share : float
        Of each class, rounded, that goes to the second part.

    Returns
    -------
    tuple of ndarray of int, ndarray of int
        Row numbers of either part, ascending.
    """
    second = []
    for label in np.unique(labels):
        rows = random.permutation(np.flatnonzero(labels == label))
        second.append(rows[: round(share * len(rows))])
    taken = np.sort(np.concatenate(second)) if second else np.zeros(0, dtype=np.intp)
    return np.setdiff1d(np.arange(len(labels)), taken, assume_unique=True), taken


def deal(
    labels: Labels,
    shares: Mapping[str, Sequence[float]],
    random: np.random.Generator,
) -> dict[str, Rows]:
    """Deal rows out to sites at random, class by class.

    Parameters
    ----------
    labels : ndarray, shape (rows,)
    shares : mapping of str to sequence of float
        Site to its share of each class, in the classes' sorted order; a class's shares sum to 1.

    Returns
    -------
    dict of str to ndarray of int
        Site to its row numbers, ascending. Each row goes to one site.
    """
    parts: dict[str, list[Rows]] = {site: [] for site in shares}
    for index, label in enumerate(np.unique(labels)):
        rows = random.permutation(np.flatnonzero(labels == label))
        ends = np.cumsum([share[index] for share in shares.values()]) * len(rows)
        for site, part in zip(shares, np.split(rows, np.rint(ends[:-1]).astype(int)), strict=True):
            parts[site].append(part)
    return {site: np.sort(np.concatenate(part)) for site, part in parts.items()}


def split_site(table: Table, share: float, random: np.random.Generator) -> SiteTables:
    """A site's rows as training and validation rows, stratified."""
    train, validation = stratified(table.labels, share, random)
    return SiteTables(table.take(train), table.take(validation))


def check_dataset(dataset: Dataset, *, repeats: int = 0) -> None:
    """Refuse a data set that nothing honest can be learned from.

    Parameters
    ----------
    dataset : Dataset
    repeats : int
        How many different rows of a site's training split may stand in another split too, where
        the published rows are kept as they are.

    Raises
    ------
    DataError
        A site has no training row; columns differ; the labels of all training rows, or of the test
        rows, are not of two classes; or a row stands both in a training split and in a validation
        split of its site or among the test rows.
    """
    held_out = row_keys(dataset.test)
    for site, tables in dataset.sites.items():
        if not len(tables.train):
            raise DataError(
                "there is no training row", where=site, action="give the site rows, or leave it out"
            )
        for split, table in (("train", tables.train), ("validation", tables.validation)):
            if table.columns != dataset.features:
                raise DataError(
                    f"the columns of {split} are not the data set's",
                    where=site,
                    action="give every split the same columns in the same order",
                )
        train = row_keys(tables.train)
        for split, keys in (("validation", row_keys(tables.validation)), ("test", held_out)):
            if (both := len(np.intersect1d(train, keys))) > repeats:
                raise DataError(
                    f"{both} different rows stand both in train and in {split}",
                    where=site,
                    action="remove duplicates before splitting: fedsm.datasets.splits",
                )
    trained = np.concatenate([tables.train.labels for tables in dataset.sites.values()])
    for split, labels in (("train", trained), ("test", dataset.test.labels)):
        require_binary(labels, f"{split}, column {dataset.label!r}")


def require_binary(labels: Labels, where: str) -> None:
    """Refuse labels that are not of exactly two classes.

    Raises
    ------
    DataError
    """
    if (classes := len(np.unique(labels))) != 2:
        raise DataError(
            f"the label has {classes} class{'es' * (classes != 1)}, not two",
            where=where,
            action="name the right label column, or encode the label as 0 and 1",
        )
