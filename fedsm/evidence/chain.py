"""Checks a journal's lines one by one, and goes on after a fault, so that every one is named."""

from __future__ import annotations

import json
from typing import Any

from fedsm.events import GENESIS, Event, canonical, digest_of

MAX_LINE = 16 << 20
"""Bytes of a line that are read."""

MAX_FAULTS = 100

_TYPES = {"seq": int, "time": str, "kind": str, "data": dict, "prev": str, "hash": str}


class Chain:
    """A journal's lines as they are read.

    Attributes
    ----------
    faults : list of str
        What is wrong, each with its line.
    number : int
        Of the last line, from 1.
    seq, head : int, str
        Of the last line that is an event.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._sure = True
        self.faults: list[str] = []
        self.number = 0
        self.seq = -1
        self.head = GENESIS

    def feed(self, raw: bytes) -> Event | None:
        """Check the next line, with its line feed; None if it is no event."""
        self.number += 1
        if not raw.endswith(b"\n"):
            self._fault("is cut off")
            self._lost()
            return None
        try:
            row = _row(raw)
            event = Event(**row)
            digest = digest_of(event.seq, event.time, event.kind, event.data, event.prev)
            as_written = raw == canonical(row)
        except (ValueError, TypeError, RecursionError):
            self._fault("is not an event: it was altered")
            self._lost()
            return None
        if digest != event.hash:
            self._fault("was altered: it does not match its hash")
        elif not as_written:
            self._fault("was altered: it is not written as a journal is")
        self._follow(event)
        return event

    def _follow(self, event: Event) -> None:
        expected = self.seq + 1
        if event.seq > expected:
            missing = event.seq - expected
            self._fault(
                f"does not follow the line before it: {missing} "
                f"line{'s are' if missing > 1 else ' is'} missing before it, or it was moved"
            )
        elif event.seq < expected:
            self._fault("does not follow the line before it: it was moved or repeated")
        elif self._sure and event.prev != self.head:
            self._fault(
                f"does not follow line {self.number - 1}: one of the two was altered"
                if self.number > 1
                else "does not begin a journal: it was altered"
            )
        self.seq, self.head, self._sure = event.seq, event.hash, True

    def _lost(self) -> None:
        """The line's own number and hash are unknown: the next one counts on."""
        self.seq += 1
        self._sure = False

    def _fault(self, what: str) -> None:
        if len(self.faults) < MAX_FAULTS:
            self.faults.append(f"{self._name} line {self.number} {what}")


def _row(raw: bytes) -> dict[str, Any]:
    row = json.loads(raw)
    if not isinstance(row, dict) or {k: type(v) for k, v in row.items()} != _TYPES:
        raise ValueError
    return row
