"""The cloud over HTTP: authenticate, authorise, then answer or hand to moto."""

from __future__ import annotations

import hmac
import json
import logging
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from fedsm.errors import FedsmError
from fedsm.local import actions, backends, experiments, signatures, stores, sts
from fedsm.local.authorise import Ask, allow
from fedsm.local.pipelines_api import PipelinesApi
from fedsm.local.principals import Directory
from fedsm.local.protocol import (
    ApiError,
    Call,
    Reply,
    json_reply,
    not_modelled,
    render_error,
    single_headers,
)
from fedsm.local.s3_actions import split
from fedsm.local.training_api import TrainingApi

MAX_BODY = 5 << 30
"""Largest request body, bytes: S3's own limit for one PUT."""

CREDENTIALS_PATH = "/_fedsm/credentials/"
CONTROL_PATH = "/_fedsm/"
_log = logging.getLogger(__name__)

Control = Callable[[str, str, dict[str, Any]], dict[str, Any]]


class Cloud:
    """Answers calls.

    Parameters
    ----------
    credentials : callable
        Job id and token to the credentials document of its role; None refuses.
    control : callable
        Method, path and body of a control call to its answer.
    control_token : str
        What a control call must carry.
    """

    def __init__(
        self,
        directory: Directory,
        training: TrainingApi,
        pipelines: PipelinesApi,
        *,
        credentials: Callable[[str, str], dict[str, str] | None],
        control: Control,
        control_token: str,
    ) -> None:
        self._directory, self._sagemaker = directory, (training, pipelines)
        self._credentials, self._control, self._token = credentials, control, control_token

    def answer(self, call: Call) -> Reply:
        """Answer one call; never raises."""
        try:
            if call.target.startswith(CONTROL_PATH):
                return self._internal(call)
            return self._api(call)
        except ApiError as error:
            return render_error(error, call)
        except Exception:
            _log.exception("%s %s failed", call.method, call.raw_path)
            failure = ApiError("InternalFailure", "the local cloud failed; see its log", 500)
            return render_error(failure, call)

    def _api(self, call: Call) -> Reply:
        key = signatures.verify(call, self._directory.secret, datetime.now(UTC))
        caller = self._directory.caller(key)
        if call.service == "sts":
            return sts.answer(call, caller, self._directory)
        service = call.service
        if service == "sagemaker":
            if "x-amz-target" not in call.headers:
                service = "sagemaker-metrics"
            else:
                for api in self._sagemaker:
                    if api.owns(call):
                        return api.answer(call, caller)
        account = actions.authorise(call, caller, service)
        if service == "sagemaker":
            return experiments.answer(call, account)
        if service == "s3":
            self._hide_missing_key(call, caller)
        actions.prepare(call, service, account)
        return backends.dispatch(call, service, account)

    def _hide_missing_key(self, call: Call, caller: Any) -> None:
        """Who may not list a bucket is not told that a key is missing."""
        bucket, key = split(call.path)
        if call.method not in ("GET", "HEAD") or not key or stores.has_object(bucket, key):
            return
        owner = stores.bucket_owner(bucket)
        if owner is None:
            return
        policy = stores.bucket_policy(bucket)
        arn = f"arn:aws:s3:::{bucket}"
        ask = Ask("s3:ListBucket", arn, owner, {"s3:prefix": [key]}, policy)
        allow(call, caller, ask)

    def _internal(self, call: Call) -> Reply:
        given = call.headers.get("authorization", "")
        if call.raw_path.startswith(CREDENTIALS_PATH):
            found = self._credentials(call.raw_path[len(CREDENTIALS_PATH) :], given)
            if found is None:
                return json_reply({"code": "AccessDenied", "message": "no such credentials"}, 403)
            return Reply(200, json.dumps(found).encode(), {"Content-Type": "application/json"})
        if not hmac.compare_digest(given.encode(), self._token.encode()):
            return json_reply({"message": "the control token is wrong"}, 403)
        try:
            return json_reply(self._control(call.method, call.raw_path, call.json()))
        except FedsmError as error:
            return json_reply({"message": str(error)}, 400)


def _body_length(headers: Mapping[str, str]) -> int:
    if "transfer-encoding" in headers:
        raise not_modelled("Transfer-Encoding of a request")
    length = headers.get("content-length", "0")
    if not re.fullmatch("[0-9]{1,15}", length):
        raise ApiError("IncompleteBody", "Content-Length is not a number")
    if int(length) > MAX_BODY:
        raise ApiError("EntityTooLarge", "the request is larger than 5 GiB")
    return int(length)


class _Handler(BaseHTTPRequestHandler):
    """Reads one request, writes one response; connections are kept open."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    timeout = 120
    server: CloudServer

    def _serve(self) -> None:
        call = self._read()
        if call is None:
            return
        reply = self.server.cloud.answer(call)
        body = b"" if call.method == "HEAD" else reply.body
        head = [f"HTTP/1.1 {reply.status} {self.responses.get(reply.status, ('',))[0]}"]
        names = {name.lower() for name in reply.headers}
        head += [
            f"{name}: {value}"
            for name, value in reply.headers.items()
            if name.lower() not in ("connection", "transfer-encoding", "date", "server")
            and (name.lower() != "content-length" or call.method == "HEAD")
        ]
        if call.method != "HEAD" or "content-length" not in names:
            head.append(f"Content-Length: {len(body)}")
        head.append(f"Date: {self.date_time_string()}")
        self.wfile.write("\r\n".join([*head, "", ""]).encode("latin-1", "replace") + body)

    def _read(self) -> Call | None:
        call = Call(self.command, self.path, {}, b"")
        try:
            call.headers = single_headers(self.headers.items())
            length = _body_length(call.headers)
        except ApiError as refusal:
            reply = render_error(refusal, call)
            self.close_connection = True
            self.send_response(reply.status)
            self.send_header("Connection", "close")
            self.send_header("Content-Length", str(len(reply.body)))
            self.end_headers()
            self.wfile.write(reply.body)
            return None
        call.body = self.rfile.read(length)
        if len(call.body) < length:
            self.close_connection = True
            return None
        return call

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = do_PATCH = _serve  # noqa: N815

    def log_message(self, format: str, *args: Any) -> None:
        """Requests are not logged: their rows would hold tokens."""


class CloudServer(ThreadingHTTPServer):
    """The cloud's listener on loopback, a thread per connection."""

    daemon_threads = True
    request_queue_size = 128
    cloud: Cloud

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hangs up is no error."""
        _log.debug("connection from %s ended early", client_address, exc_info=True)
