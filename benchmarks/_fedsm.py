"""fedsm's two ends for the benchmarks: the real handshake, with an identity check in process."""

from __future__ import annotations

import hmac
from collections.abc import Sequence

from fedsm.errors import IdentityRefused
from fedsm.transport.grid import StreamGrid
from fedsm.transport.identity import Certificate, Expected, Proof, make_certificate
from fedsm.transport.session import Session

IDENTITY = "binding checked in process"
RUN = "benchmark"
_ACCOUNT, _ROLE = "111122223333", "benchmark"


def sign(binding: str) -> Proof:
    """A proof whose signature is the binding itself."""
    return Proof("BENCHMARKBENCHMARK", "", "20260101T000000Z", binding)


def check(proof: Proof, binding: str, _region: str) -> tuple[str, str]:
    """Accept a proof that :func:`sign` made for this binding."""
    if not hmac.compare_digest(proof.signature, binding):
        raise IdentityRefused("the proof was made for another binding")
    return _ACCOUNT, _ROLE


def open_grid(sites: Sequence[str]) -> tuple[StreamGrid, Certificate, int]:
    """A listening grid for the sites, with its certificate and port."""
    certificate = make_certificate()
    expected = [
        Expected(site, number, _ACCOUNT, _ROLE, f"join-{site}")
        for number, site in enumerate(sites, start=2)
    ]
    grid = StreamGrid(
        listen="127.0.0.1:0",
        certificate=certificate,
        run_id=RUN,
        sites=expected,
        check=check,
        sts_region="eu-west-1",
    )
    return grid, certificate, grid.start()


def open_session(site: str, port: int, certificate_der: bytes) -> Session:
    """The job's end for one site."""
    return Session(
        address=f"127.0.0.1:{port}",
        certificate_der=certificate_der,
        run=RUN,
        site=site,
        join_id=f"join-{site}",
        sign=sign,
        max_wait=60,
    )
