"""What a tracker is: something that copies the journal into a place where people compare runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from fedsm.events import Event


class Tracker(Protocol):
    """Writes the events of one run to a tracking service.

    A tracker is driven by `fedsm.tracking.pump` in a thread of its own and sees every event of one
    journal once, in order: first those already tracked, by `recall`, then the others, by `handle`.
    What it holds in memory therefore depends on the journal alone.

    Attributes
    ----------
    name : str
        Stable name; the tracker's position beside the journal is kept under it.
    """

    name: str

    def recall(self, event: Event) -> None:
        """Take note of an event that was tracked before; nothing is written."""
        ...

    def handle(self, event: Event) -> Sequence[str]:
        """Write an event.

        After an exception it is called again with the same event. It may also see an event twice
        over the life of a run, when the coordinator died in between: writing it again must change
        nothing.

        Returns
        -------
        sequence of str
            What could not be tracked and was left out, one sentence each.
        """
        ...

    def close(self) -> None:
        """Let go of connections; no event follows."""
        ...
