from __future__ import annotations

import hashlib
import importlib
from pathlib import Path

import numpy as np
import pytest

from fedsm.datasets.splits import row_groups
from fedsm.errors import DataError
from fedsm.learning.tables import concatenate, read_csv

# The package's name of it is the function.
cms = importlib.import_module("fedsm.datasets.cms_fraud")

CMS = Path(__file__).resolve().parents[3] / "shared" / "data" / "cms"
needs_cms = pytest.mark.skipif(not CMS.is_dir(), reason="the CMS file is not on this machine")


@needs_cms
def test_duplicates_are_removed_and_all_of_them_are_fraud() -> None:
    published = read_csv([CMS / cms.FILE], label=cms.LABEL)
    table = cms.read_cms(CMS)
    assert (len(published), int(published.labels.sum())) == (5500, 500)
    assert (len(table), int(table.labels.sum())) == (5462, 462)
    assert table.columns == cms.FEATURES
    assert len(np.unique(row_groups(table))) == len(table)


@needs_cms
@pytest.mark.parametrize("sites", ["iid", "skewed"])
def test_every_provider_is_in_one_split_of_one_site(sites: cms.Sites) -> None:
    dataset = cms.cms_fraud(CMS, seed=3, sites=sites)
    parts = [part for t in dataset.sites.values() for part in (t.train, t.validation)]
    everyone = concatenate([*parts, dataset.test])
    assert len(everyone) == 5462
    assert len(np.unique(row_groups(everyone))) == 5462
    assert len(dataset.test) == 1092
    assert dataset.test.labels.mean() == pytest.approx(462 / 5462, abs=1e-3)
    for tables in dataset.sites.values():
        shares = [part.labels.mean() for part in (tables.train, tables.validation)]
        assert shares[0] == pytest.approx(shares[1], abs=0.01)


@needs_cms
def test_skewed_sites_differ_in_size_and_prevalence_and_iid_sites_do_not() -> None:
    prevalence = {
        sites: [t.train.labels.mean() for t in cms.cms_fraud(CMS, sites=sites).sites.values()]
        for sites in ("iid", "skewed")
    }
    assert np.ptp(prevalence["iid"]) < 0.002
    assert max(prevalence["skewed"]) > 5 * min(prevalence["skewed"])


@needs_cms
def test_a_seed_gives_the_same_split_and_another_seed_another() -> None:
    one, same, other = cms.cms_fraud(CMS, 1), cms.cms_fraud(CMS, 1), cms.cms_fraud(CMS, 2)
    np.testing.assert_array_equal(one.test.features, same.test.features)
    np.testing.assert_array_equal(
        one.sites["west"].train.features, same.sites["west"].train.features
    )
    assert not np.array_equal(one.test.features, other.test.features)


def altered(folder: Path, old: str, new: str, count: int = 1) -> Path:
    """A small file of the published schema, with one thing changed."""
    header = ",".join([cms.LABEL, *cms.FEATURES])
    rows = [",".join([str(i % 2), "1", *["7.25"] * 47, str(i)]) for i in range(8)]
    text = "\n".join([header, *rows]) + "\n"
    assert old in text
    (folder / cms.FILE).write_text(text.replace(old, new, count))
    return folder


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("bene_count_mean", "patients", "lacks column 'bene_count_mean'"),
        (cms.LABEL, "fraud", "has no label column 'fraudulent_provider'"),
        ("7.25", "seven", "column 'tot_suplrs_standard_deviation' is not a number in line 2"),
        ("7.25", "-7.25", "column 'tot_suplrs_standard_deviation' has a negative value"),
        ("7.25", "", "column 'tot_suplrs_standard_deviation' has a missing value"),
        ("0,1,7", "0,2,7", "column 'female' has a value over 1"),
        ("0,1,7", "2,1,7", "the label has 3 classes, not two"),
        ("7.25", "7.5", "is not the published file"),
    ],
)
def test_what_is_wrong_with_a_file_is_said(
    tmp_path: Path, old: str, new: str, message: str
) -> None:
    with pytest.raises(DataError) as caught:
        cms.read_cms(altered(tmp_path, old, new))
    assert message in str(caught.value)
    assert cms.FILE in str(caught.value.where)
    assert "7.5" not in str(caught.value)
    assert "seven" not in str(caught.value)


def test_one_class_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="the label has 1 class, not two"):
        cms.read_cms(altered(tmp_path, "\n0,1", "\n1,1", count=8))


def test_a_missing_file_says_where_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="aws-samples/wwps-payment-integrity-solutions"):
        cms.read_cms(tmp_path)


@needs_cms
def test_the_digest_is_of_the_file_that_the_sources_name() -> None:
    assert hashlib.sha256((CMS / cms.FILE).read_bytes()).hexdigest() == cms.SHA256
