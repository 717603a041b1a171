"""What AWS denies on fedsm's path is denied here, over real HTTP."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import boto3
import pytest

from tests.local.conftest import (
    COORDINATOR,
    EXECUTION,
    KICKOFF,
    REGION,
    SERVER,
    SITE,
    World,
    document,
    refused,
    statement,
    trust,
)


@pytest.fixture
def coordinator(world: World) -> boto3.Session:
    return world.assume(world.admin(SERVER), COORDINATOR)


@pytest.fixture
def kickoff(world: World, coordinator: boto3.Session) -> boto3.Session:
    return world.assume(coordinator, KICKOFF, ExternalId="secret-id")


# AssumeRole ---------------------------------------------------------------------------------


def test_the_right_external_id_opens_the_role(world: World, kickoff: boto3.Session) -> None:
    said = kickoff.client("sts").get_caller_identity()
    assert said["Arn"] == f"arn:aws:sts::{SITE}:assumed-role/kickoff/test"
    assert said["Account"] == SITE


@pytest.mark.parametrize(
    "arguments",
    [
        {"ExternalId": "wrong-id"},
        {},
        {"ExternalId": "secret-id", "RoleArn": f"arn:aws:iam::{SITE}:role/missing"},
        {"ExternalId": "secret-id", "RoleArn": "arn:aws:iam::999999999999:role/kickoff"},
        {"ExternalId": "secret-id", "RoleArn": f"arn:aws:iam::{SITE}:role/execution"},
        {"ExternalId": "secret-id", "SourceIdentity": "someone-else"},
        {"ExternalId": "secret-id", "Tags": [{"Key": "a", "Value": "b"}]},
    ],
)
def test_assume_role_is_denied(
    world: World, coordinator: boto3.Session, arguments: dict[str, Any]
) -> None:
    call = {"RoleArn": KICKOFF, "RoleSessionName": "run"} | arguments
    said = refused(coordinator, "sts", "assume_role", **call)
    action = "sts:AssumeRole"
    assert said.startswith("AccessDenied")
    assert "is not authorized to perform: sts:" in said
    assert f"on resource: {call['RoleArn']}" in said
    assert action in said or "SourceIdentity" in arguments or "Tags" in arguments


def test_only_the_trusted_role_may_assume(world: World) -> None:
    said = refused(
        world.admin(SERVER),
        "sts",
        "assume_role",
        RoleArn=KICKOFF,
        RoleSessionName="run",
        ExternalId="secret-id",
    )
    assert said.startswith("AccessDenied")


def test_a_chained_session_lasts_an_hour_at_most(world: World, coordinator: boto3.Session) -> None:
    arguments = {"RoleArn": KICKOFF, "RoleSessionName": "run", "ExternalId": "secret-id"}
    said = refused(coordinator, "sts", "assume_role", **arguments, DurationSeconds=7200)
    assert said.startswith("ValidationError")
    assert "role chaining" in said
    answer = coordinator.client("sts").assume_role(**arguments, DurationSeconds=3600)
    assert (answer["Credentials"]["Expiration"] - datetime.now(UTC)).total_seconds() <= 3600


def test_a_source_identity_is_kept_and_cannot_change(
    world: World, coordinator: boto3.Session
) -> None:
    arguments = {"RoleArn": KICKOFF, "RoleSessionName": "run", "ExternalId": "secret-id"}
    answer = coordinator.client("sts").assume_role(**arguments, SourceIdentity="fedsm-run1")
    assert answer["SourceIdentity"] == "fedsm-run1"
    opened = world.session(answer["Credentials"])
    arn = world.role(SITE, "next", trust({"AWS": SITE}, "sts:AssumeRole", "sts:SetSourceIdentity"))
    iam = world.admin().client("iam")
    iam.put_role_policy(
        RoleName="kickoff",
        PolicyName="chain",
        PolicyDocument=document(
            statement("Allow", ["sts:AssumeRole", "sts:SetSourceIdentity"], arn)
        ),
    )
    try:
        next_ = opened.client("sts").assume_role(RoleArn=arn, RoleSessionName="next")
        assert next_["SourceIdentity"] == "fedsm-run1"
        said = refused(
            opened,
            "sts",
            "assume_role",
            RoleArn=arn,
            RoleSessionName="next",
            SourceIdentity="fedsm-other",
        )
        assert said.startswith("AccessDenied")
    finally:
        iam.delete_role_policy(RoleName="kickoff", PolicyName="chain")


def test_a_policy_beyond_the_evaluator_is_named(world: World) -> None:
    trusted = trust({"AWS": SITE}, Bool={"aws:MultiFactorAuthPresent": "true"})
    arn = world.role(SITE, "mfa", trusted)
    said = refused(world.admin(), "sts", "assume_role", RoleArn=arn, RoleSessionName="run")
    assert "does not model the condition key aws:MultiFactorAuthPresent" in said


# Narrowing ----------------------------------------------------------------------------------


def test_a_session_policy_narrows(world: World) -> None:
    world.put("data/x", "1")
    only_list = document(statement("Allow", "s3:ListBucket"))
    session = world.as_role(SITE, statement("Allow", "s3:*"), Policy=only_list)
    session.client("s3").list_objects_v2(Bucket=world.bucket)
    said = refused(session, "s3", "get_object", Bucket=world.bucket, Key="data/x")
    assert "because no session policy allows the s3:GetObject action" in said


def test_a_permissions_boundary_narrows(world: World) -> None:
    iam = world.admin().client("iam")
    made = iam.create_policy(
        PolicyName="only-list", PolicyDocument=document(statement("Allow", "s3:ListBucket"))
    )
    arn = world.role(SITE, "bounded", trust({"AWS": SITE}), statement("Allow", "s3:*"))
    iam.put_role_permissions_boundary(
        RoleName=arn.rpartition("/")[2], PermissionsBoundary=made["Policy"]["Arn"]
    )
    session = world.assume(world.admin(), arn)
    session.client("s3").list_objects_v2(Bucket=world.bucket)
    said = refused(session, "s3", "put_object", Bucket=world.bucket, Key="data/y", Body=b"1")
    assert "because no permissions boundary allows the s3:PutObject action" in said


def test_an_attached_policy_counts_in_its_default_version(world: World) -> None:
    iam = world.admin().client("iam")
    arn = iam.create_policy(
        PolicyName="versions", PolicyDocument=document(statement("Allow", "s3:ListBucket"))
    )["Policy"]["Arn"]
    role = world.role(SITE, "attached", trust({"AWS": SITE}))
    iam.attach_role_policy(RoleName=role.rpartition("/")[2], PolicyArn=arn)
    session = world.assume(world.admin(), role)
    session.client("s3").list_objects_v2(Bucket=world.bucket)
    iam.create_policy_version(
        PolicyArn=arn,
        PolicyDocument=document(statement("Deny", "s3:ListBucket")),
        SetAsDefault=True,
    )
    said = refused(session, "s3", "list_objects_v2", Bucket=world.bucket)
    assert "explicit deny in an identity-based policy" in said


def test_a_deleted_role_has_no_rights_left(world: World) -> None:
    arn = world.role(SITE, "gone", trust({"AWS": SITE}), statement("Allow", "s3:*"))
    session = world.assume(world.admin(), arn)
    name = arn.rpartition("/")[2]
    iam = world.admin().client("iam")
    iam.delete_role_policy(RoleName=name, PolicyName="rights")
    iam.delete_role(RoleName=name)
    iam.create_role(RoleName=name, AssumeRolePolicyDocument=trust({"AWS": SITE}))
    iam.put_role_policy(
        RoleName=name, PolicyName="rights", PolicyDocument=document(statement("Allow", "s3:*"))
    )
    assert "AccessDenied" in refused(session, "s3", "list_objects_v2", Bucket=world.bucket)


# Buckets ------------------------------------------------------------------------------------


def test_another_accounts_bucket_is_closed(world: World) -> None:
    world.put("data/x", "1")
    for operation, arguments in (
        ("get_object", {"Key": "data/x"}),
        ("put_object", {"Key": "data/z", "Body": b"1"}),
        ("list_objects_v2", {}),
        ("delete_object", {"Key": "data/x"}),
        ("get_bucket_policy", {}),
        ("put_bucket_policy", {"Policy": document()}),
    ):
        said = refused(world.admin(SERVER), "s3", operation, Bucket=world.bucket, **arguments)
        assert said.startswith("AccessDenied"), operation


def test_across_accounts_both_sides_must_allow(world: World, coordinator: boto3.Session) -> None:
    site, bucket = world.admin().client("s3"), "shared-bucket"
    site.create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": REGION})
    site.put_object(Bucket=bucket, Key="x", Body=b"1")
    allow = {"Effect": "Allow", "Principal": {"AWS": SERVER}, "Action": "s3:GetObject"}
    insecure = {
        "Effect": "Deny",
        "Principal": "*",
        "Action": "s3:*",
        "Resource": "*",
        "Condition": {"Bool": {"aws:SecureTransport": "false"}},
    }
    site.put_bucket_policy(
        Bucket=bucket,
        Policy=document(allow | {"Resource": f"arn:aws:s3:::{bucket}/*"}, insecure),
    )
    reader = world.as_role(SERVER, statement("Allow", "s3:GetObject"))
    assert reader.client("s3").get_object(Bucket=bucket, Key="x")["Body"].read() == b"1"
    assert "AccessDenied" in refused(coordinator, "s3", "get_object", Bucket=bucket, Key="x")


def test_who_may_not_list_is_not_told_that_a_key_is_missing(world: World) -> None:
    getter = world.as_role(SITE, statement("Allow", "s3:GetObject"))
    lister = world.as_role(SITE, statement("Allow", ["s3:GetObject", "s3:ListBucket"]))
    arguments = {"Bucket": world.bucket, "Key": "data/absent"}
    assert refused(getter, "s3", "get_object", **arguments).startswith("AccessDenied")
    assert refused(lister, "s3", "get_object", **arguments).startswith("NoSuchKey")


def test_conditions_on_objects(world: World) -> None:
    session = world.as_role(
        SITE,
        statement("Allow", "s3:ListBucket", Condition={"StringLike": {"s3:prefix": "data/*"}}),
        statement("Allow", "s3:PutObject", Condition={"Null": {"s3:if-none-match": "false"}}),
    )
    client = session.client("s3")
    client.list_objects_v2(Bucket=world.bucket, Prefix="data/a")
    assert "AccessDenied" in refused(session, "s3", "list_objects_v2", Bucket=world.bucket)
    client.put_object(Bucket=world.bucket, Key="data/once", Body=b"1", IfNoneMatch="*")
    put = {"Bucket": world.bucket, "Key": "data/once2", "Body": b"1"}
    assert "AccessDenied" in refused(session, "s3", "put_object", **put)


# Training jobs ------------------------------------------------------------------------------


def test_the_kickoff_role_starts_a_job(world: World, kickoff: boto3.Session) -> None:
    request = world.request()
    kickoff.client("sagemaker").create_training_job(**request)
    assert world.wait(request["TrainingJobName"])["TrainingJobStatus"] == "Completed"


def test_pass_role_is_needed(world: World) -> None:
    rights = statement("Allow", "sagemaker:*")
    session = world.as_role(SITE, rights)
    said = refused(session, "sagemaker", "create_training_job", **world.request())
    assert said.startswith("AccessDeniedException")
    assert f"not authorized to perform: iam:PassRole on resource: {EXECUTION}" in said
    other_service = statement(
        "Allow",
        "iam:PassRole",
        Condition={"StringEquals": {"iam:PassedToService": "ec2.amazonaws.com"}},
    )
    session = world.as_role(SITE, rights, other_service)
    said = refused(session, "sagemaker", "create_training_job", **world.request())
    assert "iam:PassRole" in said


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"RoleArn": f"arn:aws:iam::{SITE}:role/missing"}, "Could not assume role"),
        ({"RoleArn": KICKOFF}, "Could not assume role"),
        ({"RoleArn": COORDINATOR}, "Cross-account pass role is not allowed"),
    ],
)
def test_the_execution_role_must_trust_sagemaker(
    world: World, change: dict[str, Any], words: str
) -> None:
    request = world.request(**change)
    said = refused(world.admin(), "sagemaker", "create_training_job", **request)
    assert said.startswith("ValidationException")
    assert words in said


VPC = {"SecurityGroupIds": ["sg-0aaaaaaaaaaaaaaaa"], "Subnets": ["subnet-0aaaaaaaaaaaaaaaa"]}
TAGS = [{"Key": "fedsm", "Value": "client"}]
KEYS = "sagemaker:"
LONG = {"StoppingCondition": {"MaxRuntimeInSeconds": 7200}}
BIG = {
    "ResourceConfig": {"InstanceType": "ml.p4d.24xlarge", "InstanceCount": 1, "VolumeSizeInGB": 5}
}


@pytest.mark.parametrize(
    ("condition", "passes", "fails"),
    [
        ({"Null": {"sagemaker:VpcSubnets": "true"}}, {"VpcConfig": VPC}, {}),
        (
            {"ForAnyValue:StringNotEquals": {"sagemaker:VpcSubnets": VPC["Subnets"]}},
            {"VpcConfig": VPC},
            {"VpcConfig": VPC | {"Subnets": [*VPC["Subnets"], "subnet-0bbbbbbbbbbbbbbbb"]}},
        ),
        (
            {
                "ForAnyValue:StringNotEquals": {
                    "sagemaker:VpcSecurityGroupIds": "sg-0aaaaaaaaaaaaaaaa"
                }
            },
            {"VpcConfig": VPC},
            {"VpcConfig": VPC | {"SecurityGroupIds": ["sg-0bbbbbbbbbbbbbbbb"]}},
        ),
        ({"ForAnyValue:StringNotLike": {"sagemaker:InstanceTypes": "ml.m5.*"}}, {}, BIG),
        ({"NumericGreaterThan": {"sagemaker:MaxRuntimeInSeconds": "3600"}}, {}, LONG),
        (
            {"Bool": {"sagemaker:EnableRemoteDebug": "true"}},
            {"RemoteDebugConfig": {"EnableRemoteDebug": False}},
            {"RemoteDebugConfig": {"EnableRemoteDebug": True}},
        ),
        (
            {"Bool": {"sagemaker:NetworkIsolation": "true"}},
            {"EnableNetworkIsolation": False},
            {"EnableNetworkIsolation": True},
        ),
        (
            {"Bool": {"sagemaker:InterContainerTrafficEncryption": "false"}},
            {"EnableInterContainerTrafficEncryption": True},
            {"EnableInterContainerTrafficEncryption": False},
        ),
        ({"StringNotEquals": {"aws:RequestTag/fedsm": "client"}}, {"Tags": TAGS}, {}),
        (
            {"ForAnyValue:StringNotEquals": {"aws:TagKeys": ["fedsm"]}},
            {"Tags": TAGS},
            {"Tags": [*TAGS, {"Key": "more", "Value": "x"}]},
        ),
    ],
)
def test_condition_keys_of_create_training_job(
    world: World, condition: Any, passes: dict[str, Any], fails: dict[str, Any]
) -> None:
    session = world.as_role(
        SITE,
        statement("Allow", ["sagemaker:*", "iam:PassRole"]),
        statement("Deny", "sagemaker:CreateTrainingJob", Condition=condition),
    )
    client = session.client("sagemaker")
    request = world.request(**passes)
    client.create_training_job(**request)
    said = refused(session, "sagemaker", "create_training_job", **world.request(**fails))
    assert "sagemaker:CreateTrainingJob" in said
    assert "with an explicit deny in an identity-based policy" in said
    world.wait(request["TrainingJobName"])


def test_tags_may_be_for_creation_only(world: World) -> None:
    condition = {"StringEquals": {"sagemaker:TaggingAction": "CreateTrainingJob"}}
    session = world.as_role(
        SITE,
        statement("Allow", ["sagemaker:CreateTrainingJob", "iam:PassRole"]),
        statement("Allow", "sagemaker:AddTags", Condition=condition),
    )
    request = world.request(Tags=TAGS)
    made = session.client("sagemaker").create_training_job(**request)
    said = refused(session, "sagemaker", "add_tags", ResourceArn=made["TrainingJobArn"], Tags=TAGS)
    assert "sagemaker:AddTags" in said
    world.wait(request["TrainingJobName"])


def test_tags_on_creation_need_add_tags(world: World) -> None:
    session = world.as_role(
        SITE, statement("Allow", ["sagemaker:CreateTrainingJob", "iam:PassRole"])
    )
    said = refused(session, "sagemaker", "create_training_job", **world.request(Tags=TAGS))
    assert "sagemaker:AddTags" in said


def test_a_jobs_tags_open_it(world: World) -> None:
    mine, other = world.request(Tags=TAGS), world.request()
    world.run(mine)
    world.run(other)
    session = world.as_role(
        SITE,
        statement(
            "Allow",
            ["sagemaker:DescribeTrainingJob", "sagemaker:StopTrainingJob"],
            f"arn:aws:sagemaker:{REGION}:{SITE}:training-job/*",
            Condition={"StringEquals": {"aws:ResourceTag/fedsm": "client"}},
        ),
    )
    session.client("sagemaker").describe_training_job(TrainingJobName=mine["TrainingJobName"])
    name = other["TrainingJobName"]
    for operation in ("describe_training_job", "stop_training_job"):
        assert "AccessDenied" in refused(session, "sagemaker", operation, TrainingJobName=name)
