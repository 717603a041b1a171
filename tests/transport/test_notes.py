"""What fedsm says beside an app's records, as it comes from a peer that may say anything."""

from __future__ import annotations

from typing import Any

import pytest
from flwr.app import ArrayRecord, ConfigRecord, MetricRecord, RecordDict

from fedsm.transport.notes import (
    JOURNAL,
    MAX_PARTS,
    WITHHELD,
    Head,
    Withheld,
    restore,
    take_head,
    take_withheld,
)

HEAD = Head(3, 41, "0a" * 32)


def test_a_head_is_taken_out_of_its_message() -> None:
    content = RecordDict({"config": ConfigRecord({"a": 1}), JOURNAL: HEAD.record()})
    assert take_head(content) == HEAD
    assert list(content) == ["config"]
    assert take_head(content) is None


@pytest.mark.parametrize(
    "record",
    [
        ConfigRecord({}),
        ConfigRecord({**HEAD.record(), "seq": "41"}),
        ConfigRecord({**HEAD.record(), "round": 1.0}),
        ConfigRecord({**HEAD.record(), "hash": "0A" * 32}),
        ConfigRecord({**HEAD.record(), "hash": "0a" * 32 + "\n"}),
        MetricRecord({"seq": 1}),
        ArrayRecord(),
    ],
)
def test_what_is_no_head_is_taken_out_too(record: Any) -> None:
    content = RecordDict({JOURNAL: record})
    assert take_head(content) is None
    assert not content


def test_what_was_withheld_arrives_as_it_was_said() -> None:
    said = Withheld(("a",), ("b",), ("arrays",), 2)
    content = RecordDict({WITHHELD: said.record()})
    assert take_withheld(content) == said
    assert not content
    assert take_withheld(content) == Withheld()
    assert not Withheld()
    many = Withheld(parts=tuple(f"statistics of {n}" for n in range(MAX_PARTS + 5)))
    heard = take_withheld(RecordDict({WITHHELD: many.record()}))
    assert (len(heard.parts), heard.others) == (MAX_PARTS, 5)


@pytest.mark.parametrize(
    ("values", "heard"),
    [
        ({"names": "loss", "others": -1}, Withheld()),
        ({"names": [1, 2], "others": 2**40}, Withheld()),
        ({"names": ["a\x1b[2J"]}, Withheld(("a\\x1b[2J",))),
        ({"names": ["x" * 200]}, Withheld(("x" * 125 + "...",))),
    ],
)
def test_a_peers_words_are_made_fit(values: dict[str, Any], heard: Withheld) -> None:
    assert take_withheld(RecordDict({WITHHELD: ConfigRecord(values)})) == heard
    names = ConfigRecord({"names": [str(n) for n in range(1000)]})
    assert len(take_withheld(RecordDict({WITHHELD: names})).names) == 256


def test_nothing_is_put_in_where_there_is_not_one_record_of_metrics() -> None:
    note = Withheld(names=("loss",)).record()
    two = {"m": MetricRecord({"a": 1}), "n": MetricRecord({"a": 1})}
    for records in ({}, two):
        content = RecordDict({**records, WITHHELD: note})
        restore(content)
        assert dict(content) == {**records, WITHHELD: note}
