"""Categories: what a site tells of them, and the columns that they become."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from flwr.app import ConfigRecord
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.pipeline import Pipeline

from fedsm.errors import DataError
from fedsm.learning.preparation import Summary, categories, combine, statistics
from fedsm.learning.site_app import tabular_app
from fedsm.learning.tables import Table
from fedsm.simulation import simulate

NAMES = ("cp", "sex")


def table(numbers: Any, texts: Any) -> Table:
    x = np.asarray(numbers, dtype=np.float64)
    return Table(
        ("age", "chol")[: x.shape[1]],
        x,
        np.arange(len(x)) % 2,
        NAMES,
        np.array(texts, dtype=np.str_).reshape(len(x), len(NAMES)),
    )


def prepared(sites: dict[str, Table], smallest: int = 1) -> Summary:
    summary = combine({name: statistics(rows) for name, rows in sites.items()})
    found = {
        name: categories.read(categories.categories(rows, smallest), NAMES)
        for name, rows in sites.items()
    }
    assert all(v is not None for v in found.values())
    return categories.merge(summary, found)  # type: ignore[arg-type]


def rows(cp: str, sex: str, count: int) -> Table:
    return table(np.arange(2 * count).reshape(count, 2), [[cp, sex]] * count)


def test_the_vocabulary_is_the_union_and_unknown_or_missing_is_zero() -> None:
    north = table([[1.0, 2.0]] * 3 + [[3.0, np.nan]] * 3, [["1", "m"]] * 3 + [["2", "f"]] * 3)
    south = table([[5.0, 2.0]] * 4, [["4", "f"]] * 3 + [["", "f"]])
    summary = prepared({"north": north, "south": south}, smallest=3)
    assert summary.inputs == ("age", "chol", "cp_1", "cp_2", "cp_4", "sex_f", "sex_m")
    new = table([[1.0, 2.0]] * 3, [["4", "m"], ["9", "f"], ["", ""]])
    np.testing.assert_array_equal(
        summary.transform(new)[:, 2:], [[0, 0, 1, 0, 1], [0, 0, 0, 1, 0], [0, 0, 0, 0, 0]]
    )


def test_what_few_rows_of_a_site_have_stays_there_and_is_known_from_elsewhere() -> None:
    north = table([[1.0]] * 9, [["a", "m"]] * 5 + [["b", "m"]] * 4)
    answer = categories.categories(north, 5)
    assert categories.read(answer) == {"cp": {"a": 5}, "sex": {"m": 9}}
    south = table([[1.0]] * 5, [["b", "m"]] * 5)
    summary = prepared({"north": north, "south": south}, smallest=5)
    assert summary.vocabulary == (("a", "b"), ("m",))
    assert summary.transform(north)[5:, 1:].tolist() == [[0, 1, 1]] * 4


texts = st.sampled_from(["", "1", "2", "other", "é x"])
number = st.one_of(st.just(np.nan), st.floats(-1e3, 1e3))


@settings(deadline=None, max_examples=40)
@given(
    drawn=st.lists(st.tuples(number, number, texts, texts), min_size=2, max_size=12),
    fresh=st.lists(st.tuples(number, number, texts, texts), max_size=5),
    width=st.integers(0, 2),
    smallest=st.integers(1, 3),
    scaling=st.sampled_from(["standardize", "none"]),
)
def test_the_models_steps_do_to_raw_rows_what_the_sites_do(
    drawn: list[Any], fresh: list[Any], width: int, smallest: int, scaling: str
) -> None:
    def made(given: list[Any]) -> Table:
        x = np.array([r[:width] for r in given], dtype=np.float64).reshape(len(given), width)
        return table(x, [r[2:] for r in given])

    train, new = made(drawn), made([*fresh, drawn[0]])
    summary = replace(prepared({"one": train}, smallest), scaling=scaling)
    summary = Summary.from_config(ConfigRecord(summary.to_config()))
    if not summary.inputs:
        return
    by_model = Pipeline(summary.steps())
    for rows in (train, new):
        x = summary.transform(rows)
        assert x.shape == (len(rows), len(summary.inputs))
        np.testing.assert_allclose(by_model.transform(rows.rows()), x, rtol=1e-12, atol=1e-12)
    prepare = by_model.named_steps["prepare"]
    if not summary.features:
        names = prepare.get_feature_names_out([*summary.features, *NAMES])
        assert [n.removeprefix("categories__") for n in names] == list(summary.inputs)


@given(
    st.lists(st.tuples(texts, texts), min_size=1, max_size=60),
    st.integers(1, 12),
)
def test_no_category_of_fewer_rows_leaves(drawn: list[tuple[str, str]], smallest: int) -> None:
    site = table(np.zeros((len(drawn), 0)), drawn)
    found = categories.read(categories.categories(site, smallest), NAMES)
    assert found is not None
    for column, name in zip(site.texts.T, NAMES, strict=True):
        counts = dict(zip(*np.unique(column[column != ""], return_counts=True), strict=True))
        assert set(found[name]) == {v for v, n in counts.items() if n >= smallest}
        assert all(n == counts[v] for v, n in found[name].items())


def test_too_many_or_too_long_categories_name_the_column() -> None:
    many = table([[1.0]] * 1001, [[str(i), "m"] for i in range(1001)])
    with pytest.raises(DataError, match="column 'cp' has more than 1000"):
        categories.categories(many, 1)
    assert categories.read(categories.categories(many, 2), NAMES) == {"cp": {}, "sex": {"m": 1001}}
    long = table([[1.0]], [["x" * 65, "m"]])
    with pytest.raises(DataError, match="column 'cp'") as caught:
        categories.categories(long, 1)
    assert "xxx" not in str(caught.value)
    halves = {name: {"cp": {f"{name}{i}": 5 for i in range(600)}, "sex": {}} for name in ("a", "b")}
    with pytest.raises(DataError, match="'cp' has 1200 categories over all sites, 600 at a alone"):
        categories.merge(combine({"one": statistics(rows("1", "m", 4))}), halves)


def test_a_site_with_too_many_of_its_own_goes_where_enough_stay() -> None:
    honest = {"cp": {f"c{i}": 5 for i in range(900)}, "sex": {"m": 9}}
    sites = {"a": honest, "b": honest, "odd": {"cp": {f"x{i}": 5 for i in range(200)}, "sex": {}}}
    (left,) = categories.excess(sites, 2).items()
    assert left[0] == "odd"
    assert left[1].startswith("200 categories of column 'cp' are its own alone")
    assert categories.excess(sites, 3) == {}
    sites["odd"] = {"cp": {f"x{i}": 5 for i in range(100)}}  # just as many as are taken
    assert categories.excess(sites, 2) == {}


@pytest.mark.parametrize(
    "change",
    [
        {"column": ["cp"]},
        {"column": ["cp", "cp"], "category": ["a", "a"], "rows": [2, 2]},
        {"column": ["no"], "category": ["a"], "rows": [2]},
        {"column": ["cp"], "category": ["x" * 65], "rows": [2]},
        {"column": ["cp"], "category": ["a\nb"], "rows": [2]},
        {"column": ["cp"], "category": [""], "rows": [2]},
        {"column": ["cp"], "category": ["a"], "rows": [-1]},
        {"column": ["cp"], "category": ["a"], "rows": ["5"]},
        {"column": "cp"},
    ],
)
def test_a_malformed_answer_is_none(change: dict[str, Any]) -> None:
    reply = categories.categories(rows("1", "m", 4), 1)
    assert categories.read(reply, NAMES) == {"cp": {"1": 4}, "sex": {"m": 4}}
    reply["categories"].update(change)
    assert categories.read(reply, NAMES) is None


def test_sites_must_agree_on_what_is_a_category() -> None:
    other = Table(("age", "chol", "cp", "sex"), np.ones((2, 4)), np.array([0, 1]))
    with pytest.raises(DataError, match="other ones hold categories") as caught:
        combine({"north": statistics(rows("1", "m", 4)), "south": statistics(other)})
    assert caught.value.where == "south"
    summary = prepared({"north": rows("1", "m", 4)})
    with pytest.raises(DataError, match="other ones hold categories"):
        summary.transform(other)


def test_a_site_of_made_up_categories_does_not_end_the_run() -> None:
    table = rows("1", "m", 20)
    sites = {name: SimpleNamespace(train=table, validation=table) for name in ("a", "b", "odd")}

    def app(train: Any, validation: Any) -> Any:
        inner = tabular_app(train, validation)

        def call(message: Any, context: Any) -> Any:
            reply = inner(message, context)
            asked = message.metadata.message_type == "query.categories"
            if asked and context.node_config["site"] == "odd":
                many = [f"x{i}" for i in range(1000)]
                reply.content["categories"] = ConfigRecord(
                    {"column": ["sex"] * 1000, "category": many, "rows": [20] * 1000}
                )
            return reply

        return call

    found = simulate(sites, "fedavg", rounds=1, make_app=app, min_sites=2)
    assert found.summary is not None
    assert found.summary.vocabulary == (("1",), ("m",))
