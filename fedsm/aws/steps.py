"""Steps of a change in an account: each is done, recorded, and undone when a later one fails."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import boto3
from botocore.exceptions import BotoCoreError, ClientError

from fedsm.aws.calls import CLIENT_CONFIG, DENIED, error_code
from fedsm.errors import AccessError, FedsmError

Change = Literal["created", "changed", "deleted", "undone", "left"]


@dataclass(frozen=True, slots=True)
class Step:
    """One call that changed something.

    Attributes
    ----------
    action : str
        As IAM names it, such as ``iam:CreateRole``.
    target : str
        ARN, S3 URI, or a role's ARN and a policy's name.
    change : {"created", "changed", "deleted", "undone", "left"}
        ``undone`` takes an earlier step back; ``left`` is one that could not be taken back.
    """

    action: str
    target: str
    change: Change


OnStep = Callable[[Step], None]


class Steps:
    """Does steps in one account, with one client a service.

    Parameters
    ----------
    session : boto3.Session
        Whose credentials do it.
    where : str
        The site, named by errors.
    on_step : callable
        Called with each step once it is done.

    Attributes
    ----------
    done : list of Step
        What was done and stands.
    """

    def __init__(self, session: boto3.Session, where: str, on_step: OnStep) -> None:
        self._session, self.where, self._on_step = session, where, on_step
        self._clients: dict[str, Any] = {}
        self._back: list[tuple[Step, Callable[[], Any]]] = []
        self.done: list[Step] = []

    def client(self, service: str) -> Any:
        """The client of a service, in the session's Region."""
        if service not in self._clients:
            made = self._session.client(service, config=CLIENT_CONFIG)  # type: ignore[call-overload]
            self._clients[service] = made
        return self._clients[service]

    def do(
        self,
        action: str,
        target: str,
        change: Change,
        call: Callable[[], Any],
        back: Callable[[], Any] | None = None,
    ) -> Any:
        """Do one step; ``back`` takes it back."""
        with self.named(action, target):
            answer = call()
        step = Step(action, target, change)
        self.done.append(step)
        if back is not None:
            self._back.append((step, back))
        self._on_step(step)
        return answer

    def read(self, action: str, target: str, call: Callable[[], Any], *missing: str) -> Any | None:
        """A call that changes nothing; None where its error's code says that nothing is there."""
        with self.named(action, target):
            try:
                return call()
            except ClientError as error:
                if error_code(error) not in missing:
                    raise
                return None

    @contextmanager
    def named(self, action: str, target: str) -> Iterator[None]:
        """Turn botocore's errors of a call into one that names the call.

        Raises
        ------
        AccessError
            The call failed.
        """
        try:
            yield
        except ClientError as error:
            code = error_code(error)
            said = str(error.response.get("Error", {}).get("Message", "")).rstrip(".")
            raise AccessError(
                f"{action} of {target} failed: {code}: {said}",
                where=self.where,
                action=_next(code, said),
            ) from error
        except BotoCoreError as error:
            raise AccessError(
                f"{action} of {target} failed: {error}".rstrip("."),
                where=self.where,
                action="check credentials, Region and network, and run the same command again",
            ) from error

    @contextmanager
    def undone_on_failure(self) -> Iterator[None]:
        """Undo in reverse what was done, when the block does not end well; also at Ctrl-C.

        Raises
        ------
        AccessError
            A step could not be undone; names all of these.
        """
        try:
            yield
        except BaseException as error:
            left = self._undo()
            if left:
                why = str(error) if isinstance(error, FedsmError) else type(error).__name__
                raise AccessError(
                    f"{why}. Some of what was done before could not be undone: {', '.join(left)}",
                    where=self.where,
                    action="run the same command again, or `fedsm site revoke`",
                ) from error
            raise

    def _undo(self) -> list[str]:
        left = []
        while self._back:
            step, back = self._back.pop()
            try:
                back()
            except (ClientError, BotoCoreError):
                left.append(f"{step.action} of {step.target}")
                self._on_step(Step(step.action, step.target, "left"))
            else:
                self.done.remove(step)
                self._on_step(Step(step.action, step.target, "undone"))
        return left


def _next(code: str, said: str) -> str:
    if code in DENIED:
        return "let an administrator of the account do it, or give you the right to"
    if "nvalid principal" in said:
        return "see that whom this names is there: the server's role, and the terms' own principals"
    return "mend what AWS names, and run the same command again"
