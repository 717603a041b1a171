"""Evaluation on the coordinator's own test rows."""

from __future__ import annotations

from pathlib import Path

import pytest

from fedsm.errors import ConfigError
from fedsm.evaluation import on_test_rows
from fedsm.training_config import Training


def training(test: str | None) -> Training:
    return Training.model_validate(
        {"model": "logistic-regression", "prepare": "standardize", "test": test}
    )


def test_without_test_rows_there_is_nothing_to_evaluate(tmp_path: Path) -> None:
    assert on_test_rows(training(None), tmp_path) is None


@pytest.mark.parametrize("name", ["none.csv", "."])
def test_a_missing_file_is_named_by_its_field_and_full_path(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError) as caught:
        on_test_rows(training(name), tmp_path)
    assert caught.value.where == "training.test"
    assert f"there is no file {(tmp_path / name).resolve()}" in str(caught.value)


def test_rows_are_found_beside_the_federation(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("x,target\n1,0\n2,1\n")
    evaluate = on_test_rows(training("rows.csv"), tmp_path)
    assert evaluate is not None
