"""Names and values of metrics and parameters."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedsm.tracking.vocabulary import (
    TEST,
    TRAINING,
    VALIDATION,
    hyperparameters,
    measured,
    metric_name,
    number_or_reason,
    parameter,
)


@pytest.mark.parametrize(
    ("group", "key", "expected"),
    [
        (TRAINING, "loss", "Training:Loss"),
        (TRAINING, "train-loss", "Training:Loss"),
        (TRAINING, "train_loss", "Training:Loss"),
        (VALIDATION, "auc", "Validation:AUC"),
        (VALIDATION, "eval_acc", "Validation:Accuracy"),
        (VALIDATION, "test_logloss", "Validation:LogLoss"),
        (VALIDATION, "roc_auc", "Validation:AUC"),
        (VALIDATION, "f1-score", "Validation:F1Score"),
        (VALIDATION, "classes-present", "Validation:ClassesPresent"),
        (TEST, "test-loss", "Test:Loss"),
        (TEST, "test", "Test:Test"),
        (TEST, "%", "Test:%"),
    ],
)
def test_metric_names(group: str, key: str, expected: str) -> None:
    assert metric_name(group, key) == expected


@given(st.dictionaries(st.text(min_size=1, max_size=40), st.floats() | st.none() | st.text()))
def test_every_metric_has_a_name_of_its_own(metrics: dict[str, Any]) -> None:
    metrics.pop("num-examples", None)
    found = list(measured(TRAINING, metrics))
    assert len(found) == len(metrics)
    assert len({name for name, _ in found}) == len(found)
    assert all(0 < len(name) <= 255 for name, _ in found)
    assert all(isinstance(value, str) or math.isfinite(value) for _, value in found)


def test_the_plain_name_wins_over_its_synonym() -> None:
    found = dict(measured(TRAINING, {"Train-Loss": 2.0, "loss": 1.0, "num-examples": 5}))
    assert found == {"Training:Loss": 1.0, "Training:Train-Loss": 2.0}


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (None, "not a finite number"),
        (math.nan, "not a finite number"),
        (-math.inf, "not a finite number"),
        (True, "a bool, not a number"),
        ([1.0], "a list, not a number"),
        (10**400, "too large a number"),
    ],
)
def test_what_is_no_number_has_a_reason(value: Any, reason: str) -> None:
    assert number_or_reason(value) == reason


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (0.1, 0.1),
        (32, 32),
        ("0.1", "0.1"),
        (True, "true"),
        (None, "null"),
        ([1, 2], "[1, 2]"),
        (2**60, str(2**60)),
        (math.inf, "inf"),
    ],
)
def test_parameters_keep_their_type(value: Any, expected: Any) -> None:
    got = parameter(value)
    assert got == expected
    assert type(got) is type(expected)


def test_usual_hyperparameters_get_their_common_name_too() -> None:
    assert hyperparameters({"lr": 0.1, "local_epochs": 5, "solver": "lbfgs", "C": 1.0}) == {
        "lr": 0.1,
        "learning-rate": 0.1,
        "local_epochs": 5,
        "epochs": 5,
        "solver": "lbfgs",
        "optimizer": "lbfgs",
        "C": 1.0,
    }


def test_a_common_name_is_not_overwritten_by_a_synonym() -> None:
    assert hyperparameters({"lr": 0.1, "learning-rate": 0.2})["learning-rate"] == 0.2


@given(st.recursive(st.none() | st.booleans() | st.floats(), st.lists, max_leaves=5))
def test_any_json_value_is_a_parameter(value: Any) -> None:
    got = parameter(value)
    if isinstance(value, list | bool) or value is None:
        assert isinstance(got, str)
        json.loads(got)
