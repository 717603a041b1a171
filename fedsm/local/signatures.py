"""Check the Signature Version 4 of a request.

The signature is rebuilt by botocore's own signer over exactly the headers that the caller says it
signed, so any client that AWS accepts is accepted, extra signed headers included.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import zlib
from base64 import b64encode
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from botocore.auth import S3SigV4Auth, SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from fedsm.local.protocol import ApiError, Call, not_modelled

MAX_SKEW = timedelta(minutes=15)
_EMPTY = hashlib.sha256(b"").hexdigest()
_AUTHORIZATION = re.compile(
    r"AWS4-HMAC-SHA256 +Credential=(?P<key>[A-Z0-9]{16,128})/(?P<date>\d{8})/"
    r"(?P<region>[a-z0-9-]+)/(?P<service>[a-z0-9-]+)/aws4_request, *"
    r"SignedHeaders=(?P<headers>[a-z0-9;_.-]+), *Signature=(?P<signature>[0-9a-f]{64})"
)


@dataclass(frozen=True, slots=True)
class Secret:
    """What belongs to an access key; ``token`` and ``expires`` for a session's key only."""

    secret_key: str
    token: str | None = None
    expires: datetime | None = None


class _Rebuild:
    """Mixin for botocore's signers: sign the given headers, with the given payload hash."""

    payload_hash: str

    def headers_to_sign(self, request: Any) -> Any:
        return request.headers

    def payload(self, request: Any) -> str:
        return self.payload_hash


class _Signer(_Rebuild, SigV4Auth): ...


class _S3Signer(_Rebuild, S3SigV4Auth): ...


def verify(call: Call, lookup: Callable[[str], Secret | None], now: datetime) -> str:
    """Check ``call`` and return its access key id.

    Sets the call's service and region from the credential scope and takes ``aws-chunked`` framing
    off its body.

    Parameters
    ----------
    lookup : callable
        Access key id to `Secret`; None for a key that nobody has.
    now : datetime
        The cloud's clock, aware.

    Raises
    ------
    ApiError
        In the order in which AWS checks: no or malformed signature, unknown key, wrong session
        token, expired session, clock skew over 15 minutes, an ``x-amz-`` header that is not signed,
        altered request, altered payload.
    """
    if "X-Amz-Signature=" in call.target:
        raise not_modelled("presigned URLs")
    header = call.headers.get("authorization")
    if not header:
        raise ApiError("MissingAuthenticationToken", "Missing Authentication Token", 403)
    found = _AUTHORIZATION.fullmatch(header.strip())
    if not found:
        raise ApiError("IncompleteSignature", "Authorization header is not a SigV4 signature", 400)
    call.service, call.region = found["service"], found["region"]
    secret = lookup(found["key"])
    if secret is None:
        raise _invalid_token(call)
    token = call.headers.get("x-amz-security-token")
    if (secret.token is None) != (token is None) or not hmac.compare_digest(
        (secret.token or "").encode(), (token or "").encode()
    ):
        raise _invalid_token(call)
    signed = found["headers"].split(";")
    stamp = _timestamp(call, found["date"], now)
    if "host" not in signed or (token and "x-amz-security-token" not in signed):
        raise ApiError("SignatureDoesNotMatch", "'Host' and the security token must be signed", 403)
    expected = _signature(call, found["service"], found["region"], signed, stamp, secret)
    loose = {name for name in call.headers if name.startswith("x-amz-")} - set(signed)
    if loose - {"x-amz-content-sha256"}:  # that one is part of what is signed in any case
        message = "There were headers present in the request which were not signed: "
        raise ApiError("AccessDenied", message + ", ".join(sorted(loose)), 403)
    if not hmac.compare_digest(expected, found["signature"]):
        raise ApiError(
            "SignatureDoesNotMatch",
            "The request signature we calculated does not match the signature you provided. "
            "Check your AWS Secret Access Key and signing method.",
            403,
        )
    if secret.expires is not None and now >= secret.expires:
        raise ApiError("ExpiredToken", "The security token included in the request is expired", 403)
    _check_payload(call)
    return found["key"]


def _invalid_token(call: Call) -> ApiError:
    message = "The security token included in the request is invalid."
    if call.service == "s3":
        message = "The AWS Access Key Id you provided does not exist in our records."
    return ApiError("InvalidClientTokenId", message, 403)


def _timestamp(call: Call, date: str, now: datetime) -> str:
    stamp = call.headers.get("x-amz-date", "")
    try:
        signed_at = datetime.strptime(stamp, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    except ValueError as error:
        raise ApiError("IncompleteSignature", "X-Amz-Date is missing or malformed", 400) from error
    if not stamp.startswith(date):
        raise ApiError("SignatureDoesNotMatch", "Date in Credential scope is not X-Amz-Date's", 403)
    if abs(now - signed_at) > MAX_SKEW:
        relation = "expired" if signed_at < now else "not yet current"
        raise ApiError(
            "RequestExpired",
            f"Signature {relation}: {stamp} is more than 15 min. from {now:%Y%m%dT%H%M%SZ}",
            403,
        )
    return stamp


def _signature(
    call: Call, service: str, region: str, signed: list[str], stamp: str, secret: Secret
) -> str:
    headers = {name: call.headers.get(name, "") for name in signed}
    url = f"http://{call.headers.get('host', '')}{call.target}"
    request = AWSRequest(method=call.method, url=url, headers=headers)
    request.context["timestamp"] = stamp
    credentials = Credentials("key", secret.secret_key)
    signer = (_S3Signer if service == "s3" else _Signer)(credentials, service, region)
    signer.payload_hash = call.headers.get("x-amz-content-sha256") or _hash(call.body)
    text = signer.string_to_sign(request, signer.canonical_request(request))
    return str(signer.signature(text, request))


def _hash(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest() if body else _EMPTY


def _check_payload(call: Call) -> None:
    declared = call.headers.get("x-amz-content-sha256")
    if declared is None or declared == "UNSIGNED-PAYLOAD":
        return
    if declared == "STREAMING-UNSIGNED-PAYLOAD-TRAILER":
        call.body = decode_chunks(call.body, call.headers)
    elif declared.startswith("STREAMING-"):
        raise not_modelled(f"the payload form {declared}")
    elif not hmac.compare_digest(declared, _hash(call.body)):
        raise ApiError(
            "XAmzContentSHA256Mismatch",
            "The provided 'x-amz-content-sha256' header does not match what was computed.",
            400,
        )


def decode_chunks(body: bytes, headers: Any) -> bytes:
    """Take the ``aws-chunked`` framing off a body and check its trailing checksum.

    Raises
    ------
    ApiError
        The framing is broken, the length is not the declared one, or the checksum differs.
    """
    malformed = ApiError("IncompleteBody", "The aws-chunked body is malformed")
    parts: list[bytes] = []
    position = 0
    while True:
        end = body.find(b"\r\n", position, position + 1024)
        try:
            size = int(body[position:end].split(b";")[0], 16) if end > 0 else -1
        except ValueError:
            size = -1
        start = end + 2
        if size < 0 or start + size > len(body):
            raise malformed
        position = start
        if size == 0:
            break
        parts.append(body[start : start + size])
        if body[start + size : start + size + 2] != b"\r\n":
            raise malformed
        position = start + size + 2
    content = b"".join(parts)
    declared = headers.get("x-amz-decoded-content-length")
    if declared is not None and declared != str(len(content)):
        raise malformed
    _check_trailer(body[position:], content)
    return content


def _check_trailer(trailer: bytes, content: bytes) -> None:
    for line in trailer.split(b"\r\n"):
        name, _, value = line.partition(b":")
        digest: bytes | None = None
        if name == b"x-amz-checksum-crc32":
            digest = zlib.crc32(content).to_bytes(4, "big")
        elif name == b"x-amz-checksum-sha1":
            digest = hashlib.sha1(content, usedforsecurity=False).digest()
        elif name == b"x-amz-checksum-sha256":
            digest = hashlib.sha256(content).digest()
        elif name.startswith(b"x-amz-checksum-"):
            raise not_modelled(f"the trailing checksum {name.decode('ascii', 'replace')}")
        if digest is not None and not hmac.compare_digest(b64encode(digest), value.strip()):
            raise ApiError("BadDigest", "The trailing checksum does not match the content")
