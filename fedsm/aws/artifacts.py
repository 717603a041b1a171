"""Bundles and models in the owners' buckets."""

from __future__ import annotations

import base64
import hashlib
from typing import Any

from botocore.exceptions import ClientError

from fedsm.aws.calls import error_code, translated
from fedsm.bundle import Bundle
from fedsm.config import Site
from fedsm.errors import BundleError, JobError


def publish(s3: Any, site: Site, bundle: Bundle) -> str:
    """Put the bundle under its digest; an object already there must be the same.

    Returns
    -------
    str
        Its S3 URI.

    Raises
    ------
    BundleError, AccessError
        The bucket is missing, another object lies under that digest, or the caller may not write.
    """
    bucket, _, prefix = site.code.removeprefix("s3://").partition("/")
    key = f"{prefix}/{bundle.key}" if prefix else bundle.key
    uri = f"s3://{bucket}/{key}"
    checksum = base64.b64encode(hashlib.sha256(bundle.data).digest()).decode()
    with translated(
        site.name,
        f"{uri} cannot be written",
        BundleError,
        "check the bucket's name and Region",
        denied="publish with the credentials of the owner's publisher role",
    ):
        try:
            s3.put_object(
                Bucket=bucket,
                Key=key,
                Body=bundle.data,
                ChecksumSHA256=checksum,
                ContentType="application/gzip",
                IfNoneMatch="*",
            )
        except ClientError as error:
            if error_code(error) != "PreconditionFailed":
                raise
            there = s3.get_object(Bucket=bucket, Key=key)["Body"].read()
            if hashlib.sha256(there).hexdigest() != bundle.sha256:
                raise BundleError(
                    f"{uri} holds other bytes than its digest says",
                    where=site.name,
                    action="let the owner find out who wrote it, and remove it",
                ) from None
    return uri


def read_object(s3: Any, site: str, uri: str) -> bytes:
    """Read one object.

    Raises
    ------
    JobError, AccessError
        It is not there, or the caller may not read it.
    """
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    with translated(
        site,
        f"{uri} cannot be read",
        JobError,
        "see in the job's log whether it wrote its model",
        denied="read it with the credentials of the site's owner",
    ):
        body: bytes = s3.get_object(Bucket=bucket, Key=key)["Body"].read()
        return body
