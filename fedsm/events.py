"""The journal: one append-only record a run, each line chained to the one before by its hash.

Trackers, the progress display, the report and ``attach()`` all read it; nothing else is kept about
a run. Lines are JSON: ``seq, time, kind, data, prev, hash``, where ``hash`` is the SHA-256 of the
line without its ``hash`` and ``prev`` the hash of the line before (64 zeros for the first).

Kinds of event, and their data:

=================  ==================================================================
run-started        run, federation, rounds, strategy, options, hyperparameters, sites,
                   bundle, cloud, min_sites, model, isolation, launch, coordinator
role-assumed       site (or coordinator), role, session, source_identity
planned            sha256 (of plan.json)
call               site, action, phase (begin|end|failed), detail
execution-started  site, account, pipeline, execution, bundle, parameters
job-created        site, account, job, arn, bundle, execution
job-status         site, job, status, secondary, reason, seconds, artifacts
site-joined        site, device, again
site-lost          site, reason
site-refused       peer, reason
preparation        sites, examples, queries, statistics (names of what left each site),
                   smallest (count that the sites were to merge or leave out),
                   withheld (site to what its owner's terms held back)
initial            site (that gave the first arrays)
round-started      round, sites
site-metrics       round, phase (train|evaluate), site, metrics, seconds, sent,
                   received, withheld (names)
site-error         round, phase, site, error
round-ended        round, seconds, train, evaluate, server (metrics, each may be empty),
                   traffic (site to bytes sent and received since the last one)
checkpoint         round, path, sha256
model              model, model_sha256
closing            sites (those that took the final model)
traffic            sites (site to bytes sent and received in all)
calls              calls: site to API operation to how often it was called
tracking           tracker, status (retrying|recovered|left-out|behind), error
run-ended          status (Completed|Failed|Stopped), reason, model, model_sha256
=================  ==================================================================
"""

from __future__ import annotations

import errno
import hashlib
import json
import logging
import math
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fedsm.errors import FedsmError

GENESIS = "0" * 64

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Event:
    """One line of the journal."""

    seq: int
    time: str
    kind: str
    data: Mapping[str, Any]
    prev: str
    hash: str


def digest_of(seq: int, time: str, kind: str, data: Mapping[str, Any], prev: str) -> str:
    """Hash of a line."""
    body = {"seq": seq, "time": time, "kind": kind, "data": data, "prev": prev}
    return hashlib.sha256(_dumps(body).encode()).hexdigest()


def canonical(row: Mapping[str, Any]) -> bytes:
    """A line as the journal writes it, with its line feed."""
    return _dumps(row).encode() + b"\n"


def _dumps(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def _plain(value: Any) -> Any:
    """JSON without NaN: a number that is not finite is written as null."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(v) for v in value]
    return value


@dataclass(frozen=True, slots=True)
class _Place:
    """Where the next line goes: its number, the hash it follows, the file's size before it."""

    seq: int
    head: str
    size: int


class Journal:
    """Append events to ``path`` and hand each to the subscribers, in order.

    Safe to use from several threads. A subscriber runs under the journal's lock and must be quick.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.RLock()
        self._subscribers: list[Callable[[Event], None]] = []
        self._at = _Place(0, GENESIS, 0)
        self._next: _Place | None = None
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists():
            _drop_torn_line(path)
            for event in read(path):
                self._at = _Place(event.seq + 1, event.hash, path.stat().st_size)
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    @property
    def head(self) -> str:
        """Hash of the last line."""
        return self._at.head

    @property
    def tip(self) -> tuple[int, str]:
        """Number and hash of the last line: what whoever keeps it can later hold the journal to."""
        at = self._at
        return at.seq - 1, at.head

    def subscribe(self, subscriber: Callable[[Event], None]) -> None:
        """Call ``subscriber`` with every event from now on."""
        with self._lock:
            self._subscribers.append(subscriber)

    def append(self, kind: str, **data: Any) -> Event:
        """Write one event; it is on its way to disk when this returns."""
        with self._lock:
            self._settle()
            at, plain = self._at, _plain(data)
            time = datetime.now(UTC).isoformat(timespec="milliseconds")
            digest = digest_of(at.seq, time, kind, plain, at.head)
            event = Event(at.seq, time, kind, plain, at.head, digest)
            raw = canonical(
                {
                    "seq": event.seq,
                    "time": time,
                    "kind": kind,
                    "data": plain,
                    "prev": event.prev,
                    "hash": digest,
                }
            )
            self._next = _Place(at.seq + 1, digest, at.size + len(raw))
            os.write(self._file, raw)
            if not self._settle():
                raise OSError(errno.EIO, "a line could not be written in full", str(self.path))
            for subscriber in self._subscribers:
                try:
                    subscriber(event)
                except Exception as error:  # an observer must not fail a run
                    log.warning("an observer failed at event %d: %r", event.seq, error)
            return event

    def _settle(self) -> bool:
        """Take note of the line under way, or drop what there is of it and return ``False``.

        Ctrl-C may come between any two steps of ``append``: what counts is what the file holds.
        """
        if self._next is None:
            return True
        whole = os.fstat(self._file).st_size == self._next.size
        if whole:
            self._at = self._next
        else:
            os.ftruncate(self._file, self._at.size)
        self._next = None
        return whole

    def close(self) -> None:
        """Flush to disk and close the file."""
        with self._lock:
            if self._file >= 0:
                os.fsync(self._file)
                os.close(self._file)
                self._file = -1


def read(path: Path) -> Iterator[Event]:
    """Yield the events of a journal, checking the chain.

    A last line without its line feed is a write cut off by a crash and is left out.

    Raises
    ------
    FedsmError
        A line is altered, missing or out of order; the message names it.
    """
    prev, expected = GENESIS, 0
    with path.open("rb") as lines:
        for number, raw in enumerate(lines, start=1):
            if not raw.endswith(b"\n"):
                return
            try:
                row = json.loads(raw)
                event = Event(**row)
                digest = digest_of(event.seq, event.time, event.kind, event.data, event.prev)
            except (ValueError, TypeError) as error:
                raise _broken(path, number, "is not an event") from error
            if event.seq != expected or event.prev != prev:
                raise _broken(path, number, "does not follow the line before it")
            if digest != event.hash:
                raise _broken(path, number, "does not match its hash")
            prev, expected = event.hash, expected + 1
            yield event


def _broken(path: Path, number: int, what: str) -> FedsmError:
    return FedsmError(
        f"line {number} {what}",
        where=str(path),
        action="restore the journal from a copy; its chain of hashes shows where it was changed",
    )


def _drop_torn_line(path: Path) -> None:
    data = path.read_bytes()
    if data and not data.endswith(b"\n"):
        os.truncate(path, data.rfind(b"\n") + 1)
