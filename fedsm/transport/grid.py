"""Flower's ``Grid`` over one gRPC stream per site: the coordinator's end of the transport."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

from flwr.app import Message, RecordDict

from fedsm.errors import ConfigError
from fedsm.transport import flower, iothread, records
from fedsm.transport.fleet import Fleet, Notify, Seat
from fedsm.transport.gate import Check, Gate
from fedsm.transport.identity import Certificate, Expected
from fedsm.transport.ledger import Ledger
from fedsm.transport.site_grid import SiteGrid
from fedsm.transport.wire import EMPTY, Limits, Payload, check_size

T = TypeVar("T")


def _ignore(_kind: str, _data: dict[str, Any]) -> None:
    """Observe nothing."""


class StreamGrid(SiteGrid):
    """Exchange Flower messages with the sites' jobs.

    Parameters
    ----------
    listen : str
        ``host:port``; port 0 takes a free one.
    certificate : Certificate
        The run's TLS identity.
    run_id : str
        fedsm's id of the run.
    sites : sequence of Expected
        Who may join.
    check : callable
        (proof, binding, STS Region) -> (account id, role name) of a job's identity proof; raises
        ``IdentityRefused``. It may block: it runs in a thread of its own.
    sts_region : str
        Region whose STS the jobs sign for.
    epoch : int
        Grows with each coordinator of the run; jobs refuse one lower than they have seen.
    limits : Limits
        Sizes and times.
    on_event : callable
        Told (kind, data) of ``site-joined``, ``site-lost`` and ``site-refused``, in the I/O thread:
        it must be quick.

    Notes
    -----
    A message's Error has the code ``NODE_UNAVAILABLE`` when its site has ended, or has not come
    back within ``limits.resume_window`` after its connection was lost.
    """

    def __init__(
        self,
        *,
        listen: str,
        certificate: Certificate,
        run_id: str,
        sites: Sequence[Expected],
        check: Check,
        sts_region: str,
        epoch: int = 1,
        limits: Limits | None = None,
        on_event: Notify = _ignore,
    ) -> None:
        _check_distinct(sites)
        self._listen = listen
        self._certificate = certificate
        self._run_id = run_id
        self._limits = limits or Limits()
        self._sites = {site.site: site for site in sites}
        self._names = {site.node_id: site.site for site in sites}
        self._seats = {site.site: Seat(site) for site in sites}
        self._make_gate: Callable[[], Gate] = lambda: Gate(
            certificate=certificate,
            run=run_id,
            epoch=epoch,
            sts_region=sts_region,
            sites=self._sites,
            check=check,
            ended=lambda site: self._seats[site].ended,
            limits=self._limits,
        )
        self._fleet = Fleet(
            seats=self._seats,
            run_id=run_id,
            limits=self._limits,
            on_live=self._on_live,
            on_event=on_event,
        )
        self._changed = threading.Condition()
        self._live: dict[str, int] = {}
        self._ledger = Ledger(self._withdraw)
        self._run = flower.empty_run(flower.run_number(run_id))

    def start(self) -> int:
        """Listen; returns the port.

        Raises
        ------
        ConfigError
            The address is in use or not of this host; the message names it.
        """
        flower.set_identity(self._run.run_id, flower.COORDINATOR_NODE)

        async def start() -> int:
            return await self._fleet.start(self._listen, self._certificate, self._make_gate())

        return iothread.start(start()).result()

    def close(self) -> None:
        """End all connections and free the port; pending messages get an Error."""
        iothread.start(self._fleet.stop()).result(timeout=10)

    def get_node_ids(self) -> Iterable[int]:
        """Node ids of the sites that are connected now."""
        with self._changed:
            return list(self._live.values())

    def site_of(self, node_id: int) -> str:
        """The site's name for a node id; ``KeyError`` if there is none."""
        return self._names[node_id]

    def wait_for_sites(self, count: int, timeout: float) -> list[str]:
        """Wait until ``count`` sites are connected or ``timeout`` seconds have passed.

        Returns
        -------
        list of str
            The connected sites, in order of their joining.
        """
        with self._changed:
            self._changed.wait_for(lambda: len(self._live) >= count, timeout)
            return list(self._live)

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Send messages; returns their ids.

        Raises
        ------
        WireError
            A message is beyond the limits of size.
        """
        return self._push(list(messages))

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """Take the replies that have come so far, an Error for a message past its time to live."""
        return self._ledger.take(list(message_ids))

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterable[Message]:
        """Send messages and wait for the replies, at most ``timeout`` seconds.

        A reply that comes later is discarded.
        """
        return self._ledger.wait(self._push(list(messages)), timeout)

    def end_site(self, site: str, reason: str) -> None:
        """The site's job is over: its join id is dead, what it owes is answered by Errors."""
        if site not in self._seats:
            raise KeyError(site)
        _call(self._fleet.end_site, site, reason)

    def traffic(self) -> dict[str, tuple[int, int]]:
        """Application bytes sent to and received from each site so far."""
        return {
            site: (seat.traffic.sent, seat.traffic.received) for site, seat in self._seats.items()
        }

    def finish(self, closing: RecordDict | None, timeout: float) -> list[str]:
        """Tell all sites that the run is over, with the closing records.

        A site that connects later is told so too, until :meth:`close`.

        Returns
        -------
        list of str
            The sites that acknowledged within ``timeout`` seconds.
        """
        payload = EMPTY if closing is None else records.dump(closing)
        check_size({}, payload, self._limits)
        return iothread.start(self._fleet.finish(payload, timeout)).result()

    def _push(self, messages: list[Message]) -> list[str]:
        payloads: dict[int, Payload] = {}
        pendings = []
        for message in messages:
            content = message.content
            if id(content) not in payloads:
                payloads[id(content)] = records.dump(content)
            pendings.append(self._ledger.make(message, payloads[id(content)]))
        for payload in payloads.values():
            check_size(pendings[0].head, payload, self._limits)
        self._ledger.add(pendings)
        iothread.loop().call_soon_threadsafe(self._fleet.dispatch, pendings)
        return [pending.id for pending in pendings]

    def _withdraw(self, ids: list[str]) -> None:
        iothread.loop().call_soon_threadsafe(self._fleet.withdraw, ids)

    def _on_live(self, site: str, live: bool) -> None:
        with self._changed:
            if live:
                self._live[site] = self._sites[site].node_id
            else:
                self._live.pop(site, None)
            self._changed.notify_all()


def _call(function: Callable[..., T], *args: Any) -> T:
    async def call() -> T:
        return function(*args)

    return iothread.start(call()).result()


def _check_distinct(sites: Sequence[Expected]) -> None:
    faults = []
    for name in ("site", "node_id", "join_id"):
        counts = Counter(getattr(site, name) for site in sites)
        faults += [(name, "is shared by two sites") for count in counts.values() if count > 1]
    if faults:
        raise ConfigError(
            "the sites of a run must differ",
            where="sites",
            action="give each site a name, a node id and a join id of its own",
            faults=tuple(faults),
        )
