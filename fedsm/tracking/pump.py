"""Runs trackers from the journal, off the round's path.

Each tracker has a thread and a position of its own. The position, kept in a small file beside the
journal, is the number of events that were tracked; a tracker that fails is tried again with
growing pauses and goes on from there, in this process or, by `replay` or the next `Pump` on the
same journal, in another. A run neither waits for a tracker nor fails with it.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from fedsm.events import Event, Journal, read
from fedsm.tracking.base import Tracker
from fedsm.tracking.follower import Backoff, Follower, Standing, sentence

# Events kept in memory for a tracker; one that is further behind reads the journal again.
_RECENT = 1024


class Pump:
    """Follow a journal with trackers while a run goes on.

    Events already in the journal are taken in first, so that a run taken up again by another
    process is tracked to its end. `close` comes before the journal's own ``close``.

    Parameters
    ----------
    journal : Journal
        Also receives a ``tracking`` event when a tracker starts to fail (``retrying``), works again
        (``recovered``), left something out (``left-out``) or is closed with events left
        (``behind``).
    trackers : sequence of Tracker
        With distinct names.
    backoff : Backoff, optional
    """

    def __init__(
        self, journal: Journal, trackers: Sequence[Tracker], *, backoff: Backoff | None = None
    ) -> None:
        self._journal = journal
        self._workers = [_Worker(journal, t, backoff or Backoff()) for t in trackers]
        for worker in self._workers:
            journal.subscribe(worker.offer)
            worker.start()

    def standing(self) -> list[Standing]:
        """How far each tracker is, for a progress display."""
        return [worker.standing() for worker in self._workers]

    def close(self, timeout: float) -> list[Standing]:
        """Let the trackers finish, for at most ``timeout`` seconds in all; says how far they are.

        What is left stays in the journal: `replay` or the next run's `Pump` on it goes on there.
        Never raises.
        """
        deadline = time.monotonic() + timeout
        for worker in self._workers:
            worker.finish(deadline)
        return [worker.join(deadline) for worker in self._workers]


class _Worker:
    """The thread of one tracker."""

    def __init__(self, journal: Journal, tracker: Tracker, backoff: Backoff) -> None:
        self._journal = journal
        self._tracker = tracker
        self._backoff = backoff
        self._recent: deque[Event] = deque(maxlen=_RECENT)
        self._changed = threading.Condition()
        self._deadline: float | None = None
        self._caught_up = False
        self._events = self._tracked = 0
        self._error = ""
        self._left_out: list[str] = []
        # A daemon: a call that hangs must not keep the coordinator from ending.
        self._thread = threading.Thread(
            target=self._run, name=f"tracker-{tracker.name}", daemon=True
        )

    def start(self) -> None:
        self._thread.start()

    def offer(self, event: Event) -> None:
        """Take note of an event; called under the journal's lock."""
        with self._changed:
            self._recent.append(event)
            self._events = event.seq + 1
            self._changed.notify()

    def finish(self, deadline: float) -> None:
        """End once all is tracked, at the latest at ``deadline`` (monotonic seconds)."""
        with self._changed:
            self._deadline = deadline
            self._changed.notify()

    def join(self, deadline: float) -> Standing:
        self._thread.join(max(0.0, deadline - time.monotonic()))
        standing = self.standing()
        if standing.left:
            self._say("behind", f"{standing.left} events left: {standing.error or 'out of time'}")
        return standing

    def standing(self) -> Standing:
        with self._changed:
            left = max(0, self._events - self._tracked)
            return Standing(
                self._tracker.name, self._tracked, left, self._error, tuple(self._left_out)
            )

    def _run(self) -> None:
        try:
            self._follow()
        finally:
            with suppress(Exception):
                self._tracker.close()

    def _follow(self) -> None:
        follower: Follower | None = None
        failures = 0
        while not self._over():
            try:
                follower = follower or self._follower()
                for event in self._untaken(follower):
                    if self._over():
                        break
                    self._take(follower, event)
                    failures = 0
                follower.save()
            except Exception as error:
                failures += 1
                self._failed(error)
                if follower is not None:
                    with suppress(OSError):
                        follower.save()
                self._wait(self._backoff.pause(failures))
            else:
                if self._idle(follower):
                    return

    def _follower(self) -> Follower:
        follower = Follower(self._journal.path, self._tracker)
        with self._changed:
            self._tracked = follower.tracked
        return follower

    def _take(self, follower: Follower, event: Event) -> None:
        notes = follower.take(event)
        with self._changed:
            self._tracked = follower.tracked
            self._events = max(self._events, event.seq + 1)
            self._left_out += notes
            recovered, self._error = bool(self._error), ""
        if recovered:
            self._say("recovered", "")
        for note in notes:
            self._say("left-out", note)

    def _untaken(self, follower: Follower) -> Iterator[Event]:
        """Events to take: those in memory where nothing is missing before them, else the file's."""
        with self._changed:
            while self._recent and not follower.wants(self._recent[0]):
                self._recent.popleft()
            recent = list(self._recent)
        if self._caught_up and (not recent or follower.follows(recent[0])):
            yield from recent
            return
        self._caught_up = False
        yield from filter(follower.wants, read(self._journal.path))
        self._caught_up = True

    def _idle(self, follower: Follower) -> bool:
        """Wait for another event; true when there is none and none will come."""
        with self._changed:
            while not (self._recent and follower.wants(self._recent[-1])):
                if self._deadline is not None:
                    return True
                self._changed.wait()
            return False

    def _wait(self, pause: float) -> None:
        """Pause after a failure; closing cuts it short."""
        until = time.monotonic() + pause
        with self._changed:
            closing = self._deadline is not None
            if closing:
                until = time.monotonic() + min(pause, self._backoff.closing)
            while (left := until - time.monotonic()) > 0:
                if not closing and self._deadline is not None:
                    return
                self._changed.wait(left)

    def _over(self) -> bool:
        return self._deadline is not None and time.monotonic() >= self._deadline

    def _failed(self, error: Exception) -> None:
        with self._changed:
            first, self._error = not self._error, sentence(error)
        if first:
            self._say("retrying", self._error)

    def _say(self, status: str, error: str) -> None:
        # The journal may be closed, or the disk full: a tracker's word is not worth a run.
        with suppress(Exception):
            self._journal.append("tracking", tracker=self._tracker.name, status=status, error=error)


def replay(
    journal: Path,
    trackers: Sequence[Tracker],
    *,
    attempts: int = 4,
    backoff: Backoff | None = None,
) -> list[Standing]:
    """Track what is not tracked yet of a journal, in the calling thread.

    For a run that is over; while it goes on its own `Pump` does this.

    Parameters
    ----------
    journal : Path
    trackers : sequence of Tracker
        Closed when this returns.
    attempts : int
        Tries of one event before a tracker is given up.
    backoff : Backoff, optional

    Returns
    -------
    list of Standing
        ``error`` says why a tracker was given up; a later call goes on there.

    Raises
    ------
    FedsmError
        The journal is altered.
    """
    events = sum(1 for _ in read(journal))
    return [_replayed(journal, t, events, attempts, backoff or Backoff()) for t in trackers]


def _replayed(
    journal: Path, tracker: Tracker, events: int, attempts: int, backoff: Backoff
) -> Standing:
    follower = Follower(journal, tracker)
    left_out: list[str] = []
    failure = ""
    for event in read(journal):
        for attempt in range(1, attempts + 1):
            try:
                left_out += follower.take(event)
                failure = ""
                break
            except Exception as error:
                failure = sentence(error)
                if attempt < attempts:
                    time.sleep(backoff.pause(attempt))
        if failure:
            break
    follower.save()
    with suppress(Exception):
        tracker.close()
    left = events - follower.tracked
    return Standing(tracker.name, follower.tracked, left, failure, tuple(left_out))
