"""Who may make, start, watch and stop a pipeline."""

from __future__ import annotations

import json

import pytest

from tests.local.conftest import EXECUTION, REGION, SERVER, SITE, World, refused, statement
from tests.local.pipelines import (
    SAGEMAKER,
    Owner,
    creation,
    definition,
    rights,
    token,
)


@pytest.fixture(scope="module")
def owner(world: World) -> Owner:
    return Owner(world)


def test_starting_is_a_right_on_one_pipeline(world: World, owner: Owner) -> None:
    name, other = owner.create(definition(world)), owner.create(definition(world))
    arn = f"arn:aws:sagemaker:{REGION}:{SITE}:pipeline/{name}"
    session = world.as_role(
        SITE,
        statement("Allow", "sagemaker:StartPipelineExecution", arn),
        statement(
            "Allow",
            ["sagemaker:DescribePipelineExecution", "sagemaker:ListPipelineExecutionSteps"],
            f"{arn}/execution/*",
        ),
    )
    client = session.client("sagemaker")
    for spelling in (name, name.upper(), arn, arn.replace(name, name.upper())):
        made = client.start_pipeline_execution(PipelineName=spelling, ClientRequestToken=token())
        execution = made["PipelineExecutionArn"]
        assert execution.startswith(f"{arn}/execution/")
    client.describe_pipeline_execution(PipelineExecutionArn=execution.replace(name, name.upper()))
    client.list_pipeline_execution_steps(PipelineExecutionArn=execution)
    foreign = arn.replace(SITE, SERVER)
    elsewhere = owner.start(other)
    of, stop = {"PipelineExecutionArn": execution}, {"ClientRequestToken": token()}
    for operation, arguments in (
        ("start_pipeline_execution", {"PipelineName": other} | stop),
        ("start_pipeline_execution", {"PipelineName": arn.replace(name, other)} | stop),
        ("start_pipeline_execution", {"PipelineName": foreign} | stop),
        ("start_pipeline_execution", {"PipelineName": f"{name}0"} | stop),
        ("describe_pipeline_execution", {"PipelineExecutionArn": elsewhere}),
        ("stop_pipeline_execution", of | stop),
        ("list_pipeline_parameters_for_execution", of),
        ("describe_pipeline_definition_for_execution", of),
        ("retry_pipeline_execution", of | stop),
        ("update_pipeline_execution", of),
        ("describe_pipeline", {"PipelineName": name}),
        ("update_pipeline", {"PipelineName": name}),
        ("delete_pipeline", {"PipelineName": name} | stop),
        ("list_pipelines", {}),
        ("list_pipeline_executions", {"PipelineName": name}),
        ("list_pipeline_versions", {"PipelineName": name}),
        ("update_pipeline_version", {"PipelineArn": arn, "PipelineVersionId": 1}),
        ("create_pipeline", creation(owner)),
        ("add_tags", {"ResourceArn": arn, "Tags": [{"Key": "a", "Value": "b"}]}),
    ):
        said = refused(session, "sagemaker", operation, **arguments)
        assert said.startswith("AccessDeniedException"), operation
    for spelling in (f"{arn}/execution/x", f"{arn}*", arn.replace(REGION, "us-east-1")):
        call = {"PipelineName": spelling, "ClientRequestToken": token()}
        said = refused(session, "sagemaker", "start_pipeline_execution", **call)
        assert said.startswith("ValidationException"), spelling
    for found in owner.client.list_pipeline_executions(PipelineName=name)[
        "PipelineExecutionSummaries"
    ]:
        owner.wait(found["PipelineExecutionArn"])
    owner.wait(elsewhere)


def test_a_pipeline_is_made_with_the_right_to_pass_its_role(world: World, owner: Owner) -> None:
    pipelines = f"arn:aws:sagemaker:{REGION}:{SITE}:pipeline/p-*"
    make = statement("Allow", ["sagemaker:CreatePipeline", "sagemaker:DescribePipeline"], pipelines)
    tag = statement(
        "Allow",
        "sagemaker:AddTags",
        pipelines,
        Condition={"StringEquals": {"sagemaker:TaggingAction": "CreatePipeline"}},
    )
    pass_ = statement("Allow", "iam:PassRole", owner.role, Condition=SAGEMAKER)
    tags = {"Tags": [{"Key": "fedsm:site", "Value": "north"}]}
    session = world.as_role(SITE, make, tag, pass_)
    call = creation(owner, **tags)
    client = session.client("sagemaker")
    arn = client.create_pipeline(**call)["PipelineArn"]
    assert client.create_pipeline(**call)["PipelineArn"] == arn
    said = refused(
        session, "sagemaker", "create_pipeline", **call | {"ClientRequestToken": token()}
    )
    assert said.startswith("ValidationException")
    assert "already exists" in said
    described = client.describe_pipeline(PipelineName=call["PipelineName"])
    assert described["PipelineDefinition"] == call["PipelineDefinition"]
    assert described["RoleArn"] == owner.role
    for rest, change, denied in (
        ((make, tag), {}, "iam:PassRole"),
        ((make, pass_), tags, "sagemaker:AddTags"),
        ((make, tag, pass_), {"RoleArn": EXECUTION}, "iam:PassRole"),
        ((make, tag, pass_), {"PipelineName": "other"}, "sagemaker:CreatePipeline"),
    ):
        said = refused(
            world.as_role(SITE, *rest), "sagemaker", "create_pipeline", **creation(owner, **change)
        )
        assert said.startswith("AccessDeniedException")
        assert f"not authorized to perform: {denied}" in said
    foreign = f"arn:aws:iam::{SERVER}:role/coordinator"
    said = refused(
        world.admin(), "sagemaker", "create_pipeline", **creation(owner, RoleArn=foreign)
    )
    assert "Cross-account pass role" in said


def test_pipelines_are_listed_changed_and_tagged(world: World, owner: Owner) -> None:
    name = owner.create(definition(world), PipelineDescription="first")
    arn = f"arn:aws:sagemaker:{REGION}:{SITE}:pipeline/{name}"
    client = owner.client
    client.add_tags(ResourceArn=arn, Tags=[{"Key": "kind", "Value": "own"}])
    assert client.list_tags(ResourceArn=arn)["Tags"] == [{"Key": "kind", "Value": "own"}]
    condition = {"StringEquals": {"aws:ResourceTag/kind": "own"}}
    session = world.as_role(
        SITE, statement("Allow", "sagemaker:*", Condition=condition), rights()[1]
    )
    changed = json.dumps(definition(world, "print()"))
    session.client("sagemaker").update_pipeline(PipelineName=name, PipelineDefinition=changed)
    assert client.describe_pipeline(PipelineName=arn)["PipelineDefinition"] == changed
    (found,) = client.list_pipelines(PipelineNamePrefix=name)["PipelineSummaries"]
    assert (found["PipelineArn"], found["PipelineDescription"]) == (arn, "first")
    assert len(client.list_pipelines(MaxResults=1)["PipelineSummaries"]) == 1
    assert world.admin(SERVER).client("sagemaker").list_pipelines()["PipelineSummaries"] == []
    client.delete_tags(ResourceArn=arn, TagKeys=["kind"])
    said = refused(session, "sagemaker", "update_pipeline", PipelineName=name)
    assert said.startswith("AccessDenied")
    client.delete_pipeline(PipelineName=name, ClientRequestToken=token())
    said = refused(world.admin(), "sagemaker", "describe_pipeline", PipelineName=name)
    assert said.startswith("ResourceNotFound")
