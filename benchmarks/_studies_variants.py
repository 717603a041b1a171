"""The variants of a study: each trains on a split's rows and is judged on its test rows.

The pooled model and the models of single sites are scikit-learn's own, preparation included, and
know nothing of fedsm. The federated ones are runs of :func:`fedsm.simulation.simulate`.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import QuantileTransformer, StandardScaler

from benchmarks._studies_splits import CMS, Sites, Split
from fedsm.datasets import SiteTables
from fedsm.datasets.resampling import resample
from fedsm.learning.metrics import area_under_roc
from fedsm.learning.tables import Table
from fedsm.simulation import Simulation, simulate
from fedsm.training_config import Prepare

Scores = NDArray[np.float64]


@dataclass(frozen=True)
class Averaging:
    """Settings of a strategy that averages."""

    strategy: str
    options: Mapping[str, Any] = field(default_factory=dict)
    hyperparameters: Mapping[str, Any] = field(default_factory=dict)
    rounds: int = 100


FEW_SHORT_STEPS = {"local-steps": 2, "learning-rate": 0.2}
FEDADAM = Averaging("fedadam", {"eta": 0.1}, FEW_SHORT_STEPS, 200)

AVERAGING: dict[str, dict[str, Averaging]] = {
    "heart": {
        "fedavg": Averaging("fedavg"),
        "fedadam": FEDADAM,
        "scaffold": Averaging("scaffold"),
    },
    # Fraud's features are nearly collinear: momentum goes along the flat ways of the loss.
    CMS: {
        "fedavg": Averaging("fedavg"),
        "fedadam": FEDADAM,
        "scaffold": Averaging("scaffold", {"server_momentum": 0.9}, FEW_SHORT_STEPS, 200),
    },
}
"""Study to variant to settings, chosen on other splits than these."""

EXACT_ROUNDS = 30
SEED_ROUNDS, SEED_ITERATIONS = 3, 10
QUANTILES = 1000
"""Of scikit-learn's QuantileTransformer on the pooled rows: its default."""

QUANTILE = Prepare(scale="quantile")


@dataclass(frozen=True)
class Found:
    """One variant on one split.

    Attributes
    ----------
    scores : ndarray of float64, shape (test rows,)
        Probability of class 1.
    auc, accuracy : float
        Of the test rows; ``local-only`` is the mean over sites.
    rounds : int or None
    coef_diff : float or None
        Largest difference of a coefficient from the pooled model's, as a share of its largest.
    """

    auc: float
    accuracy: float
    rounds: int | None = None
    coef_diff: float | None = None
    scores: Scores | None = field(default=None, repr=False)


Key = tuple[str, str]
"""Variant, and how the rows lie over sites: empty where it makes no difference."""


def variants(
    split: Split, only: Callable[[str, str], bool] = lambda _variant, _sites: True
) -> dict[Key, Found]:
    """The pooled model, and all other variants of a split of which ``only`` says so."""
    pooled = standardised(split.class_weights).fit(split.pooled.features, split.pooled.labels)
    found = {("pooled", ""): judged(split.test, pooled)}
    for variant, sites, make in _others(split, pooled):
        if only(variant, sites):
            found[variant, sites] = make()
    return found


def _others(split: Split, pooled: Pipeline) -> Iterator[tuple[str, str, Callable[[], Found]]]:
    if split.study == CMS:
        yield "pooled-quantile", "", partial(_pooled_quantile, split)
        yield "pooled-smote", "", partial(_pooled_smote, split)
    for name, sites in split.sites.items():
        yield "local-only", name, partial(_local_only, split, sites)
        yield "seed-recipe", name, partial(SEED_RECIPES[split.study], split, sites)
        for variant, by in AVERAGING.get(split.study, AVERAGING["heart"]).items():
            yield variant, name, partial(_averaged, split, sites, by)
        yield "exact", name, partial(_exact, split, sites, None, pooled)
        if split.study == CMS:
            yield "quantile-exact", name, partial(_exact, split, sites, QUANTILE, None)
            yield "smote-exact", name, partial(_smote_exact, split, sites)


def standardised(class_weights: str) -> Pipeline:
    """Standardised by the values present, the missing ones then at the mean; and the optimum."""
    return make_pipeline(
        StandardScaler(), SimpleImputer(keep_empty_features=True), optimum(class_weights)
    )


def optimum(class_weights: str) -> LogisticRegression:
    """The regression at the pooled optimum, closer than scikit-learn's defaults take it."""
    weight = None if class_weights == "none" else class_weights
    return _Converged(solver="newton-cholesky", tol=1e-13, max_iter=1000, class_weight=weight)


class _Converged(LogisticRegression):  # type: ignore[misc]
    """The tolerance lies below rounding error: the last step cannot decrease anything."""

    def fit(self, *args: Any, **kwargs: Any) -> Any:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return super().fit(*args, **kwargs)


def _pooled_quantile(split: Split) -> Found:
    """Values as ranks by the pooled rows' own quantiles."""
    scale = QuantileTransformer(n_quantiles=QUANTILES, subsample=None)
    model = make_pipeline(scale, optimum(split.class_weights))
    return judged(split.test, model.fit(split.pooled.features, split.pooled.labels))


def judged(test: Table, model: Any, rounds: int | None = None) -> Found:
    """A fitted model that takes raw rows, on the test rows."""
    scores = model.predict_proba(test.features)[:, 1]
    return _found(test, scores, rounds)


def _found(
    test: Table, scores: Scores, rounds: int | None = None, coef_diff: float | None = None
) -> Found:
    positive = test.labels == 1
    return Found(
        area_under_roc(positive, scores),
        float(((scores > 0.5) == positive).mean()),
        rounds,
        coef_diff,
        scores,
    )


def alone(tables: SiteTables, test: Table, class_weights: str) -> Scores:
    """What a site's own model says of test rows; with one class it knows nothing but that."""
    classes = np.unique(tables.train.labels)
    if len(classes) < 2:
        return np.full(len(test), float(classes[0]))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a feature that this site never has
        model = standardised(class_weights).fit(tables.train.features, tables.train.labels)
    scores: Scores = model.predict_proba(test.features)[:, 1]
    return scores


def _local_only(split: Split, sites: Sites) -> Found:
    found = [
        _found(split.test, alone(tables, split.test, split.class_weights))
        for tables in sites.values()
    ]
    return Found(
        float(np.mean([f.auc for f in found])), float(np.mean([f.accuracy for f in found]))
    )


# Federated


def averaged(split: Split, sites: Sites, by: Averaging) -> Simulation:
    """Rounds of a strategy that averages; the sites' validation rows are not looked at."""
    return simulate(
        sites,
        by.strategy,
        rounds=by.rounds,
        options={"fraction_evaluate": 0.0, **by.options},
        hyperparameters={"class-weights": split.class_weights, **by.hyperparameters},
    )


def exact(split: Split, sites: Sites, prepare: Prepare | None = None) -> Simulation:
    """The pooled optimum by summed Hessians."""
    weight = {} if split.class_weights == "none" else {"class_weight": split.class_weights}
    return simulate(
        sites,
        "exact",
        rounds=EXACT_ROUNDS,
        options={"coef_tolerance": 1e-9, "evaluate_every": 0, **weight},
        prepare=prepare,
    )


def _averaged(split: Split, sites: Sites, by: Averaging) -> Found:
    return of_run(split, averaged(split, sites, by))


def _exact(split: Split, sites: Sites, prepare: Prepare | None, pooled: Pipeline | None) -> Found:
    return of_run(split, exact(split, sites, prepare), pooled)


def of_run(split: Split, run: Simulation, pooled: Pipeline | None = None) -> Found:
    """A run's model, as it would take raw rows."""
    diff = None
    model = run.build()
    if pooled is not None:
        wanted = pooled[-1].coef_
        diff = float(np.abs(model[-1].coef_ - wanted).max() / np.abs(wanted).max())
    scores = model.predict_proba(split.test.features)[:, 1]
    return _found(split.test, scores, len(run.history), diff)


def _pooled_smote(split: Split) -> Found:
    rows = resample(split.pooled, "smote", split.number)
    return judged(split.test, standardised("none").fit(rows.features, rows.labels))


def _smote_exact(split: Split, sites: Sites) -> Found:
    made = {
        site: SiteTables(resample(tables.train, "smote", split.number), tables.validation)
        for site, tables in sites.items()
    }
    plain = Split(split.study, split.number, {"": made}, split.test)
    return of_run(split, exact(plain, made))


# What the seeds did


def _seed_cms(split: Split, sites: Sites) -> Found:
    """Raw features, SMOTE, three rounds of FedAvg over ten iterations of scikit-learn's L-BFGS."""
    made = [resample(tables.train, "smote", split.number) for tables in sites.values()]
    models = [LogisticRegression(max_iter=SEED_ITERATIONS, warm_start=True) for _ in made]
    shares = np.array([len(rows) for rows in made]) / sum(map(len, made))
    for _ in range(SEED_ROUNDS):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            for model, rows in zip(models, made, strict=True):
                model.fit(rows.features, rows.labels)
        coef = sum(s * m.coef_ for s, m in zip(shares, models, strict=True))
        intercept = sum(s * m.intercept_ for s, m in zip(shares, models, strict=True))
        for model in models:
            model.coef_, model.intercept_ = coef.copy(), intercept.copy()
    return judged(split.test, models[0], SEED_ROUNDS)


def _seed_heart(split: Split, sites: Sites) -> Found:
    """Each hospital scales its own rows, missing values become its mean; then FedAvg."""
    own = {
        name: make_pipeline(StandardScaler(), SimpleImputer(keep_empty_features=True)).fit(
            tables.train.features
        )
        for name, tables in sites.items()
    }

    def scaled(table: Table, name: str) -> Table:
        return Table(table.columns, own[name].transform(table.features), table.labels)

    made = {
        name: SiteTables(scaled(tables.train, name), scaled(tables.validation, name))
        for name, tables in sites.items()
    }
    # A hospital's test rows are its validation rows, in the sites' order.
    test = np.concatenate([tables.validation.features for tables in made.values()])
    table = Table(split.test.columns, test, split.test.labels)
    run = averaged(split, made, AVERAGING["heart"]["fedavg"])
    return of_run(Split(split.study, split.number, {"": made}, table), run)


SEED_RECIPES: dict[str, Callable[[Split, Sites], Found]] = {
    "heart-disease": _seed_heart,
    "heart-disease-flamby": _seed_heart,
    CMS: _seed_cms,
}
