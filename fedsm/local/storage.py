"""A job's traffic with S3, with its execution role's rights and in SageMaker's words."""

from __future__ import annotations

import tarfile
from pathlib import Path, PurePosixPath
from typing import Any

from boto3.s3.transfer import TransferConfig
from botocore.exceptions import BotoCoreError, ClientError

_TRANSFER = TransferConfig(multipart_threshold=64 << 20, multipart_chunksize=16 << 20)
_ONE_BY_ONE = TransferConfig(use_threads=False, multipart_threshold=64 << 20)


class StorageError(Exception):
    """A download or upload failed; the text is a job's FailureReason."""


def split_uri(uri: str) -> tuple[str, str]:
    """Bucket and key of ``s3://bucket/key``."""
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    return bucket, key


def download(s3: Any, uri: str, directory: Path, *, region: str, role: str) -> int:
    """Copy every object under a prefix; returns their number.

    Raises
    ------
    StorageError
        No object is there, or the role may not list or read.
    """
    bucket, prefix = split_uri(uri)
    count = 0
    try:
        pages = s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
        for page in pages:
            for entry in page.get("Contents", []):
                count += _fetch(s3, bucket, prefix, entry, directory)
    except ClientError as error:
        code = error.response.get("Error", {}).get("Code", "")
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", "")
        message = error.response.get("Error", {}).get("Message", "")
        raise StorageError(
            f"ClientError: Data download failed:Failed to download data. {error.operation_name} "
            f"failed for {uri} with the role {role}: {code} ({status}): {message}"
        ) from error
    except BotoCoreError as error:
        raise StorageError(
            f"InternalServerError: Data download failed:{type(error).__name__} for {uri}"
        ) from error
    if count == 0:
        raise StorageError(
            f'ClientError: Data download failed:No S3 objects found under S3 URL "{uri}" given in '
            f"input data source. Please ensure that the bucket exists in the selected region "
            f"({region}), that objects exist under that S3 prefix, and that the role "
            f'"{role}" has "s3:ListBucket" permissions on bucket "{bucket}".'
        )
    return count


def _fetch(s3: Any, bucket: str, prefix: str, entry: dict[str, Any], directory: Path) -> int:
    key = entry["Key"]
    if key.endswith("/"):
        return 0
    # SageMaker keeps what follows the last slash of the prefix.
    relative = PurePosixPath(key[prefix.rfind("/") + 1 :].lstrip("/"))
    if key.startswith(prefix.rstrip("/") + "/"):
        relative = PurePosixPath(key[len(prefix.rstrip("/")) + 1 :])
    if relative.is_absolute() or ".." in relative.parts:
        raise StorageError(f"ClientError: Data download failed:The key {key} leaves the channel")
    target = directory / relative
    target.parent.mkdir(parents=True, exist_ok=True)
    body = s3.get_object(Bucket=bucket, Key=key)["Body"]
    with target.open("wb") as file:
        for chunk in body.iter_chunks(1 << 20):
            file.write(chunk)
    return 1


def inside(root: Path, relative: str) -> Path | None:
    """A path in a tree that a job wrote; None when a link on the way could lead out of it."""
    path = root
    for part in PurePosixPath(relative).parts:
        path = path / part
        if path.is_symlink():
            return None
    return path


def entries(root: Path, relative: str) -> list[Path]:
    """What a directory that a job wrote holds; nothing when it is none."""
    path = inside(root, relative)
    return sorted(path.iterdir()) if path is not None and path.is_dir() else []


def upload_tree(
    s3: Any, content: list[Path], archive: Path, uri: str, *, kms_key: str = ""
) -> None:
    """Pack files and directories into a tar.gz and put it at ``uri``.

    Parameters
    ----------
    archive : Path
        Where the archive is made; out of the job's reach.

    Raises
    ------
    StorageError
        The role may not write there.
    """
    bucket, key = split_uri(uri)
    extra = {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": kms_key} if kms_key else {}
    try:
        with tarfile.open(archive, "w:gz", compresslevel=1) as tar:
            for entry in content:
                tar.add(entry, entry.name)
        large = archive.stat().st_size > _TRANSFER.multipart_threshold
        config = _TRANSFER if large else _ONE_BY_ONE
        s3.upload_file(str(archive), bucket, key, ExtraArgs=extra, Config=config)
    except Exception as error:
        # s3transfer wraps what S3 said, and only the wrapper's text holds the code.
        raise StorageError(
            f"ClientError: Artifact upload failed:Insufficient permissions or missing bucket for "
            f"{uri}: {error}"
        ) from error
    finally:
        archive.unlink(missing_ok=True)
