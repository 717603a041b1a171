"""One tracker's way through a journal, and the small file that remembers how far it is."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fedsm.errors import FedsmError
from fedsm.events import Event, read
from fedsm.tracking.base import Tracker

SAVE_EVERY = 1.0
"""Seconds between two saves of a position while events keep coming; a crash repeats that much."""


@dataclass(frozen=True, slots=True)
class Backoff:
    """Pauses between two tries: ``first`` seconds, then each twice the one before up to ``most``.

    While closing, no pause is longer than ``closing``.
    """

    first: float = 1.0
    most: float = 60.0
    closing: float = 1.0

    def pause(self, failures: int) -> float:
        """Seconds to wait after so many failures in a row."""
        return min(self.most, self.first * 2.0 ** min(failures - 1, 30))


@dataclass(frozen=True, slots=True)
class Standing:
    """How far a tracker is.

    Attributes
    ----------
    tracker : str
    tracked, left : int
        Events of the journal that are tracked, and that are not.
    error : str
        The last failure, if the tracker has not recovered from it.
    left_out : tuple of str
        What the tracker could not store and left out, one sentence each.
    """

    tracker: str
    tracked: int
    left: int
    error: str = ""
    left_out: tuple[str, ...] = ()


def position_file(journal: Path, tracker: str) -> Path:
    """Where a tracker's position on a journal is kept."""
    return journal.with_name(f"{journal.stem}.{tracker}.position")


class Follower:
    """One tracker on one journal: which events it has seen, which it has tracked."""

    def __init__(self, journal: Path, tracker: Tracker) -> None:
        self.tracker = tracker
        self._journal = journal
        self._file = position_file(journal, tracker.name)
        self._seen = 0
        self._last: Event | None = None
        self._saved = time.monotonic()
        self.tracked = self._stored()

    def take(self, event: Event) -> Sequence[str]:
        """Hand the next event to the tracker; returns what it left out."""
        notes: Sequence[str] = ()
        if event.seq < self.tracked:
            self.tracker.recall(event)
        else:
            notes = self.tracker.handle(event)
            self.tracked, self._last = event.seq + 1, event
            if time.monotonic() - self._saved > SAVE_EVERY:
                self.save()
        self._seen = event.seq + 1
        return notes

    def save(self) -> None:
        """Write the position down, if it has moved."""
        if self._last is not None:
            draft = self._file.with_suffix(".draft")
            draft.write_text(json.dumps({"tracked": self.tracked, "hash": self._last.hash}))
            draft.replace(self._file)
            self._last, self._saved = None, time.monotonic()

    def wants(self, event: Event) -> bool:
        """Whether the event has not been taken yet."""
        return event.seq >= self._seen

    def follows(self, event: Event) -> bool:
        """Whether nothing is missing between the last event taken and this one."""
        return event.seq == self._seen

    def _stored(self) -> int:
        """The stored position, or 0 where it is not one of this journal's."""
        try:
            stored = json.loads(self._file.read_text())
            tracked, digest = int(stored["tracked"]), str(stored["hash"])
        except (OSError, ValueError, KeyError, TypeError):
            return 0
        last = next((e for e in read(self._journal) if e.seq == tracked - 1), None)
        return tracked if last is not None and last.hash == digest else 0


def sentence(error: Exception) -> str:
    """One sentence for the journal about what went wrong."""
    text = str(error) if isinstance(error, FedsmError) else f"{type(error).__name__}: {error}"
    return text[:1024]
