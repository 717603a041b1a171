"""What may leave a job of categories and histograms, whatever the app answers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, MetricRecord, RecordDict
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fedsm.client.release import Release, Released
from fedsm.errors import DataError
from fedsm.learning.preparation import categories, histograms, statistics
from fedsm.learning.tables import Table
from fedsm.transport.notes import Withheld

TERMS = Release(frozenset({"num-examples"}), 10)
OPEN = Release()


def answered(record: str, value: Any, rows: Any, terms: Release = TERMS) -> Released:
    metrics = MetricRecord({"num-examples": rows})
    return terms.of(f"query.{record}", {}, RecordDict({record: value, "metrics": metrics}))


def of_categories(found: dict[str, dict[str, int]], rows: int, terms: Release = TERMS) -> Released:
    return answered(
        "categories", categories.answer(found, rows, counted=True)["categories"], rows, terms
    )


def of_histograms(counts: Any, rows: int, terms: Release = TERMS) -> Released:
    answer = histograms.answer(np.asarray(counts), rows)["histograms"]
    return answered("histograms", answer, rows, terms)


def test_a_category_of_few_rows_stays_and_no_number_leaves() -> None:
    drawn = {"cp": {"a": 50, "b": 41, "rare": 9}, "sex": {"f": 60, "m": 40}}
    found = of_categories(drawn, 100)
    assert categories.read(found.content) == {"cp": {"a": 0, "b": 0}, "sex": {"f": 0, "m": 0}}
    assert list(found.content["categories"]) == ["column", "category"]
    assert found.withheld == Withheld(parts=("categories of cp",))
    everything = of_categories(drawn, 100, OPEN)
    assert list(everything.content["categories"]) == ["column", "category"]
    assert not everything.withheld


def test_small_counts_of_a_histogram_are_merged() -> None:
    found = of_histograms([[4, 0, 7, 10, 2], [0, 9, 0, 0, 0], [0, 23, 0, 0, 0]], 23)
    counts = histograms.read(found.content)
    assert counts is not None
    assert counts.tolist() == [[0, 0, 11, 12, 0], [0] * 5, [0, 23, 0, 0, 0]]
    assert found.withheld == Withheld(parts=("small counts in histograms",))
    assert not of_histograms([[0, 12, 11]], 23).withheld


@settings(deadline=None)
@given(
    counts=hnp.arrays(np.int64, st.tuples(st.integers(1, 3), st.integers(1, 12)),
                      elements=st.integers(0, 15)),
    smallest=st.integers(0, 20),
)  # fmt: skip
def test_no_count_below_the_owners_leaves_in_a_histogram(counts: Any, smallest: int) -> None:
    rows = max(1, int(counts.sum(axis=1).max()), smallest)
    terms = Release(frozenset({"num-examples"}), smallest)
    left = histograms.read(of_histograms(counts, rows, terms).content)
    assert left is not None
    assert not ((left > 0) & (left < smallest)).any()
    for before, after in zip(counts, left, strict=True):
        assert after.sum() in (0, before.sum())
        assert (after.sum() == 0) == (before.sum() < max(smallest, 1))


@given(
    found=st.dictionaries(
        st.sampled_from(["cp", "sex"]),
        st.dictionaries(st.sampled_from("abcd"), st.integers(0, 30), max_size=4),
    ),
    smallest=st.integers(0, 20),
    counted=st.booleans(),
)
def test_no_category_below_the_owners_number_leaves(
    found: dict[str, dict[str, int]], smallest: int, counted: bool
) -> None:
    terms = Release(frozenset({"num-examples"}), smallest)
    record = categories.answer(found, 100, counted=counted)["categories"]
    left = categories.read(answered("categories", record, 100, terms).content)
    assert left is not None
    for name, counts in found.items():
        enough = {v for v, n in counts.items() if n >= max(smallest, 1)}
        assert set(left.get(name, {})) == (enough if counted else set())


@pytest.mark.parametrize(
    "record",
    [
        ConfigRecord({"column": ["cp"], "category": ["Jane Roe " * 10], "rows": [20]}),
        ConfigRecord({"column": ["cp"], "category": ["a"], "rows": [20], "note": "Jane Roe"}),
        ConfigRecord({"note": "Jane Roe"}),
        MetricRecord({"Jane Roe": 20}),
    ],
)
def test_what_is_no_answer_about_categories_stays(record: Any) -> None:
    for terms in (TERMS, OPEN):
        found = answered("categories", record, 20, terms)
        if terms is TERMS or not isinstance(record, MetricRecord):
            assert "Jane" not in repr(found.content)


@pytest.mark.parametrize(
    "array",
    [
        np.array([["Jane"]]),
        np.full((1, 2), 20.0),
        np.full((1, 2), 20, dtype=np.int64),
        np.full(2, 10, dtype=np.int32),
        np.full((1, 2), 11, dtype=np.int32),
    ],
)
def test_what_is_no_histogram_stays(array: Any) -> None:
    found = answered("histograms", ArrayRecord({"counts": Array(array)}), 20)
    assert not found.content.array_records
    further = ArrayRecord({"counts": Array(np.full((1, 2), 10, dtype=np.int32)),
                           "more": Array(np.array(["Jane"]))})  # fmt: skip
    assert list(answered("histograms", further, 20).content["histograms"]) == ["counts"]


@pytest.mark.parametrize(
    "classes", [[f"patient {i}" for i in range(101)], ["a", "x" * 65], ["a", "\x1b[2J"], [0.5, 1.5]]
)
@pytest.mark.parametrize("terms", [TERMS, OPEN])
def test_a_label_that_tells_rows_apart_does_not_leave(classes: list[Any], terms: Release) -> None:
    reply = statistics(Table(("x",), np.arange(60.0)[:, np.newaxis], np.arange(60) % 2))
    assert terms.of("query.statistics", {}, reply).content.config_records["schema"]["classes"]
    reply.config_records["schema"]["classes"] = classes
    found = terms.of("query.statistics", {}, reply)
    assert list(found.content) == ["metrics"]
    assert found.withheld == Withheld(parts=("classes",))


def test_a_site_refuses_a_label_of_many_classes() -> None:
    with pytest.raises(DataError, match="more than 100 classes") as caught:
        statistics(Table(("x",), np.zeros((101, 1)), np.arange(101)))
    assert caught.value.where == "label"


@pytest.mark.parametrize(("few", "leaves"), [(1, False), (9, False), (10, True), (0, True)])
@pytest.mark.parametrize(("usual", "other"), [(0.0, 37.5), (1.0, 2.0), (0.0, 1.0)])
def test_a_column_that_is_alike_in_all_rows_but_few_stays(
    few: int, leaves: bool, usual: float, other: float
) -> None:
    column = np.where(np.arange(500) < few, other, usual)
    spread = np.random.default_rng(0).normal(size=500)
    rows = Table(("of-few", "of-many"), np.column_stack([column, spread]), np.arange(500) % 2)
    found = TERMS.of("query.statistics", {}, statistics(rows))
    count = found.content.array_records["statistics"]["count"].numpy()
    assert count.tolist() == [500.0 if leaves else 0.0, 500.0]
    assert set(found.content.array_records["statistics"]) == {"count", "sum", "squares"}
    assert found.withheld.parts == (() if leaves else ("statistics of of-few",))
