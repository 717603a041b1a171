"""Sparse rows train as the same rows do when they are written out and centred."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from flwr.app import ArrayRecord
from scipy import sparse

from fedsm.datasets import SiteTables
from fedsm.learning import logistic_solve
from fedsm.learning.exact_site import to_arrays, to_matrix
from fedsm.learning.models import Local
from fedsm.learning.models.logistic_regression import LogisticRegressionAdapter
from fedsm.learning.preparation import Summary, combine, statistics
from fedsm.learning.sparse_tables import SparseTable
from fedsm.learning.tables import Table
from fedsm.simulation import Simulation, simulate

MODEL = LogisticRegressionAdapter()
SITES = {"north": 40, "south": 90}


def site(seed: int, n: int, classes: int) -> tuple[SparseTable, Table]:
    """Mostly zero, but for a column like a temperature: of little spread, far from zero."""
    random = np.random.default_rng(seed)
    x = random.normal(1.0, 2.0, size=(n, 5)) * (random.random((n, 5)) < 0.3)
    x[:, 2] = random.normal(37.0, 0.7, size=n)
    score = (x - [0.3, 0.3, 37, 0.3, 0.3]) @ np.random.default_rng(9).normal(size=(5, classes))
    labels = (score + random.gumbel(size=score.shape)).argmax(axis=1)
    labels[:classes] = np.arange(classes)
    columns = tuple("abcde")
    return SparseTable(columns, sparse.csr_array(x), labels), Table(columns, x, labels)


class Form:
    """One site's view of the rows in one of the two forms."""

    def __init__(self, tables: list[Any], **local: Any) -> None:
        self.summary: Summary = combine(
            {name: statistics(table) for name, table in zip(SITES, tables, strict=True)}
        )
        self.x, self.y = self.summary.transform(tables[0]), self.summary.encode(tables[0].labels)
        config = {"class-weights": "balanced", "local-steps": 4}
        self.local = Local(self.summary, config, site="north", **local)


def forms(classes: int = 2, correction: Any = None, **local: Any) -> tuple[Form, Form]:
    """Sparse and dense; the correction is by centred points."""
    sites = [site(seed, n, classes) for seed, n in enumerate(SITES.values())]
    thin, dense = ([pair[kind] for pair in sites] for kind in (0, 1))
    centre = Form(thin).summary.centre
    assert centre is not None
    assert centre.max() > 40  # deviations
    given = [None, None] if correction is None else [pulled(correction, -centre), correction]
    return tuple(  # type: ignore[return-value]
        Form(tables, correction=None if g is None else to_arrays(g), **local)
        for tables, g in zip((thin, dense), given, strict=True)
    )


def centred(arrays: ArrayRecord, summary: Summary) -> np.ndarray:
    w, m = to_matrix(arrays), summary.centre
    return w if m is None else np.column_stack([w[:, :-1], w[:, -1] + w[:, :-1] @ m])


def uncentred(w: np.ndarray, summary: Summary) -> ArrayRecord:
    m = summary.centre
    return to_arrays(w if m is None else np.column_stack([w[:, :-1], w[:, -1] - w[:, :-1] @ m]))


def pulled(gradient: np.ndarray, centre: np.ndarray) -> np.ndarray:
    """A gradient by the point whose intercept is less ``w @ centre``."""
    return np.column_stack([gradient[:, :-1] - gradient[:, -1:] * centre, gradient[:, -1]])


def start(classes: int) -> np.ndarray:
    return np.random.default_rng(5).normal(size=(1 if classes == 2 else classes, 6)) / 3


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("added", ["nothing", "proximal", "correction"])
def test_steps_are_those_of_centred_rows(classes: int, added: str) -> None:
    w = start(classes)
    given: dict[str, Any] = {"proximal_mu": 0.5} if added == "proximal" else {}
    if added == "correction":
        given = {"correction": np.random.default_rng(6).normal(size=w.shape) / 10}
    found = [
        centred(MODEL.fit(uncentred(w, form.summary), form.x, form.y, form.local), form.summary)
        for form in forms(classes, **given)
    ]
    np.testing.assert_allclose(found[0], found[1], rtol=1e-8, atol=1e-10)
    assert np.abs(found[0] - w).max() > 0.1


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("limit", [0, 500])
@pytest.mark.parametrize("pull", [0.0, 20.0])
def test_optima_are_those_of_centred_rows(
    monkeypatch: pytest.MonkeyPatch, classes: int, limit: int, pull: float
) -> None:
    monkeypatch.setattr(logistic_solve, "NEWTON_LIMIT", limit)
    w = start(classes)
    found = [
        centred(
            MODEL.solve(uncentred(w, form.summary), form.x, form.y, form.local, pull=pull),
            form.summary,
        )
        for form in forms(classes)
    ]
    if classes == 3 and not pull:  # a constant added to all intercepts changes nothing
        for one in found:
            one[:, -1] -= one[:, -1].mean()
    np.testing.assert_allclose(found[0], found[1], atol=1e-5)


@pytest.mark.parametrize("limit", [0, 500])
def test_leaving_rows_out_is_that_of_centred_rows(
    monkeypatch: pytest.MonkeyPatch, limit: int
) -> None:
    monkeypatch.setattr(logistic_solve, "NEWTON_LIMIT", limit)
    held_out = np.arange(SITES["north"]) < 8
    found = []
    for form in forms():
        arrays = MODEL.solve(uncentred(start(2), form.summary), form.x, form.y, form.local)
        left = MODEL.without(arrays, form.x, form.y, held_out, form.local)
        found.append(centred(left, form.summary))
    np.testing.assert_allclose(found[0], found[1], atol=2e-3 if limit == 0 else 1e-6)


def test_gradients_are_by_the_arrays_that_travel() -> None:
    """So that the correction, their difference between sites, is by them too."""
    thin, dense = forms()
    gradients = [
        to_matrix(MODEL.gradient(uncentred(start(2), f.summary), f.x, f.y, f.local))
        for f in (thin, dense)
    ]
    assert thin.summary.centre is not None
    np.testing.assert_allclose(pulled(gradients[0], thin.summary.centre), gradients[1], atol=1e-12)


def run(kind: int, strategy: str) -> Simulation:
    tables: list[Any] = [site(seed, n, 2)[kind] for seed, n in enumerate(SITES.values())]
    sites = {
        name: SiteTables(table, table.take(np.arange(10)))
        for name, table in zip(SITES, tables, strict=True)
    }
    config = {"class-weights": "balanced", "local-steps": 3, "learning-rate": 1.0}
    return simulate(sites, strategy, rounds=6, hyperparameters=config)


@pytest.mark.parametrize("strategy", ["fedavg", "fedprox", "scaffold"])
def test_federations_of_both_forms_give_one_model(strategy: str) -> None:
    rows: tuple[Any, ...] = site(3, 50, 2)
    predicted = [
        run(kind, strategy).build().predict_proba(table.features)[:, 1]
        for kind, table in enumerate(rows)
    ]
    np.testing.assert_allclose(predicted[0], predicted[1], rtol=1e-6)
    assert predicted[0].std() > 0.1


def test_unscaled_rows_are_taken_as_they_are() -> None:
    thin, _ = site(0, 40, 2)
    kept = replace(combine({"north": statistics(thin)}), scaling="none")
    assert kept.centre is None
