"""XGBoost's boosted trees, for the strategies ``fedxgb-bagging`` and ``fedxgb-cyclic``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import numpy as np
from flwr.app import ArrayRecord
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin

from fedsm.errors import ConfigError
from fedsm.learning import trees
from fedsm.learning.models.base import Classes, Local, Probabilities
from fedsm.learning.models.settings import Reader, refuse, sample_weights
from fedsm.learning.preparation import Summary


@dataclass(frozen=True)
class _Settings:
    local_steps: int
    parameters: dict[str, Any]


class XGBoostAdapter:
    """Trees of ``binary:logistic``, or of ``multi:softprob`` from three classes on.

    Hyperparameters: ``local-steps`` (boosting rounds of a site in a round; 1), ``learning-rate``
    (eta; 0.3), ``max-depth`` (3), ``lambda`` (1), ``subsample`` (1), ``class-weights``, ``seed``.
    The trees that several sites grow at once add up, so each takes ``learning-rate`` divided by
    their number: ``scaled-lr`` of Flower's own example.

    Raises
    ------
    ConfigError
        XGBoost is not installed.
    """

    name = "xgboost"

    def __init__(self) -> None:
        if find_spec("xgboost") is None:
            raise ConfigError(
                "XGBoost is not installed here",
                where="training.model",
                action="pip install 'fedsm[xgboost]' for the coordinator; for the jobs, a line "
                "xgboost-cpu==... in client_code/requirements.txt",
            )

    def check(self, run_config: Mapping[str, Any]) -> None:
        """See :class:`Adapter`."""
        self._settings(run_config)

    def initial(self, summary: Summary, run_config: Mapping[str, Any]) -> ArrayRecord:
        """No tree yet: the share of each class, as far as the owners tell, is the prediction."""
        self._settings(run_config)
        classes, counts = len(summary.classes), np.array(summary.class_counts, dtype=float)
        share = 0.5
        if classes <= 2 and counts.all():
            weighted = counts * summary.class_weights(run_config.get("class-weights", "none"))
            share = float(weighted[1] / weighted.sum())
        return trees.record(_without_trees(len(summary.inputs), classes, share))

    def fit(self, arrays: ArrayRecord, x: Any, y: Classes, local: Local) -> ArrayRecord:
        """The global trees and some that the site grows for what they leave unexplained."""
        import xgboost

        refuse(self.name, local, proximal=False, correction=False)
        settings = self._settings(local.run_config)
        threads = _threads(x)
        rows = xgboost.DMatrix(_dense(x), label=y, weight=sample_weights(local, y), nthread=threads)
        summary = local.summary
        model = _loaded(_document(arrays), len(summary.inputs), len(summary.classes))
        sites = int(local.config.get(trees.BAGGED, 1))
        model.set_param(
            settings.parameters
            | {
                "eta": settings.parameters["eta"] / sites,
                "nthread": threads,
                "seed": int(local.generator().integers(2**31)),
            }
        )
        first = model.num_boosted_rounds()
        for step in range(settings.local_steps):
            model.update(rows, first + step)
        return trees.record(_read(model))

    def predict(
        self, arrays: ArrayRecord, x: Any, summary: Summary, run_config: Mapping[str, Any]
    ) -> Probabilities:
        """See :class:`Adapter`."""
        classes = len(summary.classes)
        model = _loaded(_document(arrays), len(summary.inputs), classes)
        return _probabilities(model, x, classes)

    def build(self, arrays: ArrayRecord, summary: Summary, run_config: Mapping[str, Any]) -> Any:
        """The preparation and a :class:`TreesClassifier`."""
        from sklearn.pipeline import Pipeline

        model = TreesClassifier()
        model.set(_document(arrays), len(summary.inputs), summary.classes)
        return Pipeline([*summary.steps(), ("model", model)])

    def _settings(self, run_config: Mapping[str, Any]) -> _Settings:
        reader = Reader(self.name, run_config)
        reader.skip("class-weights")
        found = _Settings(
            local_steps=reader.whole("local-steps", 1, most=1000),
            parameters={
                "eta": reader.number("learning-rate", 0.3, most=1),
                "max_depth": reader.whole("max-depth", 3, most=12),
                "lambda": reader.number("lambda", 1.0, zero=True),
                "subsample": reader.number("subsample", 1.0, most=1),
                "verbosity": 0,
            },
        )
        reader.whole("seed", 0, least=0)
        reader.done()
        return found


class TreesClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """Trees as a scikit-learn classifier; XGBoost is imported when it predicts."""

    def set(self, document: bytes, inputs: int, classes: Any) -> Any:
        """Take XGBoost's JSON; returns itself."""
        self.document_, self.n_features_in_, self.classes_ = document, inputs, np.array(classes)
        return self

    def fit(self, x: Any, y: Any) -> Any:
        """It is trained in a federation only."""
        raise ConfigError(
            "cannot be fitted here: its trees come from a federation",
            where=type(self).__name__,
            action="train it in a federation",
        )

    def predict_proba(self, x: Any) -> NDArray[np.float64]:
        """Probabilities, shape (rows, classes)."""
        classes = len(self.classes_)
        return _probabilities(_loaded(self.document_, self.n_features_in_, classes), x, classes)

    def predict(self, x: Any) -> NDArray[Any]:
        """The likeliest class of each row."""
        found: NDArray[Any] = self.classes_[self.predict_proba(x).argmax(axis=1)]
        return found


def _without_trees(inputs: int, classes: int, share: float = 0.5) -> trees.Document:
    """The document of a model that predicts the share of each class."""
    import xgboost

    parameters = {
        "verbosity": 0,
        "nthread": 1,
        "objective": "binary:logistic",
        "base_score": share,
    }
    if classes > 2:
        parameters |= {"objective": "multi:softprob", "num_class": classes}
    nothing = xgboost.DMatrix(np.zeros((1, inputs)), label=[0], nthread=1)
    return _read(xgboost.train(parameters, nothing, num_boost_round=0))


def _loaded(document: bytes, inputs: int, classes: int) -> Any:
    """The model of a document from elsewhere: its trees, once checked, in one made here."""
    import xgboost

    checked = trees.record(trees.taken(document, _without_trees(inputs, classes)))
    return xgboost.Booster({"verbosity": 0, "nthread": 1}, model_file=bytearray(_document(checked)))


def _document(arrays: ArrayRecord) -> bytes:
    if list(arrays) != [trees.KEY] or not trees.is_bytes(
        {trees.KEY: (arrays[trees.KEY].dtype, tuple(arrays[trees.KEY].shape))}
    ):
        raise ConfigError(
            "the arrays are no trees",
            where="training.initial",
            action="start from the model adapter",
        )
    return bytes(arrays[trees.KEY].numpy().tobytes())


def _read(model: Any) -> trees.Document:
    import json

    return trees.without_statistics(json.loads(bytes(model.save_raw("json"))))


def _probabilities(model: Any, x: Any, classes: int) -> NDArray[np.float64]:
    import xgboost

    if not x.shape[0]:
        return np.zeros((0, classes))
    threads = _threads(x)
    model.set_param("nthread", threads)
    found = model.predict(xgboost.DMatrix(_dense(x), nthread=threads)).astype(np.float64)
    return found if found.ndim == 2 else np.column_stack([1 - found, found])


def _threads(x: Any) -> int:
    """One for a small table, on which threads wait for each other; else all there are."""
    return 1 if x.shape[0] * x.shape[1] < 10**6 else 0


def _dense(x: Any) -> Any:
    """XGBoost takes what a sparse matrix leaves out as missing, not as 0."""
    return x.astype(np.float32).toarray() if hasattr(x, "toarray") else np.asarray(x, np.float32)
