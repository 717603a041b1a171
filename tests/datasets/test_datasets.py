from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest

from fedsm.datasets import Dataset, breast_cancer, heart_disease, write_channels
from fedsm.datasets.heart_disease import SHA256
from fedsm.errors import DataError
from fedsm.learning.tables import concatenate, read_csv

HEART = Path(__file__).resolve().parents[3] / "shared" / "data" / "heart"
needs_heart = pytest.mark.skipif(
    not HEART.is_dir(), reason="the heart-disease files are not on this machine"
)


def all_rows(dataset: Dataset) -> int:
    return sum(len(t.train) + len(t.validation) for t in dataset.sites.values())


def test_breast_cancer_has_unequal_sites_and_every_patient_once() -> None:
    dataset = breast_cancer()
    assert len(dataset.sites) == 4
    assert all_rows(dataset) + len(dataset.test) == 569
    sizes = [len(t.train) for t in dataset.sites.values()]
    balance = [t.train.labels.mean() for t in dataset.sites.values()]
    assert max(sizes) > 1.5 * min(sizes)
    assert max(balance) > 2 * min(balance)
    parts = [part for t in dataset.sites.values() for part in (t.train, t.validation)]
    everyone = concatenate([*parts, dataset.test])
    assert len(np.unique(everyone.features, axis=0)) == 569
    assert everyone.labels.sum() == 212  # malignant


def test_a_seed_gives_the_same_split_and_another_seed_another() -> None:
    one, same, other = breast_cancer(1), breast_cancer(1), breast_cancer(2)
    np.testing.assert_array_equal(one.test.features, same.test.features)
    assert not np.array_equal(one.test.features, other.test.features)


@needs_heart
def test_heart_disease_keeps_all_rows_of_four_hospitals() -> None:
    dataset = heart_disease(HEART, seed=3)
    assert list(dataset.sites) == ["cleveland", "hungarian", "switzerland", "va"]
    assert all_rows(dataset) == 920
    assert [len(t.train) for t in dataset.sites.values()] == [200, 194, 81, 132]
    assert len(dataset.test) == 920 - 607
    assert len(dataset.features) == 13
    everyone = concatenate([t.train for t in dataset.sites.values()] + [dataset.test])
    assert everyone.labels.sum() == 509
    assert np.isnan(everyone.features).sum() == 1759


@needs_heart
def test_an_altered_file_is_refused(tmp_path: Path) -> None:
    for hospital in SHA256:
        name = f"processed.{hospital}.data"
        (tmp_path / name).write_bytes((HEART / name).read_bytes())
    (tmp_path / "processed.va.data").write_bytes(b"1,2,3\n")
    with pytest.raises(DataError, match="is not the published file") as caught:
        heart_disease(tmp_path)
    assert "processed.va.data" in str(caught.value.where)


def test_a_missing_file_says_where_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"archive\.ics\.uci\.edu"):
        heart_disease(tmp_path)


def test_channels_read_back_and_are_the_same_bytes_each_time(tmp_path: Path) -> None:
    dataset = breast_cancer()
    folders = write_channels(dataset, tmp_path / "one")
    write_channels(dataset, tmp_path / "two")
    for site, tables in dataset.sites.items():
        back = read_csv(sorted(folders[site]["train"].iterdir()), label=dataset.label)
        assert back.columns == dataset.features
        np.testing.assert_array_equal(back.features, tables.train.features)
        np.testing.assert_array_equal(back.labels, tables.train.labels)
    digests = [
        [hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted((tmp_path / n).rglob("*.csv"))]
        for n in ("one", "two")
    ]
    assert digests[0] == digests[1]
    assert len(digests[0]) == 9
