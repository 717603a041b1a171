"""Set up on the local cloud what server and data owners set up on AWS: roles, buckets, data, code.

Everything is created from the federation's own fields, with the documents of ``policies``, so a run
on the local cloud needs the same rights as one on AWS. Existing resources are kept.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import boto3
from botocore.exceptions import ClientError

from fedsm import policies
from fedsm.aws.artifacts import publish
from fedsm.aws.calls import error_code
from fedsm.aws.sessions import Sessions
from fedsm.bundle import Bundle
from fedsm.clouds import LocalCloud
from fedsm.config import FederationConfig, Site
from fedsm.errors import LocalCloudError

PUBLISHER = "fedsm-publisher"


def publisher_arn(site: Site) -> str:
    """ARN of the role that alone may write the site's bundles."""
    aws = policies.partition(site.role_arn)
    return f"arn:{aws}:iam::{site.account_id}:role/{PUBLISHER}"


def provision(cloud: LocalCloud, config: FederationConfig, data: Path, bundle: Bundle) -> None:
    """Create roles and buckets, upload ``data/<site>/<channel>/`` and publish the bundle.

    Raises
    ------
    LocalCloudError
        A site's channel has no folder below ``data``.
    """
    server = config.coordinator
    if server.role_arn is not None:
        _role(
            cloud.coordinator(),
            server.role_arn,
            policies.coordinator_trust(server.account_id),
            policies.coordinator_policy(
                server.account_id,
                server.region,
                [site.role_arn for site in config.sites],
                config.tracking.prefix,
                aws=policies.partition(server.role_arn),
            ),
        )
    for site in config.sites:
        _site(cloud.owner(site), config, site, data)
        publish(publisher_client(cloud, site), site, bundle)


def publisher_client(cloud: LocalCloud, site: Site) -> Any:
    """An S3 client with the rights of the owner's publisher role."""
    sessions = Sessions(cloud.owner(site), "fedsm-publish")
    session = sessions.coordinator(site.region, publisher_arn(site))
    return sessions.client(session, "s3", site.name, site.region)


def _site(owner: boto3.Session, config: FederationConfig, site: Site, data: Path) -> None:
    server = config.coordinator
    server_role = server.role_arn or server.account_id
    _role(
        owner,
        site.role_arn,
        policies.kickoff_trust(server_role, site.external_id),
        policies.kickoff_policy(site, config.name),
    )
    _role(
        owner,
        site.execution_role_arn,
        policies.service_trust(site.account_id),
        policies.execution_policy(site, config.name),
    )
    _role(
        owner,
        publisher_arn(site),
        policies.coordinator_trust(site.account_id),
        policies.publisher_policy(site),
    )
    s3 = owner.client("s3")
    for bucket in sorted({_bucket(uri) for uri in _uris(site)}):
        _bucket_exists(s3, bucket, site.region)
    s3.put_bucket_policy(
        Bucket=_bucket(site.code),
        Policy=json.dumps(policies.code_bucket_policy(site, publisher_arn(site))),
    )
    for channel, uri in site.channels.items():
        _upload(s3, site, channel, uri, data / site.name / channel)


def _uris(site: Site) -> Iterator[str]:
    yield from site.channels.values()
    yield site.output
    yield site.code


def _bucket(uri: str) -> str:
    return uri.removeprefix("s3://").partition("/")[0]


def _role(
    session: boto3.Session, arn: str, trust: Mapping[str, Any], policy: Mapping[str, Any]
) -> None:
    iam = session.client("iam")
    path, _, name = arn.split(":role", 1)[1].rpartition("/")
    try:
        iam.create_role(RoleName=name, Path=f"{path}/", AssumeRolePolicyDocument=json.dumps(trust))
    except ClientError as error:
        if error_code(error) != "EntityAlreadyExists":
            raise
        iam.update_assume_role_policy(RoleName=name, PolicyDocument=json.dumps(trust))
    iam.put_role_policy(RoleName=name, PolicyName="fedsm", PolicyDocument=json.dumps(policy))


def _bucket_exists(s3: Any, bucket: str, region: str) -> None:
    where = (
        {}
        if region == "us-east-1"
        else {"CreateBucketConfiguration": {"LocationConstraint": region}}
    )
    try:
        s3.create_bucket(Bucket=bucket, **where)
    except ClientError as error:
        if error_code(error) != "BucketAlreadyOwnedByYou":
            raise


def _upload(s3: Any, site: Site, channel: str, uri: str, folder: Path) -> None:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    if not files:
        raise LocalCloudError(
            f"there are no files for channel {channel}",
            where=site.name,
            action=f"put them into {folder}",
        )
    bucket, _, prefix = uri.removeprefix("s3://").partition("/")
    for path in files:
        key = f"{prefix.rstrip('/')}/{path.relative_to(folder).as_posix()}".lstrip("/")
        s3.put_object(Bucket=bucket, Key=key, Body=path.read_bytes())
