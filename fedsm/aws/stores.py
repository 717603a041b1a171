"""Buckets and keys of a data owner: made where they are missing, their policies merged by Sid."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from fedsm.aws.documents import EMPTY, merged, same
from fedsm.aws.steps import Steps
from fedsm.errors import AccessError, ConfigError
from fedsm.onboarding import BucketRules

SETTLE = 60.0
"""Seconds that AWS may need until a new role can be named in another policy."""

_BETWEEN = 2.0


def put_bucket(steps: Steps, owner: str, rules: BucketRules) -> bool:
    """See that a bucket is there and keeps versions where it must; whether it was made now.

    Raises
    ------
    AccessError, ConfigError
        It is another account's, or missing and not to be made.
    """
    s3, name, uri = steps.client("s3"), rules.bucket, f"s3://{rules.bucket}"
    owned = {"Bucket": name, "ExpectedBucketOwner": owner}
    try:
        fresh = steps.read("s3:ListBucket", uri, lambda: s3.head_bucket(**owned), "404") is None
    except AccessError as error:
        if "403" not in error.what:
            raise
        raise AccessError(
            f"{uri} is another account's, or you may not see it",
            where=steps.where,
            action="name another bucket in the terms, or let an administrator accept",
        ) from error
    if fresh:
        if not rules.create:
            raise ConfigError(
                f"there is no bucket {name}",
                where=steps.where,
                action="create it, or write create_buckets: true in the terms",
            )
        place = {"LocationConstraint": rules.region}
        more = {} if rules.region == "us-east-1" else {"CreateBucketConfiguration": place}
        steps.do(
            "s3:CreateBucket",
            uri,
            "created",
            lambda: s3.create_bucket(Bucket=name, **more),
            lambda: s3.delete_bucket(Bucket=name),
        )
    if rules.versioned:
        _keep_versions(steps, owned, fresh=fresh)
    return fresh


def _keep_versions(steps: Steps, owned: Mapping[str, str], *, fresh: bool) -> None:
    s3, uri = steps.client("s3"), f"s3://{owned['Bucket']}"

    def put(status: str) -> None:
        s3.put_bucket_versioning(**owned, VersioningConfiguration={"Status": status})

    if not fresh:
        found = steps.read("s3:GetBucketVersioning", uri, lambda: s3.get_bucket_versioning(**owned))
        if found is not None and found.get("Status") == "Enabled":
            return
    # A bucket that once kept versions can only be told to suspend that.
    back = None if fresh else lambda: put("Suspended")
    steps.do("s3:PutBucketVersioning", uri, "changed", lambda: put("Enabled"), back)


def put_bucket_statements(
    steps: Steps,
    bucket: str,
    statements: Sequence[Mapping[str, Any]],
    mine: str,
    *,
    fresh: bool = False,
) -> None:
    """Make these the statements of a bucket's policy whose Sids begin with ``mine``.

    Parameters
    ----------
    fresh : bool
        The bucket has just been made.
    """
    s3, uri = steps.client("s3"), f"s3://{bucket}"
    found = None
    if not fresh:
        found = steps.read(
            "s3:GetBucketPolicy",
            uri,
            lambda: s3.get_bucket_policy(Bucket=bucket)["Policy"],
            "NoSuchBucketPolicy",
            "NoSuchBucket",
        )

    def put(document: Mapping[str, Any]) -> None:
        if document["Statement"]:
            s3.put_bucket_policy(Bucket=bucket, Policy=json.dumps(document))
        else:
            s3.delete_bucket_policy(Bucket=bucket)

    _put(steps, "s3:PutBucketPolicy", uri, EMPTY if found is None else found, statements, mine, put)


def put_key_statements(
    steps: Steps, key: str, statements: Sequence[Mapping[str, Any]], mine: str
) -> None:
    """Make these the statements of a key's policy whose Sids begin with ``mine``."""
    kms = steps.client("kms")
    name = {"KeyId": key, "PolicyName": "default"}
    found = steps.read(
        "kms:GetKeyPolicy",
        key,
        lambda: kms.get_key_policy(**name)["Policy"],
        # A key that has gone bears nothing that would have to go.
        *([] if statements else ["NotFoundException"]),
    )
    if found is None:
        return

    def put(document: Mapping[str, Any]) -> None:
        kms.put_key_policy(**name, Policy=json.dumps(document))

    _put(steps, "kms:PutKeyPolicy", key, found, statements, mine, put)


def _put(
    steps: Steps,
    action: str,
    target: str,
    found: Any,
    statements: Sequence[Mapping[str, Any]],
    mine: str,
    put: Callable[[Mapping[str, Any]], None],
) -> None:
    before: dict[str, Any] = json.loads(found) if isinstance(found, str) else dict(found)
    wanted = merged(before, statements, mine)
    if same(before, wanted):
        return
    deadline = time.monotonic() + SETTLE
    while True:
        try:
            steps.do(action, target, "changed", lambda: put(wanted), lambda: put(before))
            return
        except AccessError as error:
            # AWS takes a while to know a new role everywhere.
            if "rincipal" not in error.what or time.monotonic() > deadline:
                raise
            time.sleep(_BETWEEN)
