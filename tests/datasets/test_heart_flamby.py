from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fedsm.datasets.heart_flamby import FEATURES, heart_flamby
from fedsm.learning.tables import concatenate

HEART = Path(__file__).resolve().parents[3] / "shared" / "data" / "heart"
needs_heart = pytest.mark.skipif(
    not HEART.is_dir(), reason="the heart-disease files are not on this machine"
)


@needs_heart
def test_it_has_flambys_rows_and_columns() -> None:
    dataset = heart_flamby(HEART)
    assert [len(t.train) + len(t.validation) for t in dataset.sites.values()] == [303, 261, 46, 130]
    assert [len(t.train) for t in dataset.sites.values()] == [199, 172, 30, 85]
    assert len(FEATURES) == 13
    assert not {"slope", "ca", "thal", "cp", "restecg"} & set(FEATURES)
    for tables in dataset.sites.values():
        assert not np.isnan(tables.train.features).any()


@needs_heart
def test_categories_become_one_column_each_but_the_first() -> None:
    dataset = heart_flamby(HEART)
    rows = concatenate([part for t in dataset.sites.values() for part in (t.train, t.validation)])
    column = dict(zip(rows.columns, rows.features.T, strict=True))
    chest = [column[f"cp_{value}"] for value in (2, 3, 4)]
    assert set(np.unique(chest)) == {0.0, 1.0}
    assert np.sum(chest, axis=0).max() == 1
    # Counted among the 740 patients with awk.
    assert [int(column[name].sum()) for name in FEATURES[-5:]] == [150, 161, 392, 120, 175]


@needs_heart
def test_splits_are_stratified_where_they_can_be() -> None:
    sites = heart_flamby(HEART, seed=7).sites
    for hospital in ("cleveland", "hungarian", "va"):
        shares = [t.labels.mean() for t in (sites[hospital].train, sites[hospital].validation)]
        assert shares[0] == pytest.approx(shares[1], abs=0.02)


@needs_heart
def test_a_seed_gives_the_same_split_and_another_seed_another() -> None:
    one, same, other = (heart_flamby(HEART, seed).test.features for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, same)
    assert not np.array_equal(one, other)
