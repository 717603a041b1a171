"""The exact strategy through the round loop, the transport and the shipped app."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import Context, Message, RecordDict
from sklearn.linear_model import LogisticRegression

from fedsm.datasets import breast_cancer, write_channels
from fedsm.errors import ConfigError
from fedsm.events import Journal, read
from fedsm.learning.exact_site import to_matrix
from fedsm.learning.models import adapter
from fedsm.learning.strategies import make_strategy
from fedsm.learning.tables import concatenate
from fedsm.report import rounds_table
from fedsm.state import fold
from fedsm.training import Loop, Rounds
from fedsm.training_config import Prepare
from tests.learning.inprocess import ROOT, fresh_app
from tests.transport.world import World

DATA = breast_cancer()
SITES = tuple(DATA.sites)


Handlers = dict[str, Callable[[Message], Message]]
"""Site to what answers its messages; a test may put another in its place before the run."""


@pytest.fixture
def handlers(tmp_path: Path) -> Handlers:
    app = fresh_app(ROOT / "client_code")
    made: Handlers = {}
    for number, (site, channels) in enumerate(write_channels(DATA, tmp_path).items(), start=2):
        folders = {f"channel-{name}": str(path) for name, path in channels.items()}
        context = Context(1, number, folders, RecordDict(), {})
        made[site] = lambda message, context=context: app(message, context)
    return made


@pytest.fixture
def world(handlers: Handlers) -> Iterator[World]:
    made = World(SITES)
    for site in SITES:
        made.join(site, lambda message, site=site: handlers[site](message))
    made.wait(len(SITES))
    yield made
    made.close()


def loop(world: World, folder: Path, rounds: int, **options: Any) -> Loop:
    return Loop(
        world.grid,
        make_strategy("exact", options, min_sites=2, sites=len(SITES), rounds=rounds),
        Rounds(rounds, SITES, 2, 10.0, 30.0, seed=0, prepare=Prepare()),
        Journal(folder / "events.jsonl"),
        folder,
        initial=lambda summary: adapter("logistic-regression").initial(summary, {}),
    )


def test_it_ends_at_the_pooled_optimum_before_its_rounds_do(world: World, tmp_path: Path) -> None:
    outcome = loop(world, tmp_path, 50, class_weight={"1": 2.0}).run()
    assert outcome.summary is not None
    rows = concatenate([tables.train for tables in DATA.sites.values()])
    pooled = LogisticRegression(solver="newton-cholesky", tol=1e-10, class_weight={1: 2.0})
    pooled.fit(outcome.summary.transform(rows), outcome.summary.encode(rows.labels))
    expected = np.column_stack([pooled.coef_, pooled.intercept_])
    np.testing.assert_allclose(to_matrix(outcome.arrays), expected, atol=1e-6)
    assert len(outcome.history) <= 10
    assert outcome.history[-1]["train"]["converged"] == 1
    assert outcome.history[-1]["evaluate"]["auc"] > 0.98
    events = list(read(tmp_path / "events.jsonl"))
    assert not [e for e in events if e.kind == "site-error"]
    assert str(rounds_table(fold(events)).title).endswith(", converged")


def test_a_site_that_answers_something_else_is_left_out(
    world: World, handlers: Handlers, tmp_path: Path
) -> None:
    site = SITES[0]
    usual = handlers[site]

    def other(message: Message) -> Message:
        reply = usual(message)
        if message.metadata.message_type == "train":
            del reply.content.array_records["arrays"]["hessian"]
        return reply

    handlers[site] = other
    history = loop(world, tmp_path, 50).run().history
    assert history[-1]["train"]["sites"] == len(SITES) - 1
    (fault, *_) = [e.data for e in read(tmp_path / "events.jsonl") if e.kind == "site-error"]
    assert (fault["site"], fault["error"]) == (site, "array 'hessian' is missing")


def test_options_are_checked_like_any_strategys() -> None:
    with pytest.raises(ConfigError) as caught:
        make_strategy("exact", {"c": "much", "rounds": 3, "beta": 1}, min_sites=2, sites=2)
    assert len(caught.value.faults) == 3
    with pytest.raises(ConfigError, match="refuses its options: penalty must be one of"):
        make_strategy("exact", {"penalty": "l1"}, min_sites=2, sites=2)
