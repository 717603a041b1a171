"""The journal: what is written is read back, and what was changed is seen."""

from __future__ import annotations

import json
import math
import os
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fedsm.errors import FedsmError
from fedsm.events import GENESIS, Event, Journal, read

KINDS = st.sampled_from(["run-started", "round-ended", "site-metrics", "tracking"])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)
# `kind` is the first parameter of `append`, so no event has a field of that name.
DATA = st.dictionaries(st.text().filter(lambda key: key not in ("kind", "self")), VALUES)
LINES = st.lists(st.tuples(KINDS, DATA), max_size=8)
FILES = settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@contextmanager
def written(lines: list[tuple[str, dict[str, Any]]]) -> Iterator[Path]:
    """A journal with these lines."""
    with TemporaryDirectory() as directory:
        path = Path(directory) / "events.jsonl"
        journal = Journal(path)
        for kind, data in lines:
            journal.append(kind, **data)
        journal.close()
        yield path


def finite(value: Any) -> Any:
    """What JSON keeps of a value: null for a number that is not finite."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, list):
        return [finite(v) for v in value]
    if isinstance(value, dict):
        return {k: finite(v) for k, v in value.items()}
    return value


@FILES
@given(LINES)
def test_what_is_appended_is_read_back(lines: list[tuple[str, dict[str, Any]]]) -> None:
    with written(lines) as path:
        events = list(read(path))
    assert [(e.kind, e.data) for e in events] == [(kind, finite(data)) for kind, data in lines]
    assert [e.seq for e in events] == list(range(len(lines)))


@FILES
@given(LINES)
def test_each_line_carries_the_hash_of_the_one_before(
    lines: list[tuple[str, dict[str, Any]]],
) -> None:
    with written(lines) as path:
        events = list(read(path))
        reopened = Journal(path)
        head = reopened.head
        reopened.close()
    heads = [GENESIS, *(e.hash for e in events)]
    assert [e.prev for e in events] == heads[:-1]
    assert head == heads[-1]
    assert len(set(heads)) == len(heads)


@FILES
@given(lines=st.lists(st.tuples(KINDS, DATA), min_size=1, max_size=5), data=st.data())
def test_any_changed_byte_is_seen(lines: list[tuple[str, dict[str, Any]]], data: Any) -> None:
    """Or else it changed nothing: ``1e+16`` and ``1E+16`` are the same number."""
    with written(lines) as path:
        raw = bytearray(path.read_bytes())
        before = list(read(path))
        # The last line feed is no content: without it the last line counts as cut off.
        at = data.draw(st.integers(0, len(raw) - 2))
        raw[at] = data.draw(st.integers(0, 255).filter(lambda b: b != raw[at]))
        path.write_bytes(raw)
        after: list[Event] | None = None
        with suppress(FedsmError):
            after = list(read(path))
    assert after in (None, before)


@pytest.mark.parametrize("field", ["seq", "time", "kind", "data", "prev", "hash"])
def test_a_changed_field_is_seen(tmp_path: Path, field: str) -> None:
    path = tmp_path / "events.jsonl"
    journal = Journal(path)
    for n in range(3):
        journal.append("event", n=n)
    journal.close()
    rows = path.read_text().splitlines()
    row = json.loads(rows[1])
    row[field] = {"n": 7} if field == "data" else 7 if field == "seq" else "0" * 64
    path.write_text("\n".join([rows[0], json.dumps(row), rows[2], ""]))
    with pytest.raises(FedsmError, match="line 2 does not"):
        list(read(path))


@FILES
@given(lines=st.lists(st.tuples(KINDS, DATA), min_size=2, max_size=6), data=st.data())
def test_a_missing_or_moved_line_is_seen(
    lines: list[tuple[str, dict[str, Any]]], data: Any
) -> None:
    with written(lines) as path:
        rows = path.read_bytes().splitlines(keepends=True)
        at = data.draw(st.integers(0, len(rows) - 2))
        if data.draw(st.booleans()):
            del rows[at]
        else:
            rows[at], rows[at + 1] = rows[at + 1], rows[at]
        path.write_bytes(b"".join(rows))
        with pytest.raises(FedsmError, match=f"line {at + 1} does not follow"):
            list(read(path))


@FILES
@given(lines=st.lists(st.tuples(KINDS, DATA), min_size=1, max_size=5), data=st.data())
def test_a_line_cut_off_by_a_crash_is_left_out_and_written_over(
    lines: list[tuple[str, dict[str, Any]]], data: Any
) -> None:
    with written(lines) as path:
        raw = path.read_bytes()
        whole = list(read(path))
        last = len(raw.splitlines(keepends=True)[-1])
        path.write_bytes(raw[: len(raw) - data.draw(st.integers(1, last))])
        assert list(read(path)) == whole[:-1]
        journal = Journal(path)
        added = journal.append("after", n=1)
        journal.close()
        assert list(read(path)) == [*whole[:-1], added]


def test_reopening_goes_on_with_the_chain(tmp_path: Path) -> None:
    path = tmp_path / "run" / "events.jsonl"
    for n in range(3):
        journal = Journal(path)
        journal.append("opened", n=n)
        journal.close()
    assert [e.data["n"] for e in read(path)] == [0, 1, 2]


@pytest.mark.parametrize("written", [0, 7, None], ids=["nothing", "a part", "all"])
def test_ctrl_c_in_the_middle_of_a_line_leaves_the_chain_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, written: int | None
) -> None:
    journal = Journal(tmp_path / "events.jsonl")
    journal.append("first")
    write = os.write

    def interrupted(file: int, data: bytes) -> int:
        write(file, data[:written])
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", interrupted)
        with pytest.raises(KeyboardInterrupt):
            journal.append("second")
    journal.append("third")
    journal.close()
    kinds = [event.kind for event in read(journal.path)]
    assert kinds == ["first", *(["second"] if written is None else []), "third"]


def test_a_full_disk_is_an_error_and_no_half_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = Journal(tmp_path / "events.jsonl")
    journal.append("first")
    write = os.write
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", lambda file, data: write(file, data[:5]))
        with pytest.raises(OSError, match="in full"):
            journal.append("second")
    journal.append("third")
    journal.close()
    assert [event.kind for event in read(journal.path)] == ["first", "third"]


def test_an_altered_journal_is_not_appended_to(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    journal = Journal(path)
    journal.append("round-ended", auc=0.7)
    journal.close()
    path.write_bytes(path.read_bytes().replace(b"0.7", b"0.9"))
    with pytest.raises(FedsmError, match="line 1 does not match its hash"):
        Journal(path)


@pytest.mark.parametrize("line", [b"{}\n", b"[]\n", b"null\n", b"garbage\n", b"\xff\n", b"\n"])
def test_a_line_that_is_no_event_is_named(tmp_path: Path, line: bytes) -> None:
    path = tmp_path / "events.jsonl"
    path.write_bytes(line)
    with pytest.raises(FedsmError, match="line 1 is not an event"):
        list(read(path))


def test_subscribers_get_every_event_in_order(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "events.jsonl")
    seen: list[Event] = []
    journal.subscribe(seen.append)
    writers = [
        threading.Thread(target=lambda: [journal.append("event") for _ in range(100)])
        for _ in range(4)
    ]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    journal.close()
    assert seen == list(read(journal.path))
    assert len(seen) == 400


def test_the_file_is_for_its_owner_only_and_one_json_a_line(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "events.jsonl")
    journal.append("event", text="one\ntwo")
    journal.close()
    assert stat.S_IMODE(journal.path.stat().st_mode) == 0o600
    (line,) = journal.path.read_text().splitlines()
    assert set(json.loads(line)) == {"seq", "time", "kind", "data", "prev", "hash"}
