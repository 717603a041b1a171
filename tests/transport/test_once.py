"""Prepared values travel once: then their digest, until a job does not have them any more."""

from __future__ import annotations

import json
from typing import Any

import pytest
from flwr.app import ArrayRecord, ConfigRecord, Error, Message, RecordDict
from hypothesis import given
from hypothesis import strategies as st

from fedsm.transport import flower, once, records

VALUES: dict[str, Any] = {
    "prepare-features": ["a", "b"],
    "prepare-mean": b"\0\1\2",
    "prepare-rows": 7,
}


def messages(*nodes: int, **more: Any) -> list[Message]:
    content = RecordDict(
        {"arrays": ArrayRecord(), "config": ConfigRecord({**VALUES, "server-round": 3, **more})}
    )
    return [Message(content=content, message_type="train", dst_node_id=node) for node in nodes]


def deliver(message: Message, receiver: once.Receiver) -> tuple[Message, dict[str, Any]]:
    """What the job replies, and the config that its app saw."""
    content = travelled(message.content)
    try:
        known = receiver.fill(content)
    except LookupError:
        return flower.reply(message, Error(once.UNKNOWN, once.REFUSED)), {}
    out = RecordDict({} if known is None else {once.KNOWN: known})
    return flower.reply(message, out), dict(content.config_records["config"])


def travelled(content: RecordDict) -> RecordDict:
    payload = records.dump(content)
    return records.load(json.loads(payload.content), payload.segments)


@pytest.fixture(autouse=True)
def _identity() -> None:
    flower.set_identity(1, 1)


def test_the_second_message_is_short_and_the_app_sees_no_difference() -> None:
    sender, receivers = once.Sender(), {node: once.Receiver() for node in (2, 3)}
    sender.share(VALUES)
    assert sender.for_all([2, 3]) == VALUES
    for number in range(3):
        asked = messages(2, 3)
        full = asked[0].content
        assert list(sender.shorten(asked)) == ([2, 3] if number else [])
        assert asked[0].content is asked[1].content  # encoded once
        assert (asked[0].content is full) == (number == 0)
        assert ("prepare-mean" in asked[0].content["config"]) == (number == 0)
        assert full["config"]["prepare-rows"] == 7
        for message in asked:
            reply, seen = deliver(message, receivers[message.metadata.dst_node_id])
            assert seen == {**VALUES, "server-round": 3}
            sender.told(reply)
            assert not reply.content
    assert list(sender.for_all([2, 3])) == [once.DIGEST]
    assert sender.for_all([2, 4]) == VALUES
    closing = RecordDict({"config": ConfigRecord(sender.for_all([2, 3]))})
    receivers[2].fill(closing)
    assert dict(closing["config"]) == VALUES


def test_who_lacks_the_values_refuses_and_is_told_again() -> None:
    sender = once.Sender()
    sender.share(VALUES)
    sender.told(deliver(messages(2)[0], once.Receiver())[0])
    (asked,) = messages(2)
    full = sender.shorten([asked])
    reply, _ = deliver(asked, once.Receiver())
    assert once.lacks(reply)
    sender.told(reply)
    assert full[2]["config"]["prepare-rows"] == 7
    assert sender.shorten(messages(2)) == {}


def test_who_says_nothing_or_something_else_gets_the_values() -> None:
    sender = once.Sender()
    sender.share(VALUES)
    (asked,) = messages(2)
    told = deliver(asked, once.Receiver())[0]
    answers: list[dict[str, Any]] = [
        {},
        {once.KNOWN: ConfigRecord({"digest": "0" * 64})},
        {once.KNOWN: ArrayRecord()},
    ]
    for said in answers:
        told.content = RecordDict(said)
        sender.told(told)
        assert sender.shorten(messages(2)) == {}
    sender.told(deliver(asked, once.Receiver())[0])
    sender.share({**VALUES, "prepare-rows": 8})
    assert sender.shorten(messages(2)) == {}


def test_other_values_than_the_shared_ones_stay_in_the_message() -> None:
    sender = once.Sender()
    sender.share(VALUES)
    sender.told(deliver(messages(2)[0], once.Receiver())[0])
    asked = messages(2, **{"prepare-rows": 9})
    sender.shorten(asked)
    assert asked[0].content["config"]["prepare-rows"] == 9
    assert asked[0].content["config"]["prepare-mean"] == VALUES["prepare-mean"]


def test_without_preparation_nothing_is_said() -> None:
    content = RecordDict({"config": ConfigRecord({"server-round": 1})})
    assert once.Receiver().fill(content) is None
    assert once.Sender().for_all([2]) == {}


values = st.one_of(
    st.integers(-(2**60), 2**60),
    st.floats(allow_nan=False),
    st.booleans(),
    st.text(max_size=4),
    st.binary(max_size=4),
    st.lists(st.floats(allow_nan=False), max_size=3),
    st.lists(st.text(max_size=3), max_size=3),
)


@given(st.dictionaries(st.text("abc", min_size=1, max_size=3), values, min_size=1, max_size=4))
def test_a_digest_is_the_same_at_both_ends(drawn: dict[str, Any]) -> None:
    given_ = {f"{once.PREFIX}{key}": value for key, value in drawn.items()}
    sender, receiver = once.Sender(), once.Receiver()
    sender.share(given_)
    content = RecordDict({"config": ConfigRecord(dict(given_))})
    known = receiver.fill(travelled(content))
    assert known is not None
    assert known["digest"] == once.digest(given_)
