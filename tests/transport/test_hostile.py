from __future__ import annotations

import os
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest

from fedsm.transport.decoder import Decoder
from fedsm.transport.wire import Payload as WirePayload
from fedsm.transport.wire import control, frames
from tests.transport.peer import answer_to, answered, join, raw, reply_frames
from tests.transport.world import QUICK, World, eventually, records, with_limits

MakeWorld = Callable[..., World]


@pytest.fixture
def world(make_world: MakeWorld) -> World:
    return make_world(("a", "b"))


@pytest.fixture
def busy_site(world: World) -> Iterator[None]:
    """Site b exchanges messages during the test, and none may fail."""
    world.join("b")
    world.wait(1)
    stop, faults = threading.Event(), []

    def exchange() -> None:
        number = 0
        while not stop.is_set():
            number += 1
            content = records(1000, number)
            replies = list(world.grid.send_and_receive([world.message("b", content)], timeout=10))
            if [reply.content for reply in replies] != [content]:
                faults.append(number)

    thread = threading.Thread(target=exchange)
    thread.start()
    yield
    stop.set()
    thread.join(15)
    assert not faults
    assert not world.happened("site-lost", site="b")


def junk_frames() -> list[bytes]:
    return [
        b"",
        os.urandom(1000),
        b"C",
        b"C" + b"[" * 5000,
        b"C{}",
        control({"kind": "hello"}),
        control({"kind": "hello", "protocol": 1, "site": 5, "join_id": None}),
        control({"kind": "hello", "protocol": [1] * 100}),
        control({"kind": "welcome", "session": 1}),
        b"D" + bytes(100),
        b"M" + struct.pack(">QQ", 1 << 60, 1 << 60),
        b"M" + bytes(16),
        b"C" + b" " * (17 << 10),
        bytes(QUICK.chunk),
    ]


@pytest.mark.usefixtures("busy_site")
def test_junk_over_tcp_and_tls_disturbs_no_one(world: World) -> None:
    address = ("127.0.0.1", world.port)
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
    for size in (1, 24, 1000, 100_000):
        for start in (b"", preface):
            with suppress(OSError), socket.create_connection(address) as plain:
                plain.sendall(start + os.urandom(size))
            with (
                suppress(OSError),
                socket.create_connection(address) as plain,
                context.wrap_socket(plain, server_hostname="fedsm") as tls,
            ):
                tls.sendall(start + os.urandom(size))
    assert not world.happened("site-joined", site="a")


@pytest.mark.usefixtures("busy_site")
def test_junk_in_place_of_a_hello_is_refused(world: World) -> None:
    for frame in junk_frames():
        answer = raw(world, lambda call, frame=frame: answer_to(call, frame))
        assert answer["kind"] == "refuse"
        assert answer["code"] in ("malformed", "version")
        assert answer["retry"] is False
    assert len(world.happened("site-refused")) == len(junk_frames())


@pytest.mark.usefixtures("busy_site")
@pytest.mark.parametrize(
    ("frame", "reason"),
    [
        (b"D123", "data arrived outside a message"),
        (b"\xff" * 100, "a frame of unknown kind arrived"),
        (b"M" + struct.pack(">QQ", 1 << 60, 0), "an envelope of"),
        (b"M" + struct.pack(">QQ", 2, 1 << 60), "a body of"),
        (control({"kind": "ping", "ack": 5}), "in place of message ids"),
        (b"C[]", "does not hold a JSON object"),
    ],
)
def test_junk_from_an_admitted_site_ends_its_link_alone(
    world: World, frame: bytes, reason: str
) -> None:
    async def talk(call: Any) -> None:
        await join(call)
        await call.write(frame)
        while isinstance(await call.read(), bytes):
            pass

    raw(world, talk)
    (lost,) = eventually(lambda: world.happened("site-lost", site="a"))
    assert reason in lost["reason"]


@pytest.mark.usefixtures("busy_site")
def test_replies_that_nobody_asked_for_are_read_past(world: World) -> None:
    async def talk(call: Any) -> Any:
        await join(call)
        for number in range(3):
            payload = WirePayload(b"[]", [bytes(200_000)])
            for frame in frames({"id": f"x{number}", "kind": "reply"}, payload, QUICK.chunk):
                await call.write(frame)
        seen: list[str] = []
        while len(seen) < 3:
            item = Decoder(QUICK).feed(await call.read())
            seen += item.fields.get("ack", [])
        return seen

    assert raw(world, talk) == ["x0", "x1", "x2"]


@pytest.mark.parametrize("reply", [b"null", b"[]", b"[[1,2]]", b'[["a","A",[["x","f",[1],"s"]]]]'])
def test_a_reply_that_cannot_be_read_is_an_error_of_its_site(world: World, reply: bytes) -> None:
    got = answered(world, lambda id_: reply_frames(id_, reply))
    if reply == b"[]":
        assert got.content == {}
    else:
        assert "the reply cannot be read" in got.error.reason


def test_a_peer_that_says_nothing_is_dropped_and_holds_up_nobody(make_world: MakeWorld) -> None:
    world = make_world(limits=with_limits(hello_timeout=0.3, unauthenticated=1))

    async def silent(call: Any) -> Any:
        last = None
        while isinstance(frame := await call.read(), bytes):
            last = Decoder(QUICK).feed(frame)
        return last.fields

    answers: list[Any] = []
    idlers = [threading.Thread(target=lambda: answers.append(raw(world, silent))) for _ in range(2)]
    for idler in idlers:
        idler.start()
    world.join("a")
    world.wait(1)
    for idler in idlers:
        idler.join(10)
    assert {answer["code"] for answer in answers} <= {"late", "busy"}


def test_a_flood_of_refusals_does_not_flood_the_events(world: World) -> None:
    async def talk(call: Any) -> Any:
        return await answer_to(call, b"C{}")

    async def many(channel_call: Any) -> None:
        await answer_to(channel_call, b"C{}")

    for _ in range(70):
        raw(world, talk)
    assert len(world.happened("site-refused")) == 60
