from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedsm.datasets import Dataset, SiteTables, breast_cancer
from fedsm.datasets.splits import (
    check_dataset,
    deal,
    row_groups,
    stratified,
    without_duplicates,
)
from fedsm.errors import DataError
from fedsm.learning.tables import Table


def table(rows: list[list[float]], labels: list[int]) -> Table:
    columns = tuple(f"x{i}" for i in range(len(rows[0])))
    return Table(columns, np.array(rows), np.array(labels, dtype=np.int64))


def test_duplicates_are_rows_with_equal_features_missing_values_and_zeros_alike() -> None:
    rows = table([[1, np.nan], [0.0, 2], [1, np.nan], [-0.0, 2], [1, 2]], [1, 0, 1, 0, 1])
    assert len(np.unique(row_groups(rows))) == 3
    kept = without_duplicates(rows, "here")
    np.testing.assert_array_equal(kept.features, [[1, np.nan], [0, 2], [1, 2]])
    assert kept.labels.tolist() == [1, 0, 1]


def test_duplicates_with_another_label_are_refused() -> None:
    with pytest.raises(DataError, match=r"^here: 1 rows equal an earlier row in every feature"):
        without_duplicates(table([[1.0], [1.0]], [0, 1]), "here")


@given(st.lists(st.integers(0, 2), max_size=60), st.floats(0, 1), st.integers(0, 9))
def test_a_stratified_split_takes_each_classs_share_once(
    labels: list[int], share: float, seed: int
) -> None:
    y = np.array(labels, dtype=np.int64)
    one, two = stratified(y, share, np.random.default_rng(seed))
    assert sorted([*one, *two]) == list(range(len(y)))
    for label in set(labels):
        assert (y[two] == label).sum() == round(share * labels.count(label))


@given(st.lists(st.integers(0, 1), min_size=1, max_size=60), st.integers(0, 9))
def test_every_row_is_dealt_to_one_site(labels: list[int], seed: int) -> None:
    y = np.array(labels, dtype=np.int64)
    shares = {"a": (0.5, 0.1), "b": (0.2, 0.9), "c": (0.3, 0.0)}
    parts = deal(y, shares, np.random.default_rng(seed))
    assert sorted(np.concatenate(list(parts.values()))) == list(range(len(y)))


def with_site(dataset: Dataset, site: str, tables: SiteTables) -> Dataset:
    return replace(dataset, sites={**dataset.sites, site: tables})


def test_a_sound_data_set_passes() -> None:
    check_dataset(breast_cancer())


def test_an_empty_site_is_named() -> None:
    dataset = breast_cancer()
    nothing = dataset.test.take(np.zeros(0, dtype=np.intp))
    with pytest.raises(DataError, match=r"^west: there is no training row"):
        check_dataset(with_site(dataset, "west", SiteTables(nothing, nothing)))


@pytest.mark.parametrize("split", ["validation", "test"])
def test_leakage_is_named_by_site_and_split(split: str) -> None:
    dataset = breast_cancer()
    north = dataset.sites["north"]
    leak = north.train.take(np.array([0, 0, 1]))
    if split == "test":
        dataset = replace(dataset, test=leak)
    else:
        dataset = with_site(dataset, "north", SiteTables(north.train, leak))
    message = rf"^north: 2 different rows stand both in train and in {split}"
    with pytest.raises(DataError, match=message):
        check_dataset(dataset)


def test_other_columns_are_named_by_site() -> None:
    dataset = breast_cancer()
    south = dataset.sites["south"]
    other = Table(tuple(reversed(south.train.columns)), south.train.features, south.train.labels)
    with pytest.raises(DataError, match=r"^south: the columns of train"):
        check_dataset(with_site(dataset, "south", SiteTables(other, south.validation)))


@pytest.mark.parametrize("labels", [[1], [0, 1, 2]])
def test_labels_that_are_not_of_two_classes_are_refused(labels: list[int]) -> None:
    dataset = breast_cancer()
    cycled = np.resize(np.array(labels, dtype=np.int64), len(dataset.test))
    with pytest.raises(DataError, match="test, column 'target'"):
        check_dataset(replace(dataset, test=replace(dataset.test, labels=cycled)))


def test_a_site_of_one_class_is_no_fault() -> None:
    dataset = breast_cancer()
    west = dataset.sites["west"]
    healthy = west.train.take(np.flatnonzero(west.train.labels == 0))
    check_dataset(with_site(dataset, "west", SiteTables(healthy, west.validation)))
