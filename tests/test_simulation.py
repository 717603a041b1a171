"""Federations in one process give what federations over the transport give."""

from __future__ import annotations

import cProfile
import json
import pstats
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from fedsm.datasets import SiteTables, breast_cancer
from fedsm.errors import ConfigError, DataError
from fedsm.events import Journal, read
from fedsm.learning.models import adapter
from fedsm.learning.site_app import tabular_app
from fedsm.learning.strategies import make_strategy
from fedsm.simulation import Simulation, simulate
from fedsm.training import Loop, Rounds
from fedsm.training_config import Best, Prepare, Report
from fedsm.transport.notes import take_head
from tests.transport.world import World

DATA = breast_cancer()


def over_the_transport(strategy: str, rounds: int, folder: Path) -> ArrayRecord:
    world = World(tuple(DATA.sites))
    try:
        for node, (site, tables) in enumerate(DATA.sites.items(), start=2):
            app = tabular_app(lambda _, t=tables: t.train, lambda _, t=tables: t.validation)
            context = Context(1, node, {}, RecordDict(), {})

            def handle(message: Message, app: Any = app, context: Any = context) -> Message:
                take_head(message.content)
                answer: Message = app(message, context)
                return answer

            world.join(site, handle)
        world.wait(len(DATA.sites))
        loop = Loop(
            world.grid,
            make_strategy(strategy, {}, min_sites=4, sites=4, rounds=rounds),
            Rounds(
                rounds=rounds,
                sites=tuple(DATA.sites),
                min_sites=4,
                join_deadline=10.0,
                round_deadline=10.0,
                seed=0,
                prepare=Prepare(),
            ),
            Journal(folder / "events.jsonl"),
            folder,
            initial=lambda summary: adapter("logistic-regression").initial(summary, {}),
        )
        return loop.run().arrays
    finally:
        world.close()


@pytest.mark.parametrize(("strategy", "rounds"), [("fedavg", 3), ("exact", 12)])
def test_the_arrays_are_those_of_the_transport_to_the_last_bit(
    strategy: str, rounds: int, tmp_path: Path
) -> None:
    found = simulate(DATA.sites, strategy, rounds=rounds)
    wanted = over_the_transport(strategy, rounds, tmp_path)
    assert list(found.arrays) == list(wanted)
    for name, array in found.arrays.items():
        np.testing.assert_array_equal(array.numpy(), wanted[name].numpy(), strict=True)


def test_it_tells_what_a_run_tells(tmp_path: Path) -> None:
    found = simulate(DATA.sites, rounds=2, test=DATA.test, directory=tmp_path)
    assert [row["round"] for row in found.history] == [1, 2]
    assert found.history[-1]["server"] == found.evaluate(DATA.test)
    assert found.evaluate(DATA.test)["auc"] > 0.98
    assert {row["site"] for row in found.sites} == set(DATA.sites)
    assert len(found.sites) == 2 * 2 * len(DATA.sites)
    assert not found.errors
    predicted = found.build().predict(DATA.test.features)
    assert (predicted == DATA.test.labels).mean() == found.evaluate(DATA.test)["accuracy"]
    assert "round-ended" in {event.kind for event in read(tmp_path / "events.jsonl")}
    assert (tmp_path / "checkpoints" / "round-0002.npz").exists()


def counting_app(*_: Any) -> ClientApp:
    """Each site counts its messages, spoils what it was given, and ``south`` fails at the first."""
    app = ClientApp()

    @app.query("statistics")
    def statistics(message: Message, context: Context) -> Message:
        site = tabular_app(lambda c: rows_of(c).train, lambda c: rows_of(c).validation)
        return site(message, context)

    @app.train()
    def train(message: Message, context: Context) -> Message:
        count = context.state.setdefault("count", MetricRecord({"n": 0}))
        count["n"] += 1  # type: ignore[operator, call-overload]
        config = message.content.config_records["config"]
        assert "spoilt" not in config
        config["spoilt"] = True
        if context.node_config["site"] == "south" and count["n"] == 1:  # type: ignore[call-overload]
            raise DataError("its rows are unreadable")
        metrics = MetricRecord({"num-examples": 1})
        arrays = message.content.array_records["arrays"]
        return Message(RecordDict({"arrays": arrays, "metrics": metrics}), reply_to=message)

    @app.evaluate()
    def evaluate(message: Message, context: Context) -> Message:
        return Message(RecordDict({"m": MetricRecord({"num-examples": 1})}), reply_to=message)

    return app


def rows_of(context: Context) -> SiteTables:
    return DATA.sites[str(context.node_config["site"])]


def test_sites_share_nothing_and_one_that_fails_is_told_of() -> None:
    found: Simulation = simulate(DATA.sites, rounds=2, make_app=counting_app, min_sites=3)
    assert {s: c.state["count"]["n"] for s, c in found.contexts.items()} == dict.fromkeys(
        DATA.sites, 2
    )
    (error,) = found.errors
    assert (error["round"], error["phase"], error["site"]) == (1, "train", "south")
    assert "unreadable" in error["error"]


def test_the_final_evaluation_is_a_runs(tmp_path: Path) -> None:
    found = simulate(
        DATA.sites, rounds=3, report=Report(), best=Best(), test=DATA.test, directory=tmp_path
    )
    assert found.outcome.best == 3
    assert found.report["round"] == 3
    for site, tables in DATA.sites.items():
        told = found.report["sites"][site]
        assert told["auc"]["value"] == pytest.approx(found.evaluate(tables.validation)["auc"])
        assert told["local_only"]["auc"]["value"] > 0.9
    assert found.report["server"]["n"] == len(DATA.test)
    assert json.loads((tmp_path / "report.json").read_text()) == found.report
    assert not simulate(DATA.sites, rounds=1).report


def test_what_is_wrong_is_refused_before_anything_runs() -> None:
    with pytest.raises(ConfigError, match="fedavg"):
        simulate(DATA.sites, "fedbest", rounds=1)
    with pytest.raises(ConfigError, match="logistic-regression"):
        simulate(DATA.sites, rounds=1, model="forest")


def test_exact_takes_the_hyperparameters_as_a_run_does() -> None:
    def coefficients(**given: Any) -> np.ndarray:
        found = simulate(DATA.sites, "exact", rounds=20, **given)
        return np.concatenate([a.numpy().ravel() for a in found.arrays.values()])

    options = {"c": 0.01, "class_weight": "balanced"}
    wanted = coefficients(options=options)
    found = coefficients(hyperparameters={"c": 0.01, "class-weights": "balanced"})
    np.testing.assert_array_equal(found, wanted)
    # What is given as an option stands.
    both = coefficients(options=options, hyperparameters={"c": 5.0, "class-weights": "none"})
    np.testing.assert_array_equal(both, wanted)


def calls(sites: int) -> int:
    """Function calls of two rounds: a measure of work that does not depend on the machine."""
    table = DATA.sites["north"].train
    tables = {
        f"site-{i:03d}": SiteTables(table.take(np.arange(20)), table.take(np.arange(20, 30)))
        for i in range(sites)
    }
    profile = cProfile.Profile()
    profile.enable()
    simulate(tables, rounds=2)
    profile.disable()
    return int(pstats.Stats(profile).total_calls)  # type: ignore[attr-defined]


def test_work_grows_with_the_number_of_sites_and_no_faster() -> None:
    calls(2)  # what is imported and cached at first use
    few, more, most = calls(20), calls(40), calls(60)
    assert most - more == pytest.approx(more - few, rel=0.02)
