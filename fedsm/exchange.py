"""One exchange with the sites: send, wait, keep the replies that can be used, journal the others.

Every message carries the journal's head, which the sites keep; what they withheld from their
replies is made up for by NaN, and named in the journal.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from flwr.app import ArrayRecord, ConfigRecord, Message, MessageType, RecordDict

from fedsm.events import Journal
from fedsm.learning import checks
from fedsm.learning.metrics import WEIGHT
from fedsm.learning.withheld import fill
from fedsm.transport.grid import StreamGrid
from fedsm.transport.notes import JOURNAL, Head, Withheld, take_withheld

Traffic = dict[str, tuple[int, int]]


class Exchange:
    """Exchanges of one run.

    Parameters
    ----------
    grid : StreamGrid
        The sites.
    journal : Journal
        Gets every metric and error.
    deadline : float
        Seconds for an exchange to end.
    weight : str
        Key of the metric by which the strategy weights the sites.
    needed : sequence of str
        Metrics from which the strategy computes the arrays.

    Attributes
    ----------
    rows : dict of str to int
        Rows that a site has declared, which no later reply may exceed.
    """

    def __init__(
        self,
        grid: StreamGrid,
        journal: Journal,
        deadline: float,
        *,
        weight: str,
        needed: Sequence[str],
    ) -> None:
        self._grid = grid
        self._journal = journal
        self._deadline = deadline
        self._weight = weight
        self._needed = needed
        self._traffic: dict[str, Traffic] = {}
        self.rows: dict[str, int] = {}

    def fault(self, number: int, phase: str, site: str, error: str) -> None:
        """Journal what keeps a site out of a phase."""
        self._journal.append("site-error", round=number, phase=phase, site=site, error=error)

    def traffic(self, meter: str) -> Traffic:
        """Bytes sent to and received from each site since this was last asked under ``meter``."""
        now, before = self._grid.traffic(), self._traffic.get(meter, {})
        self._traffic[meter] = now
        return {
            site: (sent - before.get(site, (0, 0))[0], received - before.get(site, (0, 0))[1])
            for site, (sent, received) in now.items()
        }

    def query(
        self, action: str, nodes: Sequence[int], config: Mapping[str, Any]
    ) -> tuple[dict[str, RecordDict], dict[str, list[str]]]:
        """Ask sites before round 1.

        Returns
        -------
        tuple of dict of str to RecordDict, dict of str to list of str
            Site to answer, and site to what its owner's terms held back.
        """
        content = RecordDict({"config": ConfigRecord(dict(config)), JOURNAL: self._head(0)})
        kind = f"{MessageType.QUERY}.{action}"
        messages = [Message(content=content, message_type=kind, dst_node_id=n) for n in nodes]
        found: dict[str, RecordDict] = {}
        withheld: dict[str, list[str]] = {}
        for reply in self._ask(0, kind, messages):
            site = self._grid.site_of(reply.metadata.src_node_id)
            if reply.has_error():
                self.fault(0, kind, site, reply.error.reason or "answered an error")
                continue
            note = take_withheld(reply.content)
            found[site] = reply.content
            if names := note.told():
                withheld[site] = names
        return found, withheld

    def models(
        self,
        number: int,
        phase: str,
        messages: Sequence[Message],
        reference: ArrayRecord | None,
    ) -> list[Message]:
        """Send a round's messages; returns the usable replies.

        Parameters
        ----------
        number : int
            The round.
        phase : str
            ``train`` or ``evaluate``.
        reference : ArrayRecord or None
            The global arrays, for ``train``.
        """
        head = self._head(number)
        for content in {id(message.content): message.content for message in messages}.values():
            content[JOURNAL] = head
        began = time.monotonic()
        replies = self._ask(number, phase, messages)
        seconds = time.monotonic() - began
        usable: dict[str, Message] = {}
        told: dict[str, Withheld] = {}
        for reply in sorted(replies, key=lambda r: r.metadata.src_node_id):
            site = self._grid.site_of(reply.metadata.src_node_id)
            if reply.has_content():
                told[site] = take_withheld(reply.content)
            if found := self._found(site, reply, reference, told.get(site, Withheld())):
                self.fault(number, phase, site, found)
            else:
                usable[site] = reply
        withheld = fill({site: reply.content for site, reply in usable.items()}, told)
        kept = self._consistent(number, phase, usable)
        traffic = self.traffic("phase")
        for site, reply in kept.items():
            sent, received = traffic.get(site, (0, 0))
            self._journal.append(
                "site-metrics",
                round=number,
                phase=phase,
                site=site,
                metrics=checks.metrics_of(reply),
                seconds=seconds,
                sent=sent,
                received=received,
                withheld=withheld.get(site, []),
            )
        return list(kept.values())

    def _ask(self, number: int, phase: str, messages: Sequence[Message]) -> list[Message]:
        """Send, wait for the replies, and journal who gave none."""
        replies = list(self._grid.send_and_receive(messages, timeout=self._deadline))
        answered = {reply.metadata.src_node_id for reply in replies}
        for message in messages:
            if message.metadata.dst_node_id not in answered:
                site = self._grid.site_of(message.metadata.dst_node_id)
                late = f"no reply within the round deadline of {self._deadline:g} s"
                self.fault(number, phase, site, late)
        return replies

    def _head(self, number: int) -> ConfigRecord:
        seq, digest = self._journal.tip
        return Head(number, seq, digest).record()

    def _found(
        self, site: str, reply: Message, reference: ArrayRecord | None, told: Withheld
    ) -> str | None:
        needed = self._needed if reference is not None else ()
        if reference is not None and "arrays" in told.parts:
            return "its arrays were withheld: they have other names, types or shapes than the model"
        metrics = checks.metrics_of(reply) if told else {}
        for name in (self._weight, *needed):
            if name in told.names and metrics.get(name) != 0:  # no rows to weigh is an answer
                return f"its owner's terms withhold metric {name!r}, which the strategy needs"
        found = checks.fault(reply, reference, self._weight, needed)
        if found is None and reference is not None and site in self.rows:
            weight = checks.metrics_of(reply)[self._weight]
            if self._weight == WEIGHT and weight > self.rows[site]:
                return f"metric {WEIGHT!r} is larger than the rows it declared"
        return found

    def _consistent(
        self, number: int, phase: str, replies: dict[str, Message]
    ) -> dict[str, Message]:
        """Leave out sites whose records differ from those of most: Flower refuses a mix."""
        shapes = {site: checks.shape_of(reply) for site, reply in replies.items()}
        counted = Counter(shapes.values())
        if len(counted) < 2:
            return replies
        usual = counted.most_common(1)[0][0]
        for site, shape in shapes.items():
            if shape != usual:
                names = {name for _, pairs in usual[1] for name, _ in pairs}
                odd = sorted(set(checks.metrics_of(replies[site])) ^ names)
                differing = f" in {', '.join(odd[:5])}" if odd else " in names or kinds"
                found = f"its records differ from the other sites'{differing}"
                self.fault(number, phase, site, found)
        return {site: reply for site, reply in replies.items() if shapes[site] == usual}
