"""Flower's stock strategies by name.

All of ``flwr.serverapp.strategy``, and fedsm's own. A differential-privacy wrapper takes its own
options beside those of the strategy that it wraps, which the option ``strategy`` names (default
``fedavg``).
"""

from __future__ import annotations

import inspect
import random
import typing
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from flwr.app import ArrayRecord
from flwr.serverapp import strategy as flower
from flwr.serverapp.strategy import Strategy

from fedsm.errors import ConfigError
from fedsm.learning.exact import Exact
from fedsm.learning.metrics import aggregate_metrics
from fedsm.learning.scaffold import Scaffold
from fedsm.learning.tree_strategies import Bagging, Cyclic, growth
from fedsm.learning.trees import Growth
from fedsm.metric_names import WEIGHT

PLAIN: dict[str, type[Strategy]] = {
    "fedavg": flower.FedAvg,
    "fedavgm": flower.FedAvgM,
    "fedadagrad": flower.FedAdagrad,
    "fedadam": flower.FedAdam,
    "fedyogi": flower.FedYogi,
    "fedprox": flower.FedProx,
    "fedmedian": flower.FedMedian,
    "fedtrimmedavg": flower.FedTrimmedAvg,
    "qfedavg": flower.QFedAvg,
    "krum": flower.Krum,
    "multikrum": flower.MultiKrum,
    "bulyan": flower.Bulyan,
}

WRAPPERS: dict[str, type[Strategy]] = {
    "dp-server-fixed": flower.DifferentialPrivacyServerSideFixedClipping,
    "dp-server-adaptive": flower.DifferentialPrivacyServerSideAdaptiveClipping,
    "dp-client-fixed": flower.DifferentialPrivacyClientSideFixedClipping,
    "dp-client-adaptive": flower.DifferentialPrivacyClientSideAdaptiveClipping,
}

TREES: dict[str, type[Strategy]] = {"fedxgb-bagging": Bagging, "fedxgb-cyclic": Cyclic}

OWN: dict[str, type[Strategy]] = {"scaffold": Scaffold, "exact": Exact}

NAMES = (*PLAIN, *WRAPPERS, *TREES, *OWN)
"""Names that :func:`make_strategy` knows."""

_MINIMA = ("min_train_nodes", "min_evaluate_nodes", "min_available_nodes")
_NOT_OPTIONS = {
    "strategy",
    *_MINIMA,
    "train_metrics_aggr_fn",
    "evaluate_metrics_aggr_fn",
    "selection_rule",
    "accountant",
    "rounds",
}


def make_strategy(
    name: str,
    options: Mapping[str, Any],
    *,
    min_sites: int,
    sites: int,
    rounds: int | None = None,
) -> Strategy:
    """Make a Flower strategy.

    Parameters
    ----------
    name : str
        One of :data:`NAMES`.
    options : mapping of str to object
        Arguments of the strategy's constructor, in snake or kebab case.
    min_sites : int
        Becomes the strategy's minima of nodes.
    sites : int
        Sites of the run; a wrapper's ``num_sampled_clients`` where it is not given.
    rounds : int, optional
        Rounds of the run, for a strategy that must converge within them.

    Raises
    ------
    ConfigError
        The name or an option is unknown, missing, or not of its type or range; all are listed.
    """
    given = {key.replace("-", "_"): value for key, value in options.items()}
    if name in WRAPPERS:
        inner = given.pop("strategy", "fedavg")
        if inner not in PLAIN:
            raise _unknown(str(inner), "training.options.strategy", tuple(PLAIN))
        own = {key: given.pop(key) for key in _parameters(WRAPPERS[name]) if key in given}
        wrapped = _make(
            inner, PLAIN[inner], given, _parameters(WRAPPERS[name]), **_wiring(min_sites)
        )
        own.setdefault("num_sampled_clients", sites)
        return _make(name, WRAPPERS[name], own, {}, strategy=wrapped)
    if name == "exact":
        return _make(name, Exact, given, {}, rounds=rounds, min_available_nodes=min_sites)
    if name == "scaffold":
        return _make(name, Scaffold, given, {}, **_wiring(min_sites))
    stock = PLAIN | TREES
    if name not in stock:
        raise _unknown(name, "training.strategy", NAMES)
    return _make(name, stock[name], given, {}, **_wiring(min_sites))


def reply_arrays(strategy: Strategy, arrays: ArrayRecord) -> ArrayRecord | Growth:
    """What a train reply's arrays must be like: the model's, unless the strategy says otherwise."""
    if (grown := growth(strategy, arrays)) is not None:
        return grown
    return strategy.reply_arrays() if isinstance(strategy, Exact | Scaffold) else arrays


def finished(strategy: Strategy) -> bool:
    """Whether more rounds would change nothing."""
    return isinstance(strategy, Exact) and strategy.finished


def needed_metrics(strategy: Strategy) -> tuple[str, ...]:
    """Metrics of a train reply, beside the weight, from which the strategy computes the arrays."""
    if isinstance(strategy, flower.QFedAvg):
        return (strategy.train_loss_key,)
    if isinstance(strategy, flower.DifferentialPrivacyClientSideAdaptiveClipping):
        return ("norm_bit", *needed_metrics(strategy.strategy))
    inner = getattr(strategy, "strategy", None)
    return needed_metrics(inner) if isinstance(inner, Strategy) else ()


def weight_key(strategy: Strategy) -> str:
    """Key of the metric by which the strategy weights the sites."""
    inner = getattr(strategy, "strategy", None)
    if isinstance(inner, Strategy):
        return weight_key(inner)
    return str(getattr(strategy, "weighted_by_key", WEIGHT))


@contextmanager
def seeded(seed: int, server_round: int) -> Iterator[None]:
    """Make a strategy's sampling of sites repeatable.

    Flower samples with the global :mod:`random`, whose state is put back afterwards. NumPy's global
    generator is left alone: the noise of differential privacy comes from it and must stay secret.
    """
    state = random.getstate()
    random.seed(f"fedsm {seed} {server_round}")
    try:
        yield
    finally:
        random.setstate(state)


def _wiring(min_sites: int) -> dict[str, Any]:
    return {
        **dict.fromkeys(_MINIMA, min_sites),
        "train_metrics_aggr_fn": lambda records, key: aggregate_metrics(records, key),
        "evaluate_metrics_aggr_fn": lambda records, key: aggregate_metrics(records, key),
    }


def _make(
    name: str,
    kind: type[Strategy],
    options: Mapping[str, Any],
    also: Mapping[str, Any],
    **wiring: Any,
) -> Strategy:
    """Construct after checking; ``also`` are options that the caller has taken already."""
    valid = _parameters(kind)
    if "train_loss_key" in valid:  # Flower's default is in snake case, our metrics are not
        options = {"train_loss_key": "loss", **options}
    faults = [
        (f"training.options.{key}", _option_fault(key, value, valid))
        for key, value in options.items()
    ]
    faults += [
        (f"training.options.{key}", f"is needed by {name}")
        for key, parameter in valid.items()
        if parameter.default is inspect.Parameter.empty and key not in options
    ]
    wrong = tuple((field, text) for field, text in faults if text)
    if wrong:
        listed = ", ".join(sorted({*valid, *also})) or "none"
        raise ConfigError(
            f"the options of strategy {name} are wrong",
            where="training.options",
            action=f"its options are: {listed}",
            faults=wrong,
        )
    try:
        return kind(**options, **wiring)
    except ValueError as error:
        raise ConfigError(
            f"strategy {name} refuses its options: {error}",
            where="training.options",
            action="correct the value",
        ) from error


def _parameters(kind: type[Strategy]) -> dict[str, inspect.Parameter]:
    found = inspect.signature(kind, eval_str=True).parameters
    return {key: p for key, p in found.items() if key not in _NOT_OPTIONS}


def _option_fault(key: str, value: Any, valid: Mapping[str, inspect.Parameter]) -> str:
    if key in _MINIMA:
        return "is set from training.min_sites"
    if key not in valid:
        return "is not an option of this strategy"
    wanted = valid[key].annotation
    parts = typing.get_args(wanted) or (wanted,)
    kinds = {k for part in parts if isinstance(k := typing.get_origin(part) or part, type)}
    if float in kinds:
        kinds.add(int)
    if (isinstance(value, bool) and bool not in kinds) or not isinstance(value, tuple(kinds)):
        return f"must be {' or '.join(sorted(k.__name__ for k in kinds - {type(None)}))}"
    return ""


def _unknown(name: str, where: str, valid: tuple[str, ...]) -> ConfigError:
    return ConfigError(
        f"there is no strategy {name!r}", where=where, action=f"choose from {', '.join(valid)}"
    )
