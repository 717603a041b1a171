"""Every request's signature is checked, with AWS's codes in the format of its service."""

from __future__ import annotations

import hashlib
import http.client
import zlib
from base64 import b64encode
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from botocore.auth import S3SigV4Auth, SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from botocore.exceptions import ClientError
from hypothesis import given
from hypothesis import strategies as st

from fedsm.local.protocol import ApiError, Call
from fedsm.local.signatures import Secret, decode_chunks, verify
from tests.local.conftest import REGION, SERVER, SITE, World, code_of, trust

NOW = datetime.now(UTC)
KEY, SECRET, TOKEN = "AKIAEXAMPLEEXAMPLE77", "secret", "session-token"
IDENTITY = b"Action=GetCallerIdentity&Version=2011-06-15"


def signed(
    method: str = "POST",
    target: str = "/",
    body: bytes = IDENTITY,
    *,
    service: str = "sts",
    key: str = KEY,
    secret: str = SECRET,
    token: str | None = None,
    headers: dict[str, str] | None = None,
    monkeypatch: pytest.MonkeyPatch | None = None,
    host: str = "127.0.0.1",
) -> Call:
    """A call signed by botocore."""
    given_headers = {"Content-Type": "application/x-www-form-urlencoded", **(headers or {})}
    request = AWSRequest(method, f"http://{host}{target}", data=body, headers=given_headers)
    signer = (S3SigV4Auth if service == "s3" else SigV4Auth)(
        Credentials(key, secret, token), service, REGION
    )
    signer.add_auth(request)
    final = {name.lower(): str(value) for name, value in request.headers.items()}
    return Call(method, target, {"host": host, **final}, body)


def lookup(key: str) -> Secret | None:
    known = {
        KEY: Secret(SECRET),
        "ASIAEXAMPLEEXAMPLE77": Secret(SECRET, TOKEN, NOW + timedelta(hours=1)),
        "ASIAEXPIREDEXPIRED77": Secret(SECRET, TOKEN, NOW - timedelta(hours=1)),
    }
    return known.get(key)


def code(call: Call, now: datetime | None = None) -> str:
    with pytest.raises(ApiError) as caught:
        verify(call, lookup, now or datetime.now(UTC))
    return caught.value.code


@pytest.mark.parametrize("service", ["sts", "sagemaker", "s3", "logs"])
@pytest.mark.parametrize(
    "target", ["/", "/a/b%20c?x=1&a=%2F", "/data/a+b=c/d~e?prefix=&list-type=2"]
)
def test_what_botocore_signs_is_accepted(service: str, target: str) -> None:
    assert verify(signed(target=target, service=service), lookup, datetime.now(UTC)) == KEY


def test_an_extra_signed_header_is_part_of_the_signature() -> None:
    call = signed(headers={"X-Fedsm-Binding": "abc"})
    assert "x-fedsm-binding" in call.headers["authorization"]
    assert verify(call, lookup, datetime.now(UTC)) == KEY
    call.headers = {**call.headers, "x-fedsm-binding": "abd"}
    assert code(call) == "SignatureDoesNotMatch"


def test_refusals() -> None:
    assert code(Call("POST", "/", {"host": "x"}, b"")) == "MissingAuthenticationToken"
    assert code(Call("POST", "/", {"authorization": "Basic eA=="}, b"")) == "IncompleteSignature"
    assert code(signed(key="AKIAUNKNOWNUNKNOWN77")) == "InvalidClientTokenId"
    assert code(signed(secret="other")) == "SignatureDoesNotMatch"
    altered = signed()
    altered.body = altered.body.replace(b"2011", b"2012")
    assert code(altered) == "SignatureDoesNotMatch"
    elsewhere = signed()
    elsewhere.target = "/?x=1"
    assert code(elsewhere) == "SignatureDoesNotMatch"
    assert code(signed(), datetime.now(UTC) + timedelta(minutes=16)) == "RequestExpired"
    assert code(signed(), datetime.now(UTC) - timedelta(minutes=16)) == "RequestExpired"
    assert code(Call("GET", "/b/k?X-Amz-Signature=x", {"host": "x"}, b"")) == "NotImplemented"


def test_session_tokens() -> None:
    session = "ASIAEXAMPLEEXAMPLE77"
    assert verify(signed(key=session, token=TOKEN), lookup, datetime.now(UTC)) == session
    assert code(signed(key=session)) == "InvalidClientTokenId"
    assert code(signed(key=session, token="other")) == "InvalidClientTokenId"
    assert code(signed(token=TOKEN)) == "InvalidClientTokenId"
    assert code(signed(key="ASIAEXPIREDEXPIRED77", token=TOKEN)) == "ExpiredToken"


def test_a_payload_must_be_the_signed_one() -> None:
    call = signed("PUT", "/bucket/key", b"content", service="s3")
    assert verify(call, lookup, datetime.now(UTC)) == KEY
    call.body = b"altered"
    assert code(call) == "XAmzContentSHA256Mismatch"


def framed(content: bytes, size: int, trailer: bytes) -> bytes:
    parts = [content[i : i + size] for i in range(0, len(content), size)]
    body = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts)
    return body + b"0\r\n" + trailer + b"\r\n\r\n"


@given(st.binary(max_size=200), st.integers(1, 64))
def test_chunks_are_put_together(content: bytes, size: int) -> None:
    crc = b64encode(zlib.crc32(content).to_bytes(4, "big"))
    headers = {"x-amz-decoded-content-length": str(len(content))}
    assert decode_chunks(framed(content, size, b"x-amz-checksum-crc32:" + crc), headers) == content


@given(st.binary(max_size=100))
def test_any_bytes_give_content_or_one_error(body: bytes) -> None:
    with suppress(ApiError):
        decode_chunks(body, {})


def test_a_wrong_trailing_checksum_is_found() -> None:
    digest = b64encode(hashlib.sha256(b"other").digest())
    with pytest.raises(ApiError) as caught:
        decode_chunks(framed(b"content", 3, b"x-amz-checksum-sha256:" + digest), {})
    assert caught.value.code == "BadDigest"


# Over HTTP ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("service", "operation", "wrong_secret", "unknown_key"),
    [
        ("sts", "get_caller_identity", "SignatureDoesNotMatch", "InvalidClientTokenId"),
        ("s3", "list_buckets", "SignatureDoesNotMatch", "InvalidAccessKeyId"),
        ("ec2", "describe_vpcs", "AuthFailure", "AuthFailure"),
        (
            "sagemaker",
            "list_training_jobs",
            "InvalidSignatureException",
            "UnrecognizedClientException",
        ),
    ],
)
def test_codes_by_service(
    world: World, service: str, operation: str, wrong_secret: str, unknown_key: str
) -> None:
    keys = world.admin().get_credentials()
    assert keys is not None
    for key, expected in (
        (keys.access_key, wrong_secret),
        ("AKIAUNKNOWNUNKNOWN77", unknown_key),
    ):
        session = world.session({"AccessKeyId": key, "SecretAccessKey": "wrong"})
        with pytest.raises(ClientError) as caught:
            getattr(session.client(service), operation)()
        assert code_of(caught) == expected


def test_the_identity_proof_is_checked_for_real(world: World) -> None:
    """A GetCallerIdentity with an extra signed header, as a coordinator relays it."""
    arn = world.role(SITE, "prover", trust({"AWS": SITE}))
    answer = world.admin().client("sts").assume_role(RoleArn=arn, RoleSessionName="SageMaker")
    keys = answer["Credentials"]
    address = world.endpoint.url.removeprefix("http://")

    def post(binding: str, signature: Any = None) -> tuple[int, bytes]:
        call = signed(
            key=keys["AccessKeyId"],
            secret=keys["SecretAccessKey"],
            token=keys["SessionToken"],
            headers={"X-Fedsm-Binding": "right"},
            host=address,
        )
        headers = {**call.headers, "x-fedsm-binding": binding}
        connection = http.client.HTTPConnection(address, timeout=10)
        try:
            connection.request("POST", "/", IDENTITY, headers)
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()

    status, body = post("right")
    assert status == 200
    name = arn.rpartition("/")[2]
    assert f"arn:aws:sts::{SITE}:assumed-role/{name}/SageMaker".encode() in body
    status, body = post("wrong")
    assert status == 403
    assert b"SignatureDoesNotMatch" in body


@pytest.fixture
def connection(world: World) -> Iterator[http.client.HTTPConnection]:
    made = http.client.HTTPConnection(world.endpoint.url.removeprefix("http://"), timeout=10)
    yield made
    made.close()


def test_internal_addresses_are_closed(connection: http.client.HTTPConnection) -> None:
    for method, path in (
        ("GET", "/_fedsm/health"),
        ("POST", "/_fedsm/accounts"),
        ("GET", "/_fedsm/credentials/guess"),
        ("GET", "/_fedsm/"),
    ):
        connection.request(method, path, headers={"Authorization": "guess"})
        response = connection.getresponse()
        assert response.status == 403
        response.read()


def test_broken_requests_are_refused(connection: http.client.HTTPConnection) -> None:
    for headers in ({"Content-Length": "-1"}, {"Content-Length": "99999999999999"}):
        connection.putrequest("PUT", "/bucket/key", skip_accept_encoding=True)
        for name, value in headers.items():
            connection.putheader(name, value)
        connection.endheaders()
        response = connection.getresponse()
        assert response.status == 400
        response.read()
        connection.close()


def test_connections_are_kept_open(world: World) -> None:
    client = world.admin(SERVER).client("sts")
    for _ in range(3):
        assert client.get_caller_identity()["Account"] == SERVER
