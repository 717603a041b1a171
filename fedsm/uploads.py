"""A project's data, uploaded to the owners' buckets on the local cloud."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import boto3

from fedsm.aws.calls import translated
from fedsm.config import FederationConfig, Site
from fedsm.errors import LocalCloudError


def digest_of(folder: Path) -> str:
    """Digest of all files below a folder."""
    digests = []
    for name, path in _files(folder).items():
        with path.open("rb") as file:
            digests.append((name, hashlib.file_digest(file, "sha256").hexdigest()))
    return hashlib.sha256(json.dumps(digests).encode()).hexdigest()


def upload(
    owner: boto3.Session, config: FederationConfig, site: Site, channel: str, data: Path
) -> None:
    """Make the objects of a channel those of ``<data>/<site>/<channel>/``.

    Raises
    ------
    LocalCloudError, AccessError
        There are no files, or they cannot be uploaded.
    """
    folder, uri = data / site.name / channel, site.channels[channel]
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


def _files(folder: Path) -> dict[str, Path]:
    """Files below a folder by their relative POSIX path."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {path.relative_to(folder).as_posix(): path for path in files}


def _uris(site: Site) -> Iterator[str]:
    yield from site.channels.values()
    yield site.output
    yield site.code


def _bucket(uri: str) -> str:
    return uri.removeprefix("s3://").partition("/")[0]


def _below(uri: str) -> str:
    """Prefix of the keys below an S3 URI."""
    prefix = uri.removeprefix("s3://").partition("/")[2].rstrip("/")
    return f"{prefix}/" if prefix else ""
