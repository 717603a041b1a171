"""A coordinator and jobs on this machine's loopback, with short heartbeats."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from flwr.app import ArrayRecord, Message, RecordDict

from fedsm.errors import IdentityRefused
from fedsm.transport.grid import StreamGrid
from fedsm.transport.identity import Certificate, Expected, Proof, make_certificate
from fedsm.transport.session import Closing, Session
from fedsm.transport.wire import Limits

RUN = "run-1"
ACCOUNT, ROLE = "111122223333", "execution"
CERTIFICATE = make_certificate()

QUICK = Limits(
    heartbeat=0.25,
    chunk=64 << 10,
    hello_timeout=2.0,
    check_timeout=2.0,
    resume_window=20.0,
    backoff=0.02,
    max_backoff=0.1,
)


def sign(binding: str) -> Proof:
    """A proof whose signature is the binding itself."""
    return Proof("A" * 20, "token", "20260101T000000Z", binding)


def check(proof: Proof, binding: str, _region: str) -> tuple[str, str]:
    """Accept a proof that was signed over this binding."""
    if proof.signature != binding:
        raise IdentityRefused("the proof was made for another binding")
    return ACCOUNT, ROLE


def expected(sites: Sequence[str]) -> list[Expected]:
    return [
        Expected(site, number, ACCOUNT, ROLE, f"join-{site}")
        for number, site in enumerate(sites, start=2)
    ]


def echo(message: Message) -> Message:
    """A handler that gives back what it got."""
    return Message(message.content, reply_to=message)


def records(size: int = 10, seed: int = 0) -> RecordDict:
    """Random float32 arrays of ``size`` elements in all."""
    random = np.random.default_rng(seed)
    parts = [random.random(n, dtype=np.float32) for n in (size // 4, size - size // 4)]
    return RecordDict({"arrays": ArrayRecord(parts)})


def eventually(predicate: Callable[[], Any], timeout: float = 10.0) -> Any:
    """Wait until ``predicate`` gives something true; returns it."""
    deadline = time.monotonic() + timeout
    while not (value := predicate()):
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.005)
    return value


class Job(threading.Thread):
    """A session served in a thread of its own."""

    def __init__(self, session: Session, handle: Callable[[Message], Message]) -> None:
        super().__init__(daemon=True)
        self.session = session
        self._handle = handle
        self._result: Closing | BaseException | None = None
        self.start()

    def run(self) -> None:
        try:
            self._result = self.session.serve(self._handle)
        except BaseException as error:
            self._result = error

    def result(self, timeout: float = 10.0) -> Closing:
        """What ``serve`` returned; raises what it raised."""
        self.join(timeout)
        assert not self.is_alive(), "the session is still served"
        if isinstance(self._result, BaseException):
            raise self._result
        assert self._result is not None
        return self._result


class World:
    """One run's coordinator and whatever jobs a test starts."""

    def __init__(
        self,
        sites: Sequence[str] = ("a", "b"),
        *,
        limits: Limits = QUICK,
        certificate: Certificate = CERTIFICATE,
        **options: Any,
    ) -> None:
        self.limits = limits
        self.certificate = certificate
        self.events: list[tuple[str, dict[str, Any]]] = []
        self.jobs: list[Job] = []
        self.grid = StreamGrid(
            **{
                "listen": "127.0.0.1:0",
                "certificate": certificate,
                "run_id": RUN,
                "sites": expected(sites),
                "check": check,
                "sts_region": "eu-west-1",
                "limits": limits,
                "on_event": lambda kind, data: self.events.append((kind, data)),
                **options,
            }
        )
        self.port = self.grid.start()
        self.nodes = {site: number for number, site in enumerate(sites, start=2)}

    def session(self, site: str, **options: Any) -> Session:
        return Session(
            **{
                "address": f"127.0.0.1:{self.port}",
                "certificate_der": self.certificate.der,
                "run": RUN,
                "site": site,
                "join_id": f"join-{site}",
                "sign": sign,
                "max_wait": 20.0,
                "limits": self.limits,
                **options,
            }
        )

    def join(self, site: str, handle: Callable[[Message], Message] = echo, **options: Any) -> Job:
        job = Job(self.session(site, **options), handle)
        self.jobs.append(job)
        return job

    def wait(self, count: int) -> None:
        assert len(self.grid.wait_for_sites(count, 15)) == count, self.events

    def message(self, site: str, content: RecordDict, kind: str = "train") -> Message:
        return self.grid.create_message(content, kind, self.nodes[site], "1")

    def ask(self, site: str, content: RecordDict, timeout: float = 15.0) -> Message:
        (reply,) = self.grid.send_and_receive([self.message(site, content)], timeout=timeout)
        return reply

    def happened(self, kind: str, **data: Any) -> list[dict[str, Any]]:
        return [
            seen
            for event, seen in list(self.events)
            if event == kind and all(seen.get(key) == value for key, value in data.items())
        ]

    def close(self) -> None:
        for job in self.jobs:
            job.session.stop()
        for job in self.jobs:
            job.join(10)
        self.grid.close()


def with_limits(**changes: Any) -> Limits:
    """The quick limits, some changed."""
    return replace(QUICK, **changes)
