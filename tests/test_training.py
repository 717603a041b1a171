"""The round loop over real streams: quorum, deadlines, checks, late sites, sampling."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, Message, MetricRecord, RecordDict

from fedsm.errors import JobError, QuorumLost, StoppedEarly, TrainingError
from fedsm.events import Journal, read
from fedsm.learning.arrays import arrays_from_npz
from fedsm.learning.strategies import PLAIN, make_strategy
from fedsm.training import Loop, Outcome, Rounds
from fedsm.training_config import Prepare
from fedsm.transport.notes import WITHHELD, Head, Withheld, take_head
from tests.transport.world import World, eventually

SITES = ("a", "b", "c", "d")


def learner(shift: float, *, sleep: threading.Event | None = None) -> Callable[[Message], Message]:
    """A site that moves the arrays halfway to ``shift``, and may be held up in train."""

    def handle(message: Message) -> Message:
        kind = message.metadata.message_type
        metrics = MetricRecord({"num-examples": 10, "loss": 0.5})
        if kind == "query.initial":
            return Message(RecordDict({"arrays": ArrayRecord([np.full(3, 7.0)])}), reply_to=message)
        if kind == "train":
            if sleep is not None:
                sleep.wait(20)
            (array,) = message.content.array_records["arrays"].to_numpy_ndarrays()
            moved = ArrayRecord([(array + shift) / 2])
            return Message(RecordDict({"arrays": moved, "metrics": metrics}), reply_to=message)
        return Message(RecordDict({"metrics": metrics}), reply_to=message)

    return handle


class Bench:
    """A world with a journal, from which loops are made."""

    def __init__(self, world: World, directory: Path) -> None:
        self.world = world
        self.directory = directory
        self.ended: dict[str, str] = {}
        self._numbers = itertools.count()

    def loop(self, strategy: str = "fedavg", options: Any = None, **changes: Any) -> Loop:
        number = next(self._numbers)
        checkpoints = self.directory / f"checkpoints-{number}"
        checkpoints.mkdir()
        self.journal = Journal(self.directory / f"events-{number}.jsonl")
        hooks = {
            key: changes.pop(key)
            for key in ("initial", "evaluate_fn", "config_fn", "stopping")
            if key in changes
        }
        settings = {
            "rounds": 2,
            "sites": SITES,
            "min_sites": 2,
            "join_deadline": 10.0,
            "round_deadline": 10.0,
            "seed": 0,
            "prepare": None,
            **changes,
        }
        return Loop(
            self.world.grid,
            make_strategy(
                strategy, options or {}, min_sites=settings["min_sites"], sites=len(SITES)
            ),
            Rounds(**settings),
            self.journal,
            checkpoints,
            **{
                "initial": lambda _: ArrayRecord([np.zeros(3)]),
                "ended": lambda: dict(self.ended),
                **hooks,
            },
        )

    def events(self, kind: str) -> list[Mapping[str, Any]]:
        return [event.data for event in read(self.journal.path) if event.kind == kind]


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    world = World(SITES)
    yield Bench(world, tmp_path)
    world.close()


def join_all(bench: Bench) -> None:
    for site in SITES:
        bench.world.join(site, learner(1.0))
    bench.world.wait(len(SITES))


def only(outcome: Outcome) -> float:
    (array,) = outcome.arrays.to_numpy_ndarrays()
    return float(array[0])


def test_rounds_aggregate_and_leave_checkpoints(bench: Bench) -> None:
    join_all(bench)
    outcome = bench.loop(evaluate_fn=lambda number, arrays, summary: {"auc": number / 10}).run()
    assert only(outcome) == pytest.approx(0.75)
    assert [row["server"] for row in outcome.history] == [{"auc": 0.1}, {"auc": 0.2}]
    saved = bench.events("checkpoint")[-1]
    (last,) = arrays_from_npz(Path(saved["path"])).to_numpy_ndarrays()
    assert last[0] == only(outcome)
    metrics = bench.events("site-metrics")
    assert len(metrics) == 2 * 2 * len(SITES)
    assert all(m["sent"] > 0 and m["received"] > 0 for m in metrics)


NEEDED: dict[str, dict[str, Any]] = {
    "qfedavg": {"client_learning_rate": 0.1},
    "dp-server-fixed": {"noise_multiplier": 0.0, "clipping_norm": 10.0},
    "dp-server-adaptive": {"noise_multiplier": 0.5, "clipped_count_stddev": 5.0},
}


# Client-side differential privacy needs an app that clips: see tests/learning.
@pytest.mark.parametrize("name", [*PLAIN, "dp-server-fixed", "dp-server-adaptive"])
def test_every_strategy_runs(bench: Bench, name: str) -> None:
    join_all(bench)
    outcome = bench.loop(name, NEEDED.get(name)).run()
    assert len(outcome.history) == 2
    assert np.isfinite(only(outcome))


def test_it_starts_at_the_join_deadline_and_a_late_site_enters_the_next_round(
    bench: Bench,
) -> None:
    for site in SITES[:2]:
        bench.world.join(site, learner(1.0))

    def late(number: int) -> dict[str, Any]:
        if number == 1:
            bench.world.join("c", learner(1.0))
            bench.world.wait(3)
        return {}

    bench.loop(join_deadline=0.5, config_fn=late).run()
    started = [set(data["sites"]) for data in bench.events("round-started")]
    assert started == [{"a", "b"}, {"a", "b", "c"}]


def test_too_few_at_the_join_deadline(bench: Bench) -> None:
    bench.world.join("a", learner(1.0))
    with pytest.raises(QuorumLost, match=r"1 of 2 sites joined.*missing: b, c, d"):
        bench.loop(join_deadline=0.3).run()


def test_a_job_that_ends_before_it_joins_is_reported_at_once(bench: Bench) -> None:
    bench.ended = dict.fromkeys(SITES[1:], "AlgorithmError: no rows")
    with pytest.raises(JobError, match="b, c, d: AlgorithmError: no rows"):
        bench.loop(join_deadline=60).run()


def test_a_slow_site_misses_the_round_and_the_others_go_on(bench: Bench) -> None:
    held = threading.Event()
    for site in SITES[:3]:
        bench.world.join(site, learner(1.0))
    bench.world.join("d", learner(1.0, sleep=held))
    bench.world.wait(4)
    try:
        outcome = bench.loop(rounds=1, round_deadline=1.0).run()
    finally:
        held.set()
    assert only(outcome) == 0.5
    faults = bench.events("site-error")
    assert {(f["site"], f["phase"]) for f in faults} >= {("d", "train")}
    assert "within the round deadline of 1 s" in faults[0]["error"]


def test_quorum_is_lost_when_too_few_are_left(bench: Bench) -> None:
    join_all(bench)

    def leave(number: int) -> dict[str, Any]:
        if number == 2:
            for site in SITES[:3]:
                bench.ended[site] = "its job is Failed"
                bench.world.grid.end_site(site, "its job is Failed")
        return {}

    with pytest.raises(QuorumLost, match="min_sites is 2"):
        bench.loop(config_fn=leave).run()
    assert len(bench.events("checkpoint")) == 1


def test_first_arrays_from_a_site(bench: Bench) -> None:
    join_all(bench)
    outcome = bench.loop(initial=None, rounds=1).run()
    assert only(outcome) == pytest.approx(4.0)
    assert [data["site"] for data in bench.events("initial")] == ["a"]


@pytest.mark.parametrize("late", [False, True])
def test_a_site_that_has_no_first_arrays_is_journalled(bench: Bench, late: bool) -> None:
    held = threading.Event()

    def none(message: Message) -> Message:
        if late:
            held.wait(20)
        return Message(RecordDict(), reply_to=message)

    bench.world.join("a", none)
    bench.world.join("b", learner(1.0))
    bench.world.wait(2)
    try:
        bench.loop(initial=None, rounds=1, join_deadline=0.1, round_deadline=1.0, min_sites=1).run()
    finally:
        held.set()
    first = bench.events("site-error")[0]
    assert (first["round"], first["phase"], first["site"]) == (0, "query.initial", "a")
    assert ("no reply within the round deadline" in first["error"]) == late
    assert [data["site"] for data in bench.events("initial")] == ["b"]


def test_sampling_is_seeded(bench: Bench) -> None:
    join_all(bench)

    def sampled(seed: int) -> list[frozenset[str]]:
        bench.loop(options={"fraction_train": 0.5}, rounds=6, seed=seed).run()
        rounds: dict[int, set[str]] = {}
        for data in bench.events("site-metrics"):
            if data["phase"] == "train":
                rounds.setdefault(data["round"], set()).add(data["site"])
        return [frozenset(rounds[n]) for n in sorted(rounds)]

    first = sampled(1)
    assert first == sampled(1)
    assert first != sampled(2)
    assert {len(sites) for sites in first} == {2}


def test_a_site_with_other_metrics_is_left_out(bench: Bench) -> None:
    join_all(bench)
    odd = learner(1.0)

    def other(message: Message) -> Message:
        reply = odd(message)
        reply.content.metric_records["metrics"]["extra"] = 1.0
        return reply

    bench.world.join("d", other)
    eventually(lambda: bench.world.happened("site-joined", site="d", again=True))
    bench.loop(rounds=1).run()
    faults = bench.events("site-error")
    assert {f["site"] for f in faults} == {"d"}
    assert "extra" in faults[0]["error"]


def test_stopping_ends_after_the_round_under_way(bench: Bench) -> None:
    join_all(bench)
    asked = threading.Event()

    def ask(*_: Any) -> dict[str, float]:
        asked.set()
        return {}

    outcome = bench.loop(rounds=50, stopping=asked.is_set, evaluate_fn=ask).run()
    assert outcome.stopped
    assert len(outcome.history) == 1


def spoiled(**changes: Any) -> Callable[[Message], Message]:
    """A site that answers as the others do, but for what ``changes`` says of its records."""
    honest = learner(1.0)

    def handle(message: Message) -> Message:
        reply = honest(message)
        content = reply.content
        if "metrics" in changes:
            content.metric_records["metrics"].update(changes["metrics"])
        if "array" in changes and content.array_records:
            content["arrays"] = ArrayRecord([changes["array"]])
        if "rename" in changes:
            content[changes["rename"]] = content.pop("metrics")
        return reply

    return handle


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"metrics": {"loss": [0.5]}}, "records differ"),
        ({"rename": "x"}, "records differ"),
        ({"metrics": {"num-examples": 1e300}}, "larger than any number of rows"),
        ({"metrics": {"bad\x1b": 1.0}}, "not printable"),
        ({"metrics": {f"m{i}": 1.0 for i in range(300)}}, "256 at most"),
        ({"array": np.full(3, 1.7e308)}, "absurdly large"),
        ({"array": np.zeros(4)}, "has shape"),
    ],
)
def test_an_odd_reply_costs_its_own_site_only(
    bench: Bench, changes: dict[str, Any], said: str
) -> None:
    for site in SITES[1:]:
        bench.world.join(site, learner(1.0))
    bench.world.join("a", spoiled(**changes))
    bench.world.wait(4)
    outcome = bench.loop(rounds=1).run()
    assert only(outcome) == 0.5
    faults = bench.events("site-error")
    assert {f["site"] for f in faults} == {"a"}
    assert said in faults[0]["error"]


def test_every_message_carries_the_journals_head_and_no_other_site_has_another(
    bench: Bench,
) -> None:
    heads: dict[str, list[Head]] = {site: [] for site in SITES}

    def keeper(site: str) -> Callable[[Message], Message]:
        honest = learner(1.0)

        def handle(message: Message) -> Message:
            head = take_head(message.content)
            assert head is not None
            heads[site].append(head)
            return honest(message)

        return handle

    for site in SITES:
        bench.world.join(site, keeper(site))
    bench.world.wait(len(SITES))
    bench.loop().run()
    hashes = {event.seq: event.hash for event in read(bench.journal.path)}
    assert [head.round for head in heads["a"]] == [1, 1, 2, 2]
    assert all(hashes[head.seq] == head.hash for head in heads["a"])
    assert all(heads[site] == heads["a"] for site in SITES)


def test_what_sites_withhold_is_named_and_left_out_of_the_averages(bench: Bench) -> None:
    def withholds(note: Withheld) -> Callable[[Message], Message]:
        honest = learner(1.0)

        def handle(message: Message) -> Message:
            reply = honest(message)
            del reply.content["metrics"]["loss"]
            reply.content[WITHHELD] = note.record()
            return reply

        return handle

    bench.world.join("a", learner(1.0))
    bench.world.join("b", learner(1.0))
    bench.world.join("c", withholds(Withheld(names=("loss",))))
    bench.world.join("d", withholds(Withheld(others=1)))
    bench.world.wait(4)
    outcome = bench.loop(rounds=1).run()
    assert outcome.history[0]["evaluate"] == {"num-examples": 40, "loss": 0.5}
    assert not bench.events("site-error")
    found = {m["site"]: (m["metrics"]["loss"], m["withheld"]) for m in bench.events("site-metrics")}
    assert found == {"a": (0.5, []), "b": (0.5, []), "c": (None, ["loss"]), "d": (None, ["loss"])}


def test_a_site_that_withholds_what_the_strategy_needs_is_named(bench: Bench) -> None:
    for site in SITES[1:]:
        bench.world.join(site, learner(1.0))

    def withholds(message: Message) -> Message:
        note = {WITHHELD: Withheld(names=("num-examples",)).record()}
        empty = RecordDict({"metrics": MetricRecord({"loss": 0.5}), **note})
        if message.content.array_records:
            empty["arrays"] = message.content.array_records["arrays"]
        return Message(empty, reply_to=message)

    bench.world.join("a", withholds)
    bench.world.wait(4)
    bench.loop(rounds=1).run()
    faults = bench.events("site-error")
    assert {f["site"] for f in faults} == {"a"}
    assert "its owner's terms withhold metric 'num-examples'" in faults[0]["error"]


def test_the_bytes_of_a_round_are_those_of_every_site(bench: Bench) -> None:
    for site in SITES[1:]:
        bench.world.join(site, learner(1.0))
    bench.world.join("a", spoiled(metrics={"num-examples": 1e300}))
    bench.world.wait(4)
    bench.loop(rounds=2).run()
    for row in bench.events("round-ended"):
        assert set(row["traffic"]) == set(SITES)
        assert all(sent > 100 and received > 100 for sent, received in row["traffic"].values())
    total = bench.world.grid.traffic()
    for site in SITES:
        in_rounds = sum(row["traffic"][site][1] for row in bench.events("round-ended"))
        assert 0 < in_rounds <= total[site][1]


def test_a_failing_observer_fails_no_run(bench: Bench) -> None:
    join_all(bench)
    loop = bench.loop(rounds=1)

    def observe(_: Any) -> None:
        raise UnicodeEncodeError("utf-8", "\ud800", 0, 1, "surrogates not allowed")

    bench.journal.subscribe(observe)
    assert only(loop.run()) == 0.5


def test_stopping_before_round_1_makes_no_model(bench: Bench) -> None:
    join_all(bench)
    with pytest.raises(StoppedEarly):
        bench.loop(prepare=Prepare(), stopping=lambda: True).run()
    assert not bench.events("site-error")


def fails(*_: Any) -> dict[str, float]:
    raise ValueError("no such column")


@pytest.mark.parametrize("hook", ["evaluate_fn", "config_fn"])
def test_a_hook_that_raises_is_named(bench: Bench, hook: str) -> None:
    join_all(bench)
    with pytest.raises(TrainingError, match=f"{hook} failed in round 1: ValueError: no such"):
        bench.loop(**{hook: fails}).run()


def test_a_round_is_kept_before_it_is_evaluated(bench: Bench) -> None:
    join_all(bench)
    with pytest.raises(TrainingError):
        bench.loop(evaluate_fn=fails).run()
    assert len(bench.events("checkpoint")) == 1


def test_a_sites_first_arrays_are_checked(bench: Bench) -> None:
    for site in SITES[1:]:
        bench.world.join(site, learner(1.0))

    def evil(message: Message) -> Message:
        arrays = ArrayRecord({"../x": Array(np.zeros(3))})
        return Message(RecordDict({"arrays": arrays}), reply_to=message)

    bench.world.join("a", evil)
    bench.world.wait(4)
    outcome = bench.loop(initial=None, rounds=1).run()
    assert list(outcome.arrays) == ["0"]
    assert bench.events("site-error")[0]["site"] == "a"
