"""Peers that would stall the coordinator, fill its memory or write on its terminal."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from itertools import count
from typing import Any

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, Error, Message, MetricRecord, RecordDict

from fedsm.errors import WireError
from fedsm.transport import iothread
from fedsm.transport import records as records_module
from fedsm.transport.decoder import Decoder, Packet
from fedsm.transport.link import Link
from fedsm.transport.records import check_amount, dump
from fedsm.transport.wire import DATA, EMPTY, LENGTHS, START, Limits, Payload, control, frames
from tests.transport.peer import (
    answer_to,
    answered,
    closed_windows,
    join,
    raw,
    reply_frames,
)
from tests.transport.world import QUICK, World, echo, eventually, records, with_limits

MakeWorld = Callable[..., World]


def test_a_peer_that_takes_nothing_in_parks_no_turn(make_world: MakeWorld) -> None:
    world = make_world(limits=with_limits(hello_timeout=0.4, unauthenticated=4))
    with closed_windows(world, connections=2):
        eventually(lambda: len(world.happened("site-refused")) == 8)
        world.join("a")
        world.wait(1)


def test_one_address_takes_half_of_the_turns_and_streams_at_most(make_world: MakeWorld) -> None:
    world = make_world(limits=with_limits(hello_timeout=30.0, unauthenticated=4))
    with closed_windows(world, connections=10, source="127.0.0.2"):
        eventually(lambda: world.happened("site-refused"))
        start = time.monotonic()
        world.join("a", limits=QUICK)
        world.wait(1)
        assert time.monotonic() - start < 5
        reason = "too many streams from its address"
        assert 0 < len(world.happened("site-refused", reason=reason)) <= 40 - 12


def big_reply(id_: str) -> list[bytes]:
    return reply_frames(id_, b"[" + b"{}," * (5 << 18) + b"{}]")


def many_metrics(id_: str) -> list[bytes]:
    metrics = MetricRecord({str(number): 0 for number in range(5000)})
    return reply_frames(id_, dump(RecordDict({"metrics": metrics})).content)


def long_list(id_: str) -> list[bytes]:
    metrics = MetricRecord({"one": [0] * 60_000, "two": [0] * 60_000})
    return reply_frames(id_, dump(RecordDict({"metrics": metrics})).content)


def many_records(id_: str) -> list[bytes]:
    empty = RecordDict({str(number): MetricRecord() for number in range(5000)})
    return reply_frames(id_, dump(empty).content)


def many_dimensions(id_: str) -> list[bytes]:
    shape = [1] * 100_000
    return reply_frames(id_, json.dumps([["a", "A", [["x", "f", shape, "s"]]]]).encode(), [b"x"])


def large_body(id_: str) -> list[bytes]:
    return reply_frames(id_, b"[]", [bytes(200_000)])


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        (big_reply, "a: an envelope of 3,932,2"),
        (many_metrics, "the reply cannot be read: 5,001 records and values arrived"),
        (many_records, "the reply cannot be read: 5,000 records and values arrived"),
        (long_list, "the reply cannot be read: lists of 120,000 items arrived"),
        (many_dimensions, "the reply cannot be read: an array of 100,000 dimensions arrived"),
        (large_body, "the reply cannot be read: 200,000 bytes of arrays came, at most 101,184 may"),
    ],
)
def test_a_reply_beyond_the_limits_is_an_error_of_its_site_at_once(
    make_world: MakeWorld, reply: Callable[[str], list[bytes]], reason: str
) -> None:
    world = make_world(limits=with_limits(max_reply_envelope=1 << 20, reply_room=100_000))
    world.join("b")
    world.wait(1)
    start = time.monotonic()
    got = answered(world, reply)
    assert time.monotonic() - start < QUICK.resume_window / 2
    assert got.error.reason.startswith(reason)
    assert world.ask("b", records()).has_content()
    assert not world.happened("site-lost", site="b")


def test_a_reply_may_grow_with_the_instruction(make_world: MakeWorld) -> None:
    world = make_world(limits=with_limits(reply_room=1000))
    world.join("a", lambda message: Message(records(30_000), reply_to=message))
    world.wait(1)
    assert world.ask("a", records(10_000)).has_content()
    assert "the limit is 18,024" in world.ask("a", records(1000)).error.reason


def test_an_honest_site_hears_that_its_metrics_are_too_large(make_world: MakeWorld) -> None:
    world = make_world(limits=with_limits(max_reply_envelope=1000))
    large = RecordDict({"metrics": MetricRecord({str(n): n for n in range(1000)})})
    world.join("a", lambda message: Message(large, reply_to=message))
    world.wait(1)
    assert "names, metrics and configuration" in world.ask("a", records()).error.reason
    assert not world.happened("site-lost")


def test_the_limits_by_default() -> None:
    limits = Limits()
    assert limits.max_reply_envelope == 4 << 20
    assert limits.of_reply(100 << 20).max_message == 464 << 20
    assert limits.of_reply(8 << 30).max_message == limits.max_message
    check_amount([["m", "M", {"x": [0] * 100_000, "y": 0}]], limits)
    with pytest.raises(WireError, match="100,001"):
        check_amount([["m", "M", {"x": [0] * 100_001}]], limits)


@pytest.mark.parametrize("fill", [b"{},", b"[],", b"[0],", b'{"a":0},', b"0,", b'"\\u00ff",'])
@pytest.mark.parametrize("brackets_too", [False, True])
def test_the_largest_envelope_costs_the_loop_less_than_a_heartbeat(
    fill: bytes, brackets_too: bool
) -> None:
    limits = Limits()
    units = (limits.max_reply_envelope - 100) // len(fill)
    if brackets_too:
        units = min(units, limits.max_brackets - 10)
    rest = b"0," * ((limits.max_reply_envelope - 100 - units * len(fill)) // 2)
    content = b"[%s%s0]" % (fill * units, rest)
    envelope = b'{"id":"x","kind":"reply","sizes":[],"content":%s}' % content
    assert limits.max_reply_envelope - 200 < len(envelope) <= limits.max_reply_envelope
    decoder = Decoder(limits, lambda _: True)
    costs = []
    for frame in frames_of(envelope, limits.chunk):
        start = time.thread_time()
        with suppress(WireError):
            item = decoder.feed(frame)
            if isinstance(item, Packet):
                check_amount(item.envelope["content"], limits)
        costs.append(time.thread_time() - start)
    # A heartbeat: far from the three of silence at which a peer counts as frozen.
    assert max(costs) < Limits().heartbeat


def frames_of(envelope: bytes, chunk: int) -> list[bytes]:
    sent = LENGTHS.pack(len(envelope), 0) + envelope
    parts = [sent[start : start + chunk - 1] for start in range(0, len(sent), chunk - 1)]
    return [START + parts[0], *(DATA + part for part in parts[1:])]


def test_a_reply_of_many_arrays_is_read_outside_the_loop(
    make_world: MakeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = make_world()
    arrays = ArrayRecord({str(n): Array(np.zeros((1, n), np.int8)) for n in range(1000)})
    world.join("a", lambda message: Message(RecordDict({"arrays": arrays}), reply_to=message))
    world.wait(1)
    threads: list[str] = []
    original = records_module.load

    def load(content: Any, segments: list[bytes]) -> RecordDict:
        if len(segments) == 1000:
            threads.append(threading.current_thread().name)
        return original(content, segments)

    monkeypatch.setattr(records_module, "load", load)
    assert world.ask("a", records()).content.array_records["arrays"] == arrays
    assert len(threads) == 1
    assert threads != ["fedsm-io"]


class Still:
    """A stream whose frames come from another thread, and which takes all in."""

    def __init__(self) -> None:
        self.frames: asyncio.Queue[bytes] = asyncio.Queue()

    async def read(self) -> bytes:
        return await self.frames.get()

    async def write(self, _frame: bytes) -> None:
        """Take it."""


def test_a_loop_that_stood_still_does_not_take_its_peers_for_frozen() -> None:
    async def run() -> str:
        stream = Still()
        link = Link(stream, QUICK, Decoder(QUICK))
        loop = asyncio.get_running_loop()
        running = asyncio.ensure_future(link.run(lambda _: None, lambda _: None))
        await asyncio.sleep(0.05)
        # What comes meanwhile is read after the watchdog, whose time has come first, was woken.
        time.sleep(QUICK.silence + 0.1)
        loop.call_later(0.02, stream.frames.put_nowait, control({"kind": "ping"}))
        began = time.monotonic()
        await running
        assert QUICK.silence - 0.1 < time.monotonic() - began < QUICK.silence + 10
        return link.reason

    assert iothread.start(run()).result(10).startswith("nothing was heard")


@pytest.mark.parametrize("id_", ["x" * 65, "", "a b", "\u0661", 5, None])
def test_an_id_that_is_none_ends_the_link(make_world: MakeWorld, id_: object) -> None:
    world = make_world()

    async def talk(call: Any) -> None:
        await join(call)
        for frame in frames({"id": id_, "kind": "reply"}, Payload(b"[]", []), QUICK.chunk):
            await call.write(frame)
        while isinstance(await call.read(), bytes):
            pass

    raw(world, talk)
    (lost,) = eventually(lambda: world.happened("site-lost", site="a"))
    assert "message id" in lost["reason"]


def test_a_site_that_asks_and_never_reads_is_let_go(make_world: MakeWorld) -> None:
    world = make_world(limits=with_limits(heartbeat=30.0, max_queued=100))

    async def talk(call: Any) -> None:
        await join(call)
        link = world.grid._seats["a"].link
        assert link is not None
        for number in count():  # the windows on the way hold many thousands of controls
            with suppress(Exception):
                for frame in reply_frames(f"{number:064}", b"[]"):
                    await call.write(frame)
            assert len(link._controls) <= 100
            if world.happened("site-lost") or number > 400_000:
                return

    raw(world, talk)
    (lost,) = eventually(lambda: world.happened("site-lost", site="a"))
    assert lost["reason"] == "it does not take in what it is sent"


def test_what_a_site_says_of_its_failure_is_made_fit_to_print(make_world: MakeWorld) -> None:
    world = make_world()
    said = "\x1b[2Jbad \ud800\nrun completed" + "!" * 2000
    world.join("a", lambda message: Message(Error(1, said), reply_to=message))
    world.wait(1)
    reason = world.ask("a", records()).error.reason
    assert reason.startswith("\\x1b[2Jbad \\ud800\\nrun completed!!!")
    assert len(reason) == 500


def test_what_a_hostile_site_says_of_its_failure_is_made_fit_to_print(
    make_world: MakeWorld,
) -> None:
    head = {"kind": "reply", "error": [1, "\x1b[2J\ud800" + "!" * 5000]}
    got = answered(make_world(), lambda id_: list(frames({"id": id_, **head}, EMPTY, QUICK.chunk)))
    assert got.error.reason.startswith("\\x1b[2J\\ud800!!!")
    assert len(got.error.reason) == 500


def test_what_a_stranger_says_is_made_fit_to_print(make_world: MakeWorld) -> None:
    world = make_world()
    evil = "\x1b]0;pwn\x07\ud800"
    for fields in (
        {"protocol": evil, "site": "z"},
        {"protocol": [[evil]], "site": "z"},
        {"protocol": 1, "site": evil + "x" * 500, "join_id": ""},
    ):
        raw(world, lambda call, f=fields: answer_to(call, control({"kind": "hello", **f})))
    reasons = [event["reason"] for event in world.happened("site-refused")]
    assert len(reasons) == 3
    assert all(reason.isprintable() and len(reason) < 250 for reason in reasons), reasons


def test_a_device_is_made_fit_to_print(make_world: MakeWorld) -> None:
    world = make_world()
    world.join("a", device="\x1b[2J\ud800" + "gpu" * 100)
    world.wait(1)
    (joined,) = world.happened("site-joined")
    assert joined["device"].startswith("\\x1b[2J\\ud800gpu")
    assert len(joined["device"]) == 64


def test_a_site_that_comes_and_goes_for_ever_does_not_flood_the_events(
    make_world: MakeWorld,
) -> None:
    world = make_world()
    for number in range(1, 31):
        raw(world, join)
        eventually(lambda n=number: world.grid._seats["a"].session == n)
        eventually(lambda: not list(world.grid.get_node_ids()))
    assert len(world.happened("site-joined", site="a")) == 20
    assert len(world.happened("site-lost", site="a")) == 20
    world.join("b")
    world.wait(1)
    assert world.happened("site-joined", site="b")


def test_a_refused_or_fenced_job_breaks_off_what_it_computes(make_world: MakeWorld) -> None:
    world = make_world()
    events: list[tuple[str, dict[str, Any]]] = []
    computing, gone = threading.Event(), threading.Event()

    def on_event(kind: str, data: dict[str, Any]) -> None:
        events.append((kind, data))
        if kind == "gone":
            gone.set()

    def handle(message: Message) -> Message:
        computing.set()
        assert gone.wait(10)
        return echo(message)

    older = world.join("a", handle, on_event=on_event)
    world.wait(1)
    world.grid.push_messages([world.message("a", records())])
    assert computing.wait(10)
    world.join("a")
    with pytest.raises(Exception, match="a newer session"):
        older.result()
    assert events[-1] == ("gone", {"reason": "a newer session of this site took over"})
    events.clear()
    with pytest.raises(Exception, match="refused"):
        world.join("a", join_id="guess", on_event=on_event).result()
    assert [kind for kind, _ in events] == ["gone"]
