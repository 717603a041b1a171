"""Sparse rows: statistics over what is stored, scaled without centring, never written out."""

from __future__ import annotations

import time
import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
from flwr.app import ConfigRecord
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.sparse import csr_array, issparse, random_array
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler

from fedsm.client.release import Release
from fedsm.errors import DataError
from fedsm.learning.preparation import Summary, combine, statistics
from fedsm.learning.sparse_tables import SparseTable
from fedsm.learning.tables import Table


def table(x: np.ndarray) -> SparseTable:
    columns = tuple(f"x{i}" for i in range(x.shape[1]))
    return SparseTable(columns, csr_array(x.astype(np.float32)), np.arange(len(x)) % 2)


value = st.one_of(st.just(0.0), st.floats(-1e3, 1e3, width=32))


@settings(deadline=None, max_examples=50)
@given(
    x=hnp.arrays(np.float64, st.tuples(st.integers(4, 12), st.integers(1, 4)), elements=value),
    cut=st.integers(1, 3),
    scaling=st.sampled_from(["standardize", "none"]),
)
def test_sparse_rows_are_prepared_as_dense_ones_uncentred(
    x: np.ndarray, cut: int, scaling: str
) -> None:
    rows = table(x)
    sites = {"one": rows.take(np.arange(cut)), "two": rows.take(np.arange(cut, len(rows)))}
    summary = combine({name: statistics(part) for name, part in sites.items()})
    dense = Table(rows.columns, rows.rows().toarray(), rows.labels)
    halves = {"one": dense.take(np.arange(cut)), "two": dense.take(np.arange(cut, len(x)))}
    same = combine({name: statistics(part) for name, part in halves.items()})
    np.testing.assert_allclose(summary.mean, same.mean, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(summary.scale, same.scale, rtol=1e-6, atol=1e-6)
    summary = replace(summary, scaling=scaling)
    summary = Summary.from_config(ConfigRecord(summary.to_config()))
    found = summary.transform(rows)
    assert issparse(found)
    assert found.dtype == np.float64
    assert found.nnz == rows.features.nnz
    scaled = dense.features / (1.0 if scaling == "none" else summary.scale)
    np.testing.assert_allclose(found.toarray(), scaled, rtol=1e-12)
    steps = summary.steps()
    by_model = Pipeline(steps).transform(rows.rows()) if steps else rows.rows()
    np.testing.assert_allclose(by_model.toarray(), found.toarray(), rtol=1e-12)


def test_the_scale_is_scikit_learns() -> None:
    rows = table(np.random.default_rng(0).poisson(0.2, size=(300, 20)).astype(float))
    parts = {f"s{i}": rows.take(np.arange(i, 300, 3)) for i in range(3)}
    summary = combine({name: statistics(part) for name, part in parts.items()})
    expected = StandardScaler(with_mean=False).fit(rows.rows())
    np.testing.assert_allclose(summary.scale, expected.scale_, rtol=1e-10)
    np.testing.assert_allclose(
        summary.transform(rows).toarray(), expected.transform(rows.rows()).toarray(), rtol=1e-10
    )


def test_values_stored_twice_are_added_and_stored_zeros_are_zero() -> None:
    twice = csr_array((np.array([1, 2, 0], dtype=np.float32), [0, 0, 1], [0, 2, 3]), shape=(2, 2))
    answer = statistics(SparseTable(("a", "b"), twice, np.array([0, 1])))
    arrays = answer.array_records["statistics"]
    assert arrays["sum"].numpy().tolist() == [3.0, 0.0]
    assert arrays["stored"].numpy().tolist() == [1.0, 0.0]
    assert twice.nnz == 3


def test_sparse_and_dense_sites_do_not_mix() -> None:
    rows = table(np.eye(4))
    dense = Table(rows.columns, rows.rows().toarray(), rows.labels)
    with pytest.raises(DataError, match="sparse") as caught:
        combine({"north": statistics(dense), "south": statistics(rows)})
    assert caught.value.where == "south"
    summary = combine({"north": statistics(rows)})
    with pytest.raises(DataError, match="sparse here or elsewhere"):
        summary.transform(dense)


def test_statistics_of_few_stored_values_stay() -> None:
    x = np.zeros((40, 4))
    x[:9, 0] = np.linspace(1, 2, 9)
    x[:10, 1] = np.linspace(1, 2, 10)
    x[:31, 2] = 1
    terms = Release(frozenset({"num-examples"}), 10)
    found = terms.of("query.statistics", {}, statistics(table(x)))
    arrays = found.content.array_records["statistics"]
    assert list(arrays) == ["count", "sum", "squares"]
    assert arrays["count"].numpy().tolist() == [0, 40, 0, 40]
    assert found.withheld.parts == ("statistics of x0", "statistics of x2")
    summary = combine({"one": found.content})
    assert summary.sparse
    assert summary.scale[0] == 1


def test_as_wide_as_the_intensive_care_rows() -> None:
    rows, width = 1000, 22_100
    x = random_array(
        (rows, width), density=0.045, format="csr", dtype=np.float32, rng=np.random.default_rng(0)
    )
    wide = SparseTable(tuple(f"x{i}" for i in range(width)), csr_array(x), np.arange(rows) % 2)
    terms = Release(frozenset({"num-examples"}), 10)
    tracemalloc.start()
    began = time.process_time()
    answers = {
        site: terms.of("query.statistics", {}, statistics(part)).content
        for site, part in (("a", wide), ("b", wide))
    }
    summary = Summary.from_config(ConfigRecord(combine(answers).to_config()))
    assert summary.transform(wide).nnz == x.nnz
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert time.process_time() - began < 10
    assert peak < rows * width * 8 / 4
    size = sum(len(v) for v in summary.to_config().values() if isinstance(v, bytes))
    assert size == 2 * 8 * width
