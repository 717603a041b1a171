"""Columns of a table as they were before any preparation: of numbers, of categories, or sparse."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array, issparse

from fedsm.learning.preparation import Summary


def raw_columns(
    table: Any, names: tuple[str, ...], summary: Summary
) -> dict[str, NDArray[np.float64]]:
    """Columns of a table as numbers, NaN where missing; those that it lacks are left out.

    Of categories the index in the federation's vocabulary, NaN where they are not in it.
    """
    out = {}
    for name in names:
        if name in table.columns:
            column = table.features[:, [table.columns.index(name)]]
            dense = column.toarray() if issparse(column) else column
            out[name] = np.asarray(dense, dtype=np.float64).ravel()
        elif name in summary.categories:
            known = {v: i for i, v in enumerate(summary.vocabulary[summary.categories.index(name)])}
            texts = table.texts[:, table.categories.index(name)].tolist()
            out[name] = np.array([known.get(text, math.nan) for text in texts], dtype=np.float64)
    return out


def permuted(table: Any, feature: str, order: NDArray[np.intp]) -> Any:
    """The table with one feature's values in another order; itself where it has no such feature."""
    if feature in getattr(table, "categories", ()):
        texts, at = table.texts.copy(), table.categories.index(feature)
        texts[:, at] = texts[order, at]
        return replace(table, texts=texts)
    if feature not in table.columns:
        return table
    at = table.columns.index(feature)
    if not issparse(table.features):
        features = table.features.copy()
        features[:, at] = features[order, at]
        return replace(table, features=features)
    column = table.features[:, [at]]
    change = (column[order] - column).tocoo()
    where = (change.row, np.full(change.nnz, at))
    moved = csr_array((change.data, where), shape=table.features.shape)
    return replace(table, features=csr_array(table.features + moved))
