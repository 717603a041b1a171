"""Peers that do not keep to the protocol: bare gRPC streams and bare HTTP/2."""

from __future__ import annotations

import asyncio
import socket
import ssl
import struct
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import grpc.aio
from flwr.app import Message

from fedsm.transport import iothread
from fedsm.transport.channel import PATH, open_channel
from fedsm.transport.decoder import Decoder
from fedsm.transport.dial import Dialer
from fedsm.transport.wire import Payload, frames
from tests.transport.world import CERTIFICATE, QUICK, RUN, World, records, sign, with_limits


def raw(world: World, talk: Callable[[Any], Awaitable[Any]]) -> Any:
    """Run ``talk`` with a bare stream to the coordinator."""

    async def run() -> Any:
        channel = open_channel(
            f"127.0.0.1:{world.port}", world.certificate.der, with_limits(chunk=8 << 20)
        )
        try:
            return await talk(channel.stream_stream(PATH)())
        finally:
            await channel.close()

    return iothread.start(run()).result(timeout=30)


async def answer_to(call: Any, frame: bytes) -> Any:
    """What the coordinator says to a first frame."""
    await call.read()
    await call.write(frame)
    item = Decoder(QUICK).feed(await call.read())
    return item.fields


async def join(call: Any, site: str = "a") -> None:
    """Do the real handshake."""
    dialer = Dialer(
        certificate_der=CERTIFICATE.der,
        run=RUN,
        site=site,
        join_id=f"join-{site}",
        sign=sign,
        device="cpu",
        limits=QUICK,
    )
    await dialer.greet(call, 0, lambda _: [])


def answered(world: World, reply: Callable[[str], list[bytes]]) -> Message:
    """What the coordinator makes of site a's frames in reply to an instruction's id."""
    result: list[Message] = []
    asking = threading.Thread(target=lambda: result.append(world.ask("a", records())))

    async def talk(call: Any) -> None:
        await join(call)
        asking.start()
        decoder, item = Decoder(QUICK), None
        while not hasattr(item, "envelope"):
            item = decoder.feed(await call.read())
        with suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
            # The coordinator may end the call amid it.
            for frame in reply(item.envelope["id"]):
                await call.write(frame)
            while asking.is_alive() and isinstance(await call.read(), bytes):
                pass

    raw(world, talk)
    asking.join(10)
    return result[0]


def reply_frames(id_: str, content: bytes, segments: list[bytes] | None = None) -> list[bytes]:
    """A reply's frames."""
    payload = Payload(content, segments or [])
    return list(frames({"id": id_, "kind": "reply"}, payload, QUICK.chunk))


def _h2(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    head = struct.pack(">I", len(payload))[1:] + bytes([kind, flags])
    return head + struct.pack(">I", stream) + payload


def _literal(name: str, value: str) -> bytes:
    return b"\0" + bytes([len(name)]) + name.encode() + bytes([len(value)]) + value.encode()


_HEADERS = {
    ":method": "POST",
    ":scheme": "https",
    ":path": PATH,
    ":authority": "fedsm",
    "te": "trailers",
    "content-type": "application/grpc",
}


@contextmanager
def closed_windows(world: World, connections: int, source: str = "127.0.0.1") -> Iterator[None]:
    """Hold connections of four streams each, whose HTTP/2 windows let nothing out."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    headers = b"".join(_literal(name, value) for name, value in _HEADERS.items())
    held = []
    for _ in range(connections):
        plain = socket.create_connection(("127.0.0.1", world.port), source_address=(source, 0))
        tls = context.wrap_socket(plain, server_hostname="fedsm")
        tls.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + _h2(4, 0, 0, struct.pack(">HI", 4, 0)))
        tls.sendall(_h2(4, 1, 0, b""))
        tls.sendall(b"".join(_h2(1, 4, number, headers) for number in (1, 3, 5, 7)))
        held.append(tls)
    try:
        yield
    finally:
        for tls in held:
            tls.close()
