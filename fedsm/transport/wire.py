"""Frames of the link between coordinator and job: pure bytes, no gRPC, no Flower.

A frame is one gRPC message of at most ``Limits.chunk`` bytes. Its first byte is its kind:

====  ==========================================================================================
C     a control: one JSON object of at most ``Limits.max_control`` bytes
M     the start of a message: length of the envelope and of the body (two big-endian uint64),
      then the first bytes of envelope and body
D     more bytes of the message that is under way
====  ==========================================================================================

The envelope is a JSON object; its ``sizes`` are the lengths of the segments of which the body
consists. Controls may stand between the frames of a message.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fedsm.errors import WireError

PROTOCOL = 1
"""Version of the link; two ends must have the same."""

CONTROL, START, DATA = b"C", b"M", b"D"
"""Kinds of frame."""

LENGTHS = struct.Struct(">QQ")
"""Of a message's envelope and body."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Sizes (bytes) and times (seconds) that both ends keep to.

    Attributes
    ----------
    heartbeat : float
        Interval between pings, each way.
    frozen_after : int
        Intervals of silence after which the peer is taken for frozen.
    chunk : int
        Largest frame.
    max_message, max_envelope, max_segments : int
        Largest body, its largest description, most arrays in it.
    max_control : int
        Largest control, and all that is read of a peer before it is welcome.
    hello_timeout, check_timeout : float
        Patience for the peer's next step of the handshake, and for the identity check.
    unauthenticated : int
        Handshakes under way at a time; more of them wait their turn.
    resume_window : float
        How long a site's unanswered messages outlive its connection.
    backoff, max_backoff : float
        First and longest pause between two attempts to connect.
    """

    heartbeat: float = 5.0
    frozen_after: int = 3
    chunk: int = 1 << 20
    max_message: int = 8 << 30
    max_envelope: int = 64 << 20
    max_segments: int = 100_000
    max_control: int = 16 << 10
    hello_timeout: float = 10.0
    check_timeout: float = 30.0
    unauthenticated: int = 128
    resume_window: float = 60.0
    backoff: float = 0.2
    max_backoff: float = 5.0

    @property
    def silence(self) -> float:
        """Seconds without a frame after which the peer is taken for frozen."""
        return self.heartbeat * self.frozen_after


@dataclass(frozen=True, slots=True)
class Payload:
    """A message's content, encoded once for however many receivers.

    Attributes
    ----------
    content : bytes
        JSON of what the segments mean.
    segments : sequence of bytes
        The arrays' data, shared by reference.
    """

    content: bytes
    segments: Sequence[bytes]

    @property
    def size(self) -> int:
        """Bytes of the body."""
        return sum(map(len, self.segments))


EMPTY = Payload(b"null", ())


def control(fields: Mapping[str, Any]) -> bytes:
    """Encode a control frame."""
    return CONTROL + _dumps(fields)


def check_size(head: Mapping[str, Any], payload: Payload, limits: Limits) -> None:
    """Refuse to send what the other end would refuse to read.

    Raises
    ------
    WireError
        The message is beyond a limit; the message names it.
    """
    envelope = len(_envelope(head, payload))
    for size, limit, name in (
        (payload.size, limits.max_message, "bytes of arrays"),
        (envelope, limits.max_envelope, "bytes of names, metrics and configuration"),
        (len(payload.segments), limits.max_segments, "arrays"),
    ):
        if size > limit:
            raise WireError(
                f"a message has {size:,} {name}, the limit is {limit:,}",
                action="send a smaller model, or raise the limit at both ends",
            )


def frames(head: Mapping[str, Any], payload: Payload, chunk: int) -> Iterator[bytes]:
    """Yield a message's frames, each of ``chunk`` bytes but the last.

    Parameters
    ----------
    head : mapping
        Fields of the envelope besides ``sizes`` and ``content``.
    """
    envelope = _envelope(head, payload)
    parts: list[bytes | memoryview] = [START, LENGTHS.pack(len(envelope), payload.size)]
    room = chunk - 1 - LENGTHS.size
    for segment in (envelope, *payload.segments):
        view = memoryview(segment)
        while view:
            part = view[:room]
            parts.append(part)
            room -= len(part)
            view = view[len(part) :]
            if not room:
                yield b"".join(parts)
                parts, room = [DATA], chunk - 1
    if len(parts) > 1:
        yield b"".join(parts)


def _envelope(head: Mapping[str, Any], payload: Payload) -> bytes:
    sizes = _dumps([len(segment) for segment in payload.segments])
    return b'%s,"sizes":%s,"content":%s}' % (_dumps(head)[:-1], sizes, payload.content)


def _dumps(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()
