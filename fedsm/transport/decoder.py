"""Frames to controls and messages: incremental, and wary of what it is given."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import Any

from fedsm.errors import WireError
from fedsm.transport.wire import CONTROL, DATA, LENGTHS, START, Limits, brackets


@dataclass(frozen=True, slots=True)
class Control:
    """A decoded control frame."""

    fields: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Packet:
    """A decoded message; ``segments`` is None when the receiver declined its body."""

    envelope: Mapping[str, Any]
    segments: list[bytes] | None


class Decoder:
    """Turn frames into controls and messages; only :class:`WireError` comes out of bad ones.

    Parameters
    ----------
    limits : Limits
        Declared sizes are checked against them before memory is taken.
    accept : callable, optional
        Told each envelope, with its ``sizes``, before its body; False declines the body, which is
        then read past without being kept.
    """

    def __init__(
        self, limits: Limits, accept: Callable[[Mapping[str, Any]], bool] | None = None
    ) -> None:
        self._limits = limits
        self._accept = accept
        self._envelope_left = 0
        self._body_left = 0
        self._raw = bytearray()
        self._body: _Body | None = None
        self._envelope: dict[str, Any] | None = None
        self._busy = False

    def feed(self, frame: bytes) -> Control | Packet | None:
        """Take one frame; return what it completes.

        Raises
        ------
        WireError
            The frame is malformed, out of place or beyond a limit.
        """
        if not frame:
            raise WireError("an empty frame arrived")
        if len(frame) > self._limits.chunk:
            raise WireError(f"a frame of {len(frame):,} bytes is over the limit")
        kind, view = frame[:1], memoryview(frame)[1:]
        if kind == CONTROL:
            if len(frame) > self._limits.max_control:
                raise WireError(f"a control of {len(frame):,} bytes is over the limit")
            return Control(_loads(view))
        if kind == START:
            view = self._start(view)
        elif kind != DATA:
            raise WireError("a frame of unknown kind arrived")
        elif not self._busy:
            raise WireError("data arrived outside a message")
        elif not view:
            raise WireError("an empty frame arrived")
        return self._take(view)

    def _start(self, view: memoryview) -> memoryview:
        if self._busy:
            raise WireError("a message began inside another")
        if len(view) < LENGTHS.size:
            raise WireError("a message's start is cut short")
        envelope, body = LENGTHS.unpack_from(view)
        if not 2 <= envelope <= self._limits.max_envelope:
            raise WireError(f"an envelope of {envelope:,} bytes was declared")
        if body > self._limits.max_message:
            raise WireError(f"a body of {body:,} bytes was declared")
        self._envelope_left, self._body_left, self._busy = envelope, body, True
        return view[LENGTHS.size :]

    def _take(self, view: memoryview) -> Packet | None:
        if self._envelope is None:
            part = view[: self._envelope_left]
            self._raw += part
            self._envelope_left -= len(part)
            view = view[len(part) :]
            if self._envelope_left:
                return None
            self._envelope = self._open(self._raw)
        if len(view) > self._body_left:
            raise WireError("a message is longer than it declared")
        self._body_left -= len(view)
        if self._body is not None:
            self._body.take(view)
        if self._body_left:
            return None
        packet = Packet(self._envelope, None if self._body is None else self._body.segments)
        self._envelope, self._body, self._busy = None, None, False
        return packet

    def _open(self, raw: bytearray) -> dict[str, Any]:
        if brackets(raw) > self._limits.max_brackets:
            raise WireError("an envelope of too many lists and objects arrived")
        envelope = _loads(raw)
        self._raw = bytearray()
        sizes = envelope.get("sizes")
        if not isinstance(sizes, list):
            raise WireError("an envelope does not declare its sizes")
        if len(sizes) > self._limits.max_segments:
            raise WireError(f"a message of {len(sizes):,} arrays was declared")
        if not all(type(n) is int and n >= 0 for n in sizes):
            raise WireError("an envelope does not declare its sizes")
        if sum(sizes) != self._body_left:
            raise WireError("the sizes of a message's arrays do not add up to its body")
        if self._accept is None or self._accept(envelope):
            self._body = _Body(sizes)
        del envelope["sizes"]
        return envelope


class _Body:
    """Cut a stream of bytes into segments of known sizes, copying each byte once."""

    def __init__(self, sizes: Sequence[int]) -> None:
        self.segments: list[bytes] = []
        self._sizes = iter(sizes)
        self._target: BytesIO | None = None
        self._left = 0
        self._next()

    def _next(self) -> None:
        for size in self._sizes:
            if size:
                self._left = size
                return
            self.segments.append(b"")

    def take(self, view: memoryview) -> None:
        while view:
            part = view[: self._left]
            view = view[len(part) :]
            if self._target is None and len(part) == self._left:
                self._finish(bytes(part))
                continue
            if self._target is None:
                # BytesIO writes into a bytes object that it alone holds, and gives the very object
                # out: memory taken once (and untouched until written), and no copy at the end.
                self._target = BytesIO(bytes(self._left))
            self._target.write(part)
            self._left -= len(part)
            if not self._left:
                self._finish(self._target.getvalue())

    def _finish(self, segment: bytes) -> None:
        self.segments.append(segment)
        self._target, self._left = None, 0
        self._next()


def read_control(frame: object, limits: Limits, *kinds: str) -> Mapping[str, Any]:
    """Read a control of the handshake.

    Raises
    ------
    WireError
        It is not a control of one of the kinds.
    """
    kind = kinds[0]
    if not isinstance(frame, bytes):
        raise WireError(f"the connection ended before the {kind}")
    if len(frame) > limits.max_control:
        raise WireError(f"{len(frame):,} bytes came in place of a {kind}")
    item = Decoder(limits, lambda _: False).feed(frame)
    if not isinstance(item, Control) or item.fields.get("kind") not in kinds:
        raise WireError(f"something else came in place of a {kind}")
    return item.fields


def _loads(raw: bytes | bytearray | memoryview) -> dict[str, Any]:
    try:
        value = json.loads(bytes(raw))
    except (ValueError, RecursionError) as error:
        raise WireError("a frame does not hold JSON") from error
    if not isinstance(value, dict):
        raise WireError("a frame does not hold a JSON object")
    return value
