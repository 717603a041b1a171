"""Logistic regression; the training itself is :mod:`fedsm.learning.logistic`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from flwr.app import ArrayRecord

from fedsm.learning.models.base import Classes, Local, Probabilities
from fedsm.learning.preparation import Summary


class LogisticRegressionAdapter:
    """Logistic regression with an L2 penalty, binary or multinomial.

    Hyperparameters: see :class:`fedsm.learning.logistic.Settings`.
    """

    name = "logistic-regression"

    def initial(self, summary: Summary, run_config: Mapping[str, Any]) -> ArrayRecord:
        """All zeros."""
        from fedsm.learning import logistic

        return logistic.initial_parameters(len(summary.inputs), len(summary.classes))

    def fit(self, arrays: ArrayRecord, x: Any, y: Classes, local: Local) -> ArrayRecord:
        """Some steps towards the optimum of the site's share of the objective."""
        from fedsm.learning import logistic

        model = self._model(arrays, local.summary)
        logistic.fit(
            model,
            x,
            y,
            logistic.Settings.from_run_config(local.run_config),
            rows=local.summary.rows,
            proximal_mu=local.proximal_mu,
        )
        return logistic.get_parameters(model)

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
