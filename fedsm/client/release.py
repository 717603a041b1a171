"""What may leave a job in a reply; the rest stays, and is named where its name may leave. Pure.

The owner's terms reach the job as ``FEDSM_LIMIT_METRICS`` (names, separated by commas; what does
not fit follows in ``FEDSM_LIMIT_METRICS_1``, …) and ``FEDSM_LIMIT_COUNT``. Without any limit, as in
the direct launch, every metric of a printable name may leave, and no count is too small; other
limits without ``FEDSM_LIMIT_METRICS`` are an error.

====================  ============================================================================
of a reply            what leaves
====================  ============================================================================
metrics               finite numbers, and lists of them, of the names in the terms
arrays                to ``train``: those that were sent, by name, type and shape, and such of
                      numbers as the terms name; one of bytes, that is trees, where the terms name
                      ``trees``; to ``query.initial``: the model's; to
                      ``query.statistics`` and ``query.histograms``: fedsm's own
configuration         to ``query.statistics``: names of columns and classes, rows per class; to
                      ``query.categories``: categories of columns
====================  ============================================================================

A *count* is the value of a metric whose name begins with ``num-`` or ``num_``, and any integer but
``norm_bit`` of Flower's adaptive clipping. A count from 1 to one below the smallest of the terms is
withheld, and so is one that leaves so few of the rows. A site with so few rows (``num-examples``)
takes no part in training, and weighs nothing in an evaluation. Statistics of a column with so few
values, or of a column of zeros and ones with so few of either, leave as those of a column without
values; of sparse rows, values are those stored. Rows per class leave all or not at all; a category
of so few rows does not leave; small counts of a histogram are merged into those of neighbouring
bins.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from flwr.app import Array, ArrayRecord, ConfigRecord, MetricRecord, RecordDict

from fedsm.client import columns
from fedsm.contract import EXACT_SUMS, LIMIT, LIMIT_COUNT, LIMIT_METRICS, TREES
from fedsm.errors import ConfigError
from fedsm.learning.checks import MAX_NAME, MAX_WEIGHT, initial_fault
from fedsm.learning.trees import MAX_BYTES, is_bytes
from fedsm.metric_names import ROUND, WEIGHT
from fedsm.transport.notes import Withheld

_METRICS = re.compile(rf"{LIMIT_METRICS}(_\d+)?")

_NUMBERS = ("float", "int", "uint", "bool")
_NO_COUNTS = frozenset({"norm_bit"})
_SUMS = frozenset(name for names in EXACT_SUMS.values() for name in names)

Shapes = Mapping[str, tuple[str, tuple[int, ...]]]
"""Type and shape of each array of a message."""


class TooFewRows(Exception):  # noqa: N818
    """The site has fewer rows than its owner's terms ask for; says no number."""


@dataclass(frozen=True, slots=True)
class Released:
    """A reply as it leaves.

    Attributes
    ----------
    content : RecordDict
    withheld : Withheld
        What the coordinator is told of the rest.
    reasons : mapping of str to list of str
        Reason to names, for the job's own log.
    """

    content: RecordDict
    withheld: Withheld
    reasons: Mapping[str, list[str]]


@dataclass(frozen=True, slots=True)
class Release:
    """The owner's terms for what may leave.

    Attributes
    ----------
    metrics : frozenset of str or None
        Names of metrics; None for any.
    smallest : int
        The smallest count that may leave.
    """

    metrics: frozenset[str] | None = None
    smallest: int = 0

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> Release:
        """Read the terms.

        Raises
        ------
        ConfigError
            The smallest count is not a whole number, or there are limits but none of metrics.
        """
        smallest = environ.get(LIMIT_COUNT, "0")
        if not smallest.isdecimal():
            raise ConfigError(
                "is not a whole number",
                where=LIMIT_COUNT,
                action="let the site's approver approve the bundle again",
            )
        if LIMIT_METRICS not in environ:
            if any(name.startswith(LIMIT) for name in environ):
                raise ConfigError(
                    "the job has a part of its owner's limits only",
                    action="let the site's approver approve the bundle again",
                    faults=((LIMIT_METRICS, "is not set"),),
                )
            return cls()
        parts = [text for name, text in environ.items() if _METRICS.fullmatch(name)]
        names = (name.strip() for part in parts for name in part.split(","))
        return cls(frozenset(name for name in names if name), int(smallest))

    @property
    def limited(self) -> bool:
        """Whether the owner set any limits."""
        return self.metrics is not None

    def of(self, kind: str, asked: Shapes, content: RecordDict) -> Released:
        """Sort out a reply.

        Parameters
        ----------
        kind : str
            Type of the message that it answers.
        asked : mapping
            The arrays of that message, see :func:`shapes_of`.
        content : RecordDict
            What the app answered; it is left as it is.

        Raises
        ------
        TooFewRows
            The site takes no part.
        """
        if not kind.startswith("query."):
            kind = kind.partition(".")[0]
        notes = _Notes(self)
        out = RecordDict()
        for key, record in content.items():
            if isinstance(record, MetricRecord):
                self._put(out, key, "metrics", self._metrics(kind, record, notes), notes)
            elif isinstance(record, ArrayRecord) and kind not in columns.RECORDS:
                if self._may_leave(kind, asked, record):
                    self._put(out, key, "arrays", record, notes)
                elif is_bytes(asked):
                    notes.part("trees hold values of features", TREES)
                else:
                    notes.part("arrays that are not the model's", "arrays")
        if kind in columns.RECORDS:
            records, small = columns.released(kind, content, self.smallest)
            out.update(records)
            for name in small:
                notes.part("a small count", name)
        fedsms = columns.RECORDS.get(kind, ())
        for key, record in content.items():
            if isinstance(record, ConfigRecord) and key not in fedsms:
                notes.drop("a record of configuration", key)
        return Released(out, notes.withheld(), notes.reasons)

    def _put(
        self,
        out: RecordDict,
        key: str,
        usual: str,
        record: ArrayRecord | MetricRecord,
        notes: _Notes,
    ) -> None:
        """Under the terms a record has the usual name: its own could be any text."""
        name = key if self.metrics is None else usual
        if name in out:
            notes.drop("a second record of a kind", key)
        else:
            out[name] = record

    def _may_leave(self, kind: str, asked: Shapes, record: ArrayRecord) -> bool:
        if self.metrics is None:
            return kind != "evaluate"
        found = shapes_of(record.items())
        if is_bytes(asked) or is_bytes(found):
            size = sum(len(array.data) for array in record.values())
            alike = is_bytes(found) and (kind == "query.initial" or set(found) == set(asked))
            trained = kind in ("train", "query.initial")
            return trained and self.names(TREES) and alike and size <= MAX_BYTES
        if kind == "query.initial":
            return initial_fault(record) is None
        # Sums are the owner's to name also where the coordinator sent arrays of their names.
        further = {
            name: shape for name, shape in found.items() if name not in asked or name in _SUMS
        }
        return (
            kind == "train"
            and {name: shape for name, shape in found.items() if name in asked} == asked
            and all(
                self.names(n) and dtype.startswith(_NUMBERS) for n, (dtype, _) in further.items()
            )
        )

    def _metrics(self, kind: str, record: MetricRecord, notes: _Notes) -> MetricRecord:
        rows = record.get(WEIGHT)
        if self.smallest > 1:
            if not isinstance(rows, int | float) or not rows >= 0:
                notes.metrics(f"without {WEIGHT} nobody knows of how many rows", record)
                return MetricRecord()
            if 0 < rows < self.smallest:
                if kind != "evaluate":
                    raise TooFewRows
                notes.metrics("of too few rows", record)
                return MetricRecord({WEIGHT: 0})
        out = MetricRecord()
        for name, value in record.items():
            values = value if isinstance(value, list) else [value]
            if len(name) > MAX_NAME or not name.isprintable():
                notes.drop("no printable name", name)
            elif not self.names(name):
                notes.metrics("not named in the terms", [name])
            elif not all(map(_usable, values)):
                notes.undefined(name)
            elif _is_count(name, values) and any(self._few(abs(v), rows) for v in values):
                notes.metrics("a small count", [name])
            else:
                out[name] = value
        return out

    def _few(self, count: float, rows: object) -> bool:
        """Whether so few rows are counted, or left over."""
        left = rows - count if isinstance(rows, int | float) else 0
        return 0 < count < self.smallest or 0 < left < self.smallest

    def names(self, name: str) -> bool:
        """Whether a metric of this name may leave."""
        return self.metrics is None or name in self.metrics


@dataclass(slots=True)
class _Notes:
    """What is withheld from one reply, and why."""

    release: Release
    names: list[str] = field(default_factory=list)
    parts: list[str] = field(default_factory=list)
    not_finite: list[str] = field(default_factory=list)
    others: int = 0
    reasons: dict[str, list[str]] = field(default_factory=dict)

    def hold(self, reason: str, *names: str) -> None:
        self.reasons.setdefault(reason, []).extend(names)

    def metrics(self, reason: str, names: Iterable[str]) -> None:
        """Metrics: the coordinator is told the names that the terms or fedsm itself know."""
        for name in names:
            if self.release.names(name) or name in ROUND:
                self.names.append(name)
                self.hold(reason, name)
            else:
                self.drop(reason, name)

    def part(self, reason: str, name: str) -> None:
        """Something that fedsm itself has a name for."""
        self.parts.append(name)
        self.hold(reason, name)

    def undefined(self, name: str) -> None:
        self.not_finite.append(name)
        self.hold("not a finite number", name)

    def drop(self, reason: str, name: str) -> None:
        """Something whose name stays too."""
        self.others += 1
        self.hold(reason, name)

    def withheld(self) -> Withheld:
        return Withheld(tuple(self.names), tuple(self.not_finite), tuple(self.parts), self.others)


def shapes_of(arrays: Iterable[tuple[str, Array]]) -> Shapes:
    """Type and shape of each array."""
    return {name: (array.dtype, tuple(array.shape)) for name, array in arrays}


def _usable(value: float) -> bool:
    """A finite number; an integer that no float can hold is text in disguise."""
    return math.isfinite(value) if isinstance(value, float) else abs(value) <= MAX_WEIGHT


def _is_count(name: str, values: list[Any]) -> bool:
    if name in _NO_COUNTS:
        return False
    return name.startswith(("num-", "num_")) or any(isinstance(v, int) for v in values)
