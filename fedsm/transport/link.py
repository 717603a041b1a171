"""One live connection, the same at both ends: frames out in turn, frames in, pings, a watchdog."""

from __future__ import annotations

import asyncio
import contextlib
import re
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from fedsm.errors import WireError
from fedsm.transport.decoder import Control, Decoder, Packet
from fedsm.transport.wire import Limits, Payload, control, frames

_ID = re.compile(r"[0-9A-Za-z_-]{1,64}")


def message_id(value: Any) -> str:
    """Read a message id.

    Raises
    ------
    WireError
        It is something else.
    """
    if not isinstance(value, str) or not _ID.fullmatch(value):
        raise WireError("something else came in place of a message id")
    return value


def ids(value: Any) -> list[str]:
    """Read a list of message ids; raises as :func:`message_id` does."""
    if not isinstance(value, list):
        raise WireError("something else came in place of message ids")
    return [message_id(item) for item in value]


class Stream(Protocol):
    """A bidirectional stream of frames; gRPC's server context and client call are two."""

    def read(self) -> Awaitable[Any]:
        """The next frame as bytes, anything else at the end."""

    def write(self, frame: bytes, /) -> Awaitable[Any]:
        """Send a frame; returns when there is room for the next one."""


@dataclass(slots=True)
class Traffic:
    """Application bytes that have crossed a link, or the links that followed one another."""

    sent: int = 0
    received: int = 0


class Link:
    """Carry controls and messages over a stream until either end, or silence, ends it.

    Each link has its own outgoing queue and awaits its own writes, so a slow peer holds back
    nobody, and a message's frames are cut only as they go out. All methods belong to the I/O loop.

    Parameters
    ----------
    stream : Stream
        Past its handshake.
    limits : Limits
        Chunk size and heartbeat.
    decoder : Decoder
        For the peer's frames.
    traffic : Traffic, optional
        Counted on.

    Attributes
    ----------
    malformed : bool
        The link ended because the peer broke the protocol.
    """

    def __init__(
        self, stream: Stream, limits: Limits, decoder: Decoder, traffic: Traffic | None = None
    ) -> None:
        self.traffic = traffic or Traffic()
        self.last_heard = time.monotonic()
        self.malformed = False
        self._stream = stream
        self._limits = limits
        self._decoder = decoder
        self._controls: deque[bytes] = deque()
        self._messages: deque[tuple[Mapping[str, Any], Payload]] = deque()
        self._current: Iterator[bytes] | None = None
        self._acks: list[str] = []
        self._wake = asyncio.Event()
        self._farewell: Mapping[str, Any] | None = None
        self._ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    def control(self, kind: str, **fields: Any) -> None:
        """Queue a control; it overtakes queued messages and the rest of the one under way.

        A peer for which too many wait is let go.
        """
        if len(self._controls) >= self._limits.max_queued:
            self.end("it does not take in what it is sent")
            return
        self._controls.append(control({"kind": kind, **fields}))
        self._touch()

    def send(self, head: Mapping[str, Any], payload: Payload) -> None:
        """Queue a message."""
        self._messages.append((head, payload))
        self._touch()

    def withdraw(self, message_id: str) -> None:
        """Forget a queued message whose first frame has not gone out."""
        for item in self._messages:
            if item[0].get("id") == message_id:
                self._messages.remove(item)
                return

    def ack(self, message_id: str, *, at_once: bool) -> None:
        """Acknowledge a message: now, or with the next message or ping."""
        self._acks.append(message_id)
        if at_once or len(self._acks) >= 64:
            self._ping()

    @property
    def reason(self) -> str:
        """Why the link ended."""
        return self._ended.result()

    def end(self, reason: str, farewell: Mapping[str, Any] | None = None) -> None:
        """Make :meth:`run` return, after a last control to the peer.

        The farewell is for the coordinator's end: a job that stops reading cancels its call, so it
        sends its last word as any other control and waits for the coordinator to close.
        """
        if not self._ended.done():
            self._farewell = farewell
            self._ended.set_result(reason)

    async def run(
        self,
        on_control: Callable[[Mapping[str, Any]], None],
        on_packet: Callable[[Packet], None],
    ) -> None:
        """Serve the link until it ends; :attr:`reason` then says why.

        ``on_control`` gets all controls but pings, whose acknowledgements come as kind ``ack``.
        """
        tasks = [
            asyncio.ensure_future(self._read(on_control, on_packet)),
            asyncio.ensure_future(self._write()),
            asyncio.ensure_future(self._beat()),
            asyncio.ensure_future(self._watch()),
        ]
        try:
            await asyncio.wait([*tasks, self._ended], return_when=asyncio.FIRST_COMPLETED)
            if not self._ended.done():
                self.end(await next(task for task in tasks if task.done()))
        except WireError as error:
            self.malformed = True
            self.end(str(error))
        except Exception as error:  # whatever gRPC makes of a broken connection
            self.end(f"the connection broke ({type(error).__name__})")
        finally:
            self.end("the connection was lost")
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await self._say_farewell()

    async def _say_farewell(self) -> None:
        if self._farewell is not None:
            # A write that was cut off by the end may stand in the way, and the peer may be gone.
            with contextlib.suppress(Exception):
                async with asyncio.timeout(1.0):
                    await self._stream.write(control(self._farewell))

    def _touch(self) -> None:
        self._wake.set()

    def _ping(self) -> None:
        acks, self._acks = self._acks, []
        self.control("ping", **({"ack": acks} if acks else {}))

    async def _write(self) -> str:
        while True:
            frame = self._next_frame()
            if frame is None:
                self._wake.clear()
                await self._wake.wait()
                continue
            await self._stream.write(frame)
            self.traffic.sent += len(frame)

    def _next_frame(self) -> bytes | None:
        while True:
            if self._controls:
                return self._controls.popleft()
            if self._current is not None:
                frame = next(self._current, None)
                if frame is not None:
                    return frame
                self._current = None
            if not self._messages:
                return None
            head, payload = self._messages.popleft()
            if self._acks:
                head, self._acks = {**head, "ack": self._acks}, []
            self._current = frames(head, payload, self._limits.chunk)

    async def _read(
        self,
        on_control: Callable[[Mapping[str, Any]], None],
        on_packet: Callable[[Packet], None],
    ) -> str:
        while True:
            frame = await self._stream.read()
            if not isinstance(frame, bytes):
                return "the peer closed the connection"
            self.last_heard = time.monotonic()
            self.traffic.received += len(frame)
            self._take(frame, on_control, on_packet)

    def _take(
        self,
        frame: bytes,
        on_control: Callable[[Mapping[str, Any]], None],
        on_packet: Callable[[Packet], None],
    ) -> None:
        # A method of its own, so that no local name keeps a message while the next frame is awaited
        item = self._decoder.feed(frame)
        if isinstance(item, Packet):
            on_packet(item)
        elif isinstance(item, Control):
            if item.fields.get("kind") != "ping":
                on_control(item.fields)
            elif "ack" in item.fields:
                on_control({"kind": "ack", "ids": ids(item.fields["ack"])})

    async def _beat(self) -> str:
        while True:
            await asyncio.sleep(self._limits.heartbeat)
            self._ping()

    async def _watch(self) -> str:
        silence = self._limits.silence
        # The loop may itself have stood still, with frames of the peer unread: the last stretch is
        # slept in full, however late the one before it ended.
        last = self._limits.heartbeat / 2
        while True:
            while (left := self.last_heard + silence - last - time.monotonic()) > 0:
                await asyncio.sleep(left)
            heard = self.last_heard
            await asyncio.sleep(last)
            if self.last_heard == heard:
                return f"nothing was heard for {silence:g} s"
