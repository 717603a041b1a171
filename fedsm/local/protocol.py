"""Requests and replies of the local cloud, and AWS's error formats.

One `ApiError` is worded once; `render_error` writes it in the format of the service that was asked
(query XML, EC2 XML, S3 XML, JSON 1.1 or REST JSON), with the code that this service uses for it.
"""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, unquote
from xml.sax.saxutils import escape

QUERY_SERVICES = frozenset(
    {"sts", "iam", "ec2", "cloudformation", "sns", "elasticloadbalancing", "autoscaling", "rds"}
)

_JSON_CODES = {
    "InvalidClientTokenId": ("UnrecognizedClientException", 400),
    "SignatureDoesNotMatch": ("InvalidSignatureException", 400),
    "ExpiredToken": ("ExpiredTokenException", 400),
    "MissingAuthenticationToken": ("MissingAuthenticationTokenException", 400),
    "IncompleteSignature": ("IncompleteSignatureException", 400),
    "RequestExpired": ("InvalidSignatureException", 400),
    "AccessDenied": ("AccessDeniedException", 400),
}
_S3_CODES = {
    "InvalidClientTokenId": ("InvalidAccessKeyId", 403),
    "ExpiredToken": ("ExpiredToken", 400),
    "MissingAuthenticationToken": ("AccessDenied", 403),
    "IncompleteSignature": ("AuthorizationHeaderMalformed", 400),
    "RequestExpired": ("RequestTimeTooSkewed", 403),
}
_EC2_CODES = {
    "InvalidClientTokenId": ("AuthFailure", 401),
    "SignatureDoesNotMatch": ("AuthFailure", 401),
    "ExpiredToken": ("RequestExpired", 400),
    "MissingAuthenticationToken": ("AuthFailure", 401),
    "IncompleteSignature": ("AuthFailure", 401),
    "AccessDenied": ("UnauthorizedOperation", 403),
}
_QUERY_CODES = {"RequestExpired": ("SignatureDoesNotMatch", 403)}


class ApiError(Exception):
    """An error that the cloud answers with.

    Parameters
    ----------
    code : str
        AWS's error code, in the spelling of the query protocol.
    message : str
        The sentence that the caller reads.
    status : int
        HTTP status, where the service's format does not prescribe another.
    """

    def __init__(self, code: str, message: str, status: int = 400) -> None:
        super().__init__(code, message)
        self.code, self.message, self.status = code, message, status


def not_modelled(what: str) -> ApiError:
    """The refusal of what this cloud does not imitate; never a silent imitation."""
    return ApiError("NotImplemented", f"the local cloud does not model {what}", 501)


@dataclass(slots=True)
class Call:
    """One HTTP request.

    Attributes
    ----------
    method, target : str
        HTTP method, and path with query as they came over the wire.
    headers : Mapping[str, str]
        Names in lower case; none is there twice.
    body : bytes
        The payload, without ``aws-chunked`` framing once the signature is checked.
    service, region : str
        From the credential scope of the signature.
    """

    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes
    service: str = ""
    region: str = "us-east-1"

    @property
    def raw_path(self) -> str:
        return self.target.split("?", 1)[0]

    @property
    def path(self) -> str:
        return unquote(self.raw_path)

    @property
    def query(self) -> dict[str, str]:
        return dict(parse_qsl(self.target.partition("?")[2], keep_blank_values=True))

    @property
    def form(self) -> dict[str, str]:
        """Parameters of the query protocol, from the body and the query string."""
        body = self.body.decode("utf-8", "replace") if self.body else ""
        return {**self.query, **dict(parse_qsl(body, keep_blank_values=True))}

    @property
    def protocol(self) -> str:
        """``s3``, ``ec2``, ``query``, ``json`` or ``rest-json``."""
        if self.service in ("s3", "ec2"):
            return self.service
        if "x-amz-target" in self.headers:
            return "json"
        form = self.headers.get("content-type", "").startswith("application/x-www-form-urlencoded")
        return "query" if self.service in QUERY_SERVICES or form else "rest-json"

    def json(self) -> dict[str, Any]:
        """The body as a JSON object.

        Raises
        ------
        ApiError
            It is none.
        """
        try:
            value = json.loads(self.body or b"{}")
        except ValueError as error:
            raise ApiError("SerializationException", "the body is not JSON") from error
        if not isinstance(value, dict):
            raise ApiError("SerializationException", "the body is not a JSON object")
        return value


def members(form: dict[str, str], name: str) -> list[dict[str, str]]:
    """The list of structures that the query protocol spells ``Name.member.1.Field``."""
    found: dict[int, dict[str, str]] = {}
    for key, value in form.items():
        match = re.fullmatch(rf"{name}\.member\.(\d+)\.(\w+)", key)
        if match:
            found.setdefault(int(match[1]), {})[match[2]] = value
    return [found[number] for number in sorted(found)]


def single_headers(pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Headers by name in lower case.

    Raises
    ------
    ApiError
        A name is repeated, or holds an underscore: behind WSGI that is the same name as with a
        hyphen. S3's user metadata may have one.
    """
    headers: dict[str, str] = {}
    taken: set[str] = set()
    for name, value in pairs:
        name = name.lower()
        if "_" in name and not name.startswith("x-amz-meta-"):
            raise ApiError("InvalidRequest", f"the header {name} has an underscore")
        if name.replace("_", "-") in taken:
            raise ApiError("InvalidRequest", f"the header {name} is there more than once")
        taken.add(name.replace("_", "-"))
        headers[name] = " ".join(value.split()) if "\n" in value else value.strip()
    return headers


def refuse_ambiguity(call: Call) -> None:
    """Refuse parameters that a second reader of the request could take for others.

    moto reads requests by rules of its own, such as the first of repeated parameters, or a form in
    the body before the query string. What is judged here must be what is carried out there.

    Raises
    ------
    ApiError
        Parameters are repeated or stand in two places, or the body's type is not its protocol's.
    """
    query = parse_qsl(call.target.partition("?")[2], keep_blank_values=True)
    kind = call.headers.get("content-type", "").partition(";")[0].strip().lower()
    form = kind == "application/x-www-form-urlencoded"
    parameters, protocol = query, call.protocol
    if protocol == "s3":
        if call.body and (form or kind == "multipart/form-data"):
            raise not_modelled(f"S3: a body of type {kind}")
    elif protocol in ("query", "ec2"):
        if call.body and (query or not form):
            raise ApiError(
                "InvalidRequest", "the parameters are not in one place, the URL or a form"
            )
        parameters = query or parse_qsl(call.body.decode(errors="replace"), keep_blank_values=True)
    elif (
        query
        or not call.body
        or not kind.startswith(("application/json", "application/x-amz-json"))
    ):
        raise ApiError("InvalidRequest", "the parameters are not in a JSON body alone")
    names = [name for name, _ in parameters]
    if len(set(names)) < len(names):
        raise ApiError("InvalidRequest", "a parameter is there more than once")


@dataclass(slots=True)
class Reply:
    """One HTTP response."""

    status: int
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)


def json_reply(value: Mapping[str, Any], status: int = 200) -> Reply:
    """A reply of the JSON 1.1 protocol."""
    return Reply(status, json.dumps(value).encode(), {"Content-Type": "application/x-amz-json-1.1"})


def render_error(error: ApiError, call: Call) -> Reply:
    """Write an error in the format of the service that was called."""
    request_id = str(uuid.uuid4())
    protocol, message = call.protocol, escape(error.message)
    tables = {"s3": _S3_CODES, "ec2": _EC2_CODES, "query": _QUERY_CODES}
    code, status = tables.get(protocol, _JSON_CODES).get(error.code, (error.code, error.status))
    if protocol == "s3":
        xml = f"<Error><Code>{code}</Code><Message>{message}</Message>"
        xml += f"<RequestId>{request_id}</RequestId></Error>"
    elif protocol == "ec2":
        xml = f"<Response><Errors><Error><Code>{code}</Code><Message>{message}</Message></Error>"
        xml += f"</Errors><RequestID>{request_id}</RequestID></Response>"
    elif protocol == "query":
        xml = f"<ErrorResponse><Error><Type>Sender</Type><Code>{code}</Code>"
        xml += f"<Message>{message}</Message></Error><RequestId>{request_id}</RequestId>"
        xml += "</ErrorResponse>"
    else:
        reply = json_reply({"__type": code, "message": error.message}, status)
        reply.headers |= {"x-amzn-ErrorType": code, "x-amzn-RequestId": request_id}
        return reply
    body = b"" if call.method == "HEAD" else b'<?xml version="1.0"?>\n' + xml.encode()
    return Reply(status, body, {"Content-Type": "text/xml", "x-amzn-RequestId": request_id})
