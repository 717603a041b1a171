from __future__ import annotations

import math

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, Error, Message, MetricRecord, RecordDict

from fedsm.learning.checks import fault
from fedsm.transport.flower import set_identity

GLOBAL = ArrayRecord({"coef": Array(np.zeros((1, 3))), "bias": Array(np.zeros(1))})
WEIGHT = "num-examples"


def reply(content: RecordDict | Error) -> Message:
    set_identity(1, 1)
    asked = Message(content=RecordDict({}), message_type="train", dst_node_id=2)
    return Message(content, reply_to=asked)


def trained(metrics: dict[str, object] | None = None, **arrays: np.ndarray) -> Message:
    values = {"coef": np.ones((1, 3)), "bias": np.ones(1), **arrays}
    record = ArrayRecord({name: Array(value) for name, value in values.items()})
    return reply(
        RecordDict({"arrays": record, "metrics": MetricRecord(metrics or {WEIGHT: 5})})  # type: ignore[arg-type]
    )


def test_a_good_reply_has_no_fault() -> None:
    assert fault(trained(), GLOBAL, WEIGHT) is None
    assert fault(trained({WEIGHT: 5, "auc": math.nan}), GLOBAL, WEIGHT) is None


@pytest.mark.parametrize(
    ("arrays", "sentence"),
    [
        (
            {"coef": np.full((1, 3), np.nan)},
            "array 'coef' holds NaN, infinite or absurdly large values",
        ),
        ({"bias": np.array([np.inf])}, "array 'bias' holds NaN, infinite or absurdly large values"),
        ({"coef": np.ones((3, 1))}, "array 'coef' has shape (3, 1), not (1, 3)"),
        (
            {"coef": np.ones((1, 3), dtype=np.float32)},
            "array 'coef' is of type float32, not float64",
        ),
        ({"extra": np.ones(1)}, "array 'extra' is not among the global ones"),
    ],
)
def test_arrays_that_are_not_the_models(arrays: dict[str, np.ndarray], sentence: str) -> None:
    assert fault(trained(**arrays), GLOBAL, WEIGHT) == sentence


def test_missing_and_reordered_arrays() -> None:
    names = ("bias", "coef")
    for kept, sentence in (
        (("coef",), "array 'bias' is missing"),
        (names, "the arrays are in another order than the global ones"),
    ):
        record = ArrayRecord({name: GLOBAL[name] for name in kept})
        content = RecordDict({"arrays": record, "metrics": MetricRecord({WEIGHT: 1})})
        assert fault(reply(content), GLOBAL, WEIGHT) == sentence


def test_an_array_that_belies_its_header() -> None:
    content = trained().content
    for data in (b"no array", content.array_records["arrays"]["bias"].data):
        lying = Array("float64", (1, 3), "numpy.ndarray", data)
        record = ArrayRecord({"coef": lying, "bias": GLOBAL["bias"]})
        found = fault(
            reply(RecordDict({"arrays": record, "metrics": MetricRecord({WEIGHT: 1})})),
            GLOBAL,
            WEIGHT,
        )
        assert found in (
            "array 'coef' cannot be decoded",
            "array 'coef' does not hold what its header says",
        )


@pytest.mark.parametrize(
    ("metrics", "sentence"),
    [
        ({"loss": 1.0}, "the metrics lack 'num-examples'"),
        ({WEIGHT: -1}, "metric 'num-examples' is negative"),
        ({WEIGHT: 0}, "metric 'num-examples' is zero"),
        ({WEIGHT: math.inf}, "metric 'num-examples' is not a finite number"),
        ({WEIGHT: [1, 2]}, "metric 'num-examples' is not a finite number"),
    ],
)
def test_weights_that_cannot_weight(metrics: dict[str, object], sentence: str) -> None:
    assert fault(trained(metrics), GLOBAL, WEIGHT) == sentence


def test_metrics_that_the_strategy_reads_must_be_finite() -> None:
    metrics: dict[str, object] = {WEIGHT: 1, "loss": math.nan}
    assert fault(trained(metrics), GLOBAL, WEIGHT) is None
    assert (
        fault(trained(metrics), GLOBAL, WEIGHT, ("loss",)) == "metric 'loss' is not a finite number"
    )


def test_an_evaluation_may_have_no_rows_but_needs_its_metrics() -> None:
    content = RecordDict({"metrics": MetricRecord({WEIGHT: 0})})
    assert fault(reply(content), None, WEIGHT) is None
    assert fault(reply(content), GLOBAL, WEIGHT) == (
        "the reply holds 0 array records instead of one"
    )
    assert fault(reply(RecordDict({})), None, WEIGHT) == (
        "the reply holds 0 metric records instead of one"
    )


def test_an_error_speaks_for_itself() -> None:
    assert fault(reply(Error(11, "ValueError at app.py:3")), GLOBAL, WEIGHT) == (
        "ValueError at app.py:3"
    )
