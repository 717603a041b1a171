"""Logistic regression of which a site does a few steps a round.

The federation's objective is scikit-learn's, divided by ``C N`` (N: training rows of all sites):

    F(w) = 1/N sum_i s_i loss_i(w) + |coef|^2 / (2 C N)

with ``s_i`` the weight of the row's class, the same at all sites. A site minimises the same with
the mean over its own n_k rows, F_k. The average of F_k weighted by n_k / N is F: the penalty counts
once and every row by its class's weight alone, whatever the sites' sizes and their prevalence. So
the sites are weighted by rows (``num-examples``), with class weights too. In scikit-learn's terms
the site's own C is ``C N / n_k``.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from flwr.app import Array, ArrayRecord
from scipy import sparse
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

from fedsm.errors import ConfigError
from fedsm.learning.exact_objective import Matrix, Rows
from fedsm.learning.logistic_share import Share
from fedsm.learning.models.settings import Reader

SOLVERS = ("gradient", "lbfgs", "newton-cg", "newton-cholesky")


@dataclass(frozen=True)
class Settings:
    """Hyperparameters.

    Attributes
    ----------
    c : float
        Inverse strength of the L2 penalty, as in scikit-learn on the pooled rows.
    penalty : str
        ``l2`` or ``none``.
    local_steps : int
        Steps of the solver a round.
    learning_rate : float
        First step length tried by ``gradient``.
    solver : str
        ``gradient``, or a solver of scikit-learn's that is started at the global model; these do
        not centre sparse rows.
    """

    c: float = 1.0
    penalty: str = "l2"
    local_steps: int = 5
    learning_rate: float = 0.5
    solver: str = "gradient"

    @classmethod
    def from_run_config(cls, config: Mapping[str, Any]) -> Settings:
        """Read ``c``, ``penalty``, ``local-steps``, ``learning-rate`` and ``solver``.

        Raises
        ------
        ConfigError
            Values are out of their range, or another model's; all are listed.
        """
        reader = Reader("logistic-regression", config)
        reader.skip("class-weights")
        reader.skip("seed")  # nothing is drawn
        settings = cls(
            c=reader.number("c", cls.c),
            penalty=reader.choice("penalty", cls.penalty, ("l2", "none")),
            local_steps=reader.whole("local-steps", cls.local_steps),
            learning_rate=reader.number("learning-rate", cls.learning_rate),
            solver=reader.choice("solver", cls.solver, SOLVERS),
        )
        reader.done()
        return settings

    @property
    def inverse_penalty(self) -> float:
        """C of the pooled rows; infinite without a penalty."""
        return self.c if self.penalty == "l2" else np.inf


def initial_parameters(features: int, classes: int) -> ArrayRecord:
    """All zeros, in scikit-learn's shapes: one row of coefficients for two classes."""
    outputs = 1 if classes == 2 else classes
    return _record(np.zeros((outputs, features)), np.zeros(outputs))


def get_parameters(model: LogisticRegression) -> ArrayRecord:
    """``coef`` and ``intercept`` of a model, float64."""
    return _record(model.coef_, model.intercept_)


def _record(coef: Matrix, intercept: Matrix) -> ArrayRecord:
    return ArrayRecord({"coef": Array(coef), "intercept": Array(intercept)})


def set_parameters(model: LogisticRegression, arrays: ArrayRecord, classes: int) -> None:
    """Put parameters into a model whose labels are the class indices ``0..classes-1``.

    Raises
    ------
    ConfigError
        The arrays are not those of a logistic regression of that many classes.
    """
    outputs = 1 if classes == 2 else classes
    try:
        # A copy in C order: what comes out of a message may be a view of its buffer.
        coef = np.array(arrays["coef"].numpy(), dtype=np.float64, order="C")
        intercept = np.array(arrays["intercept"].numpy(), dtype=np.float64, order="C")
    except KeyError as error:
        raise _other_model(f"array {error.args[0]!r} is missing") from None
    if coef.ndim != 2 or coef.shape[0] != outputs or intercept.shape != (outputs,):
        raise _other_model(f"coef has shape {coef.shape}, intercept {intercept.shape}")
    model.classes_ = np.arange(classes)
    model.coef_, model.intercept_ = coef, intercept
    model.n_features_in_ = coef.shape[1]
    model.n_iter_ = np.zeros(1, dtype=np.int32)


def _other_model(fault: str) -> ConfigError:
    return ConfigError(
        f"the arrays are not a logistic regression's: {fault}",
        where="training.initial",
        action="start from the model adapter, or from arrays of this model",
    )


def probabilities(model: LogisticRegression, x: Rows) -> Matrix:
    """Predicted probabilities, shape (rows, classes); there may be no row."""
    if x.shape[0] == 0:
        return np.zeros((0, len(model.classes_)))
    predicted: Matrix = model.predict_proba(x)
    return predicted


def fit(model: LogisticRegression, share: Share, settings: Settings) -> None:
    """Move a model, which holds the global parameters, some steps towards a share's optimum.

    Raises
    ------
    ConfigError
        A proximal term or a correction with a solver of scikit-learn's, which has none.
    """
    if settings.solver == "gradient":
        _descend(model, share, settings)
        return
    if share.proximal_mu or share.correction is not None:
        lacking = "proximal term" if share.proximal_mu else "correction"
        raise ConfigError(
            f"solver {settings.solver} has no {lacking}",
            where="training.hyperparameters.solver",
            action="use solver: gradient with fedprox and scaffold",
        )
    _refit(model, share, settings)


def gradient(model: LogisticRegression, share: Share) -> Matrix:
    """The share's gradient by the model's parameters, shape (outputs, features + 1)."""
    w = to_matrix(model)
    return replace(share, centre=None).at(w, w).gradient()


def to_matrix(model: LogisticRegression) -> Matrix:
    """A model's parameters, the intercept last; shape (outputs, features + 1)."""
    return np.column_stack([model.coef_, model.intercept_])


def from_matrix(model: LogisticRegression, w: Matrix) -> None:
    """Give a model the parameters of which :func:`to_matrix` makes ``w``."""
    model.coef_, model.intercept_ = w[:, :-1].copy(), w[:, -1].copy()


def _descend(model: LogisticRegression, share: Share, settings: Settings) -> None:
    """Gradient descent; a step is halved until it meets Armijo's condition.

    Steps of one length at all sites keep the average of the updates close to a step on F, which
    steps found by each site's own line search do not.
    """
    w = start = share.centred(to_matrix(model))
    at = share.at(w, start)
    for _ in range(settings.local_steps):
        slope, step = at.gradient(), settings.learning_rate
        decrease = float(np.square(slope).sum()) / 2
        # The lower bound ends the halving where rounding hides any further decrease.
        while (found := share.at(w - step * slope, start)).value > at.value - step * decrease:
            if step <= 1e-10:
                break
            step /= 2
        w, at = w - step * slope, found
    from_matrix(model, share.uncentred(w))


def _refit(model: LogisticRegression, share: Share, settings: Settings) -> None:
    """Steps of scikit-learn's solver from the parameters that the model holds."""
    x, y, classes = share.x, share.y, len(model.classes_)
    missing = np.setdiff1d(np.arange(classes), y)
    weights = np.ones(classes) if share.weights is None else share.weights
    # scikit-learn wants every class among the labels: a row of weight 0 stands for a missing one.
    weight = np.concatenate([weights[y], np.zeros(len(missing))])
    if len(missing):
        none = np.zeros((len(missing), x.shape[1]))
        stacked = [x, sparse.csr_array(none)] if sparse.issparse(x) else [x, none]
        x = sparse.vstack(stacked, format="csr") if sparse.issparse(x) else np.vstack(stacked)
    model.set_params(
        C=share.c * share.rows / len(y),
        solver=settings.solver,
        max_iter=settings.local_steps,
        warm_start=True,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(x, np.concatenate([y, missing]), sample_weight=weight)
