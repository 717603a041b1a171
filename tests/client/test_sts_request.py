from __future__ import annotations

import datetime
import hashlib
import hmac
from pathlib import Path

import pytest

from fedsm.client.signing import make_signer
from fedsm.client.sts_request import endpoint, host_of, rebuild
from fedsm.errors import AccessError, ConfigError, IdentityRefused
from fedsm.transport.identity import BINDING_HEADER, Proof
from tests.client.harness import CREDENTIALS

BINDING = "ab" * 32
REGION = "eu-west-1"


@pytest.fixture
def credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    for key, value in CREDENTIALS.items():
        monkeypatch.setenv(key, value)


def signature(method: str, path: str, headers: dict[str, str], body: bytes, secret: str) -> str:
    """SigV4 by its specification, from what would go over the wire."""
    authorization = headers["Authorization"]
    scope = authorization.split("Credential=")[1].split(",")[0].split("/", 1)[1]
    names = authorization.split("SignedHeaders=")[1].split(",")[0]
    lower = {name.lower(): value for name, value in headers.items()}
    canonical = "\n".join(
        [
            method,
            path,
            "",
            *(f"{name}:{lower[name]}" for name in names.split(";")),
            "",
            names,
            hashlib.sha256(body).hexdigest(),
        ]
    )
    text = "\n".join(
        [
            "AWS4-HMAC-SHA256",
            lower["x-amz-date"],
            scope,
            hashlib.sha256(canonical.encode()).hexdigest(),
        ]
    )
    key = ("AWS4" + secret).encode()
    for part in scope.split("/"):
        key = hmac.digest(key, part.encode(), "sha256")
    return hmac.digest(key, text.encode(), "sha256").hex()


@pytest.mark.usefixtures("credentials")
@pytest.mark.parametrize("token", ["token", ""])
@pytest.mark.parametrize("url", [None, "http://127.0.0.1:5000"])
def test_the_rebuilt_request_carries_the_signature_that_it_needs(
    monkeypatch: pytest.MonkeyPatch, token: str, url: str | None
) -> None:
    if token:
        monkeypatch.setenv("AWS_SESSION_TOKEN", token)
    else:
        monkeypatch.delenv("AWS_SESSION_TOKEN")
    environ = {"AWS_ENDPOINT_URL_STS": url} if url else {}
    proof = make_signer(REGION, environ)(BINDING)
    host = host_of(endpoint(REGION, environ))
    method, path, headers, body = rebuild(proof, BINDING, REGION, host)
    secret = CREDENTIALS["AWS_SECRET_ACCESS_KEY"]
    assert signature(method, path, headers, body, secret) == proof.signature
    assert BINDING_HEADER in headers["Authorization"]
    assert ("X-Amz-Security-Token" in headers) is bool(token)
    for change in (
        rebuild(proof, "cd" * 32, REGION, host),
        rebuild(proof, BINDING, "us-east-1", host),
        rebuild(proof, BINDING, REGION, "sts.us-east-1.amazonaws.com"),
    ):
        assert signature(*change, secret) != proof.signature


def test_nothing_but_a_proof_becomes_a_header() -> None:
    good = {
        "access_key_id": "ASIAIOSFODNN7EXAMPLE",
        "session_token": "token",
        "date": "20260101T000000Z",
        "signature": "0" * 64,
    }
    rebuild(Proof(**good), BINDING, REGION, "sts")
    for field, value in (
        ("access_key_id", "AKIA/../x"),
        ("session_token", "a\r\nX-Other: b"),
        ("date", "20260101T000000Z\n"),
        ("signature", "0" * 63 + ","),
    ):
        with pytest.raises(IdentityRefused):
            rebuild(Proof(**{**good, field: value}), BINDING, REGION, "sts")
    with pytest.raises(IdentityRefused, match="binding"):
        rebuild(Proof(**good), BINDING + "\r\n", REGION, "sts")


@pytest.mark.parametrize(
    ("region", "environ", "url", "host"),
    [
        (REGION, {}, "https://sts.eu-west-1.amazonaws.com", "sts.eu-west-1.amazonaws.com"),
        ("us-gov-west-1", {}, "https://sts.us-gov-west-1.amazonaws.com", None),
        ("cn-north-1", {}, "https://sts.cn-north-1.amazonaws.com.cn", None),
        ("us-isob-east-1", {}, "https://sts.us-isob-east-1.sc2s.sgov.gov", None),
        (REGION, {"AWS_ENDPOINT_URL": "http://h:5000/"}, "http://h:5000", "h:5000"),
        (
            REGION,
            {"AWS_ENDPOINT_URL": "http://h:1", "AWS_ENDPOINT_URL_STS": "https://s:443"},
            "https://s:443",
            "s",
        ),
    ],
)
def test_the_sts_of_a_region(
    region: str, environ: dict[str, str], url: str, host: str | None
) -> None:
    assert endpoint(region, environ) == url
    assert host_of(url) == (host or url.removeprefix("https://"))


def test_no_region() -> None:
    with pytest.raises(ConfigError, match="not an AWS Region"):
        endpoint("evil.example/", {})


def test_no_credentials(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for key in CREDENTIALS:
        monkeypatch.delenv(key, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    with pytest.raises(AccessError, match="no credentials"):
        make_signer(REGION, {})(BINDING)


@pytest.mark.usefixtures("credentials")
def test_the_date_is_the_clocks() -> None:
    date = make_signer(REGION, {})(BINDING).date
    signed = datetime.datetime.strptime(date, "%Y%m%dT%H%M%SZ").replace(tzinfo=datetime.UTC)
    assert abs(datetime.datetime.now(datetime.UTC) - signed) < datetime.timedelta(minutes=1)
