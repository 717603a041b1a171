"""Which S3 actions a request to the S3 REST API needs.

Source: "Required permissions for Amazon S3 API operations" of the S3 User Guide.
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator, Sequence
from urllib.parse import unquote

from fedsm.local.protocol import ApiError, Call, not_modelled

Need = tuple[str, str, str, dict[str, Sequence[str]]]
"""Action, resource ARN, bucket, context keys."""

_BUCKET_SUBRESOURCES = {
    "acl": "BucketAcl",
    "cors": "BucketCORS",
    "encryption": "EncryptionConfiguration",
    "lifecycle": "LifecycleConfiguration",
    "location": "BucketLocation",
    "logging": "BucketLogging",
    "notification": "BucketNotification",
    "object-lock": "BucketObjectLockConfiguration",
    "ownershipControls": "BucketOwnershipControls",
    "policy": "BucketPolicy",
    "policyStatus": "BucketPolicyStatus",
    "publicAccessBlock": "BucketPublicAccessBlock",
    "tagging": "BucketTagging",
    "versioning": "BucketVersioning",
}
_BUCKET_LISTS = {"uploads": "ListBucketMultipartUploads", "versions": "ListBucketVersions"}
_DELETED_BY_PUT = {"encryption", "lifecycle", "tagging", "cors", "publicAccessBlock"}
_OBJECT = {
    ("GET", ""): "GetObject",
    ("GET", "acl"): "GetObjectAcl",
    ("GET", "attributes"): "GetObjectAttributes",
    ("GET", "tagging"): "GetObjectTagging",
    ("GET", "uploadId"): "ListMultipartUploadParts",
    ("HEAD", ""): "GetObject",
    ("PUT", ""): "PutObject",
    ("PUT", "acl"): "PutObjectAcl",
    ("PUT", "tagging"): "PutObjectTagging",
    ("PUT", "uploadId"): "PutObject",
    ("POST", "uploads"): "PutObject",
    ("POST", "uploadId"): "PutObject",
    ("DELETE", ""): "DeleteObject",
    ("DELETE", "tagging"): "DeleteObjectTagging",
    ("DELETE", "uploadId"): "AbortMultipartUpload",
}
_PLAIN_PARAMETERS = {
    "continuation-token",
    "delimiter",
    "encoding-type",
    "fetch-owner",
    "key-marker",
    "list-type",
    "marker",
    "max-keys",
    "max-parts",
    "part-number-marker",
    "partNumber",
    "prefix",
    "start-after",
    "upload-id-marker",
    "version-id-marker",
    "versionId",
    "x-id",
}
_COPY_SOURCE = re.compile(
    r"/?(?P<bucket>[a-z0-9][a-z0-9.-]{1,61}[a-z0-9])/(?P<key>[^?#;]+)(?P<version>\?versionId=[^&#;]+)?"
)
"""One reading only: no host, no empty bucket; reserved characters of the key are encoded."""
_BESIDE = {
    "x-amz-acl": "PutObjectAcl",
    "x-amz-tagging": "PutObjectTagging",
    "x-amz-bypass-governance-retention": "BypassGovernanceRetention",
}
"""Headers of a write or a deletion that need a further right."""

_CONTEXT_HEADERS = {
    "if-match": "s3:if-match",
    "if-none-match": "s3:if-none-match",
    "x-amz-acl": "s3:x-amz-acl",
    "x-amz-content-sha256": "s3:x-amz-content-sha256",
    "x-amz-server-side-encryption": "s3:x-amz-server-side-encryption",
    "x-amz-server-side-encryption-aws-kms-key-id": (
        "s3:x-amz-server-side-encryption-aws-kms-key-id"
    ),
    "x-amz-storage-class": "s3:x-amz-storage-class",
}


def split(path: str) -> tuple[str, str]:
    """Bucket and key of a path-style path; either may be empty."""
    bucket, _, key = path.removeprefix("/").partition("/")
    return bucket, key


def s3_actions(call: Call) -> Iterator[Need]:
    """Yield what a request needs.

    Raises
    ------
    ApiError
        A subresource that is not modelled.
    """
    bucket, key = split(call.path)
    if not bucket:
        yield "s3:ListAllMyBuckets", "*", "", {}
        return
    query = call.query
    extra = [
        name
        for name in query
        if name not in _PLAIN_PARAMETERS and not name.startswith(("response-", "X-Amz-"))
    ]
    if len(extra) > 1:
        raise not_modelled(f"S3 subresources {' and '.join(sorted(extra))} together")
    subresource = extra[0] if extra else ""
    context = _context(call, query)
    if key:
        yield from _object_needs(call, bucket, key, subresource, context)
        return
    arn = f"arn:aws:s3:::{bucket}"
    if call.method == "POST" and subresource == "delete":
        for name, version in _deleted(call.body):
            action = "s3:DeleteObjectVersion" if version else "s3:DeleteObject"
            named: dict[str, Sequence[str]] = {"s3:versionid": [version]} if version else {}
            yield action, f"{arn}/{name}", bucket, {**context, **named}
        return
    yield f"s3:{_bucket_action(call.method, subresource)}", arn, bucket, context


def _bucket_action(method: str, subresource: str) -> str:
    if not subresource:
        plain = {"GET": "ListBucket", "HEAD": "ListBucket", "PUT": "CreateBucket"}
        plain["DELETE"] = "DeleteBucket"
        if method in plain:
            return plain[method]
    if method == "GET" and subresource in _BUCKET_LISTS:
        return _BUCKET_LISTS[subresource]
    name = _BUCKET_SUBRESOURCES.get(subresource)
    if name and method in ("GET", "PUT"):
        return method.capitalize() + name
    if name and method == "DELETE":
        return ("Put" if subresource in _DELETED_BY_PUT else "Delete") + name
    raise not_modelled(f"S3: {method} of a bucket's {subresource or 'root'}")


def _object_needs(
    call: Call, bucket: str, key: str, subresource: str, context: dict[str, Sequence[str]]
) -> Iterator[Need]:
    action = _OBJECT.get((call.method, subresource))
    if action is None:
        raise not_modelled(f"S3: {call.method} of an object's {subresource or 'content'}")
    if "versionId" in call.query:
        if action == "PutObject" or subresource == "uploadId":
            raise ApiError("InvalidArgument", "This operation does not accept a version-id.")
        action = action.replace("Object", "ObjectVersion", 1)
    copied = copy_source(call)
    if action == "PutObject":
        _check_conditions(call, copied is not None)
        # A part and the start of an upload take no If-None-Match, and make no object.
        creates = subresource == "" or (subresource == "uploadId" and call.method == "POST")
        context["s3:objectcreationoperation"] = ["true" if creates else "false"]
    arn = f"arn:aws:s3:::{bucket}/{key}"
    yield f"s3:{action}", arn, bucket, context
    for header, beside in _BESIDE.items():
        if header in call.headers and action in ("PutObject", "DeleteObject"):
            yield f"s3:{beside}", arn, bucket, context
    if copied:
        of, source, version = copied
        read = "s3:GetObjectVersion" if version else "s3:GetObject"
        yield read, f"arn:aws:s3:::{of}/{source}", of, {}


def copy_source(call: Call) -> tuple[str, str, str] | None:
    """Bucket, key and version of what a request copies; None when it copies nothing."""
    source = call.headers.get("x-amz-copy-source")
    if not source:
        return None
    found = _COPY_SOURCE.fullmatch(source)
    if found is None:
        raise ApiError("InvalidArgument", "x-amz-copy-source is not a bucket and a key")
    version = (found["version"] or "").removeprefix("?versionId=")
    return found["bucket"], unquote(found["key"]), version


def _check_conditions(call: Call, copies: bool) -> None:
    """Refuse a condition on a write that moto would pass over.

    Source: S3 User Guide, "How to prevent object overwrites with conditional writes".
    """
    unknown = call.headers.get("if-none-match", "*") != "*"
    beyond = copies or "uploadId" in call.query
    if unknown or (beyond and "if-match" in call.headers):
        raise not_modelled("S3: this If-Match or If-None-Match of a write")
    if copies and "if-none-match" in call.headers:
        raise not_modelled("S3: If-None-Match of a copy")


def _context(call: Call, query: dict[str, str]) -> dict[str, Sequence[str]]:
    context: dict[str, Sequence[str]] = {
        "s3:authtype": ["REST-HEADER"],
        "s3:signatureversion": ["AWS4-HMAC-SHA256"],
    }
    for name in ("prefix", "delimiter", "max-keys", "versionId"):
        if name in query:
            context[f"s3:{name.lower()}"] = [query[name]]
    for header, condition in _CONTEXT_HEADERS.items():
        if header in call.headers:
            context[condition] = [call.headers[header]]
    return context


def _deleted(body: bytes) -> list[tuple[str, str]]:
    """Key and version (or nothing) of each object that DeleteObjects names."""
    malformed = ApiError("MalformedXML", "The XML you provided was not well-formed")
    if b"<!" in body[:4096]:
        raise malformed
    try:
        root = ElementTree.fromstring(body)  # noqa: S314 - entities are refused above
    except ElementTree.ParseError as error:
        raise malformed from error
    found = []
    for item in root:
        fields = [(field.tag.rpartition("}")[2], field.text or "") for field in item]
        if item.tag.rpartition("}")[2] == "Object":
            named = dict(fields)
            if len(named) < len(fields) or not named.get("Key"):
                raise malformed
            found.append((named["Key"], named.get("VersionId", "")))
    return found
