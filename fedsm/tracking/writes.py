"""What a run's journal asks a tracking service to write, as data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from fedsm.tracking.names import AGGREGATOR, SERVER


@dataclass(frozen=True, slots=True)
class Participant:
    """Whose record it is: the aggregator's, or that of one site's client."""

    role: str
    site: str


SERVER_SIDE = Participant(AGGREGATOR, SERVER)


@dataclass(frozen=True, slots=True)
class Point:
    """One value of a metric at a step (the round) and a time."""

    name: str
    step: int
    value: float
    time: datetime


@dataclass(frozen=True, slots=True)
class Artifact:
    """Where something that the run made lies: a path or a URI."""

    value: str
    media_type: str = ""


@dataclass(frozen=True, slots=True)
class State:
    """All that is written about a participant but its metrics.

    Attributes
    ----------
    status : str
        ``InProgress``, ``Completed``, ``Failed`` or ``Stopped``; ``message`` says why.
    start, end : datetime or None
    """

    parameters: Mapping[str, float | int | str]
    artifacts: Mapping[str, Artifact]
    status: str
    message: str
    start: datetime | None
    end: datetime | None


@dataclass(frozen=True, slots=True)
class Open:
    """Make the participant's record, or find it where it is there."""

    participant: Participant
    state: State


@dataclass(frozen=True, slots=True)
class Update:
    """Replace the participant's state."""

    participant: Participant
    state: State


@dataclass(frozen=True, slots=True)
class Measure:
    """Add values of metrics."""

    participant: Participant
    points: tuple[Point, ...]


@dataclass(frozen=True, slots=True)
class Note:
    """Something was left out; ``sentence`` says what and why."""

    sentence: str


Write = Open | Update | Measure | Note
