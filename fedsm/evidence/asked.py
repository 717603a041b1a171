"""What a site was asked, by the heads that it kept, against what the journal says of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fedsm.evidence.heads import KeptHead, SiteHeads
from fedsm.evidence.pack import JOURNAL

_Key = tuple[int, str]
"""Round and phase."""

_QUERIES = ("query.statistics",)
"""Of a preparation whose journal does not say."""


class Asked:
    """Folds a journal, as far as it speaks of one site.

    Every message has a line in the journal: the site's answer or an error. Only the message at
    which a run breaks off has none.
    """

    def __init__(self, site: str) -> None:
        self._site = site
        self._known: set[_Key] = set()
        self._answered: dict[_Key, int] = {}
        self._steady: set[_Key] = set()
        self._again = False
        self._closed = False

    def add(self, kind: str, data: Mapping[str, Any], line: int) -> None:
        """Take one event in; raises what data of another form raise."""
        if kind == "closing":
            self._closed = True
        elif kind == "preparation":
            if self._site in data["sites"]:
                self._known |= {(0, query) for query in data.get("queries", _QUERIES)}
        elif data.get("site") != self._site:
            return
        elif kind == "initial":
            self._known.add((0, "query.initial"))
        elif kind == "site-joined":
            self._again |= data["again"] is True
        elif kind in ("site-metrics", "site-error", "site-report", "site-unreported"):
            key = (data["round"], data["phase"])
            self._known.add(key)
            if kind in ("site-metrics", "site-report"):
                self._answered.setdefault(key, line)
                if not self._again:
                    self._steady.add(key)

    def lacking(self, kept: SiteHeads) -> list[str]:
        """Faults: answers to messages of which the site kept no head."""
        seen = {(head.round, head.phase) for head in kept.heads}
        return [
            f"{kept.name} lacks round {number}, {phase}, which {JOURNAL} line {line} has the site "
            "answer: one of the two was altered or cut"
            for (number, phase), line in self._answered.items()
            if (number, phase) not in seen
        ]

    def off_the_record(self, kept: SiteHeads) -> tuple[list[str], list[str]]:
        """Faults, and notes: messages of which the journal says nothing."""
        faults, notes = [], []
        first: dict[_Key, int] = {}
        for head in kept.heads:
            key = (head.round, head.phase)
            if first.setdefault(key, head.line) != head.line:
                faults.append(
                    f"{kept.named(head)} repeats line {first[key]}: the site was asked once more, "
                    "off the record"
                )
            elif key in self._known or head.phase == "closing":
                continue
            elif head is kept.heads[-1] and not self._closed:
                notes.append(
                    f"the run broke off before {kept.site} answered {head.phase} of round "
                    f"{head.round}"
                )
            else:
                faults.append(
                    f"{kept.named(head)}: {JOURNAL} has neither an answer nor an error of the "
                    "site: it was asked off the record, or the line was left out"
                )
        return faults, notes

    def sent(self, kept: SiteHeads) -> KeptHead | None:
        """The last head whose count of bytes the coordinator must have received.

        What a site had sent before a message came before its answer to it; a connection that is
        lost takes along what the site has counted already.
        """
        found = [head for head in kept.heads if (head.round, head.phase) in self._steady]
        return found[-1] if found else None
