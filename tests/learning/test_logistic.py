from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from fedsm.errors import ConfigError
from fedsm.learning import logistic
from fedsm.learning.logistic import Settings
from fedsm.learning.logistic_share import Share

Site = tuple[np.ndarray, np.ndarray]


def rows(seed: int, n: int, classes: int = 2, features: int = 4) -> Site:
    random = np.random.default_rng(seed)
    x = random.normal(size=(n, features)) + 0.3 * seed
    score = x @ np.random.default_rng(99).normal(size=(features, classes))
    return x, (score + random.gumbel(size=score.shape)).argmax(axis=1)


def start(classes: int = 2, features: int = 4) -> LogisticRegression:
    model = LogisticRegression()
    logistic.set_parameters(model, logistic.initial_parameters(features, classes), classes)
    return model


def federate(sites: list[Site], settings: Settings, rounds: int, classes: int = 2) -> np.ndarray:
    """Federated averaging by hand; returns coefficients and intercepts side by side."""
    total = sum(len(y) for _, y in sites)
    model = start(classes)
    w = np.column_stack([model.coef_, model.intercept_])
    for _ in range(rounds):
        mean = np.zeros_like(w)
        for x, y in sites:
            model = start(classes)
            model.coef_, model.intercept_ = w[:, :-1], w[:, -1]
            logistic.fit(model, Share(x, y, settings.inverse_penalty, total), settings)
            mean += np.column_stack([model.coef_, model.intercept_]) * len(y) / total
        w = mean
    return w


@pytest.mark.parametrize("c", [0.01, 1.0])
@pytest.mark.parametrize("classes", [2, 3])
def test_single_steps_of_unequal_sites_reach_scikit_learns_pooled_optimum(
    c: float, classes: int
) -> None:
    """Holds only if the penalty is shared out as the module says."""
    sites = [rows(0, 15, classes), rows(1, 60, classes), rows(2, 120, classes)]
    w = federate(sites, Settings(c=c, local_steps=1, learning_rate=1.0), 600, classes)
    pooled = LogisticRegression(C=c, tol=1e-10, max_iter=10_000)
    pooled.fit(np.vstack([x for x, _ in sites]), np.concatenate([y for _, y in sites]))
    np.testing.assert_allclose(w[:, :-1], pooled.coef_, atol=2e-4)
    if classes == 2:  # with more, a constant added to all intercepts changes nothing
        np.testing.assert_allclose(w[:, -1], pooled.intercept_, atol=2e-4)


@pytest.mark.parametrize("solver", logistic.SOLVERS)
@pytest.mark.parametrize("penalty", ["l2", "none"])
def test_every_solver_fits_alone_what_scikit_learn_fits(solver: str, penalty: str) -> None:
    x, y = rows(0, 200)
    model = start()
    settings = Settings(solver=solver, penalty=penalty, local_steps=500, learning_rate=1.0)
    logistic.fit(model, Share(x, y, settings.inverse_penalty, len(y)), settings)
    alone = LogisticRegression(C=settings.inverse_penalty, tol=1e-10, max_iter=10_000).fit(x, y)
    np.testing.assert_allclose(model.coef_, alone.coef_, atol=1e-2)
    np.testing.assert_allclose(model.intercept_, alone.intercept_, atol=1e-2)


@pytest.mark.parametrize("solver", logistic.SOLVERS)
@pytest.mark.parametrize("classes", [2, 3])
def test_a_site_with_one_class_takes_part(solver: str, classes: int) -> None:
    x, _ = rows(0, 20, classes)
    model = start(classes)
    logistic.fit(model, Share(x, np.ones(20, dtype=int), 1.0, 100), Settings(solver=solver))
    assert model.coef_.shape == (1 if classes == 2 else 3, 4)
    assert np.isfinite(model.coef_).all()
    assert logistic.probabilities(model, x).argmax(axis=1).tolist() == [1] * 20


def test_a_step_too_long_is_shortened() -> None:
    x, y = rows(0, 50)
    model = start()
    settings = Settings(learning_rate=1e6, local_steps=1)
    logistic.fit(model, Share(100 * x, y, 1.0, 50), settings)
    p = logistic.probabilities(model, 100 * x)[np.arange(50), y]
    assert -np.log(p).mean() < np.log(2)


def test_the_proximal_term_keeps_a_site_near() -> None:
    x, y = rows(0, 50)
    moved = []
    for mu in (0.0, 1.0, 100.0):
        model = start()
        logistic.fit(model, Share(x, y, 1.0, 50, proximal_mu=mu), Settings(local_steps=50))
        moved.append(np.abs(model.coef_).max())
    assert moved[0] > moved[1] > moved[2] > 0
    with pytest.raises(ConfigError, match="no proximal term"):
        logistic.fit(start(), Share(x, y, 1.0, 50, proximal_mu=0.1), Settings(solver="lbfgs"))


def test_no_row_no_probability() -> None:
    assert logistic.probabilities(start(3), np.zeros((0, 4))).shape == (0, 3)


def test_arrays_of_another_model_are_refused() -> None:
    with pytest.raises(ConfigError, match="not a logistic regression's"):
        logistic.set_parameters(LogisticRegression(), logistic.initial_parameters(4, 3), 2)
    lacking = logistic.initial_parameters(4, 2)
    del lacking["intercept"]
    with pytest.raises(ConfigError, match="'intercept' is missing"):
        logistic.set_parameters(LogisticRegression(), lacking, 2)


def test_hyperparameters_are_read_and_all_faults_listed() -> None:
    read = Settings.from_run_config({"c": 2, "local-steps": 3, "penalty": "none", "other": "x"})
    assert (read.c, read.local_steps, read.inverse_penalty) == (2.0, 3, np.inf)
    wrong = {
        "c": 0,
        "local-steps": 2.5,
        "learning-rate": "fast",
        "penalty": "l1",
        "solver": "sag",
        "max-depth": 3,
        "learning-rte": 0.1,
    }
    with pytest.raises(ConfigError) as caught:
        Settings.from_run_config(wrong)
    faults = dict(caught.value.faults)
    assert set(faults) == set(wrong)
    assert "no setting of logistic-regression" in faults["max-depth"]
    assert "did you mean learning-rate?" in faults["learning-rte"]
