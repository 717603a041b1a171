"""What a run is made of beside its sites: the strategy, the first arrays, a caller's additions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flwr.app import ArrayRecord
from flwr.serverapp.strategy import Strategy

from fedsm.bundle import code_of
from fedsm.config import FederationConfig
from fedsm.errors import ConfigError
from fedsm.learning.arrays import arrays_from_npz
from fedsm.learning.controls import Differentiable, not_differentiable
from fedsm.learning.exact_weights import parse_class_weights
from fedsm.learning.models import CUSTOM, Adapter, adapter
from fedsm.learning.preparation import Summary
from fedsm.learning.strategies import make_strategy
from fedsm.training import ConfigFn, EvaluateFn
from fedsm.training_config import Training


@dataclass(frozen=True, slots=True)
class Hooks:
    """What a caller may add to a run from Python.

    Attributes
    ----------
    initial : ArrayRecord, optional
        First global arrays.
    evaluate_fn : callable, optional
        ``(round, arrays, summary) -> metrics`` on the coordinator's own rows.
    config_fn : callable, optional
        ``round -> mapping`` sent to the sites with each message.
    """

    initial: ArrayRecord | None = None
    evaluate_fn: EvaluateFn | None = None
    config_fn: ConfigFn | None = None


def strategy_of(config: FederationConfig) -> Strategy:
    """The strategy that the configuration names.

    Raises
    ------
    ConfigError
        Its name or an option is wrong.
    """
    training = config.training
    return make_strategy(
        training.strategy,
        options_of(training.strategy, training.options, training.hyperparameters),
        min_sites=config.min_sites,
        sites=len(config.sites),
        rounds=training.rounds,
    )


def options_of(
    strategy: str, options: Mapping[str, Any], hyperparameters: Mapping[str, Any]
) -> dict[str, Any]:
    """The strategy's options; ``exact`` takes what is not among them from the hyperparameters.

    Raises
    ------
    ConfigError
        ``class-weights`` is none.
    """
    if strategy != "exact":
        return dict(options)
    # Where the model adapter reads them: they are given once.
    given = hyperparameters
    known: dict[str, Any] = {key: given[key] for key in ("c", "penalty") if key in given}
    if "class-weights" in given:
        known["class_weight"] = parse_class_weights(given["class-weights"])
    return known | dict(options)


def model_of(training: Training, project: Path) -> Adapter | None:
    """The model adapter that the configuration names; None without one.

    Raises
    ------
    ConfigError
        It lacks its library or its file, hyperparameters are wrong, or the strategy cannot train
        it.
    """
    if training.model is None:
        return None
    made = adapter(training.model, code_of(project))
    made.check(training.hyperparameters)
    if training.model != CUSTOM:
        parse_class_weights(training.hyperparameters.get("class-weights", "none"))
    if training.strategy == "scaffold" and not isinstance(made, Differentiable):
        raise not_differentiable(training.model)
    return made


def first_arrays(
    training: Training, hooks: Hooks, project: Path
) -> Callable[[Summary | None], ArrayRecord] | None:
    """Where the first arrays come from; ``None`` for a site.

    Raises
    ------
    TrainingError
        The ``.npz`` file that ``training.initial`` names cannot be read.
    ConfigError
        As :func:`model_of`.
    """
    made = model_of(training, project)
    if hooks.initial is not None:
        given = hooks.initial
        return lambda summary: given
    if training.initial.endswith(".npz"):
        arrays = arrays_from_npz(project / training.initial)
        return lambda summary: arrays
    if training.initial == "server" and made is not None:
        return lambda summary: made.initial(_known(summary), training.hyperparameters)
    return None


def _known(summary: Summary | None) -> Summary:
    if summary is None:
        raise ConfigError(
            "a model adapter needs the federation's statistics",
            where="training.prepare",
            action="set training.prepare: standardize",
        )
    return summary
