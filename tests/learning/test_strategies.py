from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from fedsm.errors import ConfigError
from fedsm.learning.strategies import (
    PLAIN,
    TREES,
    WRAPPERS,
    make_strategy,
    needed_metrics,
    seeded,
    weight_key,
)
from tests.learning.inprocess import InProcessGrid

NEEDED: dict[str, dict[str, Any]] = {
    "qfedavg": {"client_learning_rate": 0.1},
    "dp-server-fixed": {"noise_multiplier": 0.0, "clipping_norm": 10.0},
    "dp-server-adaptive": {"noise_multiplier": 0.0},
    "dp-client-fixed": {"noise_multiplier": 0.0, "clipping_norm": 10.0},
    "dp-client-adaptive": {"noise_multiplier": 0.0, "strategy": "fedavgm"},
}


def app() -> ClientApp:
    """A site that moves each parameter by its own node id."""
    made = ClientApp()

    @made.train()
    def train(message: Message, context: Any) -> Message:
        w = message.content.array_records["arrays"]["w"].numpy()
        metrics = {"num-examples": 10, "loss": 0.5, "norm_bit": 1}
        arrays = ArrayRecord({"w": Array(w + 0.01 * context.node_id)})
        content = RecordDict({"arrays": arrays, "metrics": MetricRecord(metrics)})
        return Message(content, reply_to=message)

    return made


# fedsm's own have sites of their own: see test_exact.py and test_scaffold.py.
@pytest.mark.parametrize("name", [*PLAIN, *WRAPPERS])
def test_every_strategy_goes_through_a_round(name: str) -> None:
    grid = InProcessGrid(app(), [{}] * 6)
    strategy = make_strategy(name, NEEDED.get(name, {}), min_sites=2, sites=6)
    arrays = ArrayRecord({"w": Array(np.zeros(3))})
    messages = list(strategy.configure_train(1, arrays, ConfigRecord({}), grid))
    assert len(messages) == 6
    aggregated, metrics = strategy.aggregate_train(1, grid.send_and_receive(messages))
    assert aggregated is not None
    w = aggregated["w"].numpy()
    assert np.isfinite(w).all()
    assert (w > 0).all()
    assert metrics is not None
    assert metrics["loss"] == 0.5
    assert metrics["num-examples"] >= 10


def test_minima_follow_min_sites() -> None:
    grid = InProcessGrid(app(), [{}] * 1)
    strategy = make_strategy("fedavg", {}, min_sites=1, sites=4)
    arrays = ArrayRecord({"w": Array(np.zeros(1))})
    assert len(list(strategy.configure_train(1, arrays, ConfigRecord({}), grid))) == 1


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("fedsgd", {}, "choose from fedavg, fedavgm"),
        ("fedxgbbagging", {}, "there is no strategy"),
        ("fedavg", {"beta_1": 0.9}, "training.options.beta_1: is not an option"),
        ("fedadam", {"beta-1": "high"}, "training.options.beta_1: must be float or int"),
        ("fedavgm", {"server_momentum": True}, "training.options.server_momentum: must be"),
        ("fedavg", {"min_train_nodes": 3}, "is set from training.min_sites"),
        ("fedavg", {"train_metrics_aggr_fn": 3}, "is not an option"),
        ("qfedavg", {}, "training.options.client_learning_rate: is needed by qfedavg"),
        ("fedtrimmedavg", {"beta": 0.7}, "refuses its options"),
        ("dp-server-fixed", {"noise_multiplier": 1.0}, "clipping_norm: is needed"),
        ("dp-server-fixed", {"strategy": "dp-client-fixed"}, "choose from fedavg"),
        ("dp-client-adaptive", {"noise_multiplier": 1.0, "eta": 1}, "eta: is not an option"),
    ],
)
def test_a_wrong_name_or_option_says_what_is_valid(
    name: str, options: dict[str, Any], said: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        make_strategy(name, options, min_sites=2, sites=3)
    assert said in str(caught.value)


def test_all_faults_of_the_options_are_listed() -> None:
    with pytest.raises(ConfigError) as caught:
        make_strategy("fedadam", {"eta": "x", "tau": None, "mu": 1}, min_sites=2, sites=3)
    assert len(caught.value.faults) == 3


def test_options_reach_the_strategy_and_what_it_wraps() -> None:
    options = {"noise-multiplier": 0, "strategy": "fedadam", "eta": 0.5}
    made: Any = make_strategy("dp-server-adaptive", options, min_sites=2, sites=7)
    assert (made.noise_multiplier, made.num_sampled_clients, made.strategy.eta) == (0, 7, 0.5)


def test_what_a_strategy_reads_of_a_reply() -> None:
    def of(name: str, **more: Any) -> tuple[str, ...]:
        options = {**NEEDED.get(name, {}), **more}
        return needed_metrics(make_strategy(name, options, min_sites=2, sites=2))

    assert of("fedavg") == ()
    assert of("qfedavg") == ("loss",)
    assert of("dp-client-adaptive") == ("norm_bit",)
    assert of("dp-server-fixed", strategy="qfedavg", client_learning_rate=0.1) == ("loss",)
    weighted = make_strategy(
        "dp-server-adaptive", {"noise_multiplier": 0, "weighted_by_key": "n"}, min_sites=2, sites=2
    )
    assert weight_key(weighted) == "n"


def test_sampling_repeats_and_leaves_the_generator_alone() -> None:
    def draw(seed: int, number: int) -> list[int]:
        with seeded(seed, number):
            return random.sample(range(1000), 5)

    random.seed(1)
    expected = random.random()
    random.seed(1)
    first = draw(0, 1)
    assert random.random() == expected
    assert draw(0, 1) == first
    assert draw(0, 2) != first != draw(1, 1)


def test_the_names_cover_flowers_strategies() -> None:
    from flwr.serverapp import strategy as flower

    ours = {kind.__name__ for kind in (*PLAIN.values(), *WRAPPERS.values())}
    ours |= {kind.__bases__[0].__name__ for kind in TREES.values()}  # over checked trees
    theirs = {name for name in flower.__all__ if name not in ("Result", "Strategy")}
    assert theirs == ours
