"""Refuse a bucket's, key's or trust policy that AWS would not take.

Source: IAM User Guide, "AWS JSON policy elements: Principal"; S3 User Guide, "Bucket policies".
"""

from __future__ import annotations

from fedsm.local import backends
from fedsm.local.conditions import matches
from fedsm.local.iam import MalformedPolicy, parse
from fedsm.local.protocol import ApiError


def check(document: str, code: str, *, bucket: str = "") -> None:
    """Check a policy before it is stored.

    Parameters
    ----------
    code : str
        The service's error code for a malformed policy.
    bucket : str
        For a bucket's policy, the bucket: its resources must lie in there.

    Raises
    ------
    ApiError
        It is no policy, a statement has no principal or one that is not there, or, of a bucket, a
        resource of another.
    """
    try:
        statements = parse(document)
    except MalformedPolicy as error:
        raise ApiError(code, str(error)) from error
    for statement in statements:
        if statement.principals is None:
            raise ApiError(code, "Missing required field Principal")
        for kind, value in statement.principals:
            if kind == "AWS" and not backends.principal_exists(value):
                raise ApiError(code, f'Invalid principal in policy: "AWS":"{value}"')
        for resource in statement.resources if bucket else ():
            if not matches(resource.partition("/")[0], f"arn:aws:s3:::{bucket}"):
                raise ApiError(code, "Policy has invalid resource")
