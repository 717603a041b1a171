"""One way to make a boto3 call: its refusals become fedsm's errors, and every call is counted."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from fedsm.errors import AccessError, FedsmError

# Standard mode retries throttling and lost connections with exponential backoff and jitter.
CLIENT_CONFIG = Config(
    retries={"mode": "standard", "total_max_attempts": 6},
    connect_timeout=10,
    read_timeout=60,
    user_agent_extra="fedsm",
)

DENIED = frozenset(
    {
        "AccessDenied",
        "AccessDeniedException",
        "UnauthorizedOperation",
        "InvalidClientTokenId",
        "UnrecognizedClientException",
        "SignatureDoesNotMatch",
        "ExpiredToken",
        "ExpiredTokenException",
    }
)


class CallCounter:
    """Counts API calls by where they went; safe from several threads."""

    def __init__(self) -> None:
        self._counts: Counter[tuple[str, str]] = Counter()
        self._lock = threading.Lock()

    def watch(self, client: Any, where: str) -> Any:
        """Count ``client``'s calls under ``where``; returns the client."""

        def count(model: Any, **_: Any) -> None:
            with self._lock:
                self._counts[where, f"{model.service_model.service_name}:{model.name}"] += 1

        client.meta.events.register("before-call", count)
        return client

    def as_data(self) -> dict[str, dict[str, int]]:
        """Calls by place and operation."""
        with self._lock:
            data: dict[str, dict[str, int]] = {}
            for (where, operation), n in sorted(self._counts.items()):
                data.setdefault(where, {})[operation] = n
            return data


def error_code(error: ClientError) -> str:
    """AWS's code of an error."""
    return str(error.response.get("Error", {}).get("Code", ""))


def was_refused(error: BaseException) -> bool:
    """Whether AWS answered that it would not: then the call has had no effect."""
    cause = error.__cause__
    if not isinstance(cause, ClientError):
        return False
    return int(cause.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 500)) < 500


@contextmanager
def translated(
    where: str,
    what: str,
    kind: Callable[..., FedsmError],
    action: str,
    denied: str = "let the owner of that account check the role's policy against iam/",
) -> Iterator[None]:
    """Turn botocore's errors into ``kind``, or into ``AccessError`` for a refusal."""
    try:
        yield
    except ClientError as error:
        message = error.response.get("Error", {}).get("Message", "")
        text = f"{what}: {error_code(error)}: {message}".rstrip(": .")
        if error_code(error) in DENIED:
            raise AccessError(text, where=where, action=denied) from error
        raise kind(text, where=where, action=action) from error
    except BotoCoreError as error:
        raise kind(f"{what}: {error}".rstrip("."), where=where, action=action) from error
