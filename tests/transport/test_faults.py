from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from flwr.app import Message

from tests.transport.proxy import FaultProxy
from tests.transport.world import QUICK, World, echo, eventually, records, with_limits

MakeWorld = Callable[..., World]
MakeProxy = Callable[[int], FaultProxy]

ROOT = Path(__file__).resolve().parents[2]
BIG = 1_000_000
"""Elements of a message of 4 MB: 62 frames."""


@pytest.fixture
def start_job() -> Iterator[Callable[[World, str], subprocess.Popen[str]]]:
    """Start jobs as processes; they end with the test."""
    started: list[subprocess.Popen[str]] = []

    def start(world: World, site: str) -> subprocess.Popen[str]:
        arguments = [world.port, site, world.limits.heartbeat, world.certificate.der_base64]
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.transport.job", *map(str, arguments)],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def test_a_frozen_job_is_noticed_within_three_intervals(
    make_world: MakeWorld, start_job: Callable[..., Any]
) -> None:
    limits = with_limits(heartbeat=0.5)
    world = make_world(limits=limits)
    job = start_job(world, "a")
    world.wait(1)
    time.sleep(limits.heartbeat)
    frozen = time.monotonic()
    os.kill(job.pid, signal.SIGSTOP)
    (lost,) = eventually(lambda: world.happened("site-lost", site="a"))
    took = time.monotonic() - frozen
    assert took < limits.silence + 0.4
    assert took > limits.silence - limits.heartbeat - 0.4
    assert lost["reason"] == "nothing was heard for 1.5 s"
    os.kill(job.pid, signal.SIGCONT)
    world.wait(1)
    assert world.ask("a", records()).content == records()
    assert world.grid.finish(None, 10) == ["a"]
    assert job.communicate(timeout=20)[0] == "over\n"


def test_a_killed_job_is_noticed_at_once(
    make_world: MakeWorld, start_job: Callable[..., Any]
) -> None:
    world = make_world(limits=with_limits(heartbeat=60.0))
    job = start_job(world, "a")
    world.wait(1)
    job.kill()
    eventually(lambda: world.happened("site-lost", site="a"), timeout=5)
    assert list(world.grid.get_node_ids()) == []


def slow_until(proxy: FaultProxy, more: int) -> None:
    """Wait until ``more`` bytes have passed a slowed link."""
    mark = proxy.passed + more
    eventually(lambda: proxy.passed > mark)


@pytest.mark.parametrize("direction", ["to the job", "from the job"])
def test_a_reset_amid_a_transfer_is_resumed(
    make_world: MakeWorld, make_proxy: MakeProxy, direction: str
) -> None:
    world = make_world()
    proxy = make_proxy(world.port)
    calls: list[str] = []
    large, small = records(BIG), records()
    there, back = (large, small) if direction == "to the job" else (small, large)

    def handle(message: Message) -> Message:
        calls.append(message.metadata.message_id)
        return Message(back, reply_to=message)

    world.join("a", handle, address=f"127.0.0.1:{proxy.port}")
    world.wait(1)
    proxy.rate = 4_000_000.0
    (id_,) = world.grid.push_messages([world.message("a", there)])
    slow_until(proxy, 1_000_000)
    proxy.reset()
    eventually(lambda: world.happened("site-lost"))
    slow_until(proxy, 1_000_000)
    proxy.reset()
    proxy.rate = 0
    (reply,) = eventually(lambda: list(world.grid.pull_messages([id_])))
    assert reply.content == back
    assert len(calls) == 1
    assert len(world.happened("site-joined", again=True)) == 2


def test_an_instruction_in_hand_is_not_sent_or_run_again(
    make_world: MakeWorld, make_proxy: MakeProxy
) -> None:
    world = make_world()
    proxy = make_proxy(world.port)
    computing, release = threading.Event(), threading.Event()
    calls: list[str] = []

    def handle(message: Message) -> Message:
        calls.append(message.metadata.message_id)
        computing.set()
        release.wait(10)
        return echo(message)

    world.join("a", handle, address=f"127.0.0.1:{proxy.port}")
    world.wait(1)
    (id_,) = world.grid.push_messages([world.message("a", records(BIG))])
    assert computing.wait(10)
    proxy.reset()
    eventually(lambda: world.happened("site-joined", again=True))
    sent = world.grid.traffic()["a"][0]
    release.set()
    (reply,) = eventually(lambda: list(world.grid.pull_messages([id_])))
    assert reply.content == records(BIG)
    assert len(calls) == 1
    assert world.grid.traffic()["a"][0] - sent < 10_000


def test_a_reply_made_while_the_line_was_down_is_delivered(
    make_world: MakeWorld, make_proxy: MakeProxy
) -> None:
    world = make_world()
    proxy = make_proxy(world.port)
    computing, release = threading.Event(), threading.Event()

    def handle(message: Message) -> Message:
        computing.set()
        release.wait(10)
        return echo(message)

    world.join("a", handle, address=f"127.0.0.1:{proxy.port}")
    world.wait(1)
    (id_,) = world.grid.push_messages([world.message("a", records())])
    assert computing.wait(10)
    proxy.refuse = True
    proxy.reset()
    eventually(lambda: world.happened("site-lost"))
    release.set()
    time.sleep(0.1)
    proxy.refuse = False
    (reply,) = eventually(lambda: list(world.grid.pull_messages([id_])))
    assert reply.content == records()


def test_a_message_pushed_while_the_line_is_down_waits_for_it(
    make_world: MakeWorld, make_proxy: MakeProxy
) -> None:
    world = make_world()
    proxy = make_proxy(world.port)
    world.join("a", address=f"127.0.0.1:{proxy.port}")
    world.wait(1)
    proxy.refuse = True
    proxy.reset()
    eventually(lambda: world.happened("site-lost"))
    (id_,) = world.grid.push_messages([world.message("a", records())])
    proxy.refuse = False
    assert eventually(lambda: list(world.grid.pull_messages([id_])))[0].has_content()


def test_a_black_hole_amid_a_transfer_is_noticed_and_resumed(
    make_world: MakeWorld, make_proxy: MakeProxy
) -> None:
    world = make_world()
    proxy = make_proxy(world.port)
    world.join("a", address=f"127.0.0.1:{proxy.port}")
    world.wait(1)
    proxy.rate = 4_000_000.0
    (id_,) = world.grid.push_messages([world.message("a", records(BIG))])
    slow_until(proxy, 1_000_000)
    proxy.black_hole(True)
    (lost,) = eventually(lambda: world.happened("site-lost"))
    assert "nothing was heard" in lost["reason"]
    proxy.reset()
    proxy.rate = 0
    proxy.black_hole(False)
    (reply,) = eventually(lambda: list(world.grid.pull_messages([id_])))
    assert reply.content == records(BIG)


def test_a_site_that_does_not_come_back_fails_its_messages(
    make_world: MakeWorld, make_proxy: MakeProxy
) -> None:
    world = make_world(limits=with_limits(resume_window=0.3))
    proxy = make_proxy(world.port)
    release = threading.Event()
    world.join(
        "a",
        lambda message: (release.wait(10), echo(message))[1],
        address=f"127.0.0.1:{proxy.port}",
    )
    world.join("b")
    world.wait(2)
    messages = [world.message(site, records()) for site in ("a", "b")]
    timer = threading.Timer(0.1, lambda: (setattr(proxy, "refuse", True), proxy.reset()))
    timer.start()
    replies = list(world.grid.send_and_receive(messages, timeout=10))
    outcome = {world.grid.site_of(r.metadata.src_node_id): r for r in replies}
    assert outcome["a"].error.code == 5
    assert outcome["b"].has_content()
    # It may still come back later and is served again.
    release.set()
    proxy.refuse = False
    world.wait(2)
    assert world.ask("a", records()).has_content()


def test_a_slow_site_holds_back_nobody_and_is_not_taken_for_frozen(
    make_world: MakeWorld, make_proxy: MakeProxy
) -> None:
    world = make_world()
    proxy = make_proxy(world.port)
    world.join("a", address=f"127.0.0.1:{proxy.port}")
    world.join("b")
    world.wait(2)
    proxy.rate = 1_000_000.0
    broadcast = records(BIG)
    slow, fast = (
        world.grid.push_messages([world.message(site, broadcast)])[0] for site in ("a", "b")
    )
    assert eventually(lambda: list(world.grid.pull_messages([fast])))[0].has_content()
    for number in range(20):
        assert world.ask("b", records(seed=number)).content == records(seed=number)
    assert list(world.grid.pull_messages([slow])) == []
    eventually(lambda: proxy.passed > 2 * QUICK.silence * proxy.rate)
    assert world.happened("site-lost") == []
    proxy.rate = 0
    assert eventually(lambda: list(world.grid.pull_messages([slow])))[0].has_content()


def test_what_a_site_does_not_take_stays_with_the_sender_as_it_is(
    make_world: MakeWorld, make_proxy: MakeProxy
) -> None:
    world = make_world(limits=with_limits(heartbeat=5.0))
    proxy = make_proxy(world.port)
    world.join("a", address=f"127.0.0.1:{proxy.port}")
    world.wait(1)
    proxy.black_hole(True)
    (id_,) = world.grid.push_messages([world.message("a", records(20 * BIG))])
    passed = -1
    while passed != (passed := world.grid.traffic()["a"][0]):
        time.sleep(0.2)
    assert 0 < passed < 20 * BIG  # of 80 MB: what the windows on the way hold, and no more
    proxy.black_hole(False)
    assert eventually(lambda: list(world.grid.pull_messages([id_])))[0].has_content()


def test_the_closing_reaches_a_site_whose_line_drops_amid_it(
    make_world: MakeWorld, make_proxy: MakeProxy
) -> None:
    world = make_world()
    proxy = make_proxy(world.port)
    job = world.join("a", address=f"127.0.0.1:{proxy.port}")
    world.wait(1)
    proxy.rate = 4_000_000.0
    closing, told = records(BIG), []
    finishing = threading.Thread(target=lambda: told.extend(world.grid.finish(closing, 15)))
    finishing.start()
    slow_until(proxy, 1_000_000)
    proxy.rate = 0
    proxy.reset()
    finishing.join(15)
    assert told == ["a"]
    assert job.result().content == closing
