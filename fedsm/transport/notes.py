"""What fedsm itself says in a message, in records beside the app's, which no app gets to see.

The coordinator says where its journal stands, a job what it withheld.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any

from flwr.app import ConfigRecord, MetricRecord, RecordDict

from fedsm.transport.text import clean

JOURNAL, WITHHELD = "fedsm.journal", "fedsm.withheld"
"""Names of the records."""

MAX_PARTS = 20
_MAX_NAMES, _MAX_NAME = 256, 128
_HASH = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Head:
    """Where the coordinator's journal stood when it sent a message.

    Attributes
    ----------
    round : int
        The round of the message, 0 before the first; that of the last for the closing message.
    seq, hash : int, str
        Of the journal's last line.
    """

    round: int
    seq: int
    hash: str

    def record(self) -> ConfigRecord:
        """As it travels."""
        return ConfigRecord({"round": self.round, "seq": self.seq, "hash": self.hash})


@dataclass(frozen=True, slots=True)
class Withheld:
    """What a job left out of a reply.

    Attributes
    ----------
    names : tuple of str
        Metrics that the owner's terms hold back, of names that may themselves leave.
    undefined : tuple of str
        Metrics that had no finite value.
    parts : tuple of str
        Anything else that the terms hold back, in fedsm's words.
    others : int
        How much was left out whose name may not leave either.
    """

    names: tuple[str, ...] = ()
    undefined: tuple[str, ...] = ()
    parts: tuple[str, ...] = ()
    others: int = 0

    def __bool__(self) -> bool:
        return bool(self.names or self.undefined or self.parts or self.others)

    def record(self) -> ConfigRecord:
        """As it travels: so many parts by name, the rest as a number."""
        return ConfigRecord(
            {
                "names": list(self.names),
                "undefined": list(self.undefined),
                "parts": list(self.parts[:MAX_PARTS]),
                "others": self.others + max(0, len(self.parts) - MAX_PARTS),
            }
        )

    def told(self) -> list[str]:
        """What the terms held back, for people to read."""
        return [*self.names, *self.parts, *([f"{self.others} unnamed"] if self.others else [])]


def take_head(content: RecordDict) -> Head | None:
    """Take the journal's head out of a message; None where there is none of its form."""
    record = content.pop(JOURNAL, None)
    note = dict(record) if isinstance(record, ConfigRecord) else {}
    round_, seq, hash_ = note.get("round"), note.get("seq"), note.get("hash")
    if type(round_) is not int or type(seq) is not int or not isinstance(hash_, str):
        return None
    return Head(round_, seq, hash_) if _HASH.fullmatch(hash_) else None


def restore(content: RecordDict) -> None:
    """Put NaN where a job names a metric that it left out: strategies want all sites' to be alike.

    NaN itself does not leave a job.
    """
    if WITHHELD not in content:
        return
    records = [record for record in content.values() if isinstance(record, MetricRecord)]
    note = _withheld(content[WITHHELD])
    for name in (*note.names, *note.undefined) if len(records) == 1 else ():
        records[0].setdefault(name, math.nan)


def take_withheld(content: RecordDict) -> Withheld:
    """Take what a job says it withheld out of its reply; whatever is not of its form is nothing."""
    return _withheld(content.pop(WITHHELD, None))


def _withheld(record: object) -> Withheld:
    note = dict(record) if isinstance(record, ConfigRecord) else {}
    others = note.get("others")
    return Withheld(
        _names(note.get("names")),
        _names(note.get("undefined")),
        _names(note.get("parts")),
        others if type(others) is int and 0 <= others <= 2**31 else 0,
    )


def _names(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list):
        return ()
    return tuple(clean(name, _MAX_NAME) for name in value[:_MAX_NAMES] if isinstance(name, str))
