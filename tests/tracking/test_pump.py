"""Trackers off the round's path: retried, resumed, never in the way."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from fedsm.errors import FedsmError, TrackingError
from fedsm.events import Event, Journal, read
from fedsm.tracking.follower import Backoff, position_file
from fedsm.tracking.pump import Pump, replay

FAST = Backoff(first=0.001, most=0.004, closing=0.001)
PATIENCE = 20.0


class Notebook:
    """A tracker that notes what it is given, and fails when it is told to."""

    def __init__(self, name: str = "notebook", failures: int = 0) -> None:
        self.name = name
        self.failures = failures
        self.recalled: list[int] = []
        self.handled: list[int] = []
        self.tries = 0
        self.closed = False

    def recall(self, event: Event) -> None:
        self.recalled.append(event.seq)

    def handle(self, event: Event) -> Sequence[str]:
        self.tries += 1
        if self.failures:
            self.failures -= 1
            raise TrackingError("the service is away", where="notebook")
        self.handled.append(event.seq)
        return [f"note {event.seq}"] if event.kind == "odd" else []

    def close(self) -> None:
        self.closed = True


class Stuck(Notebook):
    """A tracker whose call does not return until it is let go."""

    def __init__(self) -> None:
        super().__init__("stuck")
        self.entered, self.release = threading.Event(), threading.Event()

    def handle(self, event: Event) -> Sequence[str]:
        self.entered.set()
        assert self.release.wait(PATIENCE)
        return super().handle(event)


def tracking(journal: Journal) -> list[tuple[str, str]]:
    return [
        (event.data["status"], event.data["error"])
        for event in read(journal.path)
        if event.kind == "tracking"
    ]


def wait_until(true: Callable[[], bool]) -> None:
    until = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < until
        time.sleep(0.001)


def test_every_event_comes_once_and_in_order(journal: Journal) -> None:
    journal.append("before", n=0)
    tracker = Notebook()
    pump = Pump(journal, [tracker], backoff=FAST)
    for n in range(5000):  # more than a tracker holds in memory
        journal.append("event", n=n)
    (standing,) = pump.close(PATIENCE)
    assert tracker.handled == list(range(5001))
    assert tracker.closed
    assert (standing.tracked, standing.left, standing.error) == (5001, 0, "")


def test_events_of_several_threads_come_in_the_journals_order(journal: Journal) -> None:
    tracker = Notebook()
    pump = Pump(journal, [tracker], backoff=FAST)
    writers = [
        threading.Thread(target=lambda: [journal.append("event") for _ in range(200)])
        for _ in range(4)
    ]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    pump.close(PATIENCE)
    assert tracker.handled == list(range(800))


def test_a_failing_tracker_is_tried_again_and_says_so_once(journal: Journal) -> None:
    tracker = Notebook(failures=5)
    pump = Pump(journal, [tracker], backoff=FAST)
    journal.append("event")
    (standing,) = pump.close(PATIENCE)
    assert tracker.tries == 6 + len(tracker.handled) - 1
    assert tracker.handled[0] == 0
    assert standing.left == 0
    assert tracking(journal) == [
        ("retrying", "notebook: the service is away"),
        ("recovered", ""),
    ]


def test_one_tracker_does_not_hold_back_another(journal: Journal) -> None:
    broken, healthy = Notebook("broken", failures=10**9), Notebook("healthy")
    pump = Pump(journal, [broken, healthy], backoff=FAST)
    for _ in range(3):
        journal.append("event")
    wait_until(lambda: broken.tries > 1 and len(healthy.handled) > 2)
    first, second = pump.close(0.05)
    assert broken.handled == []
    assert healthy.handled[:3] == [0, 1, 2]
    assert (first.tracker, first.tracked, first.left >= 3) == ("broken", 0, True)
    assert "the service is away" in first.error
    assert (second.tracker, second.error) == ("healthy", "")
    assert tracking(journal)[-1][0] == "behind"


def test_a_run_does_not_wait_for_a_tracker_that_hangs(journal: Journal) -> None:
    tracker = Stuck()
    pump = Pump(journal, [tracker], backoff=FAST)
    journal.append("event")
    assert tracker.entered.wait(PATIENCE)
    for _ in range(2000):
        journal.append("event")
    assert len(list(read(journal.path))) == 2001
    (standing,) = pump.close(0.05)
    assert standing.left == 2001
    assert tracking(journal) == [("behind", "2001 events left: out of time")]
    tracker.release.set()


def test_closing_cuts_a_pause_short(journal: Journal) -> None:
    tracker = Notebook(failures=1)
    pump = Pump(journal, [tracker], backoff=Backoff(first=3600.0, most=3600.0, closing=0.001))
    journal.append("event")
    wait_until(lambda: bool(pump.standing()[0].error))
    (standing,) = pump.close(PATIENCE)
    assert standing.left == 0
    assert tracker.handled[0] == 0


def test_the_next_pump_goes_on_where_the_last_one_stopped(journal: Journal) -> None:
    first = Notebook()
    pump = Pump(journal, [first], backoff=FAST)
    journal.append("one")
    journal.append("two")
    pump.close(PATIENCE)
    journal.append("three")
    second = Notebook()
    pump = Pump(journal, [second], backoff=FAST)
    journal.append("four")
    pump.close(PATIENCE)
    assert first.handled == second.recalled == [0, 1]
    assert second.handled == [2, 3]


def test_replay_goes_on_where_a_run_stopped(journal: Journal) -> None:
    broken = Notebook(failures=10**9)
    pump = Pump(journal, [broken], backoff=FAST)
    journal.append("one")
    pump.close(0.05)
    journal.close()
    events = len(list(read(journal.path)))
    mended = Notebook()
    (standing,) = replay(journal.path, [mended], backoff=FAST)
    assert mended.handled == list(range(events))
    assert (standing.tracked, standing.left, standing.error) == (events, 0, "")
    assert mended.closed
    again = Notebook()
    replay(journal.path, [again], backoff=FAST)
    assert (again.handled, again.recalled) == ([], list(range(events)))


def test_replay_gives_a_tracker_up_and_says_why(journal: Journal) -> None:
    journal.append("one")
    journal.append("two")
    broken, healthy = Notebook("broken", failures=10**9), Notebook("healthy")
    first, second = replay(journal.path, [broken, healthy], attempts=3, backoff=FAST)
    assert broken.tries == 3
    assert (first.tracked, first.left) == (0, 2)
    assert first.error == "notebook: the service is away"
    assert (second.left, healthy.handled) == (0, [0, 1])


def test_what_was_left_out_is_said(journal: Journal) -> None:
    pump = Pump(journal, [Notebook()], backoff=FAST)
    journal.append("odd")
    (standing,) = pump.close(PATIENCE)
    assert standing.left_out == ("note 0",)
    assert tracking(journal) == [("left-out", "note 0")]
    other = Notebook("other")
    assert replay(journal.path, [other], backoff=FAST)[0].left_out == ("note 0",)


@pytest.mark.parametrize("content", ["", "{", '{"tracked": 1}', '{"tracked": 1, "hash": "other"}'])
def test_a_position_of_another_journal_is_not_believed(journal: Journal, content: str) -> None:
    journal.append("one")
    position_file(journal.path, "notebook").write_text(content)
    tracker = Notebook()
    replay(journal.path, [tracker], backoff=FAST)
    assert tracker.handled == [0]


def test_an_altered_journal_is_not_replayed(journal: Journal) -> None:
    journal.append("one")
    journal.append("two")
    journal.path.write_bytes(journal.path.read_bytes().replace(b"one", b"two", 1))
    with pytest.raises(FedsmError, match="line 1 does not match its hash"):
        replay(journal.path, [Notebook()], backoff=FAST)


def test_a_pump_outlives_a_journal_that_is_closed_too_early(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "events.jsonl")
    tracker = Notebook(failures=10**9)
    pump = Pump(journal, [tracker], backoff=FAST)
    journal.append("one")
    journal.close()
    (standing,) = pump.close(0.05)
    assert standing.left == 1


def test_pauses_grow_to_a_limit() -> None:
    backoff = Backoff(first=1.0, most=60.0)
    assert [backoff.pause(n) for n in (1, 2, 3, 7, 10_000)] == [1.0, 2.0, 4.0, 60.0, 60.0]
