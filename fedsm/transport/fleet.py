"""The coordinator's connections: one seat a site, its link, and what it has not answered yet.

Everything here belongs to the I/O loop; :class:`~fedsm.transport.grid.StreamGrid` is the face to
other threads.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import grpc
import grpc.aio

from fedsm.errors import ConfigError, WireError
from fedsm.transport import flower, replies
from fedsm.transport.channel import METHOD, SERVICE, server_credentials, server_options
from fedsm.transport.decoder import Decoder, Packet
from fedsm.transport.gate import Gate, Hello, Refusal
from fedsm.transport.identity import Certificate, Expected
from fedsm.transport.ledger import Pending
from fedsm.transport.link import Link, Traffic, message_id
from fedsm.transport.quota import PerMinute, Shares, address
from fedsm.transport.wire import Limits, Payload

Notify = Callable[[str, dict[str, Any]], None]

log = logging.getLogger(__name__)

_REFUSALS_A_MINUTE = 60
_JOINS_A_MINUTE = 20
"""Of one site."""

_MANY = 256
"""Arrays of a reply that is read in a thread, where it holds up no other site."""


@dataclass(slots=True)
class Seat:
    """A site's place: who may take it, the link that holds it, what it owes."""

    expected: Expected
    link: Link | None = None
    session: int = 0
    ended: str | None = None
    grace: asyncio.TimerHandle | None = None
    pending: dict[str, Pending] = field(default_factory=dict)
    traffic: Traffic = field(default_factory=Traffic)
    told: bool = False
    joins: PerMinute = field(default_factory=lambda: PerMinute(_JOINS_A_MINUTE))
    reported: bool = False

    @property
    def reachable(self) -> bool:
        """Whether the site is connected, or may still resume."""
        return self.link is not None or self.grace is not None


class Fleet:
    """Serve the sites' streams.

    Parameters
    ----------
    seats : mapping
        Site -> its seat.
    on_live : callable
        Told (site, live) when a site comes or goes.
    on_event : callable
        Told (kind, data) of joins, losses and refusals.
    """

    def __init__(
        self,
        *,
        seats: Mapping[str, Seat],
        run_id: str,
        limits: Limits,
        on_live: Callable[[str, bool], None],
        on_event: Notify,
    ) -> None:
        self._seats = seats
        self._by_node = {seat.expected.node_id: seat for seat in seats.values()}
        self._run_id = run_id
        self._limits = limits
        self._on_live = on_live
        self._on_event = on_event
        self._gate: Gate | None = None
        self._server: grpc.aio.Server | None = None
        self._closing: tuple[dict[str, Any], Payload] | None = None
        self._news = asyncio.Event()
        self._of_replies = replace(limits, max_envelope=limits.of_reply(0).max_envelope)
        self._refusals = PerMinute(_REFUSALS_A_MINUTE)
        self._most = 4 * (len(seats) + limits.unauthenticated)
        self._streams = Shares(self._most // 2)

    async def start(self, listen: str, certificate: Certificate, gate: Gate) -> int:
        """Bind and serve; returns the port.

        Raises
        ------
        ConfigError
            The address is in use or not of this host.
        """
        self._gate = gate
        server = grpc.aio.server(
            options=server_options(self._limits),
            maximum_concurrent_rpcs=self._most,
        )
        handler = grpc.stream_stream_rpc_method_handler(partial(self._serve, gate))
        server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler(SERVICE, {METHOD: handler}),)
        )
        try:
            port = server.add_secure_port(listen, server_credentials(certificate))
        except RuntimeError:
            port = 0
        if not port:
            raise ConfigError(
                f"cannot listen on {listen}",
                where="coordinator",
                action="choose a free port and an address of this host",
            )
        await server.start()
        self._server = server
        return int(port)

    async def stop(self) -> None:
        """End all connections; nothing stays pending."""
        if self._gate is not None:
            self._gate.close()
        for seat in self._seats.values():
            self._fail_all(seat, "the coordinator has closed")
            if seat.grace is not None:
                seat.grace.cancel()
        server, self._server = self._server, None
        if server is not None:
            await server.stop(0.2)

    def dispatch(self, pendings: Sequence[Pending]) -> None:
        """Send instructions; those for sites that cannot be reached fail at once."""
        for pending in pendings:
            node = pending.message.metadata.dst_node_id
            seat = self._by_node.get(node)
            if seat is None:
                pending.fail(flower.NODE_UNAVAILABLE, f"no site has node id {node}")
            elif not seat.reachable:
                reason = seat.ended or "it is not connected"
                pending.fail(flower.NODE_UNAVAILABLE, f"{seat.expected.site}: {reason}")
            else:
                seat.pending[pending.id] = pending
                if seat.link is not None:
                    seat.link.send(pending.head, pending.payload)

    def withdraw(self, ids: Sequence[str]) -> None:
        """Forget instructions whose reply is no longer wanted; a late one is discarded."""
        for seat in self._seats.values():
            unwanted = [id_ for id_ in ids if seat.pending.pop(id_, None) is not None]
            if unwanted and seat.link is not None:
                for id_ in unwanted:
                    seat.link.withdraw(id_)
                for start in range(0, len(unwanted), 256):
                    seat.link.control("drop", ids=unwanted[start : start + 256])

    def end_site(self, site: str, reason: str) -> None:
        """The site's job is over: nothing more is sent to it or taken from it."""
        seat = self._seats[site]
        if seat.ended is None:
            seat.ended = reason
            if seat.link is not None:
                seat.link.end(reason, {"kind": "refuse", "code": "identity", "sentence": reason})
            self._give_up(seat, reason)

    async def finish(self, payload: Payload, timeout: float) -> list[str]:
        """Tell every site that the run is over; returns those that acknowledged in time."""
        self._closing = ({"id": uuid.uuid4().hex, "kind": "closing"}, payload)
        for seat in self._seats.values():
            self._fail_all(seat, "the run is over")
            if seat.link is not None:
                seat.link.send(*self._closing)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                while any(seat.reachable and not seat.told for seat in self._seats.values()):
                    self._news.clear()
                    await self._news.wait()
        return [site for site, seat in self._seats.items() if seat.told]

    async def _serve(self, gate: Gate, _requests: Any, stream: Any) -> None:
        peer = stream.peer()
        source = address(peer)
        if not self._streams.take(source):
            reason = "too many streams from its address"
            self._refused(peer, reason)
            await stream.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, reason)
        # Not when this returns: a peer that takes nothing in keeps its stream until it is gone.
        stream.add_done_callback(lambda _: self._streams.give_back(source))
        try:
            hello = await gate.admit(stream, source)
        except Refusal as refusal:
            self._refused(peer, str(refusal))
            await _write_last(stream, refusal.frame())
            return
        seat = self._seats[hello.site]
        decoder = Decoder(self._of_replies, partial(self._expects, seat))
        link = Link(stream, self._limits, decoder, seat.traffic)
        self._attach(seat, link, hello)
        try:
            await link.run(
                partial(self._on_control, seat, link), partial(self._on_packet, seat, link)
            )
        finally:  # gRPC cancels this when the peer is gone
            if seat.link is link:
                # What a peer that breaks the protocol was asked, it will not answer.
                self._detach(seat, link.reason, may_resume=not link.malformed)

    def _attach(self, seat: Seat, link: Link, hello: Hello) -> None:
        site, again = seat.expected.site, seat.session > 0
        seat.session += 1
        if seat.link is not None:
            seat.link.end("a newer session took over", {"kind": "fenced"})
        if seat.grace is not None:
            seat.grace.cancel()
        seat.link, seat.grace = link, None
        link.control(
            "welcome",
            session=seat.session,
            node=seat.expected.node_id,
            run_number=flower.run_number(self._run_id),
        )
        if self._closing is not None:
            link.send(*self._closing)
        for id_, pending in seat.pending.items():
            if id_ not in hello.have:
                link.send(pending.head, pending.payload)
        if stale := [id_ for id_ in hello.have if id_ not in seat.pending]:
            link.control("drop", ids=stale)
        self._on_live(site, True)
        if seat.joins.allow():
            seat.reported = True
            self._event("site-joined", {"site": site, "device": hello.device, "again": again})

    def _detach(self, seat: Seat, reason: str, *, may_resume: bool = True) -> None:
        site = seat.expected.site
        seat.link = None
        self._on_live(site, False)
        self._news.set()
        if seat.told:
            return
        if seat.reported:
            seat.reported = False
            self._event("site-lost", {"site": site, "reason": reason})
        if may_resume and seat.ended is None:
            loop = asyncio.get_running_loop()
            seat.grace = loop.call_later(self._limits.resume_window, self._give_up, seat, reason)
        else:
            self._give_up(seat, reason)

    def _give_up(self, seat: Seat, reason: str) -> None:
        if seat.grace is not None:
            seat.grace.cancel()
            seat.grace = None
        self._fail_all(seat, reason)
        self._news.set()

    def _fail_all(self, seat: Seat, reason: str) -> None:
        pendings, seat.pending = list(seat.pending.values()), {}
        for pending in pendings:
            pending.fail(flower.NODE_UNAVAILABLE, f"{seat.expected.site}: {reason}")

    def _on_control(self, seat: Seat, link: Link, fields: Mapping[str, Any]) -> None:
        kind = fields.get("kind")
        if kind == "ack" and self._closing is not None:
            if self._closing[0]["id"] in fields["ids"]:
                seat.told = True
                link.end("the run is over")
                self._news.set()
        elif kind == "bye" and seat.link is link:
            link.end("the job left before the run was over")
            self._detach(seat, link.reason, may_resume=False)

    def _on_packet(self, seat: Seat, link: Link, packet: Packet) -> None:
        envelope, segments = packet.envelope, packet.segments
        id_ = message_id(envelope.get("id"))
        if envelope.get("kind") != "reply":
            raise WireError("something else came in place of a reply")
        pending = seat.pending.pop(id_, None)
        large = segments is None or sum(map(len, segments)) >= self._limits.chunk
        link.ack(id_, at_once=large or pending is None)
        if pending is None or segments is None:
            return
        settle = partial(replies.settle, pending, envelope, segments, self._limits)
        if len(segments) > _MANY:
            asyncio.get_running_loop().run_in_executor(None, settle)
        else:
            settle()

    def _expects(self, seat: Seat, envelope: Mapping[str, Any]) -> bool:
        """Whether a body is wanted; the reply whose body is too large becomes an Error at once."""
        id_ = message_id(envelope.get("id"))
        pending = seat.pending.get(id_)
        if pending is None:
            return False
        if replies.fits(pending, sum(envelope["sizes"]), self._limits):
            return True
        del seat.pending[id_]
        return False

    def _refused(self, peer: str, reason: str) -> None:
        """Report a refusal; a flood of them must not fill the journal."""
        if self._refusals.allow():
            self._event("site-refused", {"peer": peer, "reason": reason})

    def _event(self, kind: str, data: dict[str, Any]) -> None:
        try:
            self._on_event(kind, data)
        except Exception:
            log.exception("an observer of the transport failed at %s", kind)


async def _write_last(stream: Any, frame: bytes) -> None:
    with contextlib.suppress(Exception):  # a peer that is refused need not stay for the reason
        async with asyncio.timeout(1.0):
            await stream.write(frame)
