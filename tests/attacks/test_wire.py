"""Attacks on the wire with real identity proofs, which the local cloud's STS judges.

Two owners have a role of one name. The server of the run expects site ``a`` from the first and
site ``b`` from the second; ``mallory`` is another role of the first owner's account.
"""

from __future__ import annotations

import asyncio
import json
import queue
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import boto3
import grpc.aio
import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from flwr.app import Message

from fedsm import policies
from fedsm.aws.identity import ProofChecker
from fedsm.client.sts_request import BODY, METHOD, PATH, SERVICE, endpoint, headers_to_sign
from fedsm.errors import IdentityRefused
from fedsm.local import Endpoint, down, up
from fedsm.transport.decoder import Decoder
from fedsm.transport.dial import Dialer
from fedsm.transport.grid import StreamGrid
from fedsm.transport.identity import Expected, Proof, binding, make_certificate
from fedsm.transport.session import Session
from tests.attacks.agreed import REGION
from tests.transport.peer import raw, reply_frames
from tests.transport.world import CERTIFICATE, QUICK, RUN, Job, echo, eventually, records

FIRST, SECOND, ROLE = "222222222222", "333333333333", "fedsm-heart--north-execution"
SIGNS = Callable[[str], Proof]


class Wire:
    """A coordinator that checks proofs with STS, and whoever dials it."""

    certificate = CERTIFICATE

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._session = endpoint.session(FIRST, REGION)
        self.events: list[tuple[str, dict[str, Any]]] = []
        self.grid = StreamGrid(
            listen="127.0.0.1:0",
            certificate=CERTIFICATE,
            run_id=RUN,
            sites=[
                Expected("a", 2, FIRST, ROLE, "join-a"),
                Expected("b", 3, SECOND, ROLE, "join-b"),
            ],
            check=ProofChecker(self._session),
            sts_region=REGION,
            limits=QUICK,
            on_event=lambda kind, data: self.events.append((kind, data)),
        )
        self.port = self.grid.start()
        self.jobs: list[Job] = []

    def join(
        self, sign: SIGNS, site: str = "a", handle: Callable[[Message], Message] = echo
    ) -> Job:
        session = Session(
            address=f"127.0.0.1:{self.port}",
            certificate_der=CERTIFICATE.der,
            run=RUN,
            site=site,
            join_id=f"join-{site}",
            sign=sign,
            max_wait=20.0,
            limits=QUICK,
        )
        self.jobs.append(Job(session, handle))
        return self.jobs[-1]

    def refusal(self, sign: SIGNS, site: str = "a") -> str:
        """Why the coordinator refused whoever signs so."""
        with pytest.raises(IdentityRefused):
            self.join(sign, site).result()
        return str(eventually(lambda: self.happened("site-refused"))[-1]["reason"])

    def happened(self, kind: str) -> list[dict[str, Any]]:
        return [data for event, data in list(self.events) if event == kind]

    def close(self) -> None:
        for job in self.jobs:
            job.session.stop()
        for job in self.jobs:
            job.join(10)
        self.grid.close()


def signer(session: boto3.Session) -> SIGNS:
    """Signs as a job does, with any credentials."""
    keys = session.get_credentials().get_frozen_credentials()
    url = endpoint(REGION, {"AWS_ENDPOINT_URL": session.client("sts").meta.endpoint_url}) + PATH

    def sign(bound: str) -> Proof:
        request = AWSRequest(method=METHOD, url=url, data=BODY, headers=headers_to_sign(bound))
        SigV4Auth(keys, SERVICE, REGION).add_auth(request)
        signature = request.headers["Authorization"].rpartition("Signature=")[2]
        return Proof(keys.access_key, keys.token or "", request.headers["X-Amz-Date"], signature)

    return sign


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Endpoint]:
    project = tmp_path_factory.mktemp("wire")
    endpoint = up(project, accounts=[FIRST, SECOND])
    try:
        for account in (FIRST, SECOND):
            for name in (ROLE, "mallory"):
                trust = json.dumps(policies.person_trust("Test", account))
                iam = endpoint.session(account, REGION).client("iam")
                iam.create_role(RoleName=name, AssumeRolePolicyDocument=trust)
        yield endpoint
    finally:
        down(project)


@pytest.fixture(scope="module")
def roles(cloud: Endpoint) -> dict[str, SIGNS]:
    """Who can sign: by role and account, and a user."""
    found = {"user": signer(cloud.session(FIRST, REGION))}
    for account in (FIRST, SECOND):
        admin = cloud.session(account, REGION)
        for name in (ROLE, "mallory"):
            given = admin.client("sts").assume_role(
                RoleArn=f"arn:aws:iam::{account}:role/{name}", RoleSessionName="SageMaker"
            )["Credentials"]
            session = boto3.Session(
                given["AccessKeyId"], given["SecretAccessKey"], given["SessionToken"], REGION
            )
            store = session._session.get_component("config_store")
            store.set_config_variable("endpoint_url", cloud.url)
            found[f"{name} of {account}"] = signer(session)
    return found


@pytest.fixture
def wire(cloud: Endpoint) -> Iterator[Wire]:
    made = Wire(cloud)
    yield made
    made.close()


@pytest.fixture
def honest(roles: dict[str, SIGNS]) -> SIGNS:
    """The role that site ``a`` has."""
    return roles[f"{ROLE} of {FIRST}"]


def test_the_sites_own_role_joins(wire: Wire, honest: SIGNS) -> None:
    wire.join(honest)
    assert len(wire.grid.wait_for_sites(1, 15)) == 1, wire.events


def test_a_role_of_that_name_in_another_account_is_refused(
    wire: Wire, roles: dict[str, SIGNS]
) -> None:
    reason = wire.refusal(roles[f"{ROLE} of {SECOND}"])
    assert f"a: proved to be role {ROLE} of account {SECOND}, not {ROLE} of {FIRST}" in reason


def test_another_role_of_the_account_is_refused(wire: Wire, roles: dict[str, SIGNS]) -> None:
    assert f"not {ROLE} of {FIRST}" in wire.refusal(roles[f"mallory of {FIRST}"])


def test_a_user_is_refused(wire: Wire, roles: dict[str, SIGNS]) -> None:
    assert "not an assumed role" in wire.refusal(roles["user"])


def test_a_site_cannot_join_as_another(wire: Wire, honest: SIGNS) -> None:
    """It has come to know the other's join id."""
    assert f"b: proved to be role {ROLE} of account {FIRST}" in wire.refusal(honest, "b")


@pytest.mark.parametrize("what", ["coordinator", "run", "site", "join id", "nonce"])
def test_a_proof_cannot_be_relayed(
    wire: Wire, honest: SIGNS, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """An honest job made it for another coordinator, run, site, launch or connection."""
    other = make_certificate().der

    def for_another(der: bytes, run: str, site: str, join_id: str, nonce: str) -> str:
        told = {"run": run, "site": site, "join id": join_id, "nonce": nonce} | {what: "another"}
        der = other if what == "coordinator" else der
        return binding(der, told["run"], told["site"], told["join id"], told["nonce"])

    monkeypatch.setattr("fedsm.transport.dial.binding", for_another)
    assert "STS refused its proof (SignatureDoesNotMatch)" in wire.refusal(honest)


def test_a_proof_cannot_be_replayed(wire: Wire, honest: SIGNS) -> None:
    proofs: list[Proof] = []
    first = wire.join(lambda bound: proofs.append(honest(bound)) or proofs[-1])
    assert len(wire.grid.wait_for_sites(1, 15)) == 1
    first.session.stop()
    first.result()
    assert "STS refused its proof (SignatureDoesNotMatch)" in wire.refusal(lambda _: proofs[0])


def test_a_job_that_has_ended_cannot_come_back(wire: Wire, honest: SIGNS) -> None:
    """Neither can whoever has its join id and even its role's credentials."""
    wire.join(honest)
    assert len(wire.grid.wait_for_sites(1, 15)) == 1
    wire.grid.end_site("a", "its job has ended")
    wire.refusal(honest)
    assert wire.grid.wait_for_sites(1, 0.2) == []


def test_a_fenced_session_that_returns_is_not_heard(wire: Wire, honest: SIGNS) -> None:
    """It knows the id of what the newer one was asked, and answers on its old stream first."""
    asked: queue.Queue[str] = queue.Queue()
    tried = threading.Event()
    replies: list[Message] = []

    def newer(message: Message) -> Message:
        asked.put(message.metadata.message_id)
        assert tried.wait(10)
        return echo(message)

    def ask() -> None:
        message = wire.grid.create_message(records(), "train", 2, "1")
        replies.extend(wire.grid.send_and_receive([message], timeout=15))

    async def older(call: Any) -> list[str]:
        dialer = Dialer(CERTIFICATE.der, RUN, "a", "join-a", honest, "cpu", QUICK)
        await dialer.greet(call, 0, lambda _: [])
        await asyncio.to_thread(wire.join, honest, "a", newer)
        decoder, heard = Decoder(QUICK), []
        while isinstance(frame := await call.read(), bytes):
            heard.append(decoder.feed(frame).fields["kind"])
        asking = threading.Thread(target=ask)
        asking.start()
        id_ = await asyncio.to_thread(asked.get, timeout=10)
        with suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
            for frame in reply_frames(id_, b"[]"):
                await call.write(frame)
        tried.set()
        await asyncio.to_thread(asking.join, 15)
        return heard

    assert raw(wire, older)[-1] == "fenced"
    (reply,) = replies
    assert reply.content == records()
