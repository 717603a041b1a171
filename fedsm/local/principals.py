"""Access keys to principals: users of moto's IAM, and our own table of role sessions."""

from __future__ import annotations

import secrets
import string
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from fedsm.local import backends
from fedsm.local.iam import Policies, Policy, Principal, parse
from fedsm.local.signatures import Secret

_KEY_ALPHABET = string.ascii_uppercase + "234567"


def new_access_key(prefix: str) -> str:
    """A fresh access key id of 20 characters: ``AKIA`` for users, ``ASIA`` for sessions."""
    return prefix + "".join(secrets.choice(_KEY_ALPHABET) for _ in range(16))


@dataclass(frozen=True, slots=True)
class Session:
    """A role session that STS handed out.

    Attributes
    ----------
    policies : sequence of Policy, optional
        Session policies; None when it was assumed without.
    tags : Mapping[str, str]
        Session tags, which override the role's.
    """

    access_key_id: str
    secret_key: str
    token: str
    expires: datetime
    account: str
    role_arn: str
    role_id: str
    name: str
    policies: Sequence[Policy] | None = None
    source_identity: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    issued: datetime = field(default_factory=lambda: datetime.now(UTC))

    @property
    def arn(self) -> str:
        """``assumed-role`` ARN: holds the role's name without its path, as AWS's does."""
        name = self.role_arn.rsplit("/", 1)[-1]
        return f"arn:aws:sts::{self.account}:assumed-role/{name}/{self.name}"


@dataclass(frozen=True, slots=True)
class Caller:
    """An authenticated caller: who it is, what bounds it, what context it brings."""

    principal: Principal
    user_id: str
    policies: Policies
    context: Mapping[str, Sequence[str]]
    session: Session | None = None


class Directory:
    """Resolves access keys of the cloud's accounts; safe to use from several threads."""

    def __init__(self) -> None:
        self.accounts: tuple[str, ...] = ()
        self._sessions: dict[str, Session] = {}
        self._lock = threading.Lock()

    def add_account(self, account: str, access_key_id: str, secret_key: str) -> None:
        """Open an account with its administrator's key."""
        backends.add_administrator(account, access_key_id, secret_key)
        if account not in self.accounts:
            self.accounts = (*self.accounts, account)

    def open_session(
        self,
        role: Any,
        name: str,
        lifetime: timedelta,
        *,
        policies: Sequence[Policy] | None = None,
        source_identity: str | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> Session:
        """Make credentials for a role; the caller has checked that it may be assumed."""
        now = datetime.now(UTC)
        session = Session(
            access_key_id=new_access_key("ASIA"),
            secret_key=secrets.token_urlsafe(30),
            token=secrets.token_urlsafe(180),
            expires=now + lifetime,
            account=role.account_id,
            role_arn=role.arn,
            role_id=role.id,
            name=name,
            policies=policies,
            source_identity=source_identity,
            tags=tags or {},
        )
        with self._lock:
            stale = now - timedelta(days=1)  # kept a day, to be answered with ExpiredToken
            for key in [k for k, s in self._sessions.items() if s.expires < stale]:
                del self._sessions[key]
            self._sessions[session.access_key_id] = session
        return session

    def secret(self, access_key_id: str) -> Secret | None:
        """What a signature by this key is checked with."""
        session = self._sessions.get(access_key_id)
        if session is not None:
            return Secret(session.secret_key, session.token, session.expires)
        found = backends.find_user_key(access_key_id, self.accounts)
        return None if found is None else Secret(found[2].secret_access_key)

    def caller(self, access_key_id: str) -> Caller:
        """The caller behind a key whose signature is checked."""
        session = self._sessions.get(access_key_id)
        if session is not None:
            return self._session_caller(session)
        found = backends.find_user_key(access_key_id, self.accounts)
        if found is None:
            raise KeyError(access_key_id)
        account, user, _ = found
        documents = backends.user_documents(account, user.name)
        return Caller(
            Principal(account, user.arn, user.arn, "User"),
            user.id,
            Policies(identity=[parse(document) for document in documents]),
            {"aws:username": [user.name], "aws:userid": [user.id], "aws:principaltype": ["User"]},
        )

    def _session_caller(self, session: Session) -> Caller:
        role = backends.find_role(session.role_arn)
        context: dict[str, Sequence[str]] = {
            "aws:userid": [f"{session.role_id}:{session.name}"],
            "aws:principaltype": ["AssumedRole"],
            "aws:tokenissuetime": [session.issued.isoformat()],
        }
        if session.source_identity:
            context["aws:sourceidentity"] = [session.source_identity]
        tags = {tag["Key"]: tag["Value"] for tag in (role.tags or [])} if role else {}
        for key, value in {**tags, **session.tags}.items():
            context[f"aws:principaltag/{key.lower()}"] = [value]
        # A session of a role that was deleted since, or made again, has no rights left.
        alive = role is not None and role.id == session.role_id
        boundary: Policy | None = None
        if role is not None and alive and role.permissions_boundary_arn:
            document = backends.managed_document(role.permissions_boundary_arn, session.account)
            boundary = parse(document) if document else ()
        documents = backends.role_documents(role) if alive else []
        return Caller(
            Principal(session.account, session.arn, session.role_arn, "AssumedRole"),
            f"{session.role_id}:{session.name}",
            Policies(
                identity=[parse(document) for document in documents],
                boundary=boundary,
                session=session.policies,
            ),
            context,
            session,
        )
