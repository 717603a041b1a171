"""scikit-learn's SGDClassifier with the logistic loss: one row a step."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from flwr.app import Array, ArrayRecord

from fedsm.learning.models.base import Classes, Local, Probabilities
from fedsm.learning.models.estimators import arrays_of, finished
from fedsm.learning.models.settings import Reader, Steps, refuse, sample_weights
from fedsm.learning.preparation import Summary


class SGDClassifierAdapter:
    """A linear model, one against the rest where there are more than two classes.

    Hyperparameters: ``learning-rate`` (constant; 0.01), ``weight-decay`` (scikit-learn's alpha;
    1e-4), ``epochs`` (1) or ``local-steps`` (rows), ``class-weights``, ``seed``.
    """

    name = "sgd-classifier"

    def check(self, run_config: Mapping[str, Any]) -> None:
        """See :class:`Adapter`."""
        self._settings(run_config)

    def initial(self, summary: Summary, run_config: Mapping[str, Any]) -> ArrayRecord:
        """All zeros."""
        shape = (_outputs(summary), len(summary.inputs))
        return ArrayRecord(
            {"coef": Array(np.zeros(shape)), "intercept": Array(np.zeros(shape[:1]))}
        )

    def fit(self, arrays: ArrayRecord, x: Any, y: Classes, local: Local) -> ArrayRecord:
        """Some steps of the estimator; a site may lack classes."""
        refuse(self.name, local, proximal=False, correction=False)
        steps = self._settings(local.run_config)[1]
        model = self._model(arrays, local.summary, local.run_config)
        weights = sample_weights(local, y)
        rows = np.concatenate(list(steps.batches(x.shape[0], local.generator())))
        for first in range(0, len(rows), x.shape[0]):
            at = rows[first : first + x.shape[0]]
            model.partial_fit(
                x[at],
                y[at],
                classes=np.arange(len(local.summary.classes)),
                sample_weight=None if weights is None else weights[at],
            )
        return ArrayRecord({"coef": Array(model.coef_), "intercept": Array(model.intercept_)})

    def predict(
        self, arrays: ArrayRecord, x: Any, summary: Summary, run_config: Mapping[str, Any]
    ) -> Probabilities:
        """See :class:`Adapter`."""
        if not x.shape[0]:
            return np.zeros((0, len(summary.classes)))
        found: Probabilities = self._model(arrays, summary, run_config).predict_proba(x)
        return found

    def build(self, arrays: ArrayRecord, summary: Summary, run_config: Mapping[str, Any]) -> Any:
        """See :class:`Adapter`."""
        return finished(summary, self._model(arrays, summary, run_config))

    def _settings(self, run_config: Mapping[str, Any]) -> tuple[dict[str, Any], Steps]:
        reader = Reader(self.name, run_config)
        steps = Steps.read(reader, local_steps=1, batch_size=None)
        if not reader.given("local-steps"):
            steps = Steps(0, max(steps.epochs, 1), 1)
        reader.skip("class-weights")
        values = {
            "eta0": reader.number("learning-rate", 0.01),
            "alpha": reader.number("weight-decay", 1e-4, zero=True),
        }
        reader.whole("seed", 0, least=0)
        reader.done()
        return values, steps

    def _model(self, arrays: ArrayRecord, summary: Summary, run_config: Mapping[str, Any]) -> Any:
        from sklearn.linear_model import SGDClassifier

        values, _ = self._settings(run_config)
        model = SGDClassifier(
            loss="log_loss", learning_rate="constant", shuffle=False, random_state=0, **values
        )
        shape = (_outputs(summary), len(summary.inputs))
        model.coef_, model.intercept_ = arrays_of(
            self.name, arrays, {"coef": shape, "intercept": shape[:1]}
        )
        model.classes_ = np.arange(len(summary.classes))
        model.n_features_in_ = shape[1]
        model.t_ = 1.0
        return model


def _outputs(summary: Summary) -> int:
    return 1 if len(summary.classes) == 2 else len(summary.classes)
