"""What a site answers to ``evaluate.report``: the final model on its validation rows.

Beside it, where it is asked for: the model that the site would have alone, the global one
fine-tuned to the site, counts by group, and what each feature is worth. All are metrics of one
record, so that the owner's terms decide by name and count what leaves (``REPORT`` of
:mod:`fedsm.metric_names`). Counts by class are told only where no class has few rows, a confusion
matrix only where no cell has.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from flwr.app import ArrayRecord, MetricRecord, RecordDict
from numpy.typing import NDArray

from fedsm.contract import REPORT_ROUNDS
from fedsm.errors import ConfigError, FedsmError
from fedsm.learning import groups, personal, score_counts, scores
from fedsm.learning.metrics import classification, judged
from fedsm.learning.models import Adapter, Local
from fedsm.learning.raw_columns import permuted, raw_columns
from fedsm.metric_names import MODEL, WEIGHT

Classes = NDArray[np.intp]
Probabilities = NDArray[np.float64]
Metrics = dict[str, Any]

STATE = "personal"
"""Name of the fine-tuned arrays in the site's state."""

REPEATS = 5
"""Permutations of a feature."""

MOST_PERMUTED = 50
"""Features that a coordinator may ask to permute: each takes predictions of all rows."""


@dataclass(frozen=True)
class Asked:
    """What the coordinator asks for, as ``report-*`` in the message's config.

    Attributes
    ----------
    local_only, personalize : bool
    groups : Groups
    importance : tuple of str
        Features to permute.
    smallest : int
        Counts of fewer rows do not leave; the owner's terms may ask for more.
    rounds : int
        Of training, for a model that a site makes alone.
    """

    local_only: bool = False
    personalize: bool = False
    groups: groups.Groups = field(default_factory=groups.Groups)
    importance: tuple[str, ...] = ()
    smallest: int = 1
    rounds: int = 1

    def to_config(self) -> dict[str, Any]:
        """Flat values for a ``ConfigRecord``."""
        return {
            "report-local-only": self.local_only,
            "report-personalize": self.personalize,
            "report-importance": list(self.importance),
            "report-smallest": self.smallest,
            REPORT_ROUNDS: self.rounds,
            **self.groups.to_config(),
        }

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Asked:
        """Read back what :meth:`to_config` wrote.

        Raises
        ------
        ConfigError
            Features are not distinct names, or too many; rounds are no whole number; or as
            :meth:`.Groups.from_config`.
        """
        names, rounds = config.get("report-importance", ()), config.get(REPORT_ROUNDS, 1)
        texts = isinstance(names, list | tuple) and all(isinstance(n, str) for n in names)
        if not texts or len(names) > MOST_PERMUTED or len(set(names)) < len(names):
            raise ConfigError(
                f"features to permute are distinct names, {MOST_PERMUTED} at most",
                where="training.report.importance",
            )
        if type(rounds) is not int:
            raise ConfigError("is no whole number", where=REPORT_ROUNDS)
        return cls(
            local_only=bool(config.get("report-local-only", False)),
            personalize=bool(config.get("report-personalize", False)),
            groups=groups.Groups.from_config(config),
            importance=tuple(names),
            smallest=int(config.get("report-smallest", 1)),
            rounds=rounds,
        )


@dataclass
class SiteReport:
    """One site's answer in the making.

    Parameters
    ----------
    model : Adapter
    arrays : ArrayRecord
        The run's final parameters.
    local : Local
        As for a round.
    smallest : int
        Of the owner's terms.
    state : RecordDict
        The site's, which keeps the fine-tuned arrays.
    """

    model: Adapter
    arrays: ArrayRecord
    local: Local
    smallest: int
    state: RecordDict

    def answer(self, train: Any, validation: Any) -> MetricRecord:
        """Metrics of the report from the site's tables; what cannot be had is NaN or absent."""
        asked = Asked.from_config(self.local.config)
        smallest = max(asked.smallest, self.smallest)
        summary = self.local.summary
        x, y = summary.transform(validation), summary.encode(validation.labels)
        probabilities = self._predict(self.arrays, x)
        out = measured(y, probabilities)
        own: Probabilities | None = None
        if asked.local_only:
            own = self._alone(train, validation, asked.rounds)
            out |= _compared("local-", y, own, probabilities, own)
        if asked.personalize:
            tuned = self._tuned(train, x)
            out |= _compared("personal-", y, tuned, tuned, own)
        out |= counted(y, probabilities, smallest)
        if asked.groups.columns and len(y):
            raw = raw_columns(validation, asked.groups.columns, summary)
            predicted = probabilities.argmax(axis=1)
            out |= groups.counted(asked.groups, raw, y, predicted, len(summary.classes), smallest)
        if asked.importance:
            out["importance"] = self._importance(validation, y, asked.importance, out["auc"])
        return MetricRecord(out)

    def _predict(self, arrays: ArrayRecord, x: Any) -> Probabilities:
        return self.model.predict(arrays, x, self.local.summary, self.local.run_config)

    def _alone(self, train: Any, validation: Any, rounds: int) -> Probabilities | None:
        """Predictions of the site's own model; None where it can make none, or it diverged."""
        try:
            arrays, own = personal.local_only(self.model, train, self.local, rounds)
        except FedsmError:  # one class, or rows that an unpenalised model separates
            return None
        x = own.transform(validation)
        return _usable(self.model.predict(arrays, x, own, self.local.run_config))

    def _tuned(self, train: Any, x: Any) -> Probabilities | None:
        rows, labels = self.local.summary.transform(train), self.local.summary.encode(train.labels)
        try:
            arrays = personal.personalize(self.model, self.arrays, rows, labels, self.local)
        except FedsmError:
            return None
        found = _usable(self._predict(arrays, x))
        if found is not None:
            self.state[STATE] = arrays
        return found

    def _importance(
        self, table: Any, y: Classes, features: tuple[str, ...], auc: float
    ) -> list[float]:
        """Mean drop of the AUC when a feature's values are shuffled, feature by feature.

        Breiman 2001, "Random forests", section 10, on rows that the model was not trained on.
        """
        drops = []
        for feature in features:
            generator = np.random.default_rng(0)
            shuffled = []
            for _ in range(REPEATS if math.isfinite(auc) else 0):
                mixed = permuted(table, feature, generator.permutation(len(table)))
                x = self.local.summary.transform(mixed)
                shuffled.append(classification(y, self._predict(self.arrays, x))["auc"])
            drops.append(auc - float(np.mean(shuffled)) if shuffled else math.nan)
        return drops


def measured(y: Classes, probabilities: Probabilities) -> Metrics:
    """``num-examples`` and the metrics of one model (``MODEL``); what is undefined is NaN.

    Intervals and calibration are of two classes only.
    """
    plain = classification(y, probabilities)
    out: Metrics = {name: plain[name] for name in (WEIGHT, *MODEL) if name in plain}
    nothing = [math.nan, math.nan]
    out |= {"auc-interval": nothing, "average-precision-interval": nothing}
    fit = scores.Calibration(math.nan, math.nan, math.nan)
    if probabilities.shape[1] == 2:
        tally = scores.tally(y == 1, probabilities[:, 1])
        for name, found in (
            ("auc", scores.auc(*tally)),
            ("average-precision", scores.average_precision(*tally)),
        ):
            out[f"{name}-interval"] = [found.low, found.high]
        fit = scores.calibration(y.astype(np.float64), probabilities[:, 1])
    return out | {
        "calibration-slope": fit.slope,
        "calibration-intercept": fit.intercept,
        "calibration-error": fit.error,
    }


def counted(y: Classes, probabilities: Probabilities, smallest: int) -> Metrics:
    """Counts of :data:`~fedsm.metric_names.COUNTS` by class, where no class has few rows.

    ``num-classes``, rows of each class; ``num-confusion``, rows by class and predicted class, row
    by row, if no cell is small; ``num-scores-positive`` and ``-negative``, gathered histograms of
    the probability of each class that is told from the rest, one after the other.
    """
    classes = probabilities.shape[1]
    rows = np.bincount(y, minlength=classes)
    if not len(y) or _few(rows, smallest):
        return {}
    out: Metrics = {"num-classes": rows.tolist()}
    confusion = np.zeros((classes, classes), dtype=np.int64)
    np.add.at(confusion, (y, probabilities.argmax(axis=1)), 1)
    if not _few(confusion, smallest):
        out["num-confusion"] = confusion.ravel().tolist()
    bins = score_counts.bins_for(classes)
    for name, wanted in (("positive", True), ("negative", False)):
        out[f"num-scores-{name}"] = [
            count
            for c in judged(classes)
            for count in score_counts.gathered(
                score_counts.histogram(probabilities[(y == c) == wanted, c], bins), smallest
            ).tolist()
        ]
    return out


def _compared(
    prefix: str,
    y: Classes,
    of: Probabilities | None,
    ours: Probabilities | None,
    alone: Probabilities | None,
) -> Metrics:
    """Metrics of a model under its prefix, and the gap of one model to the site's own."""
    if of is None:
        return {f"{prefix}{name}": math.nan for name in MODEL}
    found = measured(y, of)
    out: Metrics = {f"{prefix}{name}": found[name] for name in MODEL}
    if ours is not None and alone is not None and alone.shape[1] == 2:
        gap = scores.auc_difference(y == 1, ours[:, 1], alone[:, 1])
        out |= {f"{prefix}gap": gap.value, f"{prefix}gap-interval": [gap.low, gap.high]}
    return out


def _usable(probabilities: Probabilities) -> Probabilities | None:
    return probabilities if np.isfinite(probabilities).all() else None


def _few(counts: NDArray[np.int64] | NDArray[np.intp], smallest: int) -> bool:
    return bool(((counts > 0) & (counts < smallest)).any())
