"""What may leave a job: names, finite numbers, counts, arrays, and never the app's own text."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, MetricRecord, RecordDict
from hypothesis import given
from hypothesis import strategies as st

from fedsm.client.exits import Exit
from fedsm.client.release import Release, Released, TooFewRows, shapes_of
from fedsm.contract import LIMIT_COUNT, LIMIT_METRICS, LIMIT_ROUNDS
from fedsm.errors import ConfigError
from fedsm.learning.preparation import combine, statistics
from fedsm.learning.tables import Table
from fedsm.transport.notes import Withheld
from tests.client.harness import client_code, hub, workplace
from tests.client.test_runtime import START, Running, _clean, train  # noqa: F401

OPEN = Release()
TERMS = Release(frozenset({"num-examples", "num-positives", "loss", "auc"}), 10)
SECRET = "Jane Roe"
ROWS = {"num-examples": 100}


def released(
    metrics: dict[str, Any], kind: str = "evaluate", terms: Release = TERMS
) -> tuple[dict[str, Any], Withheld]:
    found = terms.of(kind, {}, RecordDict({"metrics": MetricRecord(metrics)}))
    return dict(found.content.metric_records["metrics"]), found.withheld


@pytest.mark.parametrize(
    ("environ", "terms"),
    [
        ({}, OPEN),
        ({LIMIT_METRICS: "", LIMIT_COUNT: "5"}, Release(frozenset(), 5)),
        ({LIMIT_METRICS: "loss, auc"}, Release(frozenset({"loss", "auc"}))),
        ({LIMIT_METRICS: "a,b", f"{LIMIT_METRICS}_1": "c"}, Release(frozenset("abc"))),
        (
            {LIMIT_METRICS: "b", f"{LIMIT_METRICS}_2": "c", f"{LIMIT_METRICS}X": "d"},
            Release(frozenset("bc")),
        ),
    ],
)
def test_the_terms_come_from_the_environment(environ: dict[str, str], terms: Release) -> None:
    assert Release.from_environment(environ) == terms


@pytest.mark.parametrize("count", ["-1", "ten", "1.5", ""])
def test_a_smallest_count_that_is_none(count: str) -> None:
    with pytest.raises(ConfigError, match="is not a whole number"):
        Release.from_environment({LIMIT_COUNT: count})


@pytest.mark.parametrize("name", [LIMIT_COUNT, LIMIT_ROUNDS, f"{LIMIT_METRICS}_1"])
def test_limits_without_metrics_are_no_terms_that_release_everything(name: str) -> None:
    with pytest.raises(ConfigError, match=f"{LIMIT_METRICS}: is not set"):
        Release.from_environment({name: "5"})


def test_names_in_the_terms_leave_and_others_stay_with_their_names() -> None:
    left, withheld = released({**ROWS, "loss": 0.5, f"loss of {SECRET}": 0.5, "accuracy": 0.25})
    assert left == {**ROWS, "loss": 0.5}
    # fedsm's own names are no secret; an app's may be anything.
    assert withheld == Withheld(names=("accuracy",), others=1)


def test_without_terms_any_printable_name_leaves() -> None:
    left, withheld = released({"f1 score": 0.5, "a\nb": 0.5, "x" * 200: 1.0}, terms=OPEN)
    assert left == {"f1 score": 0.5}
    assert withheld == Withheld(others=2)


@pytest.mark.parametrize("terms", [OPEN, TERMS])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, [0.5, math.nan], 10**400])
def test_what_is_not_finite_stays(terms: Release, value: Any) -> None:
    left, withheld = released({**ROWS, "auc": value}, terms=terms)
    assert left == ROWS
    assert withheld == Withheld(undefined=("auc",))


@pytest.mark.parametrize(
    ("name", "value", "leaves"),
    [
        ("num-positives", 9, False),
        ("num-positives", 1.0, False),
        ("num-positives", -3, False),
        ("num-positives", [50, 3], False),
        ("num-positives", 97, False),
        ("num-positives", 97.0, False),
        ("num-positives", [50, 91], False),
        ("loss", 97, False),
        ("num-positives", 10, True),
        ("num-positives", 90, True),
        ("num-positives", 100, True),
        ("num-positives", 103, True),
        ("num-positives", 0, True),
        ("num-positives", [50, 0], True),
        ("loss", 3, False),
        ("loss", 3.0, True),
        ("auc", 1.0, True),
    ],
)
def test_small_counts_stay(name: str, value: Any, leaves: bool) -> None:
    left, withheld = released({**ROWS, name: value})
    assert (name in left) == leaves
    assert withheld == (Withheld() if leaves else Withheld(names=(name,)))


def test_the_bit_of_adaptive_clipping_is_no_count() -> None:
    terms = Release(frozenset({"num-examples", "norm_bit"}), 10)
    assert released({**ROWS, "norm_bit": 1}, "train", terms)[0] == {**ROWS, "norm_bit": 1}


@pytest.mark.parametrize("kind", ["train", "query.statistics", "train.custom"])
def test_a_site_of_too_few_rows_takes_no_part(kind: str) -> None:
    with pytest.raises(TooFewRows) as caught:
        released({"num-examples": 9, "loss": 0.5}, kind)
    assert "9" not in str(caught.value)


def test_too_few_rows_weigh_nothing_in_an_evaluation() -> None:
    left, withheld = released({"num-examples": 9, "loss": 0.5, SECRET: 1.0})
    assert left == {"num-examples": 0}
    assert withheld == Withheld(names=("num-examples", "loss"), others=1)


def test_nothing_leaves_where_nobody_says_of_how_many_rows() -> None:
    left, withheld = released({"loss": 0.5})
    assert left == {}
    assert withheld.names == ("loss",)


MODEL = ArrayRecord([np.zeros((2, 3)), np.zeros(3)])
ASKED = shapes_of(MODEL.items())


def arrays(record: ArrayRecord, kind: str = "train", terms: Release = TERMS) -> Released:
    content = RecordDict({SECRET: record, f"m {SECRET}": MetricRecord(ROWS)})
    return terms.of(kind, ASKED, content)


def test_under_the_terms_only_the_models_arrays_leave() -> None:
    found = arrays(MODEL)
    assert dict(found.content.array_records) == {"arrays": MODEL}
    assert list(found.content) == ["arrays", "metrics"]
    assert not found.withheld
    assert "arrays" not in arrays(MODEL, "evaluate").content


@pytest.mark.parametrize(
    "record",
    [
        ArrayRecord({"0": Array(np.zeros((2, 3))), SECRET: Array(np.zeros(3))}),
        ArrayRecord([np.zeros((1000, 3)), np.zeros(3)]),
        ArrayRecord([np.array([["Jane"] * 3] * 2), np.zeros(3)]),
        ArrayRecord([np.zeros((2, 3))]),
    ],
)
def test_other_arrays_stay(record: ArrayRecord) -> None:
    found = arrays(record)
    assert not found.content.array_records
    assert found.withheld == Withheld(parts=("arrays",))
    assert arrays(record, terms=OPEN).content[SECRET] == record


@pytest.mark.parametrize(
    ("name", "array", "leaves"),
    [
        ("hessian", np.zeros(10), True),
        ("hessian", np.array(["Jane"]), False),
        ("rows", np.zeros(10), False),
    ],
)
def test_further_arrays_leave_where_the_terms_name_them(
    name: str, array: Any, leaves: bool
) -> None:
    terms = Release(frozenset({"num-examples", "hessian"}), 10)
    record = ArrayRecord({**MODEL, name: Array(array)})
    assert bool(arrays(record, terms=terms).content.array_records) == leaves
    alone = ArrayRecord({name: Array(array)})
    assert not arrays(alone, terms=terms).content.array_records


def test_the_first_arrays_have_names_of_a_model() -> None:
    named = ArrayRecord({"layer.0/weight": Array(np.zeros(3))})
    assert arrays(named, "query.initial").content.array_records["arrays"] == named
    odd = ArrayRecord({f"of {SECRET}": Array(np.zeros(3))})
    assert not arrays(odd, "query.initial").content.array_records


@pytest.mark.parametrize("kind", ["train", "evaluate", "query.initial", "query.else"])
def test_no_configuration_leaves(kind: str) -> None:
    for terms in (OPEN, TERMS):
        content = RecordDict({"notes": ConfigRecord({"text": SECRET})})
        found = terms.of(kind, {}, content)
        assert not found.content
        assert found.withheld == Withheld(others=1)
        assert list(content) == ["notes"]


def table(features: Any, labels: list[int]) -> Table:
    x = np.asarray(features, dtype=np.float64)
    return Table(("a", "b", "c")[: x.shape[1]], x, np.array(labels))


def prepared(rows: Table, terms: Release = TERMS) -> Released:
    return terms.of("query.statistics", {}, statistics(rows))


def test_without_terms_statistics_leave_as_they_are() -> None:
    rows = table(np.eye(3), [0, 1, 1])
    answer = statistics(rows)
    answer["schema"]["note"] = SECRET
    found = OPEN.of("query.statistics", {}, answer)
    leaving = statistics(rows)
    del leaving.array_records["statistics"]["apart"]
    assert found.content == leaving


def test_columns_of_few_values_leave_as_empty() -> None:
    x = np.random.default_rng(0).normal(size=(40, 3))
    x[9:, 1] = np.nan
    found = prepared(table(x, [0, 1] * 20))
    count = found.content["statistics"]["count"].numpy()
    assert count.tolist() == [40, 0, 40]
    assert [found.content["statistics"][n].numpy()[1] for n in ("sum", "squares")] == [0, 0]
    assert found.withheld == Withheld(parts=("statistics of b",))
    summary = combine({"one": found.content})
    assert (summary.mean[1], summary.scale[1]) == (0.0, 1.0)


@pytest.mark.parametrize(("ones", "leaves"), [(3, False), (37, False), (15, True), (0, True)])
def test_the_sum_of_zeros_and_ones_is_a_count(ones: int, leaves: bool) -> None:
    x = np.zeros((40, 1))
    x[:ones] = 1
    found = prepared(table(x, [0, 1] * 20))
    assert (found.content["statistics"]["count"].numpy()[0] == 40) == leaves


@pytest.mark.parametrize("sizes", [(31, 9), (11, 11, 9), (30, 10)])
def test_rows_per_class_leave_all_or_not_at_all(sizes: tuple[int, ...]) -> None:
    labels = [label for label, n in enumerate(sizes) for _ in range(n)]
    found = prepared(table(np.random.default_rng(0).normal(size=(len(labels), 2)), labels))
    leaves = min(sizes) >= 10
    schema = found.content["schema"]
    assert schema["class-counts"] == (list(sizes) if leaves else [])
    assert ("rows per class" in found.withheld.parts) != leaves
    summary = combine({"one": found.content})
    assert summary.classes == tuple(range(len(sizes)))
    assert sum(summary.class_counts) == (sum(sizes) if leaves else 0)
    assert summary.rows == sum(sizes)


VALUE = st.one_of(st.integers(-20, 20), st.floats(), st.lists(st.floats(), min_size=1, max_size=3))


@given(
    metrics=st.dictionaries(st.sampled_from([*"abc", "num-x", SECRET]), VALUE),
    rows=st.integers(-5, 30),
    kind=st.sampled_from(["train", "evaluate", "query.else"]),
)
def test_whatever_an_app_reports(metrics: dict[str, Any], rows: int, kind: str) -> None:
    terms = Release(frozenset({"a", "b", "num-x", "num-examples"}), 10)
    try:
        left, withheld = released({**metrics, "num-examples": rows}, kind, terms)
    except TooFewRows:
        assert 0 < rows < 10
        return
    told = {*withheld.names, *withheld.undefined}
    assert set(left) | told <= terms.metrics  # type: ignore[operator]
    assert {*metrics, "num-examples"} == set(left) | told | {"c", SECRET} & set(metrics)
    for name, value in left.items():
        values = value if isinstance(value, list) else [value]
        assert all(math.isfinite(v) for v in values)
        if name.startswith("num-") or any(isinstance(v, int) for v in values):
            assert not any(0 < abs(v) < 10 for v in values)


APP = """
from flwr.app import Array, ArrayRecord, ConfigRecord, Error, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
app = ClientApp()

@app.train()
def train(message, context):
    number = message.content["config"]["server-round"]
    assert list(message.content) == ["arrays", "config"]
    if number == 2:
        return Message(Error(7, "Jane Roe"), reply_to=message)
    metrics = {"num-examples": 4 if number == 3 else 40, "loss": float("nan"), "Jane Roe": 1.0}
    records = {"metrics": MetricRecord(metrics), "arrays": message.content["arrays"]}
    records["text"] = ConfigRecord({"text": "Jane Roe"})
    return Message(RecordDict(records), reply_to=message)
"""


def test_a_job_under_its_owners_terms(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    code = client_code(tmp_path / "code", APP)
    terms = {LIMIT_METRICS: "num-examples,loss", LIMIT_COUNT: "10"}
    monkeypatch.setattr("tests.client.test_runtime.environment", with_terms(terms))
    with hub("north") as coordinator:
        base = workplace(tmp_path / "north", {})
        running = Running(base, code, coordinator.settings("north"))
        coordinator.join()
        first, second, third = (train(coordinator, number) for number in (1, 2, 3))
        coordinator.grid.finish(RecordDict({"arrays": START}), 20)
        found = running.end()
    assert {k: v for k, v in first.content["metrics"].items() if k != "loss"} == {
        "num-examples": 40
    }
    assert math.isnan(first.content["metrics"]["loss"])  # put in at this end
    assert SECRET not in repr(first.content)
    assert second.error.reason == "The app answered with an error; the job's log has it."
    assert second.error.code == Exit.APP_RAISED
    assert third.error.code == Exit.TOO_FEW_ROWS
    assert "fewer rows than its owner's terms ask for" in third.error.reason
    assert not any(character.isdigit() for character in third.error.reason)
    assert found is not None
    assert (found.exit, found.sentence) == (Exit.TOO_FEW_ROWS, third.error.reason)
    log = capfd.readouterr().out
    assert "not-a-finite-number=loss;" in log
    assert f"not-named-in-the-terms={SECRET};" in log  # the owner's own log


def with_terms(terms: dict[str, str]) -> Any:
    from tests.client.harness import environment

    return lambda base, settings: {**environment(base, settings), **terms}


def test_sums_are_the_owners_to_name_whatever_arrays_were_sent() -> None:
    arrays = {"coef": np.zeros((1, 2)), "intercept": np.zeros(1), "losses": np.zeros(851)}
    record = ArrayRecord({name: Array(values) for name, values in arrays.items()})
    answer = RecordDict({"arrays": record, "metrics": MetricRecord(ROWS)})
    for named, leaves in (({"num-examples"}, False), ({"num-examples", "losses"}, True)):
        found = Release(frozenset(named), 10).of("train", shapes_of(record.items()), answer)
        assert bool(found.content.array_records) == leaves
        assert ("arrays" in found.withheld.parts) != leaves
