"""The coordinator's side of the handshake: challenge, hello, proof, welcome or refusal."""

from __future__ import annotations

import asyncio
import hmac
import secrets
import weakref
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

from fedsm.errors import IdentityRefused, WireError
from fedsm.transport.decoder import read_control
from fedsm.transport.identity import Certificate, Expected, Proof, binding, match
from fedsm.transport.link import Stream, ids
from fedsm.transport.text import clean
from fedsm.transport.wire import PROTOCOL, Limits, control

Check = Callable[[Proof, str, str], tuple[str, str]]
"""(proof, binding, STS Region) -> (account id, role name); blocking; raises IdentityRefused."""

_THREADS = 8
_MAX_IDS = 256


class Refusal(Exception):  # noqa: N818
    """A peer is turned away.

    Attributes
    ----------
    code : str
        ``version``, ``identity``, ``malformed``, or ``busy``, ``late`` and ``unavailable``, after
        which the peer may try again.
    told : str
        What the peer is told; ``str()`` is what the coordinator records.
    """

    def __init__(self, code: str, told: str, recorded: str | None = None) -> None:
        super().__init__(recorded or told)
        self.code = code
        self.told = told

    def frame(self) -> bytes:
        """The refusal as a control frame."""
        retry = self.code in ("busy", "late", "unavailable")
        return control(
            {
                "kind": "refuse",
                "code": self.code,
                "sentence": self.told[:1000],
                "retry": retry,
                "protocol": PROTOCOL,
            }
        )


@dataclass(frozen=True, slots=True)
class Hello:
    """What an admitted peer said of itself."""

    site: str
    device: str
    have: frozenset[str]


class Gate:
    """Admit the jobs that prove to be what the launch expects, one fresh nonce each.

    Parameters
    ----------
    ended : callable
        Site -> why its join id is dead, or None while it lives.
    """

    def __init__(
        self,
        *,
        certificate: Certificate,
        run: str,
        epoch: int,
        sts_region: str,
        sites: Mapping[str, Expected],
        check: Check,
        ended: Callable[[str], str | None],
        limits: Limits,
    ) -> None:
        self._der = certificate.der
        self._run = run
        self._epoch = epoch
        self._sts_region = sts_region
        self._sites = sites
        self._check = check
        self._ended = ended
        self._limits = limits
        self._turns = asyncio.Semaphore(limits.unauthenticated)
        # Of an address: they last as long as someone holds or awaits one.
        self._shares: weakref.WeakValueDictionary[str, asyncio.Semaphore] = (
            weakref.WeakValueDictionary()
        )
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="fedsm-check")

    def close(self) -> None:
        """Let go of the threads; a check under way is not waited for."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def admit(self, stream: Stream, address: str) -> Hello:
        """Do the handshake up to the welcome.

        Parameters
        ----------
        stream : Stream
            Fresh.
        address : str
            Where the peer is; one address gets at most half of the turns.

        Raises
        ------
        Refusal
            The peer is to be told no.
        """
        half = asyncio.Semaphore(max(1, self._limits.unauthenticated // 2))
        share = self._shares.setdefault(address, half)
        async with AsyncExitStack() as turn:
            try:
                async with asyncio.timeout(self._limits.hello_timeout):
                    await turn.enter_async_context(share)
                    await turn.enter_async_context(self._turns)
            except TimeoutError as error:
                raise Refusal("busy", "too many handshakes are under way") from error
            try:
                return await self._handshake(stream)
            except WireError as error:
                raise Refusal("malformed", error.what) from error

    async def _handshake(self, stream: Stream) -> Hello:
        nonce = secrets.token_hex(32)
        challenge = {
            "kind": "challenge",
            "protocol": PROTOCOL,
            "run": self._run,
            "nonce": nonce,
            "epoch": self._epoch,
            "sts_region": self._sts_region,
        }
        try:
            async with asyncio.timeout(self._limits.hello_timeout):
                await stream.write(control(challenge))
                frame = await stream.read()
        except TimeoutError as error:
            raise Refusal("late", "no hello came in time") from error
        fields = read_control(frame, self._limits, "hello")
        if fields.get("protocol") != PROTOCOL:
            theirs = clean(fields.get("protocol"), 64)
            raise Refusal(
                "version",
                f"the job speaks protocol {theirs}, the coordinator {PROTOCOL}",
                f"{_named(fields)} speaks protocol {theirs}, the coordinator {PROTOCOL}",
            )
        expected = self._expected(fields)
        hello = _hello(fields)
        proof = Proof.from_dict(fields.get("proof"))
        bound = binding(self._der, self._run, expected.site, expected.join_id, nonce)
        await self._prove(expected, proof, bound)
        self._check_alive(expected.site)
        return hello

    def _expected(self, fields: Mapping[str, Any]) -> Expected:
        site, join_id = fields.get("site"), fields.get("join_id")
        if not isinstance(site, str) or not isinstance(join_id, str):
            raise WireError("a hello does not name its site and join id")
        expected = self._sites.get(site)
        secret = expected.join_id if expected else secrets.token_hex(16)
        same = hmac.compare_digest(join_id.encode(errors="replace"), secret.encode())
        if expected is None or not same:
            raise Refusal(
                "identity",
                "site and join id do not belong to a job of this run",
                f"{_named(fields)} has no valid join id",
            )
        self._check_alive(site)
        return expected

    def _check_alive(self, site: str) -> None:
        reason = self._ended(site)
        if reason is not None:
            raise Refusal("identity", f"the job of {site} has ended: {reason}")

    async def _prove(self, expected: Expected, proof: Proof, bound: str) -> None:
        loop = asyncio.get_running_loop()
        check = loop.run_in_executor(self._threads, self._check, proof, bound, self._sts_region)
        try:
            async with asyncio.timeout(self._limits.check_timeout):
                account, role = await check
            match(expected, account, role)
        except IdentityRefused as error:
            what = clean(error.what, 500)
            raise Refusal("identity", what, f"{expected.site}: {what}") from error
        except TimeoutError as error:
            raise Refusal("unavailable", "the identity check took too long") from error
        except Exception as error:  # the check's own trouble, such as STS out of reach
            raise Refusal(
                "unavailable",
                "the identity could not be checked",
                f"{expected.site}: the identity could not be checked ({type(error).__name__})",
            ) from error


def _hello(fields: Mapping[str, Any]) -> Hello:
    have = ids(fields.get("have", []))
    if len(have) > _MAX_IDS:
        raise WireError("a hello lists too many instructions in hand")
    return Hello(fields["site"], clean(fields.get("device", ""), 64), frozenset(have))


def _named(fields: Mapping[str, Any]) -> str:
    return f"a peer that calls itself '{clean(fields.get('site'), 64)}'"
