"""One try of an attacker, and what came of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import boto3
from botocore.exceptions import ClientError

from tests.attacks.world import World

Verdict = Literal["refused", "open"]
Tries = Callable[[World], "Iterator[Try]"]

ATTACKS: dict[str, Tries] = {}
"""What each attack does, by its id."""

_UNMODELLED = "NotImplemented"
_S3_ACTIONS = {
    "list_objects_v2": "ListBucket",
    "copy_object": "PutObject",
    "create_multipart_upload": "PutObject",
}


class Refused(Exception):  # noqa: N818
    """A job that was started ended before it did what the attacker wanted; says how."""


@dataclass(frozen=True)
class Try:
    """One try.

    Attributes
    ----------
    call : callable
        Raises ``ClientError`` or :class:`Refused` where the try is refused.
    says : str
        What the refusal must say, so that no fault of the test is taken for one.
    """

    call: Callable[[], object]
    says: str

    def verdict(self) -> Verdict:
        """Do it."""
        try:
            self.call()
        except ClientError as error:
            code, said = (str(error.response["Error"].get(k, "")) for k in ("Code", "Message"))
            if self.says in f"{code}: {said}":
                return "refused"
            # The cloud judges a request before it says that it cannot do what was asked.
            assert code == _UNMODELLED, f"{code}: {said}"
            return "open"
        except Refused as refusal:
            if self.says not in str(refusal):
                raise AssertionError(f"refused for another reason: {refusal}") from refusal
            return "refused"
        return "open"


def verdict(world: World, attack: str) -> Verdict:
    """What comes of an attack: it is refused if each of its tries is."""
    found = [each.verdict() for each in ATTACKS[attack](world)]
    assert found, "nothing was tried"
    return "open" if "open" in found else "refused"


def attack(name: str) -> Callable[[Tries], Tries]:
    """Register what an attack does."""

    def register(tries: Tries) -> Tries:
        assert name not in ATTACKS
        ATTACKS[name] = tries
        return tries

    return register


@lru_cache(maxsize=256)
def client(session: boto3.Session, service: str) -> Any:
    """A session's client."""
    return session.client(service)  # type: ignore[call-overload]


def api(session: boto3.Session, service: str, operation: str, **arguments: Any) -> Try:
    """An API call that IAM must refuse."""
    name = "".join(part.capitalize() for part in operation.split("_"))
    action = f"{service}:{_S3_ACTIONS.get(operation, name) if service == 's3' else name}"
    return Try(
        lambda: getattr(client(session, service), operation)(**arguments),
        f"is not authorized to perform: {action} ",
    )


def instead(one: Try, says: str) -> Try:
    """The same try, whose refusal says something else."""
    return Try(one.call, says)
