"""The one place that touches moto: dispatch of a call, and reads of its state.

moto answers the many APIs in process; identity, permissions and training jobs are ours. Its state
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
from moto.s3.models import FakeBucket, s3_backends
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

# moto judges bucket policies too, but without their conditions; the verdict here is ours.
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


# Experiments --------------------------------------------------------------------------------


def experiments(account: str, region: str) -> dict[str, dict[str, Any]]:
    """moto's experiments, trials and trial components of an account, by kind and name."""
    from moto.sagemaker.models import sagemaker_backends  # large, and not every cloud needs it

    backend: Any = sagemaker_backends[account][region]
    return {
        "Experiment": backend.experiments,
        "Trial": backend.trials,
        "TrialComponent": backend.trial_components,
    }


# Buckets ------------------------------------------------------------------------------------


def bucket_owner(name: str) -> str | None:
    """Account that owns a bucket, None when there is no such bucket."""
    found = s3_backends.bucket_accounts.get(name)
    return None if found is None else found[1]


def bucket_policy(name: str) -> str | None:
    """The bucket policy, None when it has none."""
    owner = bucket_owner(name)
    policy = s3_backends[owner]["aws"].buckets[name].policy if owner else None
    return policy.decode() if isinstance(policy, bytes) else policy


def has_object(bucket: str, key: str) -> bool:
    """Whether a key exists, without the rights of anyone."""
    owner = bucket_owner(bucket)
    return owner is not None and key in s3_backends[owner]["aws"].buckets[bucket].keys
