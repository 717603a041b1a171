from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.sparse import csr_array

from fedsm.errors import DataError
from fedsm.learning.sparse_tables import SparseTable, concatenate, read_npz, write_npz


@pytest.fixture
def table() -> SparseTable:
    x = np.array([[0, 1.5, 0], [2, 0, 0], [0, 0, 0], [0, 3, 4]], dtype=np.float32)
    return SparseTable(("a", "b, é", "c"), csr_array(x), np.array([0, 1, 0, 1]))


def test_what_is_written_is_read_back(table: SparseTable, tmp_path: Path) -> None:
    write_npz(table, tmp_path / "new" / "rows.npz")
    back = read_npz(tmp_path / "new" / "rows.npz")
    assert back.columns == table.columns
    assert back.features.dtype == np.float32
    np.testing.assert_array_equal(back.features.toarray(), table.features.toarray())
    np.testing.assert_array_equal(back.labels, table.labels)


def test_rows_are_taken_and_put_together(table: SparseTable) -> None:
    part = table.take(np.array([3, 0]))
    assert len(part) == 2
    both = concatenate([part, table])
    np.testing.assert_array_equal(
        both.features.toarray(),
        np.vstack([table.features.toarray()[[3, 0]], table.features.toarray()]),
    )
    assert both.labels.tolist() == [1, 0, 0, 1, 0, 1]


@pytest.mark.parametrize("fault", ["cut", "text", "index", "lacking", "infinite", "pickle"])
def test_a_file_that_is_no_sparse_table_is_refused(
    table: SparseTable, tmp_path: Path, fault: str
) -> None:
    path = tmp_path / "rows.npz"
    write_npz(table, path)
    with np.load(path) as file:
        arrays = dict(file)
    if fault == "index":
        arrays["indices"] = arrays["indices"] + 7
    elif fault == "lacking":
        del arrays["labels"]
    elif fault == "infinite":
        arrays["data"][0] = np.inf
    elif fault == "pickle":
        arrays["columns"] = np.array(["a", "b", object()], dtype=object)
    np.savez(path, **arrays)
    if fault == "cut":
        path.write_bytes(path.read_bytes()[:200])
    elif fault == "text":
        path.write_text("no archive")
    with pytest.raises(DataError, match=r"^rows\.npz: cannot be read as a sparse table"):
        read_npz(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"^rows\.npz: cannot be read"):
        read_npz(tmp_path / "rows.npz")
