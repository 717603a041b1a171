"""Rows with a label and far more columns than values: a sparse table, and its file form.

The file is NumPy's ``.npz`` of plain arrays, written and read without pickle.
"""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array, vstack

from fedsm.errors import DataError

_ARRAYS = ("columns", "data", "indices", "indptr", "labels")


@dataclass(frozen=True)
class SparseTable:
    """Rows of one site or one split.

    Attributes
    ----------
    columns : tuple of str
        Names of the features, in the order of the columns of ``features``.
    features : csr_array of float32, shape (rows, columns)
        What is not stored is 0; nothing is missing.
    labels : ndarray of int64, shape (rows,)
    """

    columns: tuple[str, ...]
    features: csr_array
    labels: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, rows: NDArray[np.intp]) -> SparseTable:
        """The given rows, in the given order."""
        return SparseTable(self.columns, self.features[rows], self.labels[rows])

    def rows(self) -> csr_array:
        """Raw rows as the final model takes them: float64, shape (rows, columns)."""
        return self.features.astype(np.float64)


def concatenate(tables: Sequence[SparseTable]) -> SparseTable:
    """All rows of tables that have the same columns, in order."""
    return SparseTable(
        tables[0].columns,
        vstack([t.features for t in tables], format="csr"),
        np.concatenate([t.labels for t in tables]),
    )


def write_npz(table: SparseTable, path: Path) -> None:
    """Write a table; reading it back gives the same float32 values."""
    path.parent.mkdir(parents=True, exist_ok=True)
    x = table.features
    np.savez_compressed(
        path,
        columns=np.array(table.columns, dtype=np.str_),
        data=x.data,
        indices=x.indices,
        indptr=x.indptr,
        labels=table.labels,
    )


def read_npz(path: Path) -> SparseTable:
    """Read what :func:`write_npz` wrote.

    Raises
    ------
    DataError
        The file cannot be read, lacks an array, or its arrays do not fit together.
    """
    try:
        with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
            columns, data, indices, indptr, labels = (file[name] for name in _ARRAYS)
        rows = len(labels)
        x = csr_array((data, indices, indptr), shape=(rows, len(columns)))
        x.check_format(full_check=True)
        if not np.issubdtype(labels.dtype, np.integer) or not np.isfinite(data).all():
            raise ValueError
    except (OSError, KeyError, ValueError, TypeError, zipfile.BadZipFile, EOFError):
        raise DataError(
            "cannot be read as a sparse table",
            where=path.name,
            action="write it again with fedsm.learning.sparse_tables.write_npz",
        ) from None
    return SparseTable(
        tuple(columns.tolist()), x.astype(np.float32, copy=False), labels.astype(np.int64)
    )
