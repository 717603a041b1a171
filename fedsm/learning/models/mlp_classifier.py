"""scikit-learn's MLPClassifier: a net of dense layers without PyTorch."""

from __future__ import annotations

from collections.abc import Mapping
from inspect import signature
from itertools import pairwise
from typing import Any

import numpy as np
from flwr.app import Array, ArrayRecord
from numpy.typing import NDArray

from fedsm.errors import ConfigError
from fedsm.learning.models.base import Classes, Local, Probabilities
from fedsm.learning.models.estimators import arrays_of, finished
from fedsm.learning.models.settings import Reader, Steps, refuse, sample_weights
from fedsm.learning.preparation import Summary


class MLPClassifierAdapter:
    """Dense layers with ReLU between them; arrays ``coefs-0``, ``intercepts-0``, ...

    Hyperparameters: ``hidden-layers`` ("32"), ``optimizer`` (``sgd`` without momentum, or
    ``adam``, which starts afresh in every round), ``learning-rate`` (0.1; adam 0.001),
    ``batch-size`` (32), ``local-steps`` (5) or ``epochs``, ``weight-decay`` (scikit-learn's alpha;
    1e-4), ``class-weights``, ``seed``.
    """

    name = "mlp-classifier"

    def check(self, run_config: Mapping[str, Any]) -> None:
        """See :class:`Adapter`."""
        self._settings(run_config)

    def initial(self, summary: Summary, run_config: Mapping[str, Any]) -> ArrayRecord:
        """Uniform weights within Glorot's bound for ReLU, as scikit-learn's, by the seed."""
        values, _ = self._settings(run_config)
        random = np.random.default_rng(int(run_config.get("seed", 0)))
        made: dict[str, Array] = {}
        for name, shape in _shapes(summary, values["hidden_layer_sizes"]).items():
            if name.startswith("coefs-"):
                bound = np.sqrt(6.0 / sum(shape))
                made[name] = Array(random.uniform(-bound, bound, shape))
            else:
                made[name] = Array(np.zeros(shape))
        return ArrayRecord(made)

    def fit(self, arrays: ArrayRecord, x: Any, y: Classes, local: Local) -> ArrayRecord:
        """Some steps of the estimator; a site may lack classes."""
        refuse(self.name, local, proximal=False, correction=False)
        _, steps = self._settings(local.run_config)
        model = self._model(arrays, local.summary, local.run_config)
        weights = sample_weights(local, y)
        more: dict[str, Any] = {}
        if weights is not None and "sample_weight" not in signature(model.partial_fit).parameters:
            raise ConfigError(
                "this scikit-learn's MLPClassifier takes no weights of rows",
                where="training.hyperparameters.class-weights",
                action="use scikit-learn 1.7 or newer, or leave them out",
            )
        for at in steps.batches(x.shape[0], local.generator()):
            model.batch_size = len(at)
            if weights is not None:
                more["sample_weight"] = weights[at]
            try:
                model.partial_fit(x[at], y[at], **more)
            except ValueError as error:
                if "non-finite" not in str(error):
                    raise
                raise ConfigError(
                    "the weights have become infinite",
                    where="training.hyperparameters.learning-rate",
                    action="lower it",
                ) from None
        values = zip(model.coefs_, model.intercepts_, strict=True)
        return ArrayRecord(
            {
                f"{kind}-{i}": Array(array)
                for i, pair in enumerate(values)
                for kind, array in zip(("coefs", "intercepts"), pair, strict=True)
            }
        )

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
        model = self._model(arrays, summary, run_config)
        model._label_binarizer.fit(np.array(summary.classes))
        return finished(summary, model)

    def _settings(self, run_config: Mapping[str, Any]) -> tuple[dict[str, Any], Steps]:
        reader = Reader(self.name, run_config)
        steps = Steps.read(reader, local_steps=5, batch_size=32)
        solver = reader.choice("optimizer", "sgd", ("sgd", "adam"))
        reader.skip("class-weights")
        layers = reader.layers("hidden-layers", "32")
        values = {
            "hidden_layer_sizes": layers,
            "solver": solver,
            "learning_rate_init": reader.number("learning-rate", 0.1 if solver == "sgd" else 1e-3),
            "alpha": reader.number("weight-decay", 1e-4, zero=True),
        }
        reader.whole("seed", 0, least=0)
        reader.done()
        return values, steps

    def _model(self, arrays: ArrayRecord, summary: Summary, run_config: Mapping[str, Any]) -> Any:
        """An estimator that holds the arrays, as after a first ``partial_fit``."""
        from sklearn.neural_network import MLPClassifier

        values, _ = self._settings(run_config)
        shapes = _shapes(summary, values["hidden_layer_sizes"])
        found = arrays_of(self.name, arrays, shapes)
        classes = len(summary.classes)
        # A step of no length lets scikit-learn set up all that it keeps beside the weights.
        model = MLPClassifier(
            **values | {"learning_rate_init": 1e-300, "solver": "sgd"},
            momentum=0.0,
            nesterovs_momentum=False,
            shuffle=False,
            random_state=0,
        )
        model.partial_fit(
            np.zeros((1, len(summary.inputs))), np.zeros(1, int), classes=np.arange(classes)
        )
        model.set_params(**values)
        model.coefs_, model.intercepts_ = found[::2], found[1::2]
        _forget(model, found)
        return model


def _shapes(summary: Summary, hidden: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
    outputs = 1 if len(summary.classes) == 2 else len(summary.classes)
    widths = (len(summary.inputs), *hidden, outputs)
    shapes: dict[str, tuple[int, ...]] = {}
    for i, (wide, narrow) in enumerate(pairwise(widths)):
        shapes |= {f"coefs-{i}": (wide, narrow), f"intercepts-{i}": (narrow,)}
    return shapes


def _forget(model: Any, found: list[NDArray[Any]]) -> None:
    """Leave out what the first step left: an optimiser is bound to the weights it began with."""
    del model._optimizer
    model.loss_curve_, model.best_loss_, model.loss_ = [], np.inf, 0.0
    model.t_ = model.n_iter_ = model._no_improvement_count = 0
    model._best_coefs, model._best_intercepts = [], []
    model._random_state = None
