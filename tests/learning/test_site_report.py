"""What a site answers to ``evaluate.report``, and what the coordinator makes of the answers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, MetricRecord, RecordDict
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import (
    average_precision_score,
    classification_report,
    confusion_matrix,
    roc_auc_score,
)

from fedsm.client.release import Release
from fedsm.errors import ConfigError, DataError
from fedsm.learning import fairness, personal
from fedsm.learning.groups import Groups, counted, withheld
from fedsm.learning.models import Local, adapter
from fedsm.learning.pooled import by_group, importances, pooled
from fedsm.learning.preparation import Summary
from fedsm.learning.raw_columns import permuted
from fedsm.learning.reported import read
from fedsm.learning.site_report import MOST_PERMUTED, Asked, SiteReport
from fedsm.learning.sparse_tables import SparseTable
from fedsm.learning.tables import Table
from fedsm.metric_names import REPORT

MODEL = adapter("logistic-regression")
GROUPS = Groups.of({"age": (40.0, 65.0), "sex": (), "centre": ()})
FEATURES = ("age", "sex", "marker")


def rows(
    n: int, seed: int, *, shift: float = 0.0, classes: int = 2, missing: float = 0.02
) -> Table:
    """Rows of a made-up hospital."""
    random = np.random.default_rng(seed)
    age = random.uniform(20, 90, n)
    sex = random.integers(0, 2, n).astype(float)
    marker = random.normal(size=n) + shift
    risk = marker + (age - 55) / 30 + random.logistic(size=n) + (0.3 if classes > 2 else 0)
    labels = np.digitize(risk, np.linspace(-1, 1, classes - 1) if classes > 2 else [0.0])
    features = np.column_stack([age, sex, marker])
    features[random.random(features.shape) < missing] = np.nan
    return Table(FEATURES, features, labels.astype(np.int64))


def summary(classes: int = 2, n: int = 1000) -> Summary:
    return Summary(
        features=FEATURES,
        mean=np.array([55.0, 0.5, 0.0]),
        scale=np.array([20.0, 0.5, 1.0]),
        rows=n,
        classes=tuple(range(classes)),
        class_counts=(),
    )


def model(classes: int = 2) -> ArrayRecord:
    """A fitted global model."""
    known, table = summary(classes), rows(1000, 99, classes=classes)
    local = Local(summary=known, run_config={"local-steps": 50, "c": 1.0})
    x, y = known.transform(table), known.encode(table.labels)
    return MODEL.fit(MODEL.initial(known, local.run_config), x, y, local)


ARRAYS = model()


def answer(
    validation: Table,
    *,
    asked: Asked | None = None,
    train: Table | None = None,
    arrays: ArrayRecord = ARRAYS,
    classes: int = 2,
    smallest: int = 0,
    state: RecordDict | None = None,
) -> dict[str, Any]:
    config = (asked or Asked(smallest=5)).to_config()
    local = Local(summary=summary(classes), run_config={}, config=config)
    report = SiteReport(MODEL, arrays, local, smallest, RecordDict() if state is None else state)
    return dict(report.answer(train or rows(80, 1, classes=classes), validation))


def predicted(table: Table, arrays: ArrayRecord = ARRAYS, classes: int = 2) -> np.ndarray:
    known = summary(classes)
    return MODEL.predict(arrays, known.transform(table), known, {})


def told(metrics: Mapping[str, Any], classes: int = 2, groups: Groups | None = None) -> Any:
    return read(metrics, classes, groups or Groups(), (), [])


def test_what_the_coordinator_asks_for_survives_the_message() -> None:
    asked = Asked(True, True, GROUPS, ("age",), 7, 30)
    assert Asked.from_config(asked.to_config()) == asked
    assert Asked.from_config({}) == Asked()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("report-importance", ["age", "age"]),
        ("report-importance", [f"f{i}" for i in range(MOST_PERMUTED + 1)]),
        ("report-importance", "age"),
        ("report-importance", [1]),
        ("report-importance", 5),
        ("report-rounds", True),
        ("report-rounds", 1e9),
        ("report-rounds", "40"),
    ],
)
def test_what_would_keep_a_site_at_work_is_refused(name: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=r"report[.-]"):
        Asked.from_config({name: value})


def test_a_site_answers_names_of_the_default_terms_only() -> None:
    from fedsm.agreement import METRICS

    asked = Asked(True, True, GROUPS, ("age",), 5, 3)
    state = RecordDict()
    found = answer(rows(150, 2), asked=asked, state=state)
    assert set(found) == set(REPORT)
    assert set(REPORT) <= set(METRICS)
    assert isinstance(state["personal"], ArrayRecord)
    entry = read(found, 2, GROUPS, ("age",), []).entry
    assert entry["prevalence"] == pytest.approx(rows(150, 2).labels.mean())
    assert entry["local_only"]["gap"]["value"] is not None
    assert entry["undefined"] == {}


@pytest.mark.parametrize("classes", [2, 3])
def test_the_pooled_metrics_are_those_of_all_rows(classes: int) -> None:
    arrays = model(classes)
    tables = [
        rows(n, seed, shift=seed / 10, classes=classes)
        for seed, n in enumerate((300, 400, 250, 350))
    ]
    y = np.concatenate([t.labels for t in tables])
    p = np.vstack([predicted(t, arrays, classes) for t in tables])
    sites = {
        f"site-{i}": told(answer(t, arrays=arrays, classes=classes), classes)
        for i, t in enumerate(tables)
    }
    labels = [str(c) for c in range(classes)]
    found = pooled(sites, labels)
    ours = roc_auc_score(y, p[:, 1] if classes == 2 else p, multi_class="ovr")
    assert found["auc"]["value"] == pytest.approx(ours, abs=0.005)
    assert found["accuracy"] == pytest.approx((p.argmax(axis=1) == y).mean())
    assert found["classes"] == np.bincount(y).tolist()
    assert found["n"] == len(y)
    if classes == 2:
        exact = average_precision_score(y, p[:, 1])
        assert found["average_precision"]["value"] == pytest.approx(exact, abs=0.01)
        assert found["auc"]["low"] < ours < found["auc"]["high"]
        assert found["calibration"]["slope"] == pytest.approx(1.0, abs=0.2)
        assert sum(point["rows"] for point in found["calibration"]["points"]) == pytest.approx(
            len(y)
        )
    matrix = confusion_matrix(y, p.argmax(axis=1))
    if "confusion" not in found["without"]:
        assert found["confusion_from"] == "counts"
        np.testing.assert_array_equal(found["confusion"], matrix)
        expected = classification_report(y, p.argmax(axis=1), output_dict=True)
        for label in (*labels, "macro avg", "weighted avg"):
            assert found["classification_report"][label] == pytest.approx(expected[label])
    else:
        assert classes == 3
        assert found["without"]["confusion"]


def test_small_cells_make_the_pooled_matrix_approximate() -> None:
    tables = [rows(60, seed) for seed in range(3)]
    sites = {f"site-{i}": told(answer(t, asked=Asked(smallest=15))) for i, t in enumerate(tables)}
    assert all(report.confusion is None for report in sites.values())
    found = pooled(sites, ["0", "1"])
    y = np.concatenate([t.labels for t in tables])
    p = np.vstack([predicted(t) for t in tables])
    assert found["confusion_from"] == "scores"
    np.testing.assert_allclose(found["confusion"], confusion_matrix(y, p.argmax(axis=1)), atol=15)
    assert np.sum(found["confusion"]) == len(y)


def test_one_class_and_no_row_are_undefined_with_why() -> None:
    table = rows(200, 3)
    one = told(answer(table.take(np.flatnonzero(table.labels == 1)[:14]))).entry
    assert one["auc"] == {"value": None, "low": None, "high": None}
    assert one["undefined"]["auc"] == "one class among 14 rows"
    assert one["accuracy"] is not None
    none = told(answer(table.take(np.zeros(0, dtype=np.intp)))).entry
    assert (none["n"], none["undefined"]["loss"]) == (0, "there are no rows")
    full = {"a": told(answer(table)), "b": told(answer(table.take(np.zeros(0, dtype=np.intp))))}
    assert pooled(full, ["0", "1"])["sites"] == ["a"]
    assert pooled({}, ["0", "1"])["auc"]["value"] is None


def test_a_site_whose_training_rows_have_one_class_has_no_model_of_its_own() -> None:
    train = rows(100, 4)
    train = train.take(np.flatnonzero(train.labels == 1))
    entry = told(answer(rows(100, 5), asked=Asked(local_only=True, smallest=5), train=train)).entry
    assert entry["local_only"]["auc"]["value"] is None
    assert "training rows" in entry["undefined"]["local_only"]


def test_a_model_of_its_own_that_diverges_leaves_the_rest_of_the_report(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    wrong = ArrayRecord({k: Array(np.full_like(a.numpy(), np.nan)) for k, a in ARRAYS.items()})
    alone = lambda model, table, local, rounds: (wrong, local.summary)  # noqa: E731
    monkeypatch.setattr(personal, "local_only", alone)
    monkeypatch.setattr(personal, "personalize", lambda *_: wrong)
    state = RecordDict()
    entry = told(answer(rows(100, 5), asked=Asked(True, True, smallest=5), state=state)).entry
    assert entry["auc"]["value"] is not None
    assert entry["local_only"]["loss"] is None
    assert entry["personalized"]["loss"] is None
    assert "training rows" in entry["undefined"]["local_only"]
    assert "personal" not in state


def small_counts(metrics: Mapping[str, Any], smallest: int) -> list[str]:
    n = metrics["num-examples"]
    return [
        name
        for name, value in metrics.items()
        if name.startswith("num-") and isinstance(value, list)
        if any(0 < v < smallest or 0 < n - v < smallest for v in value)
    ]


@pytest.mark.parametrize("n", [8, 14, 30, 60, 300])
def test_an_honest_answer_passes_the_owners_terms(n: int) -> None:
    smallest = 10
    asked = Asked(groups=GROUPS, smallest=5)
    for seed in range(5):
        metrics = answer(rows(n, seed), asked=asked, smallest=smallest)
        released = Release(frozenset(REPORT), smallest).of(
            "evaluate.report", {}, RecordDict({"metrics": MetricRecord(metrics)})
        )
        assert "a small count" not in released.reasons
        assert small_counts(metrics, smallest) == []


def test_too_small_counts_are_withheld_by_name_where_the_app_tells_them() -> None:
    metrics = answer(rows(30, 0), asked=Asked(smallest=1))
    released = Release(frozenset(REPORT), 10).of(
        "evaluate.report", {}, RecordDict({"metrics": MetricRecord(metrics)})
    )
    assert "num-scores-positive" in released.reasons["a small count"]


@given(st.lists(st.tuples(st.integers(0, 4), st.booleans(), st.booleans()), max_size=80))
def test_groups_give_no_small_count_away(patients: list[tuple[int, bool, bool]]) -> None:
    """Neither by themselves nor by what they leave of the whole."""
    smallest = 5
    raw = np.array([float(g) if g else math.nan for g, _, _ in patients])
    y, said = (np.array([p[i] for p in patients], dtype=np.intp) for i in (1, 2))
    found = counted(Groups(("g",), ((),)), {"g": raw}, y, said, 2, smallest)
    told_rows = np.array(found["num-group-rows"], dtype=int)
    assert not ((told_rows > 0) & (told_rows < smallest)).any()
    every = confusion_matrix(y, said, labels=[0, 1]) if len(y) else np.zeros((2, 2), dtype=int)
    cells = np.array(found["num-group-confusion"], dtype=int).reshape(-1, 2, 2)
    if len(cells) and cells.any():
        left = every - cells.sum(axis=0)
        assert not ((left > 0) & (left < smallest)).any()
    if len(told_rows):
        left_rows = len(patients) - told_rows.sum()
        assert left_rows == 0 or left_rows >= smallest


def test_withheld_takes_another_group_along() -> None:
    few = withheld(np.array([[100], [3], [40]]), np.array([0]), 5)
    assert few.tolist() == [False, True, True]
    assert not withheld(np.array([[100], [40]]), np.array([0]), 5).any()


def test_groups_are_summed_and_compared() -> None:
    tables = [rows(n, seed, missing=0.0) for seed, n in enumerate((900, 800))]
    asked = Asked(groups=GROUPS, smallest=5)
    sites = {f"site-{i}": told(answer(t, asked=asked), groups=GROUPS) for i, t in enumerate(tables)}
    found = by_group(sites, GROUPS, {})
    y = np.concatenate([t.labels for t in tables])
    said = np.concatenate([predicted(t).argmax(axis=1) for t in tables])
    age, sex = (np.concatenate([t.features[:, i] for t in tables]) for i in (0, 1))
    assert list(found["age"]["groups"]) == ["under 40", "40 to under 65", "65 and over"]
    here = age < 40
    expected = confusion_matrix(y[here], said[here])
    assert found["age"]["groups"]["under 40"]["confusion"] == expected.tolist()
    assert found["age"]["matrices_untold"] == {}
    assert found["centre"]["suppressed"]["site-0"] == "there is no such column"
    if fairness.available():
        rates = found["sex"]["fairness"]["groups"]
        assert rates["1"]["selection_rate"] == pytest.approx(said[sex == 1].mean())
        gap = abs(said[sex == 1].mean() - said[sex == 0].mean())
        difference = found["sex"]["fairness"]["demographic_parity_difference"]
        assert difference == pytest.approx(gap)


def test_close_values_are_groups_of_their_own() -> None:
    groups = Groups(("g", "b"), ((), (1000001.0, 1000002.0)))
    raw = np.repeat([1000001.0, 1000002.0, 0.25], 20)
    y = said = np.tile([0, 1], 30)
    metrics = {"num-examples": 60} | counted(groups, {"g": raw, "b": raw}, y, said, 2, 1)
    found = by_group({"a": told(metrics, groups=groups)}, groups, {})
    rows_of = {name: {g: v["n"] for g, v in found[name]["groups"].items()} for name in "gb"}
    assert rows_of["g"] == {"0.25": 20, "1000001": 20, "1000002": 20}
    bands = ("under 1000001", "1000001 to under 1000002", "1000002 and over")
    assert rows_of["b"] == dict.fromkeys(bands, 20)
    assert groups.label(0, -0.0) == "0"


def test_fairness_is_fairlearns() -> None:
    metrics = pytest.importorskip("fairlearn.metrics")
    random = np.random.default_rng(0)
    y, said, group = (random.integers(0, k, 500) for k in (2, 2, 3))
    matrices = {
        str(g): confusion_matrix(y[group == g], said[group == g], labels=[0, 1]) for g in range(3)
    }
    found = fairness.measures(matrices)
    for name in ("demographic_parity_difference", "equalized_odds_difference"):
        expected = getattr(metrics, name)(y, said, sensitive_features=group)
        assert found[name] == pytest.approx(expected)
    matrices["0"][1] = 0
    found = fairness.measures(matrices)
    assert math.isnan(found["groups"]["0"]["true_positive_rate"])
    assert math.isnan(found["equalized_odds_difference"])
    assert math.isfinite(found["demographic_parity_difference"])


def test_importance_is_the_drop_of_the_auc() -> None:
    table = rows(400, 7)
    metrics = answer(table, asked=Asked(importance=("sex", "marker"), smallest=5))
    found = read(metrics, 2, Groups(), ("sex", "marker"), [])
    ranked = importances({"a": found, "b": told(answer(table))}, ("sex", "marker"))
    assert [row["feature"] for row in ranked] == ["marker", "sex"]
    assert ranked[0]["auc_drop"] > 0.1 > abs(ranked[1]["auc_drop"])
    assert ranked[0]["sites"] == 1


def test_permuting_moves_one_column_of_any_table() -> None:
    from scipy.sparse import csr_array

    dense = np.array([[1.0, 0.0], [0.0, 2.0], [3.0, 4.0]])
    order = np.array([2, 0, 1])
    labels = np.zeros(3, dtype=np.int64)
    for table in (
        Table(("a", "b"), dense, labels, ("c",), np.array([["x"], ["y"], ["z"]])),
        SparseTable(("a", "b"), csr_array(dense), labels),
    ):
        features = permuted(table, "b", order).features
        if not isinstance(features, np.ndarray):
            features = features.toarray()
        assert features.tolist() == [[1.0, 4.0], [0.0, 0.0], [3.0, 2.0]]
        assert permuted(table, "none", order) is table
    texts = Table(("a", "b"), dense, labels, ("c",), np.array([["x"], ["y"], ["z"]]))
    assert permuted(texts, "c", order).texts.ravel().tolist() == ["z", "x", "y"]


HONEST = answer(rows(200, 1, missing=0.0), asked=Asked(True, False, GROUPS, ("age",), 5, 3))

LIES: dict[str, Any] = {
    "num-examples": -1,
    "loss": -0.5,
    "accuracy": 1.2,
    "auc": math.inf,
    "auc-interval": [0.1, 0.2],
    "average-precision-interval": [0.1, 0.2, 0.3],
    "brier": "low",
    "calibration-slope": 1e300,
    "local-gap": -3.0,
    "num-classes": [300, -100],
    "num-confusion": [10**15] * 4,
    "num-scores-positive": [1] * 200,
    "num-scores-negative": [0] * 199,
    "group-column": [7.0] * 5,
    "group-value": [math.nan] * 5,
    "num-group-rows": [10**9] * 5,
    "num-group-confusion": [1, 2, 3],
    "groups-withheld": [0.5, 0, 0],
    "importance": [math.nan, 1.0],
}


def test_a_category_that_the_federation_lacks_is_refused() -> None:
    groups = Groups(("sex",), ((),))
    told_of = {"num-examples": 40, "group-column": [0.0], "num-group-rows": [40]}
    for value, known in ((0.0, True), (1.0, True), (2.0, False), (-1.0, False), (0.5, False)):
        metrics = {**told_of, "group-value": [value]}
        if known:
            assert read(metrics, 2, groups, (), [], {"sex": ("f", "m")}).groups == {(0, value): 40}
        else:
            with pytest.raises(DataError, match="group-value"):
                read(metrics, 2, groups, (), [], {"sex": ("f", "m")})


@pytest.mark.parametrize("few", [[-3.0], [1e9], [math.inf]])
def test_more_groups_than_rows_are_refused(few: list[float]) -> None:
    with pytest.raises(DataError, match="groups-withheld"):
        read({"num-examples": 40, "groups-withheld": few}, 2, Groups(("age",), ((),)), (), [])


@pytest.mark.parametrize(
    "groups",
    [
        Groups(("age", "age"), ((40.0,), (41.0,))),
        Groups(("age",), ((41.0, 40.0),)),
        Groups(("age",), ((40.0, 40.0),)),
        Groups(("age",), ((math.nan,),)),
        Groups(("age", "sex"), ((40.0,),)),
    ],
)
def test_groups_that_can_be_differenced_are_not_counted(groups: Groups) -> None:
    with pytest.raises(ConfigError, match=r"training\.report\.groups"):
        answer(rows(200, 1), asked=Asked(groups=groups))


@pytest.mark.parametrize("name", LIES)
def test_a_lie_is_refused_by_name(name: str) -> None:
    assert len(HONEST["group-column"]) == 5
    read(HONEST, 2, GROUPS, ("age",), [])
    with pytest.raises(DataError, match=name):
        read({**HONEST, name: LIES[name]}, 2, GROUPS, ("age",), [])
