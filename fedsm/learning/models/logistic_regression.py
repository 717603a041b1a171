"""Logistic regression; the training itself is :mod:`fedsm.learning.logistic`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from flwr.app import ArrayRecord

from fedsm.learning.models.base import Classes, Local, Probabilities
from fedsm.learning.preparation import Summary

if TYPE_CHECKING:  # scikit-learn is slow to load, and not every run needs it
    from fedsm.learning.logistic import Settings
    from fedsm.learning.logistic_share import Share


class LogisticRegressionAdapter:
    """Logistic regression with an L2 penalty, binary or multinomial.

    Hyperparameters: see :class:`fedsm.learning.logistic.Settings`, and ``class-weights``.
    """

    name = "logistic-regression"

    def check(self, run_config: Mapping[str, Any]) -> None:
        """See :class:`Adapter`."""
        from fedsm.learning import logistic

        logistic.Settings.from_run_config(run_config)

    def initial(self, summary: Summary, run_config: Mapping[str, Any]) -> ArrayRecord:
        """All zeros."""
        from fedsm.learning import logistic

        return logistic.initial_parameters(len(summary.inputs), len(summary.classes))

    def fit(self, arrays: ArrayRecord, x: Any, y: Classes, local: Local) -> ArrayRecord:
        """Some steps towards the optimum of the site's share of the objective."""
        from fedsm.learning import logistic

        model, settings = self._model(arrays, local.summary), _settings(local)
        logistic.fit(model, _share(settings, x, y, local), settings)
        return logistic.get_parameters(model)

    def gradient(self, arrays: ArrayRecord, x: Any, y: Classes, local: Local) -> ArrayRecord:
        """The gradient of the site's share of the objective, in the parameters' shapes."""
        from fedsm.learning import logistic
        from fedsm.learning.exact_site import to_arrays

        share = _share(_settings(local), x, y, local)
        return to_arrays(logistic.gradient(self._model(arrays, local.summary), share))

    def solve(
        self, start: ArrayRecord, x: Any, y: Classes, local: Local, *, pull: float = 0.0
    ) -> ArrayRecord:
        """The least of the rows' summed loss, the penalty and ``pull/2 |w - start|^2``."""
        from fedsm.learning import logistic, logistic_solve

        model, near = self._model(start, local.summary), replace(local, proximal_mu=pull / len(y))
        logistic_solve.solve(model, _share(_settings(local), x, y, near))
        return logistic.get_parameters(model)

    def without(
        self, arrays: ArrayRecord, x: Any, y: Classes, held_out: Any, local: Local
    ) -> ArrayRecord:
        """What the global arrays would be, to first order, without these of the site's rows."""
        from fedsm.learning import logistic, logistic_solve

        model, settings = self._model(arrays, local.summary), _settings(local)
        out = _share(settings, x[held_out], y[held_out], local)
        logistic_solve.leave_out(model, _share(settings, x, y, local), out)
        return logistic.get_parameters(model)

    def rescaled(self, arrays: ArrayRecord, mean: Any, scale: Any) -> ArrayRecord:
        """Arrays that say of inputs ``(x - mean) / scale`` what these say of ``x``."""
        from fedsm.learning.exact_site import to_arrays, to_matrix

        w = to_matrix(arrays)
        return to_arrays(np.column_stack([w[:, :-1] * scale, w[:, -1] + w[:, :-1] @ mean]))

    def predict(
        self, arrays: ArrayRecord, x: Any, summary: Summary, run_config: Mapping[str, Any]
    ) -> Probabilities:
        """Probabilities of prepared rows."""
        from fedsm.learning import logistic

        return logistic.probabilities(self._model(arrays, summary), x)

    def build(self, arrays: ArrayRecord, summary: Summary, run_config: Mapping[str, Any]) -> Any:
        """The preparation and the model; its classes are the labels of the tables."""
        from sklearn.pipeline import Pipeline

        from fedsm.learning import logistic

        settings = logistic.Settings.from_run_config(run_config)
        model = self._model(arrays, summary)
        model.set_params(C=settings.inverse_penalty)
        model.classes_ = np.array(summary.classes)
        return Pipeline([*summary.steps(), ("model", model)])

    def _model(self, arrays: ArrayRecord, summary: Summary) -> Any:
        from sklearn.linear_model import LogisticRegression

        from fedsm.learning import logistic

        model = LogisticRegression()
        logistic.set_parameters(model, arrays, len(summary.classes))
        return model


def _settings(local: Local) -> Settings:
    from fedsm.learning import logistic

    return logistic.Settings.from_run_config(local.run_config)


def _share(settings: Settings, x: Any, y: Classes, local: Local) -> Share:
    from fedsm.learning.exact_site import to_matrix
    from fedsm.learning.logistic_share import Share

    given = local.run_config.get("class-weights", "none")
    return Share(
        x=x,
        y=y,
        c=settings.inverse_penalty,
        rows=local.summary.rows,
        weights=local.summary.class_weights(given),
        proximal_mu=local.proximal_mu,
        correction=None if local.correction is None else to_matrix(local.correction),
        centre=local.summary.centre,
    )
