"""What a site makes for itself: alone, and from the global model."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from flwr.app import ArrayRecord
from scipy import sparse
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from fedsm.errors import DataError
from fedsm.learning import personal
from fedsm.learning.exact_site import to_arrays, to_matrix
from fedsm.learning.models import Local, adapter
from fedsm.learning.models.logistic_regression import LogisticRegressionAdapter
from fedsm.learning.models.settings import Steps
from fedsm.learning.personal import local_only, personalize
from fedsm.learning.preparation import alone, combine, statistics
from fedsm.learning.tables import Table

MODEL = LogisticRegressionAdapter()
TRUE = np.array([2.0, -1.0, 0.5, 0.0])


@pytest.fixture(autouse=True)
def _once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(personal, "REPEATS", 1)  # for speed


def rows(seed: int, n: int, coef: np.ndarray = TRUE) -> Table:
    random = np.random.default_rng(seed)
    x = random.normal(size=(n, len(coef)))
    y = x @ coef + random.logistic(size=n) > 0
    return Table(tuple("abcd"), x, y.astype(np.int64))


def federation(site: Table, others: Table) -> tuple[Local, ArrayRecord, Any, Any]:
    """A site's view, the pooled optimum, and the site's prepared rows."""
    summary = combine({"site": statistics(site), "others": statistics(others)})
    local = Local(summary, {}, site="site")
    parts = [(summary.transform(t), summary.encode(t.labels)) for t in (site, others)]
    x, y = (np.concatenate([part[i] for part in parts]) for i in (0, 1))
    start = MODEL.initial(summary, {})
    return local, MODEL.solve(start, x, y, local), *parts[0]


def raw(n: int, seed: int = 0) -> Table:
    """Rows of other scales and places, some values missing; a feature is constant, one empty."""
    made = rows(seed, n)
    x = made.features * [1, 100, 1e-3, 5] + [0, 50, 3, -1]
    x[np.random.default_rng(seed).random(x.shape) < 0.1] = np.nan
    extra = np.column_stack([np.full(n, 7.0), np.full(n, np.nan)])
    return Table(tuple("abcdef"), np.hstack([x, extra]), made.labels)


@pytest.mark.parametrize("given", ["none", "balanced"])
def test_alone_it_gets_what_scikit_learn_gets_of_its_rows(given: str) -> None:
    site, others = raw(80), raw(300, 1)
    summary = combine({"site": statistics(site), "others": statistics(others)})
    found, own = local_only(MODEL, site, Local(summary, {"c": 0.5, "class-weights": given}), 1)
    weight = None if given == "none" else given
    model = LogisticRegression(C=0.5, tol=1e-12, max_iter=10_000, class_weight=weight)
    # As a hospital would do it: whose rows are others', does not matter.
    alone = make_pipeline(StandardScaler(), SimpleImputer(keep_empty_features=True), model)
    with pytest.warns(RuntimeWarning):  # of the feature without a value
        alone.fit(site.features, site.labels)
    np.testing.assert_allclose(
        MODEL.predict(found, own.transform(others), own, {}),
        alone.predict_proba(others.features),
        atol=1e-5,
    )


def test_alone_it_has_its_own_categories_medians_and_ranks() -> None:
    x, y = np.array([[1.0], [2.0], [9.0], [np.nan]]), np.array([0, 1, 1, 0])
    site = Table(("a",), x, y, ("kind",), np.array([["p"], ["q"], ["p"], ["q"]]))
    other = Table(("a",), x * 10, y, ("kind",), np.array([["r"], ["q"], ["r"], ["q"]]))
    summary = combine({"site": statistics(site), "other": statistics(other)})
    ranked = replace(summary, fill=np.zeros(1), scaling="quantile", quantiles=np.zeros((5, 1)))
    own = alone(site, ranked)
    assert own.vocabulary == (("p", "q"),)
    expected = np.array([[0.0, 1, 0], [0.5, 0, 1], [1, 1, 0], [0.5, 0, 1]])
    np.testing.assert_allclose(own.transform(site), expected)
    np.testing.assert_array_equal(own.transform(other)[:, 1:], [[0, 0], [0, 1], [0, 0], [0, 1]])


def test_of_one_class_there_is_no_model_alone_and_the_global_one_stays() -> None:
    site = rows(0, 40)
    local, arrays, x, _ = federation(site, rows(1, 100))
    one = np.ones(len(x), dtype=np.intp)
    with pytest.raises(DataError, match="have one class"):
        local_only(MODEL, Table(site.columns, site.features, one), local, rounds=1)
    assert personalize(MODEL, arrays, x, one, local) is arrays
    one[:9] = 0  # nor do nine rows of a class tell enough
    assert personalize(MODEL, arrays, x, one, local) is arrays


def own_of(x: Any, y: Any, local: Local) -> ArrayRecord:
    """The model of these prepared rows alone."""
    return MODEL.solve(MODEL.initial(local.summary, {}), x, y, local)


def distance(a: ArrayRecord, b: ArrayRecord) -> float:
    return float(np.linalg.norm(to_matrix(a) - to_matrix(b)))


def test_a_small_site_like_the_others_stays_near_the_global_model() -> None:
    local, arrays, x, y = federation(rows(2, 30), rows(1, 3000))
    own = own_of(x, y, local)
    mine = personalize(MODEL, arrays, x, y, local)
    assert distance(mine, arrays) < 0.5 * distance(own, arrays)


def test_a_site_of_another_kind_goes_its_own_way() -> None:
    local, arrays, x, y = federation(rows(2, 400, -TRUE), rows(1, 3000))
    own = own_of(x, y, local)
    assert distance(personalize(MODEL, arrays, x, y, local), own) < 0.1 * distance(own, arrays)


def test_it_repeats_and_leaves_what_it_was_given() -> None:
    local, arrays, x, y = federation(rows(3, 60), rows(1, 500))
    before = to_matrix(arrays)
    first, second = (personalize(MODEL, arrays, x, y, local) for _ in range(2))
    np.testing.assert_array_equal(to_matrix(first), to_matrix(second))
    np.testing.assert_array_equal(to_matrix(arrays), before)


def test_sparse_rows_give_what_dense_ones_give() -> None:
    local, arrays, x, y = federation(rows(3, 60), rows(1, 500))
    thin, dense = (
        personalize(MODEL, arrays, given, y, local) for given in (sparse.csr_array(x), x)
    )
    # Sparse rows are not centred, so the intercept is pulled to another place.
    np.testing.assert_allclose(to_matrix(thin), to_matrix(dense), atol=0.01)


@pytest.mark.parametrize("kind", [np.asarray, sparse.csr_array])
def test_far_from_the_federations_scale_it_differs_little(kind: Any) -> None:
    """The pull is in the site's own scale: another unit of an input makes no other model."""
    local, arrays, x, y = federation(rows(3, 60), rows(1, 500))
    scale = np.array([1.0, 100.0, 0.01, 1.0])
    model, other = to_matrix(arrays), x * scale
    there = to_arrays(np.column_stack([model[:, :-1] / scale, model[:, -1]]))
    local = Local(local.summary, {"c": 1e6}, site="site")  # the penalty is in the federation's
    here = to_matrix(personalize(MODEL, arrays, kind(x), y, local))
    found = to_matrix(personalize(MODEL, there, kind(other), y, local))
    np.testing.assert_allclose(found[:, :-1] * scale, here[:, :-1], atol=1e-4)


def test_what_differs_little_is_averaged() -> None:
    random = np.random.default_rng(0)
    noise = random.normal(size=(200, 1))
    weights = personal._weights(np.hstack([noise, noise, noise + 1.0]), random)
    np.testing.assert_allclose(weights, [0.5, 0.5, 0.0], atol=1e-6)


def test_the_anchor_is_what_the_federation_would_have_got_without_the_rows() -> None:
    site, others = rows(4, 100), rows(1, 300)
    local, arrays, x, y = federation(site, others)
    out = np.arange(len(y)) % 5 == 0
    z, labels = local.summary.transform(others), local.summary.encode(others.labels)
    true = MODEL.solve(
        arrays, np.vstack([x[~out], z]), np.concatenate([y[~out], labels]), local, pull=0.0
    )
    moved = distance(true, arrays)
    assert distance(MODEL.without(arrays, x, y, out, local), true) < 0.5 * moved


@pytest.mark.parametrize("name", ["sgd-classifier", "mlp-classifier"])
def test_an_adapter_that_is_not_solved_goes_some_rounds(name: str) -> None:
    site, others = rows(5, 60, -TRUE), rows(1, 60)
    summary = combine({"site": statistics(site), "others": statistics(others)})
    model, config = adapter(name), {"learning-rate": 0.1, "epochs": 2}
    local = Local(summary, config, {"server-round": 1}, site="site")
    x, y = summary.transform(site), summary.encode(site.labels)
    z, labels = summary.transform(others), summary.encode(others.labels)
    arrays = model.initial(summary, config)
    for _ in range(3):
        arrays = model.fit(arrays, z, labels, local)

    def right(found: ArrayRecord) -> float:
        return float((model.predict(found, x, summary, config).argmax(axis=1) == y).mean())

    assert right(arrays) < 0.5  # the others' model is wrong here
    assert right(personalize(model, arrays, x, y, local, rounds=4)) > 0.7


def test_each_round_of_its_own_draws_other_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    site = rows(6, 200)
    summary, model = combine({"site": statistics(site)}), adapter("mlp-classifier")
    config = {"local-steps": 1, "batch-size": 20}
    local = Local(summary, config, {"server-round": 40}, site="site")
    drawn: list[Any] = []
    batches = Steps.batches

    def seen(self: Steps, n: int, random: np.random.Generator) -> Iterator[Any]:
        for batch in batches(self, n, random):
            drawn.append(batch)
            yield batch

    monkeypatch.setattr(Steps, "batches", seen)
    local_only(model, site, local, rounds=8)
    assert len(np.unique(np.concatenate(drawn))) > 100
    drawn.clear()
    x, y = summary.transform(site), summary.encode(site.labels)
    personal._candidates(model, model.initial(summary, config), x, y, local, rounds=8)
    assert len(np.unique(np.concatenate(drawn[:8]))) > 100


def test_balanced_alone_it_weighs_the_classes_that_it_has() -> None:
    site, others = rows(7, 90), rows(8, 60)
    site = replace(site, labels=np.where(np.arange(90) % 3 == 0, 0, 2 * site.labels))
    others = replace(others, labels=np.arange(60) % 3)
    summary = combine({"site": statistics(site), "others": statistics(others)})
    found, own = local_only(MODEL, site, Local(summary, {"class-weights": "balanced"}), 1)
    z = StandardScaler().fit_transform(site.features)
    model = LogisticRegression(tol=1e-12, max_iter=10_000, class_weight="balanced")
    p = MODEL.predict(found, own.transform(site), own, {})
    # The class without a row still has logits: of two classes' a softmax over three is another.
    assert (p.argmax(axis=1) == model.fit(z, site.labels).predict(z)).mean() > 0.95
    weights = 90 / (2 * np.bincount(site.labels, minlength=3)[[0, 2]])
    given = f"0:{weights[0]},2:{weights[1]}"
    same, _ = local_only(MODEL, site, Local(summary, {"class-weights": given}), 1)
    np.testing.assert_allclose(to_matrix(found), to_matrix(same), atol=1e-9)


def test_many_coefficients_are_solved_without_a_hessian() -> None:
    random = np.random.default_rng(0)
    x = sparse.random_array((60, 700), density=0.05, rng=random, format="csr")
    y = random.integers(0, 2, 60)
    table = Table(tuple(f"f{i}" for i in range(700)), x.toarray(), y)
    local = Local(combine({"a": statistics(table)}), {"c": 0.1})
    start = to_arrays(np.zeros((1, 701)))
    found = MODEL.solve(start, sparse.csr_array(x), y, local)
    other = LogisticRegression(C=0.1, tol=1e-10, max_iter=10_000).fit(x.toarray(), y)
    np.testing.assert_allclose(to_matrix(found)[:, :-1], other.coef_, atol=1e-4)
