"""What the owner's own people may not do: each of them is trusted with one thing."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from typing import Any

import boto3

from fedsm import policies
from fedsm.names import pipeline_name, step_name
from tests.attacks.agreed import REGION, packed, person, role
from tests.attacks.on_roles import ALL
from tests.attacks.tries import Try, api, attack, client
from tests.attacks.world import World

BOUNDED = "because no permissions boundary allows the "


def _name(arn: str) -> str:
    return arn.rpartition("/")[2]


def _take(world: World, kind: Any) -> boto3.Session:
    return world.folder(kind).role(kind)


@attack("publisher-overwrites")
def publisher_overwrites(world: World) -> Iterator[Try]:
    """An approved digest keeps its bytes, for its publisher too."""
    publisher = _take(world, "publisher")
    place = {"Bucket": "heart-north-code", "Key": f"fedsm/{world.approved.key}"}
    yield api(publisher, "s3", "put_object", **place, Body=b"other")
    there = api(publisher, "s3", "put_object", **place, Body=b"other", IfNoneMatch="*")
    yield Try(there.call, "PreconditionFailed")
    yield api(publisher, "s3", "delete_object", **place)
    source = {"Bucket": place["Bucket"], "Key": f"fedsm/{world.bundles['unapproved'].key}"}
    yield api(publisher, "s3", "copy_object", **place, CopySource=source)
    yield api(publisher, "s3", "create_multipart_upload", **place)


@attack("publisher-approves")
def publisher_approves(world: World) -> Iterator[Try]:
    """Nor may he start anything, read rows, or take the approver's role."""
    publisher, digest = _take(world, "publisher"), world.bundles["unapproved"].sha256
    for kind in ("kickoff", "execution"):
        inline = {"PolicyName": f"fedsm-approved-{digest[:16]}", "PolicyDocument": ALL}
        yield api(publisher, "iam", "put_role_policy", RoleName=_name(role(kind)), **inline)
    request = world.start()
    yield api(publisher, "sagemaker", "start_pipeline_execution", **request)
    yield api(publisher, "s3", "get_object", Bucket="heart-north-data", Key="train/rows.csv")
    steward = world.sessions.coordinator(REGION, person("data-steward"))
    for session in (publisher, steward):
        arn = {"RoleArn": role("approver"), "RoleSessionName": "attack"}
        yield api(session, "sts", "assume_role", **arn)


@attack("approver-publishes")
def approver_publishes(world: World) -> Iterator[Try]:
    approver = _take(world, "approver")
    for key in (world.approved.key, f"{'0' * 64}/source.tar.gz"):
        place = {"Bucket": "heart-north-code", "Key": f"fedsm/{key}"}
        yield api(approver, "s3", "put_object", **place, Body=b"x", IfNoneMatch="*")
        yield api(approver, "s3", "delete_object", **place)
    reviewer = world.sessions.coordinator(REGION, person("reviewer"))
    for session in (approver, reviewer):
        arn = {"RoleArn": role("publisher"), "RoleSessionName": "attack"}
        yield api(session, "sts", "assume_role", **arn)


@attack("approver-changes-what-was-approved")
def approver_changes(world: World) -> Iterator[Try]:
    """A pipeline whose name stands for one bundle can be made and removed, never changed."""
    approver, own = _take(world, "approver"), _name(world.pipeline(world.approved))
    changed = {"PipelineName": own, "PipelineDescription": "other"}
    yield api(approver, "sagemaker", "update_pipeline", **changed)
    request = world.start()
    yield api(approver, "sagemaker", "start_pipeline_execution", **request)
    yield api(approver, "s3", "get_object", Bucket="heart-north-data", Key="train/rows.csv")
    yield api(approver, "sagemaker", "create_training_job", **world.job())


@attack("approver-widens-rights")
def approver_widens(world: World) -> Iterator[Try]:
    """Whatever he puts into the kickoff role, it can start this site's pipelines and no more."""
    approver, kickoff = _take(world, "approver"), _name(role("kickoff"))
    iam, inline = client(approver, "iam"), {"RoleName": kickoff, "PolicyName": "wide"}
    iam.put_role_policy(**inline, PolicyDocument=ALL)
    data = {"Bucket": "heart-north-data", "Key": "train/rows.csv"}
    other = world.pipeline(world.approved, ("heart", "north-2"))
    start = world.start(PipelineName=other)
    for service, operation, arguments, action in (
        ("s3", "get_object", data, "s3:GetObject"),
        ("sagemaker", "create_training_job", world.job(), "sagemaker:CreateTrainingJob"),
        ("sagemaker", "start_pipeline_execution", start, "sagemaker:StartPipelineExecution"),
        ("iam", "create_user", {"UserName": "new"}, "iam:CreateUser"),
    ):
        made = api(world.kickoff, service, operation, **arguments)
        yield Try(made.call, f"{BOUNDED}{action} action")
    iam.delete_role_policy(**inline)
    for kind in ("publisher", "approver", "pipeline"):
        of = {"RoleName": _name(role(kind)), "PolicyName": "wide", "PolicyDocument": ALL}
        yield api(approver, "iam", "put_role_policy", **of)
    for kind in ("kickoff", "execution"):
        of = {"RoleName": _name(role(kind))}
        yield api(approver, "iam", "delete_role_permissions_boundary", **of)
        yield api(approver, "iam", "update_assume_role_policy", **of, PolicyDocument=ALL)
    for site, federation in (("north-2", "heart"), ("north", "heart-2")):
        of = {"RoleName": _name(role("kickoff", federation, site)), "PolicyName": "wide"}
        yield api(approver, "iam", "put_role_policy", **of, PolicyDocument=ALL)


def approve_without_publisher(world: World, code: str) -> str:
    """An approver makes a pipeline that runs code of his own; how the server sees it end."""
    approver = _take(world, "approver")
    digest = uuid.uuid4().hex * 2
    job = world.job(**packed(code), Tags=[{"Key": "fedsm:site", "Value": "north"}])
    del job["TrainingJobName"]
    step = {"Name": step_name("heart", "north"), "Type": "Training", "Arguments": job}
    name = pipeline_name("heart", "north", digest)
    arn = client(approver, "sagemaker").create_pipeline(
        PipelineName=name,
        PipelineDefinition=json.dumps({"Version": "2020-12-01", "Steps": [step]}),
        RoleArn=role("pipeline"),
        ClientRequestToken=digest,
    )["PipelineArn"]
    start = {"Effect": "Allow", "Action": "sagemaker:StartPipelineExecution", "Resource": arn}
    client(approver, "iam").put_role_policy(
        RoleName=_name(role("kickoff")),
        PolicyName=f"fedsm-approved-{digest[:16]}",
        PolicyDocument=json.dumps(policies.document(start)),
    )
    kickoff = client(world.kickoff, "sagemaker")
    started = kickoff.start_pipeline_execution(PipelineName=name, ClientRequestToken=digest)
    execution = {"PipelineExecutionArn": started["PipelineExecutionArn"]}
    world.ended(execution["PipelineExecutionArn"])
    (found,) = kickoff.list_pipeline_execution_steps(**execution)["PipelineExecutionSteps"]
    return str(found["FailureReason"])
