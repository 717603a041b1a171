"""Instructions on their way and the replies that have come, shared by the I/O loop and callers."""

from __future__ import annotations

import math
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from flwr.app import Error, Message

from fedsm.transport import flower
from fedsm.transport.wire import Payload

_HOUR = 3600.0


@dataclass(slots=True)
class Pending:
    """An instruction on its way; the first reply or Error that it is settled with counts."""

    message: Message
    payload: Payload
    settle: Callable[[Pending, Message], None]
    id: str = field(default_factory=lambda: uuid.uuid4().hex)

    @property
    def head(self) -> dict[str, object]:
        """Fields of the envelope."""
        metadata = self.message.metadata
        return {
            "id": self.id,
            "kind": "instruction",
            "type": metadata.message_type,
            "group": metadata.group_id,
            "created": metadata.created_at,
            "ttl": metadata.ttl,
        }

    @property
    def time_to_live(self) -> float:
        """Seconds in which a reply may still come."""
        metadata = self.message.metadata
        return max(0.0, metadata.created_at + metadata.ttl - time.time())

    def fail(self, code: int, reason: str) -> None:
        """Settle with an Error."""
        self.settle(self, flower.reply(self.message, Error(code, reason)))


class Ledger:
    """Match replies with those who wait for them; safe to use from several threads.

    Parameters
    ----------
    withdraw : callable
        Told the ids of instructions whose reply is no longer wanted.
    """

    def __init__(self, withdraw: Callable[[list[str]], None]) -> None:
        self._withdraw = withdraw
        self._lock = threading.Lock()
        self._open: dict[str, Pending] = {}
        self._replies: dict[str, Message] = {}
        self._settled: dict[str, Callable[[], None]] = {}

    def make(self, message: Message, payload: Payload) -> Pending:
        """An instruction with an id of its own."""
        pending = Pending(message, payload, self._settle)
        flower.assign_id(message, pending.id)
        return pending

    def add(self, pendings: Iterable[Pending]) -> None:
        """Await replies to these instructions."""
        with self._lock:
            self._open |= {pending.id: pending for pending in pendings}

    def take(self, ids: Sequence[str]) -> list[Message]:
        """Replies that have come, each given out once; an Error for what is past its time."""
        self._expire(ids)
        with self._lock:
            return [self._replies.pop(id_) for id_ in ids if id_ in self._replies]

    def wait(self, ids: Sequence[str], timeout: float | None) -> list[Message]:
        """Wait for the replies at most ``timeout`` seconds, and give up those that are missing."""
        deadline = math.inf if timeout is None else time.monotonic() + timeout
        done = self._when_settled(ids)
        while not done.is_set() and (left := deadline - time.monotonic()) > 0:
            with self._lock:
                waiting = [self._open[id_] for id_ in ids if id_ in self._open]
            first = min((pending.time_to_live for pending in waiting), default=0.0)
            done.wait(min(left, first, _HOUR))
            self._expire(ids)
        replies = self.take(ids)
        self._forget(ids)
        return replies

    def _when_settled(self, ids: Sequence[str]) -> threading.Event:
        """An event that is set, once, when the last of these instructions is settled."""
        done = threading.Event()
        left = 0

        def one_less() -> None:
            nonlocal left
            left -= 1
            if not left:
                done.set()

        with self._lock:
            for id_ in ids:
                if id_ in self._open:
                    self._settled[id_] = one_less
                    left += 1
            if not left:
                done.set()
        return done

    def _settle(self, pending: Pending, reply: Message) -> None:
        with self._lock:
            if self._open.pop(pending.id, None) is None:
                return
            self._replies[pending.id] = reply
            if (settled := self._settled.pop(pending.id, None)) is not None:
                settled()

    def _expire(self, ids: Sequence[str]) -> None:
        with self._lock:
            waiting = [self._open[id_] for id_ in ids if id_ in self._open]
        expired = [pending for pending in waiting if not pending.time_to_live]
        for pending in expired:
            reason = "no reply came within the message's time to live"
            pending.fail(flower.REPLY_UNAVAILABLE, reason)
        if expired:
            self._withdraw([pending.id for pending in expired])

    def _forget(self, ids: Sequence[str]) -> None:
        with self._lock:
            left = [id_ for id_ in ids if self._open.pop(id_, None) is not None]
            for id_ in left:
                self._settled.pop(id_, None)
        if left:
            self._withdraw(left)
