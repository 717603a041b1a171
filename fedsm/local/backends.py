"""The door to moto: dispatch of a call, and its identities; ``stores`` reads the rest of its state.

moto answers the many APIs in process; permissions, training jobs and pipelines are ours. Its state
is in memory only and is lost when the cloud ends.
"""

from __future__ import annotations

import re
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any, cast

from moto import backend_index, backends
from moto.core.base_backend import BackendDict
from moto.core.request import Request
from moto.iam.access_control import PermissionResult
from moto.iam.models import AccessKey, iam_backends
from moto.kms import responses as kms_responses
from moto.s3.models import FakeBucket
from werkzeug.exceptions import HTTPException

from fedsm.local.protocol import Call, Reply, not_modelled, refuse_ambiguity

_HOSTS = {
    "sagemaker": "api.sagemaker.{region}.amazonaws.com",
    "sagemaker-metrics": "metrics.sagemaker.{region}.amazonaws.com",
    "iam": "iam.amazonaws.com",
    "monitoring": "monitoring.{region}.amazonaws.com",
    "ecr": "api.ecr.{region}.amazonaws.com",
}
_PASSED = re.compile(
    r"x-amz-.+|content-.+|if-.+|authorization|cache-control|date|expires|origin|range"
)
"""Headers that moto sees; it takes others for parameters, or for the account to act in."""
_ANY_ACCOUNT = "123456789012"  # of use for the URLs only
_locks: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)

# moto judges bucket and key policies too, but without their conditions; the verdict here is ours.
kms_responses.validate_policy = lambda *_: None  # type: ignore[attr-defined]
FakeBucket.get_permission = lambda *_: PermissionResult.NEUTRAL  # type: ignore[method-assign]


def dispatch(call: Call, service: str, account: str) -> Reply:
    """Let moto answer a call that is already authenticated and authorised.

    Parameters
    ----------
    service : str
        Signing name, except ``sagemaker-metrics``, which shares SageMaker's.
    account : str
        Account in which the call acts.

    Raises
    ------
    ApiError
        moto does not know the service or action, or could read the call in another way than it
        was judged.
    """
    refuse_ambiguity(call)
    host = _HOSTS.get(service, "{service}.{region}.amazonaws.com").format(
        service=service, region=call.region
    )
    headers = {k: v for k, v in call.headers.items() if _PASSED.fullmatch(k)}
    headers |= {"x-moto-account-id": account, "Host": host}
    if headers.get("x-amz-content-sha256", "").startswith("STREAMING-"):
        headers["x-amz-content-sha256"] = "UNSIGNED-PAYLOAD"  # the framing is off already
    url = f"https://{host}{call.target}"
    request = Request.from_primitives(call.method, url, headers, call.body)
    request.environ["RAW_URI"] = call.target
    handler = _handler(host, f"https://{host}{call.raw_path}")
    if handler is None:
        raise not_modelled(f"{service}: {call.method} {call.raw_path}")
    try:
        with _locks[service]:
            status, answered, body = handler(request, request.raw_url, request.headers)
    except HTTPException as error:
        status, body = error.code or 500, error.get_body()
        answered = dict(error.get_headers())
    except NotImplementedError as error:
        raise not_modelled(f"{service}: {error}") from error
    return Reply(
        int(status),
        body.encode() if isinstance(body, str) else bytes(body or b""),
        {str(k): str(v) for k, v in answered.items() if str(k).lower() != "status"},
    )


def _handler(host: str, url: str) -> Callable[..., Any] | None:
    for pattern, handler in _routes(host):
        if pattern.match(url):
            return handler
    return None


@cache
def _routes(host: str) -> list[tuple[re.Pattern[str], Callable[..., Any]]]:
    for name, pattern in backend_index.backend_url_patterns:
        if pattern.match(f"https://{host}"):
            backend: Any = backends.get_backend(cast(Any, name))
            if isinstance(backend, BackendDict):
                regions = backend[_ANY_ACCOUNT]
                instance = regions["us-east-1" if "us-east-1" in regions else "aws"]
            else:
                instance = backend["global"]
            return [(re.compile(url), handler) for url, handler in instance.urls.items()]
    return []


# Identity -----------------------------------------------------------------------------------


def iam(account: str) -> Any:
    """moto's IAM of an account."""
    return iam_backends[account]["aws"]


def find_role(arn: str) -> Any | None:
    """moto's role, or None when the account has none of that ARN."""
    parts = arn.split(":")
    if len(parts) != 6 or not re.fullmatch(r"\d{12}", parts[4]):
        return None
    roles = list(iam(parts[4]).roles.values()) if parts[4] in iam_backends else []
    return next((role for role in roles if role.arn == arn), None)


def principal_exists(value: str) -> bool:
    """Whether a policy may name this as its ``AWS`` principal.

    Roles and users must be there; of accounts that are not this cloud's nothing is known.
    """
    found = re.fullmatch(r"arn:aws:iam::(\d{12}):(role|user)/(.+)", value)
    if not found or "admin" not in iam(found[1]).users:
        return True
    held = iam(found[1]).roles if found[2] == "role" else iam(found[1]).users
    return any(entity.arn == value for entity in list(held.values()))


def iam_entity(account: str, kind: str, name: str) -> Any | None:
    """moto's role, user or group of that name, or policy of that ARN; None when there is none."""
    backend = iam(account)
    if kind == "Policy":
        return backend.managed_policies.get(name)
    held = {"Role": backend.roles, "User": backend.users, "Group": backend.groups}[kind]
    return next((found for found in list(held.values()) if found.name == name), None)


def iam_tags(account: str, entity: Any) -> dict[str, str]:
    """Tags of a role, policy, user or group."""
    tags = getattr(entity, "tags", None)
    if tags is None:
        tags = iam(account).tagger.list_tags_for_resource(entity.arn)["Tags"]
    listed = list(tags.values()) if isinstance(tags, dict) else list(tags)
    return {tag["Key"]: tag["Value"] for tag in listed}


def bounds_a_role(account: str, policy: str) -> bool:
    """Whether a policy is the permissions boundary of a role."""
    roles = list(iam(account).roles.values())
    return any(role.permissions_boundary_arn == policy for role in roles)


def role_documents(role: Any) -> Iterator[str]:
    """Inline and attached policy documents of a role."""
    yield from list(role.policies.values())
    for policy in list(role.managed_policies.values()):
        yield from _default_version(policy)


def user_documents(account: str, name: str) -> Iterator[str]:
    """Inline and attached policy documents of a user and of its groups."""
    backend = iam(account)
    for holder in [backend.users[name], *backend.get_groups_for_user(name)]:
        yield from list(holder.policies.values())
        for policy in list(holder.managed_policies.values()):
            yield from _default_version(policy)


def managed_document(arn: str, account: str) -> str | None:
    """The document in force of a managed policy, None when there is no such policy."""
    policy = iam(account).managed_policies.get(arn)
    return None if policy is None else next(_default_version(policy), None)


def _default_version(policy: Any) -> Iterator[str]:
    for version in policy.versions:
        if version.version_id == policy.default_version_id:
            yield version.document


def find_user_key(access_key_id: str, accounts: tuple[str, ...]) -> tuple[str, Any, Any] | None:
    """Account, user and key of a long-lived access key that is active."""
    for account in accounts:
        key = iam(account).access_keys.get(access_key_id)
        if key is not None and key.status == "Active" and key.user_name in iam(account).users:
            return account, iam(account).users[key.user_name], key
    return None


def add_administrator(account: str, access_key_id: str, secret_key: str) -> None:
    """Create user ``admin`` with every right and exactly this key; does nothing the second time."""
    backend = iam(account)
    if "admin" in backend.users:
        return
    backend.create_user("us-east-1", "admin")
    backend.put_user_policy(
        "admin",
        "administrator",
        '{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"*","Resource":"*"}]}',
    )
    key = cast(Any, AccessKey)(user_name="admin", prefix="AKIA", account_id=account)
    key.access_key_id, key.secret_access_key = access_key_id, secret_key
    backend.users["admin"].access_keys.append(key)
    backend.access_keys[access_key_id] = key
