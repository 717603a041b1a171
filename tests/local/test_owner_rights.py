"""What an owner's own people may change: roles within boundaries, bundles, bucket policies."""

from __future__ import annotations

import uuid
from typing import Any

import boto3
import pytest

from tests.local.conftest import (
    REGION,
    SERVER,
    SITE,
    World,
    client_of,
    document,
    refused,
    statement,
    trust,
)

NOTHING = document(statement("Deny", "*"))
LIST = document(statement("Allow", "s3:ListBucket"))
HERE = trust({"AWS": SITE})


def name_of(arn: str) -> str:
    return arn.rpartition("/")[2]


@pytest.fixture(scope="module")
def iam(world: World) -> Any:
    return client_of(world.admin(), "iam")


def boundary(iam: Any) -> str:
    name = f"boundary-{uuid.uuid4().hex[:8]}"
    return str(iam.create_policy(PolicyName=name, PolicyDocument=LIST)["Policy"]["Arn"])


def bounded(world: World, iam: Any, limit: str) -> str:
    """A fresh role within a boundary; its name."""
    name = name_of(world.role(SITE, "bounded", HERE))
    iam.put_role_permissions_boundary(RoleName=name, PermissionsBoundary=limit)
    return name


def test_policies_are_put_on_roles_within_a_boundary_only(world: World, iam: Any) -> None:
    limit, other = boundary(iam), boundary(iam)
    within = {"StringEquals": {"iam:PermissionsBoundary": limit}}
    actions = ["iam:PutRolePolicy", "iam:DeleteRolePolicy", "iam:AttachRolePolicy"]
    session = world.as_role(SITE, statement("Allow", actions, Condition=within))
    client = client_of(session, "iam")
    mine, free = bounded(world, iam, limit), name_of(world.role(SITE, "free", HERE))
    put = {"PolicyName": "approved", "PolicyDocument": LIST}
    client.put_role_policy(RoleName=mine, **put)
    client.attach_role_policy(RoleName=mine, PolicyArn=other)
    client.delete_role_policy(RoleName=mine, PolicyName="approved")
    for role in (free, bounded(world, iam, other)):
        said = refused(session, "iam", "put_role_policy", RoleName=role, **put)
        assert "not authorized to perform: iam:PutRolePolicy" in said
        assert "AccessDenied" in refused(
            session, "iam", "attach_role_policy", RoleName=role, PolicyArn=other
        )
    for operation, more in (
        ("delete_role_permissions_boundary", {}),
        ("put_role_permissions_boundary", {"PermissionsBoundary": limit}),
        ("delete_role", {}),
        ("update_assume_role_policy", {"PolicyDocument": HERE}),
    ):
        assert "AccessDenied" in refused(session, "iam", operation, RoleName=mine, **more)


def test_roles_are_made_within_a_boundary_only(world: World, iam: Any) -> None:
    limit, other = boundary(iam), boundary(iam)
    within = {"StringEquals": {"iam:PermissionsBoundary": limit}}
    actions = ["iam:CreateRole", "iam:PutRolePermissionsBoundary"]
    session = world.as_role(SITE, statement("Allow", actions, Condition=within))
    call = {"RoleName": f"made-{uuid.uuid4().hex[:8]}", "AssumeRolePolicyDocument": HERE}
    for more in ({}, {"PermissionsBoundary": other}):
        said = refused(session, "iam", "create_role", **call, **more)
        assert "not authorized to perform: iam:CreateRole" in said
    client = client_of(session, "iam")
    made = client.create_role(**call, PermissionsBoundary=limit)["Role"]
    assert made["PermissionsBoundary"]["PermissionsBoundaryArn"] == limit
    move = {"RoleName": call["RoleName"], "PermissionsBoundary": other}
    assert "AccessDenied" in refused(session, "iam", "put_role_permissions_boundary", **move)
    tagged = {**call, "RoleName": "tagged", "PermissionsBoundary": limit}
    tags = [{"Key": "a", "Value": "b"}]
    said = refused(session, "iam", "create_role", **tagged, Tags=tags)
    assert "not authorized to perform: iam:TagRole" in said


def test_policies_have_arns_and_roles_have_tags(world: World, iam: Any) -> None:
    own = f"arn:aws:iam::{SITE}:policy/fedsm-*"
    tag = {"StringEquals": {"aws:ResourceTag/fedsm": "site"}}
    policies = ["iam:CreatePolicy", "iam:DeletePolicy", "iam:GetPolicy"]
    only = {"ArnEquals": {"iam:PolicyARN": f"arn:aws:iam::{SITE}:policy/fedsm-x"}}
    session = world.as_role(
        SITE,
        statement("Allow", policies, own),
        statement("Allow", "iam:GetRole", Condition=tag),
        statement("Allow", "iam:AttachRolePolicy", Condition=only),
    )
    client = client_of(session, "iam")
    arn = client.create_policy(PolicyName="fedsm-x", PolicyDocument=LIST)["Policy"]["Arn"]
    client.get_policy(PolicyArn=arn)
    other = boundary(iam)
    role = name_of(world.role(SITE, "tagged", HERE))
    for operation, arguments in (
        ("create_policy", {"PolicyName": "other", "PolicyDocument": LIST}),
        ("delete_policy", {"PolicyArn": other}),
        ("create_policy_version", {"PolicyArn": arn, "PolicyDocument": LIST}),
        ("get_role", {"RoleName": role}),
        ("attach_role_policy", {"RoleName": role, "PolicyArn": other}),
    ):
        assert "AccessDenied" in refused(session, "iam", operation, **arguments), operation
    iam.tag_role(RoleName=role, Tags=[{"Key": "fedsm", "Value": "site"}])
    client.get_role(RoleName=role)
    client.attach_role_policy(RoleName=role, PolicyArn=arn)
    iam.detach_role_policy(RoleName=role, PolicyArn=arn)
    client.delete_policy(PolicyArn=arn)


def test_iam_keeps_its_quotas_and_its_boundaries(world: World, iam: Any) -> None:
    limit = boundary(iam)
    role = bounded(world, iam, limit)
    admin = world.admin()
    said = refused(admin, "iam", "delete_policy", PolicyArn=limit)
    assert said.startswith("DeleteConflict")
    absent = f"arn:aws:iam::{SITE}:policy/absent"
    call = {"RoleName": role, "PermissionsBoundary": absent}
    said = refused(admin, "iam", "put_role_permissions_boundary", **call)
    assert said.startswith("NoSuchEntity")
    half = document(statement("Allow", "s3:GetObject", "arn:aws:s3:::" + "b" * 5500))
    put = {"RoleName": role, "PolicyDocument": half}
    iam.put_role_policy(**put, PolicyName="one")
    iam.put_role_policy(**put, PolicyName="one")
    said = refused(admin, "iam", "put_role_policy", **put, PolicyName="two")
    assert said.startswith("LimitExceeded")
    assert "10240" in said
    long = document(*[statement("Allow", "s3:GetObject", "b" * 900)] * 8)
    said = refused(admin, "iam", "create_policy", PolicyName="long", PolicyDocument=long)
    assert "PolicySize: 6144" in said
    make = {"RoleName": "refused", "AssumeRolePolicyDocument": ""}
    make["AssumeRolePolicyDocument"] = trust({"AWS": [SITE] * 200})
    assert "ACLSizePerRole: 2048" in refused(admin, "iam", "create_role", **make)
    make["AssumeRolePolicyDocument"] = trust({"AWS": f"arn:aws:iam::{SERVER}:role/absent"})
    assert "Invalid principal in policy" in refused(admin, "iam", "create_role", **make)
    said = refused(admin, "iam", "create_instance_profile", InstanceProfileName="x")
    assert "does not model iam:CreateInstanceProfile" in said


# Buckets ------------------------------------------------------------------------------------


def bundles(bucket: str, publisher: str) -> str:
    """A bucket policy: one writer, who overwrites and deletes nothing."""
    objects = f"arn:aws:s3:::{bucket}/code/*"
    deny: dict[str, Any] = {"Effect": "Deny", "Principal": "*", "Resource": objects}
    return document(
        deny
        | {
            "Action": "s3:PutObject",
            "Condition": {"ArnNotEquals": {"aws:PrincipalArn": publisher}},
        },
        deny
        | {
            "Action": "s3:PutObject",
            "Condition": {
                "Null": {"s3:if-none-match": "true"},
                "Bool": {"s3:ObjectCreationOperation": "true"},
            },
        },
        deny | {"Action": ["s3:DeleteObject", "s3:DeleteObjectVersion"]},
    )


@pytest.fixture(scope="module")
def publisher(world: World) -> boto3.Session:
    """The sole writer of ``code/`` in a versioned bucket."""
    s3 = client_of(world.admin(), "s3")
    s3.create_bucket(Bucket="bundles", CreateBucketConfiguration={"LocationConstraint": REGION})
    s3.put_bucket_versioning(Bucket="bundles", VersioningConfiguration={"Status": "Enabled"})
    role = world.role(SITE, "publisher", HERE, statement("Allow", "s3:*"))
    s3.put_bucket_policy(Bucket="bundles", Policy=bundles("bundles", role))
    return world.assume(world.admin(), role)


def test_a_bundle_is_written_once(world: World, publisher: boto3.Session) -> None:
    s3 = client_of(publisher, "s3")
    call = {"Bucket": "bundles", "Key": "code/one", "Body": b"1"}
    assert "AccessDenied" in refused(world.admin(), "s3", "put_object", **call, IfNoneMatch="*")
    assert "AccessDenied" in refused(publisher, "s3", "put_object", **call)
    etag = s3.put_object(**call, IfNoneMatch="*")["ETag"]
    said = refused(publisher, "s3", "put_object", **call | {"Body": b"2"}, IfNoneMatch="*")
    assert said.startswith("PreconditionFailed")
    assert "AccessDenied" in refused(publisher, "s3", "put_object", **call, IfMatch=etag)
    said = refused(publisher, "s3", "put_object", **call | {"Body": b"2"}, IfNoneMatch='"0"')
    assert said.startswith("NotImplemented")
    source = {"Bucket": "bundles", "Key": "code/one"}
    s3.put_object(Bucket="bundles", Key="other", Body=b"2")
    copy = {"Bucket": "bundles", "Key": "code/one", "CopySource": source | {"Key": "other"}}
    assert "AccessDenied" in refused(publisher, "s3", "copy_object", **copy)
    assert s3.get_object(**source)["Body"].read() == b"1"


def test_a_bundle_in_parts_is_written_once(publisher: boto3.Session) -> None:
    s3 = client_of(publisher, "s3")
    for key, status in (("code/parts", "made"), ("code/parts", "taken")):
        upload = s3.create_multipart_upload(Bucket="bundles", Key=key)["UploadId"]
        call = {"Bucket": "bundles", "Key": key, "UploadId": upload}
        tag = s3.upload_part(**call, PartNumber=1, Body=b"1")["ETag"]
        call["MultipartUpload"] = {"Parts": [{"PartNumber": 1, "ETag": tag}]}
        said = refused(publisher, "s3", "complete_multipart_upload", **call)
        assert "AccessDenied" in said
        if status == "made":
            s3.complete_multipart_upload(**call, IfNoneMatch="*")
        else:
            said = refused(publisher, "s3", "complete_multipart_upload", **call, IfNoneMatch="*")
            assert said.startswith("PreconditionFailed")


def test_no_version_of_a_bundle_is_deleted(world: World, publisher: boto3.Session) -> None:
    s3 = client_of(world.admin(), "s3")
    call = {"Bucket": "bundles", "Key": "code/kept"}
    made = client_of(publisher, "s3").put_object(**call, Body=b"1", IfNoneMatch="*")
    version = made["VersionId"]
    assert s3.get_bucket_versioning(Bucket="bundles")["Status"] == "Enabled"
    for session in (publisher, world.admin()):
        for more in ({}, {"VersionId": version}):
            assert "AccessDenied" in refused(session, "s3", "delete_object", **call, **more)
            batch = {"Objects": [{"Key": "code/kept", **more}]}
            said = refused(session, "s3", "delete_objects", Bucket="bundles", Delete=batch)
            action = "s3:DeleteObjectVersion" if more else "s3:DeleteObject"
            assert f"not authorized to perform: {action} on" in said
    assert s3.get_object(**call, VersionId=version)["Body"].read() == b"1"


def test_versions_in_a_batch_need_their_own_right(world: World, publisher: boto3.Session) -> None:
    s3 = client_of(publisher, "s3")
    version = s3.put_object(Bucket="bundles", Key="free/x", Body=b"1")["VersionId"]
    session = world.as_role(SITE, statement("Allow", "s3:DeleteObject"))
    batch: dict[str, Any] = {"Objects": [{"Key": "free/x", "VersionId": version}]}
    said = refused(session, "s3", "delete_objects", Bucket="bundles", Delete=batch)
    assert "s3:DeleteObjectVersion" in said
    batch["Objects"] = [{"Key": "free/x"}]
    client_of(session, "s3").delete_objects(Bucket="bundles", Delete=batch)
    tagging = {"Bucket": "bundles", "Key": "free/y", "Body": b"1", "Tagging": "a=b"}
    writer = world.as_role(SITE, statement("Allow", "s3:PutObject"))
    assert "s3:PutObjectTagging" in refused(writer, "s3", "put_object", **tagging)


def test_a_buckets_policy_and_versioning_are_rights_of_their_own(world: World) -> None:
    s3 = client_of(world.admin(), "s3")
    name = "governed"
    s3.create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": REGION})
    arn = f"arn:aws:s3:::{name}"
    calls: dict[str, tuple[str, dict[str, Any]]] = {
        "s3:PutBucketVersioning": (
            "put_bucket_versioning",
            {"VersioningConfiguration": {"Status": "Enabled"}},
        ),
        "s3:GetBucketVersioning": ("get_bucket_versioning", {}),
        "s3:PutBucketPolicy": ("put_bucket_policy", {"Policy": bundles(name, "x")}),
        "s3:GetBucketPolicy": ("get_bucket_policy", {}),
        "s3:DeleteBucketPolicy": ("delete_bucket_policy", {}),
    }
    for action, (operation, arguments) in calls.items():
        others = [statement("Allow", other, arn) for other in calls if other != action]
        for session in (world.as_role(SITE, *others), world.admin(SERVER)):
            said = refused(session, "s3", operation, Bucket=name, **arguments)
            assert f"not authorized to perform: {action}" in said
        session = world.as_role(SITE, statement("Allow", action, arn))
        getattr(client_of(session, "s3"), operation)(Bucket=name, **arguments)
    said = refused(world.admin(), "s3", "get_bucket_policy", Bucket=name)
    assert said.startswith("NoSuchBucketPolicy")
    read = statement("Allow", "s3:GetObject", f"{arn}/*")
    absent = {"AWS": f"arn:aws:iam::{SITE}:role/absent"}
    elsewhere = {"Principal": "*", "Resource": "arn:aws:s3:::other/*"}
    for change in ({"Principle": "*"}, {}, {"Principal": absent}, elsewhere):
        policy = document(read | change)
        said = refused(world.admin(), "s3", "put_bucket_policy", Bucket=name, Policy=policy)
        assert said.startswith("MalformedPolicy"), change
