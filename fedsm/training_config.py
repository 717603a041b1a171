"""The ``training`` part of a ``federation.yaml``: rounds, model, preparation and report."""

from __future__ import annotations

import math
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from fedsm.contract import MAX_BINS, MAX_ROUNDS, MIN_BINS
from fedsm.fields import Hyperparameter, Initial, Limit, Model, Seconds


class Prepare(Model):
    """How rows are prepared, by statistics summed over the sites before round 1.

    ``prepare: standardize`` is short for ``prepare: {scale: standardize}``. Which columns hold
    categories says the hyperparameter ``categories``.

    Attributes
    ----------
    scale
        ``standardize``: to mean 0 and variance 1; sparse rows to variance 1, uncentred.
        ``quantile``: to the value's rank, from 0 to 1, by the federation's quantiles. ``none``: as
        they are.
    impute
        What stands for a missing number: the federation's ``mean`` or ``median``.
    bins
        Of the histograms that quantiles and medians are read from.
    smallest
        Categories and bins of fewer rows at a site do not leave it; its owner's terms may ask for
        more.
    """

    scale: Literal["standardize", "quantile", "none"] = "standardize"
    impute: Literal["mean", "median"] = "mean"
    bins: int = Field(default=1024, ge=MIN_BINS, le=MAX_BINS)
    smallest: int = Field(default=5, ge=1)


class Best(Model):
    """Which round's model is the run's, and when more rounds are not worth their time.

    Attributes
    ----------
    metric
        Name of the metric; higher is better but for losses and errors.
    of
        Measured on the ``sites``' validation rows, or on the coordinator's (``server``).
    patience
        Rounds without improvement after which the run ends; without it, all rounds are gone
        through.
    min_delta
        What counts as improvement.
    """

    metric: str = "loss"
    of: Literal["sites", "server"] = "sites"
    patience: int | None = Field(default=None, ge=1)
    min_delta: float = Field(default=0.0, ge=0)


class Report(Model):
    """The evaluation of the final model at every site, on its validation rows.

    Attributes
    ----------
    local_only
        Whether each site also trains on its own rows alone, to see what joining is worth.
    personalize
        Whether each site fine-tunes the model for itself, close to the federation's.
    groups
        Columns by which the model is looked at, such as ``sex``; to each the edges of its bands
        (``[40, 65]``), or none where its values are the groups.
    importance
        Whether each feature's permutation importance is measured.
    smallest
        Groups and counts of fewer rows are left out.
    """

    local_only: bool = True
    personalize: bool = False
    groups: dict[str, tuple[float, ...]] = {}
    importance: bool = False
    smallest: int = Field(default=5, ge=1)

    @field_validator("groups")
    @classmethod
    def _ascending(cls, groups: dict[str, tuple[float, ...]]) -> dict[str, tuple[float, ...]]:
        for name, edges in groups.items():
            if not all(a < b for a, b in pairwise((-math.inf, *edges, math.inf))):
                raise ValueError(f"the edges of {name} do not ascend")
        return groups


ModelName = Literal[
    "logistic-regression", "sgd-classifier", "mlp-classifier", "pytorch", "xgboost", "custom"
]
"""Names of the adapters in fedsm.learning.models, which is too heavy to import here."""


class Training(Model):
    """The rounds.

    Attributes
    ----------
    strategy, options
        A Flower strategy by name, and its constructor's options.
    hyperparameters
        Reach every site as Flower's ``run_config``; kebab-case names.
    limits
        What ``fedsm site invite`` asks the owners to allow beyond these values, by name.
    model
        Adapter that trains and turns arrays into ``model.joblib``, or ``custom`` for that of
        ``client_code/model.py`` (docs/models.md); without it both sides get ``model.npz``.
    prepare
        How rows are scaled and imputed; see :class:`Prepare`.
    initial
        Where the first arrays come from: the model adapter on the ``server``, a ``site`` (it
        answers Flower's ``query.initial``), or the path of an ``.npz`` file.
    test
        CSV with the coordinator's own test rows, or sparse rows as ``.npz``; the label column is
        the hyperparameter ``label``, or ``target``.
    best
        Keep the best round's model rather than the last's; see :class:`Best`.
    report
        The final evaluation; see :class:`Report`. ``null`` for none.
    min_sites
        Fewest sites a round may have; without it two, as in Flower, or one for a single site.
    join_deadline, round_deadline, max_wait
        Seconds: for round 1 to start, for a round to end, for a job to wait for a coordinator.
    """

    rounds: int = Field(default=3, ge=1, le=MAX_ROUNDS)
    strategy: str = "fedavg"
    options: dict[str, Any] = {}
    hyperparameters: Annotated[
        dict[Hyperparameter, bool | int | float | str], Field(max_length=90)
    ] = {}
    limits: Annotated[dict[Hyperparameter, Limit], Field(max_length=90)] = {}
    model: ModelName | None = None
    prepare: Prepare | None = None
    initial: Initial = "server"
    test: Path | None = None
    best: Best | None = None
    report: Report | None = Report()
    min_sites: int | None = Field(default=None, ge=1)
    join_deadline: Seconds = 900
    round_deadline: Seconds = 600
    max_wait: Seconds = 600
    seed: int = 0

    @field_validator("prepare", mode="before")
    @classmethod
    def _short(cls, value: Any) -> Any:
        return {"scale": value} if isinstance(value, str) else value
