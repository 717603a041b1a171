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
from dataclasses import dataclass, replace
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
    max_reply_envelope : int
        Largest description of a reply: reading it holds up the coordinator's loop.
    max_values, max_items : int
        Most records, metrics and settings in a reply, and most items in all their lists.
    reply_growth, reply_room : int
        A reply's body is at most ``reply_growth`` times its instruction's and ``reply_room`` more.
    max_queued : int
        Most controls that wait for a peer to take them in.
    max_control : int
        Largest control, and all that is read of a peer before it is welcome.
    hello_timeout, check_timeout : float
        Patience for a turn at the handshake, for the peer up to its hello, and for the identity
        check.
    unauthenticated : int
        Handshakes under way at a time, at most half of them for one address; more of them wait
        their turn.
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
    max_reply_envelope: int = 4 << 20
    max_values: int = 4096
    max_items: int = 100_000
    reply_growth: int = 4
    reply_room: int = 64 << 20
    max_queued: int = 1000
    max_control: int = 16 << 10
    hello_timeout: float = 10.0
    check_timeout: float = 30.0
    unauthenticated: int = 128
    resume_window: float = 60.0
    backoff: float = 0.2
    max_backoff: float = 5.0

    @property
    def max_brackets(self) -> int:
        """Most lists and objects in an envelope, which cost its reader far more than their bytes.

        An array is described by two, a record stands in two, a list of values is one more.
        """
        return 2 * (self.max_segments + self.max_values)

    @property
    def silence(self) -> float:
        """Seconds without a frame after which the peer is taken for frozen."""
        return self.heartbeat * self.frozen_after

    def of_reply(self, asked: int) -> Limits:
        """What holds for the reply to an instruction whose body is of ``asked`` bytes."""
        return replace(
            self,
            max_message=min(self.max_message, self.reply_growth * asked + self.reply_room),
            max_envelope=min(self.max_envelope, self.max_reply_envelope),
        )


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
    envelope = _envelope(head, payload)
    for size, limit, name in (
        (payload.size, limits.max_message, "bytes of arrays"),
        (len(envelope), limits.max_envelope, "bytes of names, metrics and configuration"),
        (brackets(envelope), limits.max_brackets, "lists and objects"),
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


def brackets(envelope: bytes | bytearray) -> int:
    """Opening brackets of lists and objects, those within strings too."""
    return envelope.count(b"[") + envelope.count(b"{")


def _envelope(head: Mapping[str, Any], payload: Payload) -> bytes:
    sizes = _dumps([len(segment) for segment in payload.segments])
    return b'%s,"sizes":%s,"content":%s}' % (_dumps(head)[:-1], sizes, payload.content)


def _dumps(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()
