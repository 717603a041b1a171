"""A job's side of the handshake."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from fedsm.errors import IdentityRefused, ProtocolMismatch, WireError
from fedsm.transport.decoder import read_control
from fedsm.transport.identity import Proof, binding
from fedsm.transport.link import Stream
from fedsm.transport.text import clean
from fedsm.transport.wire import PROTOCOL, Limits, control

Sign = Callable[[str], Proof]
"""Binding -> identity proof; may block."""

MAX_IDS = 128
"""Most message ids that a hello lists; what is not listed is sent again."""


class NotNow(Exception):  # noqa: N818
    """The coordinator cannot take this job at the moment; it may try again."""


@dataclass(frozen=True, slots=True)
class Welcome:
    """What the coordinator says of an admitted job: Flower's node id and run id."""

    node_id: int
    run_number: int


@dataclass(frozen=True, slots=True)
class Dialer:
    """Who this job says it is and how it proves it, as ``Session`` was told."""

    certificate_der: bytes
    run: str
    site: str
    join_id: str
    sign: Sign
    device: str
    limits: Limits

    async def greet(
        self, stream: Stream, lowest_epoch: int, have: Callable[[int], Sequence[str]]
    ) -> Welcome:
        """Answer the challenge up to the welcome.

        Parameters
        ----------
        lowest_epoch : int
            The highest epoch seen so far.
        have : callable
            Told the coordinator's epoch, gives the ids of the messages in hand.

        Raises
        ------
        NotNow, WireError, TimeoutError
            Another attempt may succeed.
        ProtocolMismatch, IdentityRefused
            None will.
        """
        limits = self.limits
        async with asyncio.timeout(limits.hello_timeout):
            frame = await stream.read()
        challenge = read_control(frame, limits, "challenge")
        hello = {"kind": "hello", "protocol": PROTOCOL, "site": self.site}
        if challenge.get("protocol") != PROTOCOL:
            with contextlib.suppress(Exception):
                async with asyncio.timeout(limits.hello_timeout):
                    await stream.write(control(hello))
                    await stream.read()
            self._mismatch(challenge)
        nonce, epoch = challenge.get("nonce"), challenge.get("epoch")
        if challenge.get("run") != self.run or not isinstance(nonce, str):
            raise NotNow("the coordinator serves another run")
        if type(epoch) is not int or epoch < lowest_epoch:
            raise NotNow(f"the coordinator's epoch {clean(epoch, 64)} is older than {lowest_epoch}")
        proof = await self._sign(nonce)
        hello |= {
            "join_id": self.join_id,
            "device": self.device,
            "have": list(have(epoch))[:MAX_IDS],
            "proof": vars(proof),
        }
        await stream.write(control(hello))
        async with asyncio.timeout(limits.hello_timeout + limits.check_timeout):
            frame = await stream.read()
        answer = read_control(frame, limits, "welcome", "refuse")
        if answer["kind"] == "refuse":
            self.refused(answer)
        node_id, run_number = answer.get("node"), answer.get("run_number")
        if type(node_id) is not int or type(run_number) is not int:
            raise WireError("a welcome does not hold the node id and run id")
        return Welcome(node_id, run_number)

    def refused(self, answer: Mapping[str, Any]) -> NoReturn:
        """Raise what a ``refuse`` control means."""
        sentence = clean(answer.get("sentence"), 500)
        if answer.get("retry"):
            raise NotNow(sentence)
        if answer.get("code") == "version":
            self._mismatch(answer)
        raise IdentityRefused(
            f"the coordinator refused this job: {sentence}",
            where=self.site,
            action="compare the job's role, account and join id with the coordinator's launch",
        )

    async def _sign(self, nonce: str) -> Proof:
        bound = binding(self.certificate_der, self.run, self.site, self.join_id, nonce)
        try:
            return await asyncio.to_thread(self.sign, bound)
        except Exception as error:  # such as credentials that are out of reach for a while
            reason = f"the identity proof could not be signed ({type(error).__name__})"
            raise NotNow(reason) from error

    def _mismatch(self, said: Mapping[str, Any]) -> NoReturn:
        theirs = clean(said.get("protocol"), 64)
        raise ProtocolMismatch(
            f"this job speaks protocol {PROTOCOL}, the coordinator {theirs}",
            where=self.site,
            action="publish the code bundle again with the coordinator's release of fedsm",
        )
