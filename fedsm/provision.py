"""Set up on the local cloud what server and data owners set up on AWS: roles, buckets, data, code.

Everything is created from the federation's own fields, with the documents of ``policies``, so a run
on the local cloud needs the same rights as one on AWS.

Which accounts and data are set up is kept in a file beside the cloud's state, written when all of
it succeeded. Changed data are uploaded again; roles and bucket policies are the owners' consent,
which a change of ``federation.yaml`` alone does not renew.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import boto3
from botocore.exceptions import ClientError

from fedsm import policies
from fedsm.aws.artifacts import publish
from fedsm.aws.calls import error_code, translated
from fedsm.aws.sessions import Sessions
from fedsm.bundle import Bundle
from fedsm.clouds import LocalCloud
from fedsm.config import FederationConfig, Site
from fedsm.errors import LocalCloudError

PUBLISHER = "fedsm-publisher"
MARKER = "set-up.json"


@dataclass(frozen=True, slots=True)
class Done:
    """What is set up on one process of the cloud.

    Attributes
    ----------
    cloud : str
        That process: :meth:`LocalCloud.identity`.
    accounts : list of str
        Accounts that are set up.
    data : dict of str to str
        Digest of the uploaded folder by ``<site>/<channel>``.
    """

    cloud: str
    accounts: list[str] = field(default_factory=list)
    data: dict[str, str] = field(default_factory=dict)

    @classmethod
    def read(cls, file: Path, cloud: str) -> Done:
        """Read the file; nothing is done when it is missing, broken or of another process."""
        try:
            found = cls(**json.loads(file.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            return cls(cloud)
        return found if found.cloud == cloud else cls(cloud)

    def write(self, file: Path) -> None:
        """Write the file."""
        file.write_text(json.dumps(asdict(self)), encoding="utf-8")


def publisher_arn(site: Site) -> str:
    """ARN of the role that alone may write the site's bundles."""
    aws = policies.partition(site.role_arn)
    return f"arn:{aws}:iam::{site.account_id}:role/{PUBLISHER}"


def provision(
    cloud: LocalCloud, config: FederationConfig, data: Path, bundle: Bundle, *, again: bool = False
) -> None:
    """Create roles and buckets, upload ``data/<site>/<channel>/`` and publish the bundle.

    Done for the accounts that are not set up yet. Of the others, only channels whose folder has
    changed are uploaded again. The caller holds the project's lock.

    Parameters
    ----------
    again : bool
        Set up every account again.

    Raises
    ------
    LocalCloudError, AccessError
        A site's channel has no folder below ``data``, or cannot be uploaded.
    """
    marker = cloud.endpoint.directory / MARKER
    identity = cloud.identity()
    done = Done(identity) if again else Done.read(marker, identity)
    server = config.coordinator
    accounts = {server.account_id, *(site.account_id for site in config.sites)}
    missing = accounts - set(done.accounts)
    # Before the upload: what changes meanwhile differs the next time.
    digests = {
        f"{site.name}/{channel}": _digest(data / site.name / channel)
        for site in config.sites
        for channel in site.channels
    }
    changed = {name for name, digest in digests.items() if done.data.get(name) != digest}
    if not (missing or changed):
        return
    # What fails half-way is not taken for done, neither as it is nor as it was.
    kept = {name: digest for name, digest in done.data.items() if name not in changed}
    Done(identity, done.accounts, kept).write(marker)
    if missing:
        _coordinator(cloud, config)
    for site in config.sites:
        owner = cloud.owner(site)
        if site.account_id in missing:
            _site(owner, config, site)
        for channel, uri in site.channels.items():
            if site.account_id in missing or f"{site.name}/{channel}" in changed:
                _upload(owner, config, site, channel, uri, data / site.name / channel)
        if site.account_id in missing:
            publish(publisher_client(cloud, site), site, bundle)
    Done(identity, sorted({*done.accounts, *accounts}), kept | digests).write(marker)


def publisher_client(cloud: LocalCloud, site: Site) -> Any:
    """An S3 client with the rights of the owner's publisher role."""
    sessions = Sessions(cloud.owner(site), "fedsm-publish")
    session = sessions.coordinator(site.region, publisher_arn(site))
    return sessions.client(session, "s3", site.name, site.region)


def _coordinator(cloud: LocalCloud, config: FederationConfig) -> None:
    server = config.coordinator
    if server.role_arn is None:
        return
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


def _site(owner: boto3.Session, config: FederationConfig, site: Site) -> None:
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


def _files(folder: Path) -> dict[str, Path]:
    """Files below a folder by their relative POSIX path."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {path.relative_to(folder).as_posix(): path for path in files}


def _digest(folder: Path) -> str:
    digests = []
    for name, path in _files(folder).items():
        with path.open("rb") as file:
            digests.append((name, hashlib.file_digest(file, "sha256").hexdigest()))
    return hashlib.sha256(json.dumps(digests).encode()).hexdigest()


def _upload(
    owner: boto3.Session,
    config: FederationConfig,
    site: Site,
    channel: str,
    uri: str,
    folder: Path,
) -> None:
    """Make the objects below ``uri`` those of ``folder``."""
    files = _files(folder)
    if not files:
        raise LocalCloudError(
            f"there are no files for channel {channel}",
            where=site.name,
            action=f"put them into {folder}",
        )
    bucket, prefix = _bucket(uri), _below(uri)
    # What lies in there under another address of the federation is not this channel's.
    others = [other for each in config.sites for other in _uris(each)]
    others.remove(uri)
    inner = tuple(
        _below(o) for o in others if f"{_bucket(o)}/{_below(o)}".startswith(f"{bucket}/{prefix}")
    )
    s3 = owner.client("s3")
    with translated(
        site.name,
        f"channel {channel} cannot be uploaded to {uri}",
        LocalCloudError,
        "check the channel's URI, then set up its bucket: fedsm local up",
        denied="give the channel a bucket of the site's own account",
    ):
        for name, path in files.items():
            s3.put_object(Bucket=bucket, Key=prefix + name, Body=path.read_bytes())
        for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
            for key in (entry["Key"] for entry in page.get("Contents", [])):
                if key.removeprefix(prefix) not in files and not key.startswith(inner):
                    s3.delete_object(Bucket=bucket, Key=key)


def _below(uri: str) -> str:
    """Prefix of the keys below an S3 URI."""
    prefix = uri.removeprefix("s3://").partition("/")[2].rstrip("/")
    return f"{prefix}/" if prefix else ""
