"""What ``schema.json`` refuses: names where, column and how many rows, never a value."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.sparse import csr_array

from fedsm.errors import ConfigError, DataError
from fedsm.learning.schema import AnyTable, Schema, row_keys
from fedsm.learning.sparse_tables import SparseTable
from fedsm.learning.tables import Table

SECRET = 4711.25


def schema(folder: Path, **content: Any) -> Schema:
    path = folder / "schema.json"
    path.write_text(json.dumps(content))
    return Schema.read(path)


def table(*rows: tuple[float, ...], labels: list[Any] | None = None) -> Table:
    x = np.array(rows, dtype=np.float64).reshape(len(rows), 2)
    return Table(("age", "sex"), x, np.array([0] * len(rows) if labels is None else labels))


def sparse(of: Table) -> SparseTable:
    x = csr_array(np.nan_to_num(of.features).astype(np.float32))
    return SparseTable(of.columns, x, of.labels.astype(np.int64))


NAN = float("nan")
AGE = {"age": {"unit": "years", "low": 0, "high": 120}}
SEX = {"sex": {"values": [0, 1]}}


@pytest.mark.parametrize(
    ("content", "rows", "said"),
    [
        ({"columns": {**AGE, **SEX, "chol": {}}}, [(1, 1)], "lacks column 'chol'"),
        ({"columns": AGE}, [(1, 1)], "has column 'sex', which schema.json does not name"),
        ({"columns": {"*e*": {}}}, [(SECRET, 1)], None),
        ({"columns": {**AGE, **SEX}}, [(1, 1), (SECRET, 1)], "'age' is above 120 years in 1 row"),
        ({"columns": {**AGE, **SEX}}, [(-1, 1), (-2, 0)], "'age' is below 0 years in 2 rows"),
        ({"columns": {"age": {}, **SEX}}, [(1, 1), (1, SECRET)], "'sex' is none of 0, 1 in 1 row"),
        ({"columns": {"*": {"low": 0}}}, [(1, 1), (1, -SECRET)], "'sex' is below 0 in 1 row"),
        ({"columns": {"a??": {"high": 9}, "*": {}}}, [(SECRET, 1)], "'age' is above 9 in 1 row"),
        ({}, [(SECRET, -SECRET)], None),
    ],
)
def test_columns(
    tmp_path: Path, content: dict[str, Any], rows: list[tuple[float, ...]], said: str | None
) -> None:
    rule = schema(tmp_path, **content)
    for made in (table(*rows), sparse(table(*rows))):
        if said is None:
            rule.check(made, label="y", where="north, train/rows.csv")
            continue
        with pytest.raises(DataError) as caught:
            rule.check(made, label="y", where="north, train/rows.csv")
        message = str(caught.value)
        assert message.startswith("north, train/rows.csv: ")
        assert said in message
        assert "Next: " in message
        assert "4711" not in message


def test_missing_values(tmp_path: Path) -> None:
    rows = table((1, NAN), (NAN, 1))
    schema(tmp_path, columns={"*": {"low": 0, "values": [1]}}).check(rows, label="y", where="")
    with pytest.raises(DataError, match="'age' lacks a value in 1 row"):
        schema(tmp_path, columns={"*": {"missing": False}}).check(rows, label="y", where="")


def test_categories(tmp_path: Path) -> None:
    texts = np.array([["1"], ["2"], [""]])
    rows = Table(("age",), np.ones((3, 1)), np.zeros(3, dtype=np.int64), ("cp",), texts)
    schema(tmp_path, columns={"age": {}, "cp": {"values": [1, 2]}}).check(rows, label="y", where="")
    rule = schema(tmp_path, columns={"age": {}, "cp": {"values": [1, "a"]}})
    with pytest.raises(DataError, match="'cp' is none of 1, a in 1 row"):
        rule.check(rows, label="y", where="")
    with pytest.raises(DataError, match="'cp', which schema"):
        schema(tmp_path, columns={"age": {}}).check(rows, label="y", where="")
    with pytest.raises(DataError, match="lacks column 'sex'"):
        schema(tmp_path, columns={"*": {}, "sex": {}}).check(rows, label="y", where="")


@pytest.mark.parametrize("labels", [[0, 2], ["yes", "no"]])
def test_labels(tmp_path: Path, labels: list[Any]) -> None:
    rule = schema(tmp_path, label=[0, 1])
    with pytest.raises(DataError, match=r"the label, column 'y', is none of 0, 1 in [12] row"):
        rule.check(table((1, 1), (1, 1), labels=labels), label="y", where="")


def test_repeats(tmp_path: Path) -> None:
    train, held = table((1, 1), (2, NAN), (2, NAN)), table((2, NAN), (0.0, 3))
    assert schema(tmp_path).check_repeats(train, held, where="") == 1
    assert schema(tmp_path, repeats=1).check_repeats(train, held, where="") == 1
    with pytest.raises(DataError, match="1 different rows stand in train and in validation"):
        schema(tmp_path, repeats=0).check_repeats(train, held, where="north")
    with pytest.raises(DataError, match="twice in train"):
        schema(tmp_path, repeats=0).check_repeats(train, table((9, 9)), where="north")
    other = Table(("age",), np.ones((1, 1)), np.zeros(1, dtype=np.int64))
    with pytest.raises(DataError, match="columns of validation"):
        schema(tmp_path).check_repeats(train, other, where="north")


@pytest.mark.parametrize("kind", ["dense", "sparse", "categories"])
def test_equal_rows_have_equal_keys(kind: str) -> None:
    rows: AnyTable = table((0.0, 1), (-0.0, 1), (0.0, 2))
    if kind == "sparse":
        # A stored zero is the zero that is not stored.
        x = csr_array(
            (np.array([0, 1, 1, 2], dtype=np.float32), [0, 1, 1, 1], [0, 2, 3, 4]), shape=(3, 2)
        )
        rows = SparseTable(("age", "sex"), x, np.zeros(3, dtype=np.int64))
    elif kind == "categories":
        texts = np.array([["a"], ["a"], ["b"]])
        rows = Table(("age",), np.zeros((3, 1)), np.zeros(3, dtype=np.int64), ("cp",), texts)
    first, second, third = row_keys(rows).tolist()
    assert first == second != third


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "cannot be read"),
        ("[]", "holds no mapping"),
        ('{"colums": {}}', "colums: there is no such key"),
        ('{"columns": []}', "columns.columns: holds no mapping"),
        ('{"columns": {"a": {"lo": 1}}}', "columns.a.lo: there is no such key"),
        ('{"columns": {"a": {"low": "1"}}}', "columns.a.low: is of another type"),
        ('{"columns": {"a": {"low": true}}}', "columns.a.low: is of another type"),
        ('{"columns": {"a": {"values": 1}}}', "columns.a.values: is no list"),
        ('{"label": [0.5]}', "label: is no list"),
        ('{"repeats": -1}', "repeats: is no whole number"),
    ],
)
def test_what_is_no_schema(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "schema.json").write_text(text)
    with pytest.raises(ConfigError) as caught:
        Schema.read(tmp_path / "schema.json")
    assert said in str(caught.value)


def test_without_a_file_anything_is_allowed(tmp_path: Path) -> None:
    assert Schema.read(tmp_path / "schema.json") == Schema()
