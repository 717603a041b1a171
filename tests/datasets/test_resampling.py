from __future__ import annotations

import sys
from dataclasses import replace

import numpy as np
import pytest

from fedsm.datasets import SiteTables, breast_cancer
from fedsm.datasets.resampling import Method, class_weights, resample, resample_training
from fedsm.errors import ConfigError, DataError
from fedsm.learning.tables import Table

METHODS: tuple[Method, ...] = ("smote", "undersample", "smote+undersample")


def rows(zeros: int, ones: int) -> Table:
    random = np.random.default_rng(0)
    labels = np.repeat([0, 1], [zeros, ones])
    return Table(("a", "b"), random.normal(labels[:, None], 1, (zeros + ones, 2)), labels)


@pytest.mark.parametrize(
    ("method", "each"), [("smote", 90), ("undersample", 20), ("smote+undersample", 45)]
)
def test_classes_are_of_one_size(method: Method, each: int) -> None:
    train = rows(90, 20)
    made = resample(train, method, seed=1)
    assert np.unique(made.labels, return_counts=True)[1].tolist() == [each, each]
    assert made.columns == train.columns
    np.testing.assert_array_equal(made.features, resample(train, method, seed=1).features)


def test_half_way_needs_no_making_where_the_classes_are_close() -> None:
    made = resample(rows(30, 20), "smote+undersample")
    assert np.unique(made.labels, return_counts=True)[1].tolist() == [20, 20]


@pytest.mark.parametrize("method", METHODS)
def test_only_training_rows_are_touched(method: Method) -> None:
    dataset = breast_cancer()
    made = resample_training(dataset, method, seed=1)
    assert made.test is dataset.test
    for site, tables in made.sites.items():
        assert tables.validation is dataset.sites[site].validation
        assert len(set(np.unique(tables.train.labels, return_counts=True)[1].tolist())) == 1


def test_what_smote_cannot_do_is_said_with_the_site() -> None:
    dataset = breast_cancer()
    east = dataset.sites["east"]
    holed = east.train.features.copy()
    holed[3, 5] = np.nan
    sites = {
        **dataset.sites,
        "east": SiteTables(replace(east.train, features=holed), east.validation),
    }
    name = dataset.features[5]
    with pytest.raises(DataError, match=f"^east, train: column '{name}' has missing values"):
        resample_training(replace(dataset, sites=sites), "smote")
    with pytest.raises(DataError, match="the rarer class has 5 rows, SMOTE needs 6"):
        resample(rows(50, 5), "smote")
    with pytest.raises(DataError, match="the label has 1 class, not two"):
        resample(rows(50, 0), "undersample")


def test_without_imbalanced_learn_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "imblearn.over_sampling", None)
    with pytest.raises(ConfigError, match=r"install fedsm\[imbalanced-learn\]"):
        resample(rows(9, 9), "smote")


def test_class_weights_make_classes_count_alike() -> None:
    labels = np.repeat([0, 1], [90, 10])
    weights = class_weights(labels)
    assert weights == {0: pytest.approx(100 / 180), 1: pytest.approx(5)}
    assert 90 * weights[0] == pytest.approx(10 * weights[1])
