"""How a site alone would prepare its rows: as the federation does, by its own rows' statistics."""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import Any

import numpy as np

from fedsm.errors import DataError
from fedsm.learning.preparation.categories import categories, merge, read
from fedsm.learning.preparation.moments import combine, statistics
from fedsm.learning.preparation.summary import Summary
from fedsm.learning.sparse_tables import SparseTable
from fedsm.learning.tables import Table


def alone(table: Table | SparseTable, federation: Summary) -> Summary:
    """The summary of a federation of one site.

    Means, scales, medians, quantiles and categories are the site's, each of all its rows, for
    nothing leaves. Classes are the federation's, with this site's counts.

    Parameters
    ----------
    table : Table or SparseTable
        Training rows.
    federation : Summary
        Says what is scaled and imputed how.

    Raises
    ------
    DataError
        The rows have one class.
    """
    labels = federation.encode(table.labels)
    if len(np.unique(labels)) < 2:
        raise DataError(
            "the training rows have one class: there is no model of this site alone",
            action="compare with sites that have both",
        )
    own = combine({"": statistics(table)})
    if own.categories and isinstance(table, Table):
        own = merge(own, {"": read(categories(table, 1)) or {}})
    counts = np.bincount(labels, minlength=len(federation.classes))
    return replace(
        own,
        classes=federation.classes,
        class_counts=tuple(counts.tolist()),
        scaling=federation.scaling,
        fill=None if federation.fill is None else _quantiles(table, 0.5),
        quantiles=None
        if federation.quantiles is None
        else _quantiles(table, np.linspace(0, 1, len(federation.quantiles))),
    )


def _quantiles(table: Any, at: Any) -> Any:
    """Quantiles of the values that are not missing, 0 where there is none."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a feature without any value
        return np.nan_to_num(np.nanquantile(table.features, at, axis=0))
