from __future__ import annotations

import numpy as np
import pytest
from flwr.app import Array, ConfigRecord, MetricRecord, RecordDict
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fedsm.errors import ConfigError, DataError
from fedsm.learning.preparation import Summary, combine, statistics
from fedsm.learning.tables import Table

COLUMNS = ("a", "b", "c")


def table(features: np.ndarray, labels: list[int] | None = None) -> Table:
    features = np.asarray(features, dtype=np.float64)
    columns = COLUMNS[: features.shape[1]]
    return Table(columns, features, np.array(labels or [i % 2 for i in range(len(features))]))


def random_sites(seed: int = 0) -> dict[str, Table]:
    random = np.random.default_rng(seed)
    sites = {}
    for name, rows, centre in (("north", 20, 0.0), ("south", 7, 5.0), ("west", 2, -3.0)):
        x = random.normal(centre, 2.0, size=(rows, 3))
        x[random.random(x.shape) < 0.2] = np.nan
        sites[name] = table(x)
    return sites


@given(
    x=hnp.arrays(
        np.float64,
        st.tuples(st.integers(4, 20), st.just(3)),
        elements=st.one_of(st.just(np.nan), st.floats(-1e6, 1e6)),
    ),
    cut=st.integers(1, 3),
)
def test_the_federation_knows_what_the_pooled_rows_say(x: np.ndarray, cut: int) -> None:
    rows = table(x)
    parts = {"one": rows.take(np.arange(cut)), "two": rows.take(np.arange(cut, len(rows)))}
    summary = combine({name: statistics(part) for name, part in parts.items()})
    assert summary.rows == len(rows)
    for i in range(3):
        present = x[~np.isnan(x[:, i]), i]
        mean, scale = (present.mean(), present.std()) if len(present) else (0.0, 0.0)
        assert summary.mean[i] == pytest.approx(mean, rel=1e-9, abs=1e-9 * (1 + abs(mean)))
        if scale > 1e-7 * (1 + abs(mean)):
            assert summary.scale[i] == pytest.approx(scale, rel=1e-6)
        assert summary.scale[i] > 0


def test_a_large_offset_costs_no_precision() -> None:
    x = np.random.default_rng(0).normal(0, 1, size=(1000, 1)) + 1e9
    halves = {"one": statistics(table(x[:500])), "two": statistics(table(x[500:]))}
    assert combine(halves).scale[0] == pytest.approx(x.std(), rel=1e-7)


def test_constant_and_empty_features_are_left_in_place() -> None:
    x = np.array([[0.1, np.nan], [0.1, np.nan], [0.1, np.nan]])
    summary = combine({"one": statistics(table(x)), "two": statistics(table(x[:2]))})
    np.testing.assert_allclose(summary.mean, [0.1, 0.0])
    np.testing.assert_array_equal(summary.scale, [1.0, 1.0])
    np.testing.assert_allclose(summary.transform(table(x)), np.zeros((3, 2)), atol=1e-12)


def test_a_site_that_lacks_a_feature_altogether_takes_part() -> None:
    with_it = table([[1.0, 2.0], [3.0, 4.0]])
    without = table([[5.0, np.nan], [7.0, np.nan]])
    summary = combine({"one": statistics(with_it), "two": statistics(without)})
    np.testing.assert_allclose(summary.mean, [4.0, 3.0])
    np.testing.assert_allclose(summary.scale, [np.std([1, 3, 5, 7]), 1.0])


def test_missing_values_become_zero_once_standardised() -> None:
    sites = random_sites()
    summary = combine({name: statistics(t) for name, t in sites.items()})
    x = summary.transform(sites["north"])
    assert np.isfinite(x).all()
    assert (x[np.isnan(sites["north"].features)] == 0).all()


def test_a_summary_travels_in_a_config() -> None:
    summary = combine({name: statistics(t) for name, t in random_sites().items()})
    config = ConfigRecord({**summary.to_config(), "server-round": 3})
    back = Summary.from_config(config)
    assert all(key.startswith("prepare-") for key in summary.to_config())
    np.testing.assert_array_equal(back.mean, summary.mean)
    np.testing.assert_array_equal(back.scale, summary.scale)
    assert (back.features, back.rows, back.classes) == (summary.features, 29, (0, 1))
    assert sum(back.class_counts) == 29
    with pytest.raises(ConfigError, match=r"training\.prepare"):
        Summary.from_config({})
    for key, value in (
        ("prepare-classes", list(range(101))),
        ("prepare-vocabulary-sizes", [1001]),
    ):
        with pytest.raises(ConfigError, match="more than"):
            Summary.from_config({**config, key: value})


def test_labels_are_encoded_in_sorted_order() -> None:
    rows = Table(("a",), np.zeros((3, 1)), np.array(["no", "yes", "maybe"]))
    summary = combine({"one": statistics(rows)})
    assert summary.classes == ("maybe", "no", "yes")
    assert summary.encode(np.array(["yes", "no"])).tolist() == [2, 1]
    assert summary.encode(np.array([], dtype=np.str_)).tolist() == []
    with pytest.raises(DataError, match="not among the classes"):
        summary.encode(np.array(["never"]))


def test_no_row_no_statistics() -> None:
    with pytest.raises(DataError, match="no training row"):
        statistics(table(np.zeros((0, 2)), []))


def test_other_columns_are_named_with_the_site() -> None:
    one = statistics(table(np.ones((2, 2))))
    for columns, fault in (
        (("a", "z"), "column 'b' is missing here"),
        (("b", "a"), "in another order"),
        (("a", "b", "z"), "column 'z' is present here"),
    ):
        other = Table(columns, np.ones((2, len(columns))), np.array([0, 1]))
        with pytest.raises(DataError, match=fault) as caught:
            combine({"north": one, "south": statistics(other)})
        assert caught.value.where == "south"
    assert len(caught.value.what) < 200


def test_labels_of_two_types_are_refused() -> None:
    text = Table(("a",), np.ones((2, 1)), np.array(["x", "y"]))
    with pytest.raises(DataError, match="not of the type"):
        combine({"north": statistics(table(np.ones((2, 1)))), "south": statistics(text)})


def test_one_class_everywhere_is_refused() -> None:
    with pytest.raises(DataError, match="one class"):
        combine({"north": statistics(table(np.ones((2, 1)), [1, 1]))})


def altered(change: str) -> RecordDict:
    reply = statistics(table(np.ones((4, 2))))
    arrays = reply.array_records["statistics"]
    schema = reply.config_records["schema"]
    match change:
        case "no sum":
            del arrays["sum"]
        case "shape":
            arrays["sum"] = Array(np.zeros(3))
        case "type":
            arrays["count"] = Array(np.zeros(2, dtype=np.int32))
        case "nan":
            arrays["squares"] = Array(np.array([np.nan, 0.0]))
        case "negative":
            arrays["squares"] = Array(np.array([-1.0, 0.0]))
        case "count":
            arrays["count"] = Array(np.array([5.0, 0.0]))
        case "part of one":
            arrays["count"] = Array(np.array([5e-324, 0.0]))
        case "long":
            schema["features"] = ["x0", "y" * 129]
        case "rows":
            reply["metrics"] = MetricRecord({"num-examples": 7})
        case "classes":
            schema["classes"] = [1.5, 2.5]
        case "terminal":
            schema["classes"] = ["\x1b[31mred", "b"]
        case "markup":
            schema["features"] = ["x0", "x1\u202e"]
        case "no bytes":
            arrays["sum"].data = b""
        case "many":
            schema["classes"], schema["class-counts"] = list(range(101)), []
        case "kind":
            reply["schema"] = MetricRecord({})
    return reply


@pytest.mark.parametrize(
    "change",
    [
        "no sum",
        "shape",
        "type",
        "nan",
        "negative",
        "count",
        "part of one",
        "long",
        "rows",
        "classes",
        "kind",
        "terminal",
        "markup",
        "no bytes",
        "many",
    ],
)
def test_a_malformed_answer_names_the_site(change: str) -> None:
    with pytest.raises(DataError, match="its statistics cannot be used") as caught:
        combine({"north": statistics(table(np.ones((2, 2)))), "south": altered(change)})
    assert caught.value.where == "south"
    assert len(caught.value.what) < 200
