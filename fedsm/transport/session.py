"""A job's end of the transport: dial, prove, serve instructions, reconnect, leave."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Any, Literal

import grpc.aio
from flwr.app import ArrayRecord, Message, RecordDict

from fedsm.errors import CoordinatorGone, FedsmError, IdentityRefused, WireError
from fedsm.transport import flower, iothread, records
from fedsm.transport.channel import PATH, open_channel
from fedsm.transport.decoder import Decoder, Packet
from fedsm.transport.dial import Dialer, NotNow, Sign, Welcome
from fedsm.transport.link import Link, Traffic, ids
from fedsm.transport.text import MAX_REASON, clean
from fedsm.transport.wire import EMPTY, Limits, Payload, check_size

Handle = Callable[[Message], Message]
Outgoing = tuple[dict[str, Any], Payload]

_PARTING = 5.0
"""Seconds that a job gives the coordinator to take its last word."""


@dataclass(frozen=True)
class Closing:
    """Why :meth:`Session.serve` returned: the run is over, or :meth:`Session.stop` was called."""

    reason: Literal["over", "stopped"]
    content: RecordDict | None


def _ignore(_kind: str, _data: dict[str, Any]) -> None:
    """Observe nothing."""


class Session:
    """Serve a coordinator's instructions until the run is over.

    Parameters
    ----------
    address : str
        ``host:port`` of the coordinator.
    certificate_der : bytes
        Its certificate, the only root of trust.
    run, site, join_id : str
        What the launch says of this job.
    sign : callable
        Binding -> identity proof. It may block: it runs in a thread of its own.
    max_wait : float
        Seconds without a coordinator after which the job leaves.
    limits : Limits
        Sizes and times.
    device : str
        What the job computes on, for the record.
    on_event : callable
        Told (kind, data) in the I/O thread: ``connected`` {}, ``disconnected`` {reason}, and
        ``gone`` {reason} when :meth:`serve` will raise once the handler returns, which computes
        for nobody.

    Attributes
    ----------
    traffic : Traffic
        Application bytes that have crossed the link.

    Notes
    -----
    Replies are kept until the coordinator acknowledges them; an instruction that is sent again
    while it is in hand is not run twice.
    """

    def __init__(
        self,
        *,
        address: str,
        certificate_der: bytes,
        run: str,
        site: str,
        join_id: str,
        sign: Sign,
        max_wait: float,
        limits: Limits | None = None,
        device: str = "cpu",
        on_event: Callable[[str, dict[str, Any]], None] = _ignore,
    ) -> None:
        self.traffic = Traffic()
        self._address = address
        self._max_wait = max_wait
        self._limits = limits or Limits()
        self._dialer = Dialer(certificate_der, run, site, join_id, sign, device, self._limits)
        self._on_event = on_event
        self._inbox: SimpleQueue[Message | None] = SimpleQueue()
        self._end: Closing | Exception | None = None
        self._in_hand: dict[str, Outgoing | None] = {}
        self._link: Link | None = None
        self._welcome = Welcome(0, 0)
        self._epoch = 0
        self._last_heard = 0.0

    def serve(self, handle: Handle) -> Closing:
        """Connect and answer instructions with ``handle``, in the calling thread.

        Raises
        ------
        ProtocolMismatch
            The coordinator speaks another version; the message names both.
        IdentityRefused
            The coordinator does not take this job for the site's, or a newer session fenced it.
        CoordinatorGone
            There was no coordinator for ``max_wait`` seconds.
        """
        task = iothread.start(self._begin()).result()
        try:
            while self._end is None:
                self._serve_one(handle)
        finally:
            self._end = self._end or Closing("stopped", None)
            iothread.start(self._part(task)).result()
        if isinstance(self._end, Exception):
            raise self._end
        return self._end

    def stop(self) -> None:
        """Make :meth:`serve` return once the handler has; safe in a signal handler."""
        self._finish(Closing("stopped", None))

    def _finish(self, end: Closing | Exception) -> None:
        if self._end is None:
            self._end = end
            if isinstance(end, Exception):
                self._on_event("gone", {"reason": getattr(end, "what", type(end).__name__)})
        self._inbox.put(None)

    def _serve_one(self, handle: Handle) -> None:
        message = self._inbox.get()
        if message is None or self._end is not None:
            return
        id_ = message.metadata.message_id
        if id_ in self._in_hand:
            limits = self._limits.of_reply(_size(message.content))
            outgoing = self._encode(id_, handle(message), limits)
            iothread.loop().call_soon_threadsafe(self._answer, id_, outgoing)

    def _encode(self, id_: str, reply: Message, limits: Limits) -> Outgoing:
        if reply.has_error():
            return _error(id_, reply.error.code, reply.error.reason)
        head = {"id": id_, "kind": "reply"}
        try:
            payload = records.dump(reply.content)
            check_size(head, payload, limits)
        except WireError as error:
            return _error(id_, flower.UNREADABLE, str(error))
        return head, payload

    # All that follows belongs to the I/O loop.

    async def _begin(self) -> asyncio.Task[None]:
        return asyncio.ensure_future(self._keep_connected())

    async def _part(self, task: asyncio.Task[None]) -> None:
        if self._link is not None:
            if not (isinstance(self._end, Closing) and self._end.reason == "over"):
                self._link.control("bye")
            await asyncio.wait([task], timeout=_PARTING)
        task.cancel()
        await asyncio.wait([task])

    async def _keep_connected(self) -> None:
        self._last_heard = time.monotonic()
        pause = self._limits.backoff
        try:
            while self._end is None:
                reason, welcome = await self._connect()
                if self._end is not None:
                    return
                self._on_event("disconnected", {"reason": reason})
                if welcome:
                    pause = self._limits.backoff
                elif time.monotonic() - self._last_heard > self._max_wait:
                    raise CoordinatorGone(
                        f"no coordinator for {self._max_wait:g} s ({reason})",
                        where=self._address,
                        action="nothing if the run was stopped; else see the coordinator's log",
                    )
                await asyncio.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311
                pause = min(2 * pause, self._limits.max_backoff)
        except Exception as error:
            self._finish(error)

    async def _connect(self) -> tuple[str, bool]:
        """One connection from start to end: why it ended, and whether it was welcome."""
        channel = open_channel(self._address, self._dialer.certificate_der, self._limits)
        try:
            call = channel.stream_stream(PATH)()
            self._welcome = await self._dialer.greet(call, self._epoch, self._have)
            return await self._hold(call), True
        except (NotNow, WireError) as error:
            return str(error), False
        except TimeoutError:
            return "the coordinator did not answer in time", False
        except grpc.aio.AioRpcError as error:
            return clean(error.details(), 300), False
        finally:
            await channel.close()

    def _have(self, epoch: int) -> Sequence[str]:
        if epoch > self._epoch:
            # Another coordinator took the run over: it knows nothing of the older one's messages.
            self._epoch = epoch
            self._in_hand.clear()
        return list(self._in_hand)

    async def _hold(self, call: Any) -> str:
        decoder = Decoder(self._limits, self._accept)
        link = self._link = Link(call, self._limits, decoder, self.traffic)
        for outgoing in self._in_hand.values():
            if outgoing is not None:
                link.send(*outgoing)
        self._on_event("connected", {})
        try:
            await link.run(self._on_control, self._on_packet)
            return link.reason
        finally:
            self._link = None
            self._last_heard = link.last_heard

    def _accept(self, envelope: Mapping[str, Any]) -> bool:
        self._release(ids(envelope.get("ack", [])))
        return envelope.get("id") not in self._in_hand

    def _release(self, done: Sequence[str]) -> None:
        for id_ in done:
            self._in_hand.pop(id_, None)

    def _on_control(self, fields: Mapping[str, Any]) -> None:
        kind = fields.get("kind")
        try:
            if kind in ("ack", "drop"):
                self._release(ids(fields.get("ids")))
            elif kind == "refuse":
                self._dialer.refused(fields)
            elif kind == "fenced":
                raise IdentityRefused(
                    "a newer session of this site took over",
                    where=self._dialer.site,
                    action="nothing, if the job was started again; else look for a second job",
                )
        except IdentityRefused as error:
            self._finish(error)

    def _on_packet(self, packet: Packet) -> None:
        envelope, segments = packet.envelope, packet.segments
        id_, kind = envelope.get("id"), envelope.get("kind")
        if not isinstance(id_, str) or kind not in ("instruction", "closing"):
            raise WireError("something else came in place of an instruction")
        if segments is None:
            return
        content = envelope.get("content")
        if kind == "closing":
            closing = None if content is None else records.load(content, segments)
            if self._link is not None:
                self._link.control("ack", ids=[id_])
            self._finish(Closing("over", closing))
            return
        self._in_hand[id_] = None
        try:
            self._inbox.put(self._instruction(id_, envelope, segments))
        except (FedsmError, TypeError, ValueError) as error:
            reason = f"the instruction cannot be read: {error}"
            self._answer(id_, _error(id_, flower.UNREADABLE, reason))

    def _instruction(self, id_: str, envelope: Mapping[str, Any], segments: list[bytes]) -> Message:
        return flower.instruction(
            records.load(envelope.get("content"), segments),
            run_id=self._welcome.run_number,
            message_id=id_,
            node_id=self._welcome.node_id,
            message_type=str(envelope.get("type")),
            group_id=str(envelope.get("group")),
            created_at=float(envelope.get("created", 0.0)),
            ttl=float(envelope.get("ttl", 0.0)),
        )

    def _answer(self, id_: str, outgoing: Outgoing) -> None:
        if id_ in self._in_hand:
            self._in_hand[id_] = outgoing
            if self._link is not None:
                self._link.send(*outgoing)


def _error(id_: str, code: int, reason: str | None) -> Outgoing:
    said = None if reason is None else clean(reason, MAX_REASON)
    return {"id": id_, "kind": "reply", "error": [code, said]}, EMPTY


def _size(content: RecordDict) -> int:
    """Bytes of all arrays."""
    # Flower's view ``array_records`` is a cycle: it would keep the model until it is collected.
    arrays = [record for record in content.values() if isinstance(record, ArrayRecord)]
    return sum(len(array.data) for record in arrays for array in record.values())
