"""Quantiles and medians of merged histograms, against those of the pooled rows."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, MetricRecord, RecordDict
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedKFold
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import QuantileTransformer

from fedsm.datasets.cms_fraud import read_cms
from fedsm.errors import ConfigError
from fedsm.learning.preparation import Summary, combine, histograms, statistics
from fedsm.learning.tables import Table
from tests.learning.inprocess import ROOT

DATA = ROOT.parent / "shared" / "data" / "cms"
BINS = 1024


def table(x: Any, labels: Any = None) -> Table:
    x = np.asarray(x, dtype=np.float64)
    x = x[:, np.newaxis] if x.ndim == 1 else x
    columns = tuple(f"x{i}" for i in range(x.shape[1]))
    return Table(columns, x, np.arange(len(x)) % 2 if labels is None else np.asarray(labels))


def parts(rows: Table, sites: int = 5, seed: int = 0) -> dict[str, Table]:
    order = np.random.default_rng(seed).permutation(len(rows))
    return {f"s{i}": rows.take(p) for i, p in enumerate(np.array_split(order, sites))}


def prepared(sites: dict[str, Table], *, bins: int = BINS, smallest: int = 1, **how: bool) -> Any:
    summary = combine({name: statistics(rows) for name, rows in sites.items()})
    asked = ConfigRecord(histograms.question(summary, bins))
    shape = len(summary.features), bins
    found = {
        name: histograms.read(histograms.histograms(rows, asked, smallest), shape)
        for name, rows in sites.items()
    }
    assert all(counts is not None for counts in found.values())
    how = {"quantile": True, "median": True, **how}
    return histograms.merge(summary, found, bins=bins, **how)  # type: ignore[arg-type]


def rank_error(x: np.ndarray, smallest: int = 1) -> float:
    """The largest difference to the ranks of scikit-learn's QuantileTransformer."""
    rows = table(x)
    expected = QuantileTransformer(n_quantiles=len(x), subsample=None).fit_transform(rows.features)
    found = prepared(parts(rows), smallest=smallest).transform(rows)
    return float(np.abs(found - expected).max())


RANDOM = np.random.default_rng(7)
SHAPES = {
    "normal": RANDOM.normal(37.0, 0.5, 4000),
    "far from zero": RANDOM.normal(2020.0, 1.0, 4000),
    "uniform": RANDOM.uniform(-3, 9, 4000),
    "heavy tail": np.exp(RANDOM.normal(5.0, 2.0, 4000)),
    "heavy tail with zeros": np.where(
        RANDOM.random(4000) < 0.4, 0.0, np.exp(RANDOM.normal(5.0, 2.0, 4000))
    ),
    "zeros in the middle": np.where(RANDOM.random(4000) < 0.5, 0.0, RANDOM.normal(0, 1, 4000)),
    "whole numbers": RANDOM.poisson(8.0, 4000).astype(float),
    "ages": np.round(RANDOM.normal(54, 9, 4000)),
    "binary": (RANDOM.random(4000) < 0.3).astype(float),
    "codes": RANDOM.choice([3.0, 7.0, 1000.0], 4000),
}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("smallest", [1, 5])
def test_ranks_are_those_of_the_pooled_rows(shape: str, smallest: int) -> None:
    assert rank_error(SHAPES[shape], smallest) < (0.004 if smallest == 1 else 0.006)


@pytest.mark.parametrize("shape", SHAPES)
def test_the_median_is_that_of_the_pooled_rows_in_rank(shape: str) -> None:
    x = SHAPES[shape]
    (found,) = prepared(parts(table(x)), quantile=False, smallest=5).fill
    below, above = (x < found).mean(), (x > found).mean()
    nearest = x[np.abs(x - found).argmin()]
    # Half of the rows on either side, or the tie in which the half lies is next to it.
    assert max(below, above) < 0.51 or nearest == np.median(x)


value = st.one_of(
    st.just(np.nan), st.just(0.0), st.integers(-3, 3).map(float), st.floats(-1e6, 1e6)
)


@settings(deadline=None, max_examples=40)
@given(
    x=hnp.arrays(np.float64, st.tuples(st.integers(4, 30), st.just(2)), elements=value),
    cut=st.integers(1, 3),
    smallest=st.integers(1, 4),
    quantile=st.booleans(),
    median=st.booleans(),
)
def test_the_models_steps_do_to_raw_rows_what_the_sites_do(
    x: np.ndarray, cut: int, smallest: int, quantile: bool, median: bool
) -> None:
    rows = table(x)
    sites = {"one": rows.take(np.arange(cut)), "two": rows.take(np.arange(cut, len(rows)))}
    summary = prepared(sites, bins=64, smallest=smallest, quantile=quantile, median=median)
    back = Summary.from_config(ConfigRecord({**summary.to_config(), "server-round": 1}))
    new = table(np.vstack([x, x[:3] * 1.7 - 1, [[np.nan, 1e9]]]))
    for made in (summary, replace(back, scaling=summary.scaling)):
        found = made.transform(new)
        assert np.isfinite(found).all()
        by_model = Pipeline(made.steps()).transform(new.rows())
        np.testing.assert_allclose(by_model, found, rtol=1e-12, atol=1e-12)
    if quantile:
        assert (np.diff(summary.quantiles, axis=0) >= 0).all()
        assert found.min() >= 0
        assert found.max() <= 1
        for before, after in zip(x.T, found[: len(x)].T, strict=True):
            known = ~np.isnan(before)
            order = np.argsort(before[known], kind="stable")
            assert (np.diff(after[known][order]) >= -1e-12).all()


@settings(deadline=None)
@given(
    x=hnp.arrays(np.float64, st.integers(0, 60), elements=value),
    smallest=st.integers(1, 12),
    bins=st.integers(16, 40),
)
def test_no_count_of_fewer_rows_leaves(x: np.ndarray, smallest: int, bins: int) -> None:
    summary = combine({"one": statistics(table(np.append(x, [0.0, 1.0])))})
    asked = histograms.question(summary, bins)
    counts = histograms.read(histograms.histograms(table(x), asked, smallest), (1, bins))
    assert counts is not None
    present = int((~np.isnan(x)).sum())
    assert not ((counts > 0) & (counts < smallest)).any()
    assert counts.sum() == (present if present >= smallest else 0)


@settings(deadline=None)
@given(
    mean=st.floats(-1e9, 1e9),
    scale=st.floats(1e-3, 1e9),
    rows=st.integers(1, 10**7),
    bins=st.integers(16, 300),
)
def test_bins_reach_as_far_as_any_value_can_be(
    mean: float, scale: float, rows: int, bins: int
) -> None:
    (edges,) = histograms.edges(np.array([mean]), np.array([scale]), rows, bins)
    assert edges.shape == (bins + 1,)
    assert (np.diff(edges) >= 0).all()
    assert 0.0 in edges
    far = scale * np.sqrt(rows)
    assert edges[0] <= mean - far * (1 - 1e-9)
    assert edges[-1] >= mean + far * (1 - 1e-9)


def test_a_feature_without_values_and_a_constant_one() -> None:
    x = np.column_stack([np.full(20, np.nan), np.full(20, 3.5)])
    summary = prepared({"one": table(x[:9]), "two": table(x[9:])})
    assert summary.transform(table(x)).tolist() == [[0.0, 0.0]] * 20
    assert summary.fill[0] == 0
    assert summary.fill[1] == pytest.approx(3.5, rel=1e-2)


@pytest.mark.parametrize("bins", [-1, 1, 15, 65_537])
def test_bins_that_no_configuration_allows_are_refused(bins: int) -> None:
    asked = {**histograms.question(combine({"one": statistics(table(np.arange(9.0)))}), 16)}
    with pytest.raises(ConfigError, match="too few or too many bins"):
        histograms.histograms(table(np.arange(9.0)), {**asked, "histogram-bins": bins}, 5)


@pytest.mark.parametrize(("mean", "scale"), [(30.0, 1e-6), (np.nan, 1.0), (30.0, np.nan), (9e9, 1)])
def test_a_view_of_some_of_the_values_is_not_given(mean: float, scale: float) -> None:
    x = np.column_stack([np.arange(60.0), np.arange(60.0)])
    question = histograms.question(combine({"one": statistics(table(x))}), 64)
    asked = dict(question)
    for key, value in (("mean", mean), ("scale", scale)):
        own = np.frombuffer(question[f"histogram-{key}"]).copy()
        own[0] = value
        asked[f"histogram-{key}"] = own.tobytes()
    with np.errstate(all="ignore"):
        counts = histograms.read(histograms.histograms(table(x), asked, 5))
    assert counts is not None
    assert counts.sum(axis=1).tolist() == [0, 60]


def test_sparse_rows_and_too_many_counts_are_refused() -> None:
    summary = combine({"one": statistics(table(np.eye(4)))})
    with pytest.raises(ConfigError, match="sparse rows have no quantiles"):
        histograms.question(replace(summary, sparse=True), 16)
    wide = replace(summary, features=tuple(map(str, range(300))))
    with pytest.raises(ConfigError, match="more than 16777216 counts") as caught:
        histograms.question(wide, 65_536)
    assert "55924 or less" in str(caught.value)


@pytest.mark.parametrize(
    "counts",
    [
        np.zeros((4, 15), dtype=np.int32),
        np.zeros((4, 16), dtype=np.int64),
        np.zeros(64, dtype=np.int32),
        np.full((4, 16), -1, dtype=np.int32),
        np.full((4, 16), 1, dtype=np.int32),
    ],
)
def test_a_malformed_answer_is_none(counts: np.ndarray) -> None:
    def reply(array: np.ndarray) -> RecordDict:
        return RecordDict(
            {
                "histograms": ArrayRecord({"counts": Array(array)}),
                "metrics": MetricRecord({"num-examples": 8}),
            }
        )

    assert histograms.read(reply(np.zeros((4, 16), dtype=np.int32)), (4, 16)) is not None
    assert histograms.read(reply(counts), (4, 16)) is None
    assert histograms.read(RecordDict({}), (4, 16)) is None


@pytest.mark.skipif(not DATA.is_dir(), reason="the CMS file is not on this machine")
def test_fraud_by_histogram_ranks_as_by_pooled_ones() -> None:
    rows = read_cms(DATA)
    scores: dict[str, list[float]] = {"histogram": [], "pooled": []}
    for train, test in StratifiedKFold(5, shuffle=True, random_state=0).split(
        rows.features, rows.labels
    ):
        known, held_out = rows.take(train), rows.take(test)
        summary = prepared(parts(known), smallest=5, median=False)
        pooled = QuantileTransformer().fit(known.features)
        for name, transform in (
            ("histogram", summary.transform),
            ("pooled", lambda t, by=pooled: by.transform(t.features)),
        ):
            model = LogisticRegression(class_weight="balanced", solver="newton-cholesky")
            model.fit(transform(known), known.labels)
            found = model.predict_proba(transform(held_out))[:, 1]
            scores[name].append(roc_auc_score(held_out.labels, found))
    histogram, by_pooled = (float(np.mean(v)) for v in scores.values())
    assert histogram >= 0.850
    assert abs(histogram - by_pooled) <= 0.002
