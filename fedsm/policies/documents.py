"""What policies are made of: statements that explain themselves, and the ARNs they name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from fedsm.config import Site

Document = dict[str, Any]

SAGEMAKER = "sagemaker.amazonaws.com"


class Statement(dict[str, Any]):
    """One statement of a policy.

    Attributes
    ----------
    sentence : str
        What it allows or denies, to whom, and why; it stays on this side, AWS gets the rest.
    """

    def __init__(self, sentence: str, elements: Mapping[str, Any]) -> None:
        super().__init__(elements)
        self.sentence = sentence


def document(*statements: Mapping[str, Any]) -> Document:
    """A policy of these statements."""
    return {"Version": "2012-10-17", "Statement": list(statements)}


def allow(
    sid: str,
    sentence: str,
    actions: Sequence[str],
    resources: Sequence[str],
    condition: Mapping[str, Any] | None = None,
) -> Statement:
    """A statement of an identity policy that allows."""
    elements = {
        "Sid": sid,
        "Effect": "Allow",
        "Action": list(actions),
        "Resource": list(resources),
    }
    return Statement(sentence, elements | ({"Condition": dict(condition)} if condition else {}))


def deny(
    sid: str,
    sentence: str,
    actions: Sequence[str],
    condition: Mapping[str, Any],
    resources: Sequence[str] = ("*",),
) -> Statement:
    """A statement of an identity policy that denies; of any resource, so that no name escapes."""
    elements = {
        "Sid": sid,
        "Effect": "Deny",
        "Action": list(actions),
        "Resource": list(resources),
        "Condition": dict(condition),
    }
    return Statement(sentence, elements)


def trust(
    sid: str,
    sentence: str,
    principal: Mapping[str, str],
    actions: Sequence[str],
    condition: Mapping[str, Any] | None = None,
) -> Statement:
    """A statement of a role's trust policy."""
    elements = {
        "Sid": sid,
        "Effect": "Allow",
        "Principal": dict(principal),
        "Action": list(actions),
    }
    return Statement(sentence, elements | ({"Condition": dict(condition)} if condition else {}))


def deny_everyone(
    sid: str,
    sentence: str,
    actions: Sequence[str],
    resources: Sequence[str],
    condition: Mapping[str, Any] | None = None,
) -> Statement:
    """A statement of a bucket's policy that denies whoever asks."""
    elements = {
        "Sid": sid,
        "Effect": "Deny",
        "Principal": "*",
        "Action": list(actions),
        "Resource": list(resources),
    }
    return Statement(sentence, elements | ({"Condition": dict(condition)} if condition else {}))


def partition(arn: str) -> str:
    """Partition of an ARN, such as ``aws`` or ``aws-cn``."""
    return arn.split(":")[1]


def arn(site: Site, service: str, rest: str) -> str:
    """ARN of something in the site's account and Region."""
    return f"arn:{partition(site.role_arn)}:{service}:{site.region}:{site.account_id}:{rest}"


def bucket_and_prefix(uri: str) -> tuple[str, str]:
    """Bucket and prefix of an S3 URI; the prefix ends with no slash."""
    bucket, _, prefix = uri.removeprefix("s3://").partition("/")
    return bucket, prefix.rstrip("/")


def _literal(text: str) -> str:
    """Text in which a policy sees neither wildcard nor variable."""
    return "".join(f"${{{c}}}" if c in "$*?" else c for c in text)


def objects(site: Site, uris: Iterable[str]) -> list[str]:
    """ARNs of all objects below these S3 URIs."""
    found = set()
    for bucket, prefix in map(bucket_and_prefix, uris):
        below = f"{_literal(prefix)}/*" if prefix else "*"
        found.add(f"arn:{partition(site.role_arn)}:s3:::{bucket}/{below}")
    return sorted(found)


def bucket_arn(site: Site, bucket: str) -> str:
    """ARN of a bucket."""
    return f"arn:{partition(site.role_arn)}:s3:::{bucket}"


def s3_service(site: Site) -> str:
    """S3 of the site's Region, as KMS knows the service that calls it."""
    domain = "amazonaws.com.cn" if site.region.startswith("cn-") else "amazonaws.com"
    return f"s3.{site.region}.{domain}"


def listings(sid: str, sentence: str, site: Site, uris: Iterable[str]) -> list[Statement]:
    """Rights to list the keys below these URIs, one statement a bucket.

    Listing is a right on the bucket, limited by prefix.
    """
    prefixes: dict[str, set[str]] = {}
    for bucket, prefix in map(bucket_and_prefix, uris):
        literal = _literal(prefix)
        values = {literal, f"{literal}/*"} if prefix else {"*"}
        prefixes.setdefault(bucket, set()).update(values)
    return [
        allow(
            f"{sid}{i}",
            sentence.format(bucket=bucket),
            ["s3:ListBucket"],
            [bucket_arn(site, bucket)],
            {
                "StringLike": {"s3:prefix": sorted(values)},
                "StringEquals": {"aws:ResourceAccount": site.account_id},
            },
        )
        for i, (bucket, values) in enumerate(sorted(prefixes.items()))
    ]


def pass_role(sid: str, sentence: str, role_arn: str) -> Statement:
    """The right to hand one role to SageMaker, and to no other service."""
    condition = {"StringEquals": {"iam:PassedToService": SAGEMAKER}}
    return allow(sid, sentence, ["iam:PassRole"], [role_arn], condition)


def service_trust(account_id: str, source_arn: str | None = None) -> Document:
    """Trust of a role that SageMaker takes for jobs or pipelines of ``account_id``.

    Source: SageMaker Developer Guide, "Cross-service confused deputy prevention".

    Parameters
    ----------
    source_arn : str, optional
        Pattern of the ARNs of the jobs or pipelines; without it, any of the account.
    """
    condition: dict[str, Any] = {"StringEquals": {"aws:SourceAccount": account_id}}
    if source_arn is not None:
        condition["ArnLike"] = {"aws:SourceArn": source_arn}
    return document(
        trust(
            "SageMaker",
            "lets the SageMaker service take this role, for this site's own work in this account, "
            "since no person, no other account and no other job shall use it",
            {"Service": SAGEMAKER},
            ["sts:AssumeRole"],
            condition,
        )
    )


def person_trust(sid: str, principal: str) -> Document:
    """Trust of a role that people of the owner take: one principal, or an account's."""
    who = "this principal alone" if ":" in principal else "those whom this account's IAM allows it"
    return document(
        trust(
            sid,
            f"lets {who} take this role, so that IAM decides which person may act in it",
            {"AWS": principal},
            ["sts:AssumeRole"],
        )
    )
