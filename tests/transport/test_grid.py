from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from flwr.app import ArrayRecord, ConfigRecord, Context, Error, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp.strategy import FedAvg

from fedsm.errors import ConfigError, IdentityRefused, WireError
from fedsm.transport import records as records_module
from fedsm.transport.grid import StreamGrid
from tests.transport.world import (
    CERTIFICATE,
    RUN,
    World,
    check,
    echo,
    eventually,
    expected,
    records,
    with_limits,
)

MakeWorld = Callable[..., World]

app = ClientApp()


@app.train()
def train(message: Message, _context: Context) -> Message:
    arrays = [array + 1 for array in message.content["arrays"].to_numpy_ndarrays()]
    metrics = MetricRecord({"num-examples": 10, "lr": message.content["config"]["lr"]})
    content = RecordDict({"arrays": ArrayRecord(arrays), "metrics": metrics})
    return Message(content, reply_to=message)


@app.evaluate()
def evaluate(message: Message, _context: Context) -> Message:
    total = float(message.content["arrays"].to_numpy_ndarrays()[0].sum())
    content = RecordDict({"metrics": MetricRecord({"num-examples": 10, "sum": total})})
    return Message(content, reply_to=message)


def run_app(message: Message) -> Message:
    context = Context(
        run_id=message.metadata.run_id,
        node_id=message.metadata.dst_node_id,
        node_config={},
        state=RecordDict(),
        run_config={},
    )
    return app(message, context)


def test_a_stock_strategy_trains_a_stock_client_app(make_world: MakeWorld) -> None:
    world = make_world(("a", "b", "c"))
    jobs = [world.join(site, run_app) for site in ("a", "b", "c")]
    world.wait(3)
    result = FedAvg(min_train_nodes=3, min_evaluate_nodes=3, min_available_nodes=3).start(
        world.grid,
        ArrayRecord([np.zeros((2, 3)), np.zeros(4, dtype=np.float32)]),
        num_rounds=3,
        train_config=ConfigRecord({"lr": 0.5}),
    )
    first, second = result.arrays.to_numpy_ndarrays()
    assert (first == 3).all()
    assert second.dtype == np.float32
    assert result.evaluate_metrics_clientapp[3]["sum"] == 18.0
    closing = RecordDict({"arrays": result.arrays})
    assert world.grid.finish(closing, 10) == ["a", "b", "c"]
    for job in jobs:
        end = job.result()
        assert end.reason == "over"
        assert end.content == closing
    assert world.happened("site-lost") == []


def test_a_reply_knows_its_site_and_message(make_world: MakeWorld) -> None:
    world = make_world()
    seen: list[Message] = []

    def handle(message: Message) -> Message:
        seen.append(message)
        return echo(message)

    world.join("b", handle)
    world.wait(1)
    sent = world.message("b", records(), "query.statistics")
    (reply,) = world.grid.send_and_receive([sent], timeout=10)
    assert world.grid.site_of(reply.metadata.src_node_id) == "b"
    assert reply.metadata.reply_to_message_id == sent.metadata.message_id
    assert reply.content == sent.content
    (got,) = seen
    assert got.metadata.message_type == "query.statistics"
    assert got.metadata.group_id == "1"
    assert got.metadata.run_id == world.grid.run.run_id
    assert got.metadata.dst_node_id == world.nodes["b"]


def test_a_sites_error_comes_back_as_one(make_world: MakeWorld) -> None:
    world = make_world()
    world.join("a", lambda message: Message(Error(2, "it raised"), reply_to=message))
    world.wait(1)
    reply = world.ask("a", records())
    assert (reply.error.code, reply.error.reason) == (2, "it raised")


def test_records_are_encoded_once_for_all_sites(
    make_world: MakeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = make_world(("a", "b", "c"))
    for site in ("a", "b", "c"):
        world.join(site)
    world.wait(3)
    content, count = records(), []
    original = records_module.dump
    monkeypatch.setattr(
        records_module, "dump", lambda r: (count.append(r is content), original(r))[1]
    )
    messages = [world.message(site, content) for site in ("a", "b", "c")]
    assert len(list(world.grid.send_and_receive(messages, timeout=10))) == 3
    assert count.count(True) == 1


def test_push_and_pull_take_each_reply_once(make_world: MakeWorld) -> None:
    world = make_world()
    for site in ("a", "b"):
        world.join(site)
    world.wait(2)
    ids = list(world.grid.push_messages([world.message(site, records()) for site in ("a", "b")]))
    replies: list[Message] = []
    eventually(lambda: replies.extend(world.grid.pull_messages(ids)) or len(replies) == 2)
    assert list(world.grid.pull_messages(ids)) == []


def test_no_messages_need_no_waiting(make_world: MakeWorld) -> None:
    assert list(make_world().grid.send_and_receive([])) == []


def test_a_message_for_an_absent_site_fails_at_once(make_world: MakeWorld) -> None:
    world = make_world()
    for node in (world.nodes["a"], 99):
        message = world.grid.create_message(records(), "train", node, "1")
        (reply,) = world.grid.send_and_receive([message], timeout=10)
        assert reply.error.code == 5


def test_a_late_reply_is_discarded(make_world: MakeWorld) -> None:
    world = make_world()
    release = threading.Event()
    calls: list[str] = []

    def handle(message: Message) -> Message:
        calls.append(message.metadata.message_id)
        if len(calls) == 1:
            release.wait(10)
        return echo(message)

    job = world.join("a", handle)
    world.wait(1)
    first = [world.message("a", records()) for _ in range(3)]
    assert list(world.grid.send_and_receive(first, timeout=0.2)) == []
    eventually(lambda: not job.session._in_hand)
    release.set()
    reply = world.ask("a", records(seed=2))
    assert reply.content == records(seed=2)
    # What had timed out while it waited its turn is not run at all.
    assert calls == [first[0].metadata.message_id, reply.metadata.reply_to_message_id]


def test_a_message_past_its_time_to_live_gets_an_error(make_world: MakeWorld) -> None:
    world = make_world()
    release = threading.Event()
    world.join("a", lambda message: (release.wait(10), echo(message))[1])
    world.wait(1)
    message = world.grid.create_message(records(), "train", world.nodes["a"], "1", ttl=0.2)
    (reply,) = world.grid.send_and_receive([message])
    assert reply.error.code == 4
    (id_,) = world.grid.push_messages(
        [world.grid.create_message(records(), "train", world.nodes["a"], "1", ttl=0.1)]
    )
    assert eventually(lambda: list(world.grid.pull_messages([id_])))[0].has_error()
    release.set()


def test_a_message_that_expires_does_not_cut_off_the_others(make_world: MakeWorld) -> None:
    world = make_world()
    release = threading.Event()
    for site in ("a", "b"):
        world.join(site, lambda message: (release.wait(10), echo(message))[1])
    world.wait(2)
    messages = [
        world.grid.create_message(records(), "train", world.nodes[site], "1", ttl=ttl)
        for site, ttl in (("a", 0.1), ("b", 60.0))
    ]
    threading.Timer(0.4, release.set).start()
    replies = list(world.grid.send_and_receive(messages))
    assert [reply.has_error() for reply in replies] == [True, False]


def test_the_end_releases_whoever_waits_for_a_reply(make_world: MakeWorld) -> None:
    world = make_world()
    release = threading.Event()
    job = world.join("a", lambda message: (release.wait(10), echo(message))[1])
    world.wait(1)
    replies: list[Message] = []
    asking = threading.Thread(target=lambda: replies.append(world.ask("a", records())))
    asking.start()
    eventually(lambda: job.session._in_hand)
    assert world.grid.finish(None, 10) == ["a"]
    asking.join(10)
    assert replies[0].error.reason == "a: the run is over"
    release.set()
    assert job.result().reason == "over"


def test_ending_a_site_fails_its_messages_and_its_join_id(make_world: MakeWorld) -> None:
    world = make_world()
    release = threading.Event()
    job = world.join("a", lambda message: (release.wait(10), echo(message))[1])
    world.wait(1)
    timer = threading.Timer(0.1, world.grid.end_site, ("a", "its job has failed"))
    timer.start()
    start = time.monotonic()
    reply = world.ask("a", records())
    assert time.monotonic() - start < 5
    assert (reply.error.code, reply.error.reason) == (5, "a: its job has failed")
    release.set()
    with pytest.raises(IdentityRefused):
        job.result()
    with pytest.raises(IdentityRefused, match="the job of a has ended: its job has failed"):
        world.join("a").result()
    assert list(world.grid.get_node_ids()) == []
    assert world.ask("a", records()).error.code == 5
    with pytest.raises(KeyError):
        world.grid.end_site("nobody", "reason")


def test_a_site_that_comes_after_the_end_is_told_so_too(make_world: MakeWorld) -> None:
    world = make_world()
    world.join("a")
    world.wait(1)
    closing = records()
    assert world.grid.finish(closing, 10) == ["a"]
    late = world.join("b").result()
    assert (late.reason, late.content) == ("over", closing)


def test_the_end_may_come_without_records(make_world: MakeWorld) -> None:
    world = make_world()
    job = world.join("a")
    world.wait(1)
    assert world.grid.finish(None, 10) == ["a"]
    assert job.result().content is None


def test_finish_does_not_wait_for_a_site_beyond_its_time(make_world: MakeWorld) -> None:
    world = make_world(limits=with_limits(heartbeat=30.0))
    assert world.grid.finish(records(), 0.1) == []


def test_a_job_that_leaves_is_reported_with_its_reason(make_world: MakeWorld) -> None:
    world = make_world()
    job = world.join("a")
    world.wait(1)
    world.ask("a", records())
    job.session.stop()
    reply = world.ask("a", records())
    assert job.result().reason == "stopped"
    assert "left before the run was over" in reply.error.reason or "not connected" in (
        reply.error.reason
    )
    (lost,) = world.happened("site-lost", site="a")
    assert "left before the run was over" in lost["reason"]


def test_traffic_counts_bytes_both_ways(make_world: MakeWorld) -> None:
    world = make_world()
    world.join("a")
    world.wait(1)
    world.ask("a", records(100_000))
    sent, received = world.grid.traffic()["a"]
    assert 400_000 < received < sent < 420_000 or 400_000 < sent < received < 420_000
    assert world.grid.traffic()["b"] == (0, 0)


def test_a_message_beyond_the_limits_is_refused_before_it_is_sent(make_world: MakeWorld) -> None:
    world = make_world(limits=with_limits(max_message=1000))
    world.join("a")
    world.wait(1)
    with pytest.raises(WireError, match="the limit is 1,000"):
        world.ask("a", records(10_000))


def test_a_reply_beyond_the_limits_is_an_error_that_says_so(make_world: MakeWorld) -> None:
    world = make_world(limits=with_limits(max_message=1000))
    world.join("a", lambda message: Message(records(10_000), reply_to=message))
    world.wait(1)
    assert "the limit is 1,000" in str(world.ask("a", records()).error.reason)


def test_a_port_in_use_is_an_error_that_names_it() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(ConfigError, match=address):
            World(listen=address)


def test_sites_must_differ() -> None:
    a, b = expected(("a", "b"))
    with pytest.raises(ConfigError, match="node_id"):
        StreamGrid(
            listen="127.0.0.1:0",
            certificate=CERTIFICATE,
            run_id=RUN,
            sites=[a, replace(b, node_id=a.node_id)],
            check=check,
            sts_region="eu-west-1",
        )


def test_two_runs_live_side_by_side(make_world: MakeWorld) -> None:
    one, two = make_world(), make_world(run_id="run-2")
    one.join("a")
    two.join("a", run="run-2")
    one.wait(1)
    two.wait(1)
    assert one.ask("a", records(seed=1)).content == records(seed=1)
    assert two.ask("a", records(seed=2)).content == records(seed=2)


def test_the_identity_check_does_not_hold_up_others(make_world: MakeWorld) -> None:
    release = threading.Event()
    first = threading.Event()

    def slow_once(*arguments: object) -> tuple[str, str]:
        if not first.is_set():
            first.set()
            release.wait(5)
        return check(*arguments)  # type: ignore[arg-type]

    world = make_world(check=slow_once)
    world.join("a")
    first.wait(5)
    world.join("b")
    assert world.grid.wait_for_sites(1, 10) == ["b"]
    release.set()
    world.wait(2)


def test_closing_fails_what_is_pending() -> None:
    world = World(certificate=CERTIFICATE)
    release = threading.Event()
    job = world.join("a", lambda message: (release.wait(10), echo(message))[1])
    world.wait(1)
    (id_,) = world.grid.push_messages([world.message("a", records())])
    job.session.stop()
    release.set()
    world.close()
    (reply,) = world.grid.pull_messages([id_])
    assert reply.has_error()
