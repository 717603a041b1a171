"""A channel's files as one table."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.sparse import csr_array

from fedsm.errors import DataError
from fedsm.learning.channels import read_rows
from fedsm.learning.sparse_tables import SparseTable, write_npz
from fedsm.learning.tables import Table, write_csv

ROWS = Table(("a", "b"), np.array([[1.0, np.nan], [3.0, 4.0]]), np.array([0, 1]))
SPARSE = SparseTable(("a", "b"), csr_array(np.eye(2, dtype=np.float32)), np.array([0, 1]))


def test_all_files_are_one_table(tmp_path: Path) -> None:
    write_csv(ROWS, tmp_path / "csv" / "1.csv", label="y")
    write_csv(ROWS, tmp_path / "csv" / "deeper" / "2.csv", label="y")
    assert read_rows(tmp_path / "csv", label="y").labels.tolist() == [0, 1, 0, 1]
    for name in ("1.npz", "2.npz"):
        write_npz(SPARSE, tmp_path / "npz" / name)
    both = read_rows(tmp_path / "npz", label="y")
    assert isinstance(both, SparseTable)
    assert both.features.toarray().tolist() == [[1, 0], [0, 1]] * 2


def test_categories(tmp_path: Path) -> None:
    write_csv(ROWS, tmp_path / "1.csv", label="y")
    table = read_rows(tmp_path, label="y", categories=("b",))
    assert isinstance(table, Table)
    assert (table.columns, table.categories) == (("a",), ("b",))
    assert table.texts.tolist() == [[""], ["4"]]


def test_what_is_refused_names_where(tmp_path: Path) -> None:
    def said() -> str:
        with pytest.raises(DataError) as caught:
            read_rows(tmp_path, label="y", where="north, train")
        return str(caught.value)

    assert said().startswith("north, train: there is no CSV file")
    write_csv(ROWS, tmp_path / "1.csv", label="y")
    write_csv(Table(("a",), ROWS.features[:, :1], ROWS.labels), tmp_path / "2.csv", label="y")
    assert said().startswith("north, train/2.csv: has other columns than the file before it")
    (tmp_path / "2.csv").write_text("a,b,y\n1,secret,0\n")
    assert said().startswith("north, train/2.csv: column 'b' is not a number in line 2")
    assert "secret" not in said()
    (tmp_path / "2.csv").unlink()
    (tmp_path / "2.npz").write_text("")
    assert said().startswith("north, train: there are both .csv and .npz files")
    (tmp_path / "1.csv").unlink()
    assert said().startswith("north, train/2.npz: cannot be read as a sparse table")
