"""Scores and their intervals, against scikit-learn, brute force and the papers."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score, brier_score_loss, roc_auc_score

from fedsm.learning import score_counts, scores

PAIRS = st.lists(st.tuples(st.booleans(), st.integers(0, 6)), min_size=2, max_size=40)


def split(pairs: list[tuple[bool, int]]) -> tuple[np.ndarray, np.ndarray]:
    positive = np.array([p for p, _ in pairs])
    assume(0 < positive.sum() < len(pairs))
    return positive, np.array([s for _, s in pairs], dtype=np.float64)


@given(PAIRS)
def test_auc_and_average_precision_are_scikit_learns(pairs: list[tuple[bool, int]]) -> None:
    positive, score = split(pairs)
    tally = scores.tally(positive, score)
    found, precision = scores.auc(*tally), scores.average_precision(*tally)
    assert found.value == pytest.approx(roc_auc_score(positive, score))
    assert precision.value == pytest.approx(average_precision_score(positive, score))
    for estimate in (found, precision):
        if not math.isnan(estimate.low):
            assert 0 <= estimate.low <= estimate.value + 1e-9 <= estimate.high + 2e-9 <= 1 + 3e-9


def kernel(positive: np.ndarray, score: np.ndarray) -> np.ndarray:
    """The Mann-Whitney kernel of every pair, positives by negatives."""
    gap = score[positive][:, np.newaxis] - score[~positive]
    return (gap > 0) + 0.5 * (gap == 0)


@given(PAIRS)
def test_the_interval_is_delongs(pairs: list[tuple[bool, int]]) -> None:
    positive, score = split(pairs)
    psi = kernel(positive, score)
    assume(min(psi.shape) > 1 and 0 < psi.mean() < 1)
    variance = psi.mean(1).var(ddof=1) / psi.shape[0] + psi.mean(0).var(ddof=1) / psi.shape[1]
    found = scores.auc(*scores.tally(positive, score))
    if variance < 1e-12:
        assert math.isnan(found.low)
        return
    value = psi.mean()
    reach = scores.Z * math.sqrt(variance) / (value * (1 - value))
    middle = math.log(value / (1 - value))
    assert found.low == pytest.approx(1 / (1 + math.exp(reach - middle)), abs=1e-9)
    assert found.high == pytest.approx(1 / (1 + math.exp(-reach - middle)), abs=1e-9)


def test_the_paired_interval_is_delongs() -> None:
    random = np.random.default_rng(3)
    positive = random.random(60) < 0.4
    ours = random.normal(size=60) + positive
    other = np.round(ours + random.normal(size=60), 1)
    first, second = kernel(positive, ours), kernel(positive, other)
    between = [np.cov(first.mean(axis), second.mean(axis)) for axis in (1, 0)]
    total = between[0] / first.shape[0] + between[1] / first.shape[1]
    spread = scores.Z * math.sqrt(total[0, 0] + total[1, 1] - 2 * total[0, 1])
    found = scores.auc_difference(positive, ours, other)
    value = first.mean() - second.mean()
    assert found.value == pytest.approx(value)
    assert (found.low, found.high) == pytest.approx((value - spread, value + spread))


def test_the_intervals_cover_as_often_as_they_say() -> None:
    random = np.random.default_rng(1)
    expected = 0.5 * (1 + math.erf(1 / 2))  # of two normal distributions one unit apart
    hits = {"delong": 0, "hanley": 0}
    for _ in range(300):
        positive = np.arange(120) < 40
        score = random.normal(size=120) + positive
        found = scores.auc(*scores.tally(positive, score))
        hits["delong"] += found.low <= expected <= found.high
        told = scores.auc_from_value(found.value, 40, 80)
        hits["hanley"] += told.low <= expected <= told.high
    assert 0.92 <= hits["delong"] / 300 <= 0.98
    assert 0.92 <= hits["hanley"] / 300 <= 0.99


def test_the_brier_score_is_scikit_learns() -> None:
    random = np.random.default_rng(0)
    for classes in (2, 3):
        y, p = random.integers(0, classes, 30), random.dirichlet(np.ones(classes), 30)
        expected = brier_score_loss(y, p[:, 1] if classes == 2 else p)
        assert scores.brier(y, p) == pytest.approx(expected)
    assert math.isnan(scores.brier(np.zeros(0, dtype=np.intp), np.zeros((0, 2))))


def test_calibration_is_a_regression_on_the_logit() -> None:
    random = np.random.default_rng(0)
    logit = random.normal(size=400) * 2
    probability = 1 / (1 + np.exp(-logit))
    outcome = (random.random(400) < 1 / (1 + np.exp(-(0.5 * logit - 0.3)))).astype(float)
    found = scores.calibration(outcome, probability)
    model = LogisticRegression(C=np.inf, tol=1e-10).fit(logit[:, np.newaxis], outcome)
    assert found.slope == pytest.approx(model.coef_[0, 0], abs=1e-4)
    assert found.intercept == pytest.approx(model.intercept_[0], abs=1e-4)
    assert 0.05 < found.error < 0.3


@pytest.mark.parametrize(("factor", "shift"), [(0.2, 4.0), (8.0, 0.0), (8.0, 4.0), (1.0, -6.0)])
def test_far_from_calibrated_there_is_a_slope(factor: float, shift: float) -> None:
    random = np.random.default_rng(2)
    logit = random.normal(size=300)
    outcome = (random.random(300) < 1 / (1 + np.exp(-logit))).astype(float)
    told = np.clip(factor * logit + shift, -27, 27)
    found = scores.calibration(outcome, 1 / (1 + np.exp(-told)))
    model = LogisticRegression(C=1e12, tol=1e-10, max_iter=10_000).fit(told[:, None], outcome)
    assert found.slope == pytest.approx(model.coef_[0, 0], abs=1e-4)
    assert found.intercept == pytest.approx(model.intercept_[0], abs=1e-4)


@pytest.mark.parametrize("outcome", [[1.0, 1.0, 1.0], [0.0, 0.0, 1.0], []])
def test_separated_rows_have_no_slope(outcome: list[float]) -> None:
    probability = np.array([0.1, 0.4, 0.9])[: len(outcome)]
    assert math.isnan(scores.calibration(np.array(outcome), probability).slope)


def test_what_ranks_one_class_is_undefined() -> None:
    positive = np.array([True, True])
    tally = scores.tally(positive, np.array([0.2, 0.3]))
    assert math.isnan(scores.auc(*tally).value)
    assert math.isnan(scores.average_precision(*tally).value)
    assert math.isnan(scores.auc_difference(positive, positive * 1.0, positive * 1.0).value)
    perfect = scores.auc(*scores.tally(np.array([True, True, False, False]), np.arange(4)[::-1]))
    assert (perfect.value, math.isnan(perfect.low)) == (1.0, True)


COUNTS = st.lists(st.integers(0, 12), min_size=2, max_size=60)


@given(COUNTS, st.integers(0, 15))
def test_gathered_counts_are_of_enough_rows(counts: list[int], smallest: int) -> None:
    given_, found = np.array(counts), score_counts.gathered(np.array(counts), smallest)
    assert not ((found > 0) & (found < smallest)).any()
    assert found.sum() == (given_.sum() if given_.sum() >= smallest else 0)
    if smallest <= 1:
        np.testing.assert_array_equal(found, given_)


@given(COUNTS, st.integers(0, 15))
def test_spreading_keeps_the_sum_and_is_never_negative(counts: list[int], smallest: int) -> None:
    found = score_counts.spread(score_counts.gathered(np.array(counts), smallest), smallest)
    assert found.min() >= 0
    gathered = score_counts.gathered(np.array(counts), smallest)
    assert found.sum() == pytest.approx(gathered.sum())


def test_bins_are_fine_near_0_and_1_and_part_at_one_half() -> None:
    edges = score_counts.edges(score_counts.BINS)
    assert edges[0] < 2e-4
    assert edges[len(edges) // 2] == pytest.approx(0.5)
    found = score_counts.histogram(np.array([0.0, 0.4999, 0.5, 1.0]), 200)
    assert np.flatnonzero(found).tolist() == [0, 99, 100, 199]
    centres = score_counts.centres(200)
    assert (score_counts.histogram(centres, 200) == 1).all()
