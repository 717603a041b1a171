from __future__ import annotations

import math

import numpy as np
import pytest
from flwr.app import MetricRecord, RecordDict
from hypothesis import assume, given
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, brier_score_loss, log_loss, roc_auc_score

from fedsm.learning.metrics import aggregate_metrics, area_under_roc, classification
from fedsm.metric_names import WEIGHT


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 5)), min_size=2))
def test_the_auc_is_scikit_learns(pairs: list[tuple[bool, int]]) -> None:
    positive = np.array([p for p, _ in pairs])
    score = np.array([s for _, s in pairs], dtype=np.float64)
    assume(0 < positive.sum() < len(pairs))
    assert area_under_roc(positive, score) == pytest.approx(roc_auc_score(positive, score))


def test_metrics_of_two_and_of_three_classes() -> None:
    random = np.random.default_rng(0)
    for classes in (2, 3):
        y = random.integers(0, classes, 50)
        p = random.dirichlet(np.ones(classes), 50)
        found = classification(y, p)
        assert found["loss"] == pytest.approx(log_loss(y, p))
        expected = roc_auc_score(y, p[:, 1] if classes == 2 else p, multi_class="ovr")
        assert found["auc"] == pytest.approx(expected)
        score = p[:, 1] if classes == 2 else p
        positive = y if classes == 2 else np.eye(classes)[y]
        assert found["average-precision"] == pytest.approx(average_precision_score(positive, score))
        assert found["brier"] == pytest.approx(brier_score_loss(y, score))
        assert found[WEIGHT] == 50
        assert found["classes-present"] == classes


def test_what_is_undefined_is_nan_under_the_same_keys() -> None:
    full = classification(np.array([0, 1]), np.array([[0.9, 0.1], [0.2, 0.8]]))
    one_class = classification(np.array([1, 1]), np.array([[0.9, 0.1], [0.2, 0.8]]))
    none = classification(np.array([], dtype=np.intp), np.zeros((0, 2)))
    assert list(full) == list(one_class) == list(none)
    assert math.isnan(one_class["auc"])
    assert one_class["classes-present"] == 1
    assert math.isfinite(one_class["loss"])
    assert none[WEIGHT] == 0
    assert math.isnan(none["loss"])


def test_the_loss_of_a_certain_mistake_is_finite() -> None:
    assert math.isfinite(classification(np.array([1]), np.array([[1.0, 0.0]]))["loss"])


def record(**metrics: float | list[float]) -> RecordDict:
    return RecordDict(
        {"metrics": MetricRecord({k.replace("_", "-"): v for k, v in metrics.items()})}
    )


def test_the_average_leaves_out_what_is_undefined() -> None:
    mean = aggregate_metrics(
        [
            record(num_examples=30, auc=0.9, loss=1.0, each=[1.0, 2.0]),
            record(num_examples=10, auc=math.nan, loss=2.0, each=[3.0, math.nan]),
            record(num_examples=0, auc=0.1, loss=math.nan, each=[9.0, 9.0]),
        ],
        WEIGHT,
    )
    assert mean == {WEIGHT: 40, "auc": 0.9, "loss": 1.25, "each": [1.5, 2.0]}


def test_no_site_with_rows_gives_nan_and_no_error() -> None:
    mean = aggregate_metrics([record(num_examples=0, loss=math.nan)], WEIGHT)
    assert mean[WEIGHT] == 0
    assert math.isnan(mean["loss"])
