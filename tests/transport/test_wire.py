from __future__ import annotations

import json
import struct
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedsm.errors import WireError
from fedsm.transport.decoder import Control, Decoder, Packet, read_control
from fedsm.transport.wire import Limits, Payload, check_size, control, frames

SMALL = Limits(chunk=64, max_control=48, max_message=4096, max_envelope=2048, max_segments=50)

segments = st.lists(st.binary(max_size=300), max_size=12)


def start(envelope: bytes, body: int, rest: bytes = b"") -> bytes:
    return b"M" + struct.pack(">QQ", len(envelope), body) + envelope + rest


def decode(decoder: Decoder, all_frames: list[bytes]) -> list[Any]:
    return [item for frame in all_frames if (item := decoder.feed(frame)) is not None]


@settings(deadline=None)
@given(segments, st.integers(20, 200))
def test_a_message_comes_out_as_it_went_in(parts: list[bytes], chunk: int) -> None:
    limits = Limits(chunk=chunk)
    sent = list(frames({"id": "x"}, Payload(b'{"n":1}', parts), chunk))
    assert all(len(frame) == chunk for frame in sent[:-1])
    (packet,) = decode(Decoder(limits), sent)
    assert packet == Packet({"id": "x", "content": {"n": 1}}, parts)
    assert all(type(part) is bytes for part in packet.segments)


@settings(deadline=None)
@given(st.lists(segments, min_size=1, max_size=4))
def test_controls_may_stand_between_the_frames_of_messages(messages: list[list[bytes]]) -> None:
    decoder, got, pings = Decoder(SMALL), [], 0
    for number, parts in enumerate(messages):
        for frame in frames({"id": number}, Payload(b"0", parts), SMALL.chunk):
            for item in decode(decoder, [control({"kind": "ping"}), frame]):
                if isinstance(item, Control):
                    pings += 1
                else:
                    got.append(item.segments)
    assert got == messages
    assert pings >= len(messages)


def test_a_small_message_is_one_frame() -> None:
    assert len(list(frames({"id": "x"}, Payload(b"0", [b"data"] * 20), 1 << 20))) == 1


def test_a_declined_body_is_read_past_and_not_kept() -> None:
    seen = []
    decoder = Decoder(SMALL, lambda envelope: bool(seen.append(envelope)))
    sent = [
        *frames({"id": 1}, Payload(b"0", [b"x" * 500]), SMALL.chunk),
        *frames({"id": 2}, Payload(b"0", []), SMALL.chunk),
    ]
    one, two = decode(decoder, sent)
    assert (one.segments, two.segments) == (None, None)
    assert [envelope["id"] for envelope in seen] == [1, 2]


@settings(max_examples=150, deadline=None)
@given(st.lists(st.binary(max_size=80) | st.builds(lambda b: b"M" + b, st.binary(max_size=70))))
def test_garbage_gives_nothing_but_wire_errors(junk: list[bytes]) -> None:
    decoder = Decoder(SMALL)
    for frame in junk:
        try:
            decoder.feed(frame)
        except WireError:
            return


@settings(max_examples=150, deadline=None)
@given(segments, st.data())
def test_a_damaged_message_gives_nothing_but_wire_errors(
    parts: list[bytes], data: st.DataObject
) -> None:
    sent = list(frames({"id": "x"}, Payload(b'{"n":1}', parts), SMALL.chunk))
    which = data.draw(st.integers(0, len(sent) - 1))
    frame = bytearray(sent[which])
    where = data.draw(st.integers(0, len(frame) - 1))
    if data.draw(st.booleans()):
        frame[where] ^= data.draw(st.integers(1, 255))
        sent[which] = bytes(frame)
    else:
        sent[which] = bytes(frame[:where])
    decoder = Decoder(SMALL)
    try:
        decode(decoder, sent)
    except WireError:
        return


@pytest.mark.parametrize(
    "frame",
    [
        b"",
        b"X",
        b"Dabc",
        b"M\0",
        b"C[1]",
        b"C{",
        b"C" + b"[" * 40,
        b"C" + b" " * 48,
        b"D" * 65,
        start(b"{}", 0),
        start(b"[]", 0),
        start(b'{"sizes":[5]}', 4, b"abcd"),
        start(b'{"sizes":[-1,1]}', 0),
        start(b'{"sizes":[true]}', 1, b"a"),
        start(b'{"sizes":["1"]}', 1, b"a"),
        start(b'{"sizes":[1]}', 1, b"ab"),
        start(b'{"sizes":[99999999]}', 99999999),
        b"M" + struct.pack(">QQ", 1 << 62, 0),
        b"M" + struct.pack(">QQ", 2, 1 << 62),
        b"M" + struct.pack(">QQ", 0, 0),
    ],
)
def test_a_malformed_frame_is_refused(frame: bytes) -> None:
    with pytest.raises(WireError):
        Decoder(SMALL).feed(frame)


def test_a_deeply_nested_envelope_is_refused() -> None:
    limits = Limits()
    with pytest.raises(WireError):
        Decoder(limits).feed(start(b"[" * 100_000, 0))


def test_sizes_are_judged_before_memory_is_taken() -> None:
    limits = Limits(max_message=1 << 40)
    sizes = json.dumps({"sizes": [(1 << 40) - 5, 5]}).encode()
    decoder = Decoder(limits)
    assert decoder.feed(start(sizes, 1 << 40)) is None  # a tebibyte declared, nothing sent


def test_a_sender_refuses_what_the_receiver_would() -> None:
    for payload in (
        Payload(b"0", [b"x" * 5000]),
        Payload(b"0" * 3000, []),
        Payload(b"0", [b""] * 60),
    ):
        with pytest.raises(WireError, match="limit"):
            check_size({}, payload, SMALL)
    check_size({}, Payload(b"0", [b"x" * 4096]), SMALL)


@pytest.mark.parametrize("frame", [None, b"C" + b" " * 60, b"D", control({"kind": "other"})])
def test_the_handshake_reads_only_the_control_it_waits_for(frame: bytes | None) -> None:
    with pytest.raises(WireError):
        read_control(frame, SMALL, "hello")
