"""What a run is made of beside its sites: the strategy, the first arrays, a caller's additions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from flwr.app import ArrayRecord
from flwr.serverapp.strategy import Strategy

from fedsm.config import FederationConfig, Training
from fedsm.errors import ConfigError
from fedsm.learning.arrays import arrays_from_npz
from fedsm.learning.models import adapter
from fedsm.learning.preparation import Summary
from fedsm.learning.strategies import make_strategy
from fedsm.training import ConfigFn, EvaluateFn


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
    options = dict(training.options)
    if training.strategy == "exact":
        # Where the model adapter reads them: they are given once.
        given = training.hyperparameters
        options = {key: given[key] for key in ("c", "penalty") if key in given} | options
    return make_strategy(
        training.strategy,
        options,
        min_sites=config.min_sites,
        sites=len(config.sites),
        rounds=training.rounds,
    )


def first_arrays(
    training: Training, hooks: Hooks, project: Path
) -> Callable[[Summary | None], ArrayRecord] | None:
    """Where the first arrays come from; ``None`` for a site.

    Raises
    ------
    TrainingError
        The ``.npz`` file that ``training.initial`` names cannot be read.
    """
    if hooks.initial is not None:
        given = hooks.initial
        return lambda summary: given
    if training.initial.endswith(".npz"):
        arrays = arrays_from_npz(project / training.initial)
        return lambda summary: arrays
    if training.initial == "server" and training.model is not None:
        made = adapter(training.model)
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
