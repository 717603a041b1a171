"""One exchange with the sites: send, wait, keep the replies that can be used, journal the others.

Every message carries the journal's head, which the sites keep; what they withheld from their
replies is made up for by NaN, and named in the journal.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from flwr.app import ArrayRecord, ConfigRecord, Message, MessageType, RecordDict

from fedsm.contract import TREES
from fedsm.events import Journal
from fedsm.learning import checks, exact_site
from fedsm.learning.trees import Growth
from fedsm.learning.withheld import fill
from fedsm.metric_names import WEIGHT
from fedsm.transport import once
from fedsm.transport.notes import JOURNAL, Head, Withheld, take_withheld
from fedsm.transport.site_grid import SiteGrid

REPORT = f"{MessageType.EVALUATE}.report"
"""Type of the final evaluation's message."""

Traffic = dict[str, tuple[int, int]]

LEAVING = frozenset(exact_site.LEAVING)


class Exchange:
    """Exchanges of one run.

    Parameters
    ----------
    grid : SiteGrid
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
    faults : dict of str to str
        Site to what kept it out of the latest exchange.
    """

    def __init__(
        self,
        grid: SiteGrid,
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
        self._once = once.Sender()
        self.rows: dict[str, int] = {}
        self.faults: dict[str, str] = {}

    def fault(self, number: int, phase: str, site: str, error: str) -> None:
        """Journal what keeps a site out of a phase."""
        self.faults[site] = error
        self._journal.append("site-error", round=number, phase=phase, site=site, error=error)

    def traffic(self, meter: str) -> Traffic:
        """Bytes sent to and received from each site since this was last asked under ``meter``."""
        now, before = self._grid.traffic(), self._traffic.get(meter, {})
        self._traffic[meter] = now
        return {
            site: (sent - before.get(site, (0, 0))[0], received - before.get(site, (0, 0))[1])
            for site, (sent, received) in now.items()
        }

    def share(self, values: Mapping[str, Any]) -> None:
        """Send these values of a config only once to each site; see :mod:`fedsm.transport.once`."""
        self._once.share(values)

    def for_all(self, sites: Sequence[str], nodes: Sequence[int]) -> dict[str, Any]:
        """The shared values, or their digest where each of the sites is live and knows them."""
        live = {self._grid.site_of(node): node for node in nodes}
        return self._once.for_all(live.get(site, -1) for site in sites)

    def among(self, sites: Collection[str], nodes: Sequence[int]) -> list[int]:
        """Those of the nodes that are of one of these sites."""
        return [node for node in nodes if self._grid.site_of(node) in sites]

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

    def report(
        self, number: int, nodes: Sequence[int], content: RecordDict
    ) -> tuple[dict[str, dict[str, Any]], dict[str, list[str]], dict[str, str]]:
        """Ask for the final evaluation; who gives none has not failed the run.

        Returns
        -------
        tuple of dict, dict of str to list of str, dict of str to str
            Site to its metrics, to what its owner's terms held back, and to why there is no report.
        """
        content[JOURNAL] = self._head(number)
        messages = [Message(content=content, message_type=REPORT, dst_node_id=n) for n in nodes]
        late = f"no reply within the round deadline of {self._deadline:g} s"
        missing = {self._grid.site_of(node): late for node in nodes}
        found: dict[str, dict[str, Any]] = {}
        withheld: dict[str, list[str]] = {}
        for reply in self._grid.send_and_receive(messages, timeout=self._deadline):
            site = self._grid.site_of(reply.metadata.src_node_id)
            missing.pop(site, None)
            if reply.has_content():
                withheld[site] = take_withheld(reply.content).told()
            if fault := checks.fault(reply, None, WEIGHT):
                missing[site] = fault
            else:
                found[site] = checks.metrics_of(reply)
        return found, {site: names for site, names in withheld.items() if names}, missing

    def models(
        self,
        number: int,
        phase: str,
        messages: Sequence[Message],
        reference: ArrayRecord | Growth | None,
    ) -> list[Message]:
        """Send a round's messages; returns the usable replies.

        Parameters
        ----------
        number : int
            The round.
        phase : str
            ``train`` or ``evaluate``.
        reference : ArrayRecord, Growth or None
            What the answers' arrays must be like, for ``train``.
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
        self.faults = {}
        until = time.monotonic() + self._deadline
        full = self._once.shorten(messages)
        replies = self._send(messages, self._deadline)
        if lacking := {r.metadata.src_node_id for r in replies if once.lacks(r)} & full.keys():
            again = [m for m in messages if m.metadata.dst_node_id in lacking]
            for message in again:
                message.content = full[message.metadata.dst_node_id]
            replies = [r for r in replies if r.metadata.src_node_id not in lacking]
            replies += self._send(again, max(0.0, until - time.monotonic()))
        answered = {reply.metadata.src_node_id for reply in replies}
        for message in messages:
            if message.metadata.dst_node_id not in answered:
                site = self._grid.site_of(message.metadata.dst_node_id)
                late = f"no reply within the round deadline of {self._deadline:g} s"
                self.fault(number, phase, site, late)
        return replies

    def _send(self, messages: Sequence[Message], timeout: float) -> list[Message]:
        replies = list(self._grid.send_and_receive(messages, timeout=timeout))
        for reply in replies:
            self._once.told(reply)
        return replies

    def _head(self, number: int) -> ConfigRecord:
        seq, digest = self._journal.tip
        return Head(number, seq, digest).record()

    def _found(
        self, site: str, reply: Message, reference: ArrayRecord | Growth | None, told: Withheld
    ) -> str | None:
        needed = self._needed if reference is not None else ()
        if reference is not None and TREES in told.parts:
            return f"its trees were withheld: its owner's terms do not name {TREES!r}"
        if reference is not None and "arrays" in told.parts:
            if isinstance(reference, ArrayRecord) and (beside := LEAVING & set(reference)):
                return (
                    "its arrays were withheld: its owner's terms do not name (metrics) all that "
                    f"the strategy needs: {', '.join(sorted(beside))}; invite the owner again"
                )
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
