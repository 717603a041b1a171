from __future__ import annotations

import math
import string
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedsm.errors import DataError
from fedsm.learning.tables import Table, read_csv, write_csv

value = st.one_of(st.just(math.nan), st.floats(allow_nan=False, allow_infinity=False))


def file(folder: Path, text: str, name: str = "rows.csv") -> Path:
    path = folder / name
    path.write_text(text)
    return path


@given(
    rows=st.lists(st.tuples(value, value, st.integers(-5, 5)), max_size=8),
    columns=st.lists(
        st.text(string.ascii_letters + ',"é', min_size=1, max_size=5),
        min_size=2,
        max_size=2,
        unique=True,
    ),
)
def test_what_is_written_is_read_back(
    tmp_path_factory: pytest.TempPathFactory,
    rows: list[tuple[float, float, int]],
    columns: list[str],
) -> None:
    table = Table(
        tuple(columns),
        np.array([r[:2] for r in rows], dtype=np.float64).reshape(len(rows), 2),
        np.array([r[2] for r in rows], dtype=np.int64),
    )
    path = tmp_path_factory.mktemp("csv") / "rows.csv"
    write_csv(table, path, label="the label")
    back = read_csv([path], label="the label")
    assert back.columns == table.columns
    np.testing.assert_array_equal(back.features, table.features)
    np.testing.assert_array_equal(back.labels, table.labels)


def test_missing_values_and_text_labels(tmp_path: Path) -> None:
    path = file(tmp_path, "a,kind,b\n1,yes,?\n,no,2.5\nNA,yes,nan\n\n")
    table = read_csv([path], label="kind")
    np.testing.assert_array_equal(table.features, [[1, np.nan], [np.nan, 2.5], [np.nan, np.nan]])
    assert table.labels.tolist() == ["yes", "no", "yes"]


def test_labels_written_as_decimals_are_whole_numbers(tmp_path: Path) -> None:
    assert read_csv([file(tmp_path, "a,t\n1,1.0\n2,0\n")], label="t").labels.tolist() == [1, 0]


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("a,b\n1,2\n", "has no label column 't'"),
        ("", "has no label column 't'"),
        ("t\n1\n", "has no feature column"),
        ("a,a,t\n1,2,3\n", "names column 'a' twice"),
        ("a,t\n1,2\n1,2,3\n", "line 3 has 3 fields, the header has 2"),
        ("a,t\nsecret,1\n", "column 'a' is not a number in line 2"),
        ("a,t\ninf,1\n", "column 'a' is not finite in line 2"),
        ("t,a\n,1\n", "column 't' is missing in line 2"),
    ],
)
def test_a_fault_names_file_line_and_column_and_no_value(
    tmp_path: Path, text: str, fault: str
) -> None:
    with pytest.raises(DataError) as caught:
        read_csv([file(tmp_path, text)], label="t")
    assert caught.value.where == "rows.csv"
    assert fault in str(caught.value)
    assert "secret" not in str(caught.value)


def test_bytes_that_are_no_text(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_bytes(b"a,t\n\xff\xfe,1\n")
    with pytest.raises(DataError, match="cannot be read as CSV"):
        read_csv([path], label="t")


def test_files_of_one_channel_share_their_header(tmp_path: Path) -> None:
    one = file(tmp_path, "a,t\n1,0\n", "1.csv")
    assert len(read_csv([one, file(tmp_path, "a,t\n2,1\n", "2.csv")], label="t")) == 2
    with pytest.raises(DataError, match="other columns"):
        read_csv([one, file(tmp_path, "b,t\n2,1\n", "2.csv")], label="t")
    with pytest.raises(DataError, match="there is no CSV file"):
        read_csv([], label="t")
