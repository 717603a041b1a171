"""Pipelines whose training step really runs, with the rights of the pipeline's own role."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from tests.local.conftest import EXECUTION, REGION, SITE, World, members, refused, trust
from tests.local.pipelines import (
    STEP,
    TRUSTED,
    Owner,
    creation,
    definition,
    get,
    rights,
    token,
)


@pytest.fixture(scope="module")
def owner(world: World) -> Owner:
    return Owner(world)


# Executions ---------------------------------------------------------------------------------

SAYS = """
    import json, os, pathlib
    base = pathlib.Path(os.environ.get("SAGEMAKER_BASE_DIR", "/opt/ml"))
    seen = [os.environ["RUN"], json.load(open(base / "input/config/hyperparameters.json"))]
    (base / "model/seen.json").write_text(json.dumps(seen))
"""


def test_the_step_runs_with_its_parameters(world: World, owner: Owner) -> None:
    made = definition(
        world,
        SAYS,
        Environment={"RUN": get("Run"), "FIXED": "yes"},
        HyperParameters={"rounds": get("Rounds"), "kind": "a"},
        StoppingCondition={"MaxRuntimeInSeconds": get("Limit")},
        Tags=[{"Key": "fedsm:site", "Value": "north"}],
    )
    made["Parameters"] = [
        {"Name": "Run", "Type": "String"},
        {"Name": "Rounds", "Type": "String", "DefaultValue": "3", "EnumValues": ["3", "5"]},
        {"Name": "Limit", "Type": "Integer", "DefaultValue": 600},
    ]
    name = owner.create(made)
    execution = owner.start(name, Run="r1")
    arn = f"arn:aws:sagemaker:{REGION}:{SITE}:pipeline/{name}"
    assert re.fullmatch(rf"{arn}/execution/[a-z0-9]{{12}}", execution)
    found = owner.wait(execution)
    step = owner.step(execution)
    assert found["PipelineExecutionStatus"] == step["StepStatus"] == "Succeeded", step
    assert found["PipelineArn"] == arn
    assert found["CreatedBy"]["IamIdentity"]["Arn"] == f"arn:aws:iam::{SITE}:user/admin"
    assert step["StepName"] == STEP
    assert step["EndTime"] >= step["StartTime"]
    own = execution.rpartition("/")[2]
    job = owner.job(execution)
    assert re.fullmatch(rf"pipelines-{own}-{STEP}-[a-z0-9]{{10}}", job)
    described = world.describe(job)
    assert described["StoppingCondition"]["MaxRuntimeInSeconds"] == 600
    assert described["Environment"] == {"RUN": "r1", "FIXED": "yes"}
    model = members(world, described["ModelArtifacts"]["S3ModelArtifacts"])
    assert json.loads(model["seen.json"]) == ["r1", {"rounds": "3", "kind": "a"}]
    listed = owner.client.list_tags(ResourceArn=described["TrainingJobArn"])["Tags"]
    assert {tag["Key"]: tag["Value"] for tag in listed} == {
        "fedsm:site": "north",
        "sagemaker:pipeline-execution-arn": execution,
        "sagemaker:pipeline-step-name": STEP,
    }
    of = {"PipelineExecutionArn": execution}
    given = owner.client.list_pipeline_parameters_for_execution(**of)["PipelineParameters"]
    values = {item["Name"]: item["Value"] for item in given}
    assert values == {"Run": "r1", "Rounds": "3", "Limit": "600"}
    kept = owner.client.describe_pipeline_definition_for_execution(**of)
    assert json.loads(kept["PipelineDefinition"]) == made
    (summary,) = owner.client.list_pipeline_executions(PipelineName=name)[
        "PipelineExecutionSummaries"
    ]
    assert summary["PipelineExecutionArn"] == execution


PATIENT = """
    import signal, sys, time
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    print("ready", flush=True)
    time.sleep(60)
"""


def test_a_failed_job_fails_the_execution(world: World, owner: Owner) -> None:
    execution = owner.start(owner.create(definition(world, "raise SystemExit(7)")))
    found = owner.wait(execution)
    assert found["PipelineExecutionStatus"] == "Failed"
    assert found["FailureReason"] == "Step failure: One or multiple steps failed."
    step = owner.step(execution)
    assert step["StepStatus"] == "Failed"
    assert step["FailureReason"] == "ClientError: AlgorithmError: , exit code: 7"


def test_stopping_an_execution_stops_its_job(world: World, owner: Owner) -> None:
    name = owner.create(definition(world, PATIENT))
    execution = owner.start(name)
    owner.wait(execution, "Executing")
    world.ready(owner.job(execution))
    of = {"PipelineExecutionArn": execution, "ClientRequestToken": token()}
    said = refused(
        world.admin(), "sagemaker", "delete_pipeline", PipelineName=name, ClientRequestToken=token()
    )
    assert said.startswith("ConflictException")
    owner.client.stop_pipeline_execution(**of)
    assert owner.client.stop_pipeline_execution(**of)["PipelineExecutionArn"] == execution
    assert owner.wait(execution)["PipelineExecutionStatus"] == "Stopped"
    assert owner.step(execution)["StepStatus"] == "Stopped"
    assert world.describe(owner.job(execution))["TrainingJobStatus"] == "Stopped"
    said = refused(
        world.admin(),
        "sagemaker",
        "stop_pipeline_execution",
        PipelineExecutionArn=execution,
        ClientRequestToken=token(),
    )
    assert said.startswith("ValidationException")
    assert "Only pipelines with 'Executing' status can be stopped" in said
    owner.client.delete_pipeline(PipelineName=name, ClientRequestToken=token())
    of = {"PipelineExecutionArn": execution}
    said = refused(world.admin(), "sagemaker", "describe_pipeline_execution", **of)
    assert said.startswith("ResourceNotFound")


@pytest.mark.parametrize(
    ("missing", "action", "denied"),
    [
        ("CreateTrainingJob", "CreateTrainingJob", "sagemaker:CreateTrainingJob"),
        ("AddTags", "CreateTrainingJob", "sagemaker:AddTags"),
        ("PassRole", "CreateTrainingJob", "iam:PassRole"),
        ("DescribeTrainingJob", "DescribeTrainingJob", "sagemaker:DescribeTrainingJob"),
    ],
)
def test_the_step_has_the_rights_of_the_pipelines_role(
    world: World, owner: Owner, missing: str, action: str, denied: str
) -> None:
    role = world.role(SITE, "pipeline", TRUSTED, *rights(missing))
    execution = owner.start(owner.create(definition(world), RoleArn=role))
    assert owner.wait(execution)["PipelineExecutionStatus"] == "Failed"
    reason = owner.step(execution)["FailureReason"]
    session = f"{role.rpartition('/')[2]}/sagemaker-pipeline-{execution.rpartition('/')[2]}-{STEP}"
    assert reason.startswith(
        f"ClientError: Failed to invoke sagemaker:{action}. Error Details: "
        f"User: arn:aws:sts::{SITE}:assumed-role/{session} is not authorized to perform: {denied}"
    )
    assert ("TrainingJob" in owner.step(execution)["Metadata"]) == (action != "CreateTrainingJob")


def test_the_pipelines_role_must_trust_sagemaker(world: World, owner: Owner) -> None:
    role = world.role(SITE, "fickle", TRUSTED, *rights())
    name = owner.create(definition(world), RoleArn=role)
    iam = world.admin().client("iam")
    iam.update_assume_role_policy(
        RoleName=role.rpartition("/")[2], PolicyDocument=trust({"AWS": SITE})
    )
    execution = owner.start(name)
    owner.wait(execution)
    assert f"Could not assume role {role}" in owner.step(execution)["FailureReason"]
    said = refused(world.admin(), "sagemaker", "create_pipeline", **creation(owner, RoleArn=role))
    assert "Could not assume role" in said


def test_a_token_starts_one_execution(world: World, owner: Owner) -> None:
    made = definition(world, Environment={"RUN": get("Run")})
    made["Parameters"] = [{"Name": "Run", "Type": "String"}]
    name = owner.create(made)
    call = {
        "PipelineName": name,
        "ClientRequestToken": token(),
        "PipelineParameters": [{"Name": "Run", "Value": "r1"}],
    }
    first = owner.client.start_pipeline_execution(**call)["PipelineExecutionArn"]
    again = owner.client.start_pipeline_execution(**call)["PipelineExecutionArn"]
    assert first == again
    call["PipelineParameters"] = [{"Name": "Run", "Value": "r2"}]
    said = refused(world.admin(), "sagemaker", "start_pipeline_execution", **call)
    assert said.startswith("ConflictException")
    call["ClientRequestToken"] = token()
    second = owner.client.start_pipeline_execution(**call)["PipelineExecutionArn"]
    assert second != first
    for execution in (first, second):
        owner.wait(execution)


# What is refused ----------------------------------------------------------------------------


def test_a_faulty_definition_or_parameter_is_refused(world: World, owner: Owner) -> None:
    call = creation(owner, PipelineDefinition="{")
    said = refused(world.admin(), "sagemaker", "create_pipeline", **call)
    assert said.startswith("ValidationException: Unable to parse pipeline definition. Not valid")
    call = {"PipelineName": owner.create(definition(world)), "ClientRequestToken": token()}
    given = [{"Name": "Image", "Value": "other"}]
    said = refused(
        world.admin(), "sagemaker", "start_pipeline_execution", **call, PipelineParameters=given
    )
    assert said.startswith("ValidationException: Unknown parameter 'Image'")
    for name in ("TrainingJobName", "CheckpointConfig"):
        made = definition(world)
        made["Steps"][0]["Arguments"][name] = {}
        call = creation(owner, PipelineDefinition=json.dumps(made))
        said = refused(world.admin(), "sagemaker", "create_pipeline", **call)
        assert f"does not model {name} of a pipeline's training step" in said


def test_what_a_step_asks_beyond_the_cloud_fails_it_by_name(world: World, owner: Owner) -> None:
    execution = owner.start(owner.create(definition(world, EnableNetworkIsolation=True)))
    owner.wait(execution)
    reason = owner.step(execution)["FailureReason"]
    assert "the local cloud does not model EnableNetworkIsolation=True" in reason


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("PipelineVersionAlias", "latest"),
        ("PipelineVersionId", 1),
        ("RoleArn", EXECUTION),
        ("ParallelismConfiguration", {"MaxParallelExecutionSteps": 1}),
        ("SelectiveExecutionConfig", {"SelectedSteps": [{"StepName": STEP}]}),
        ("MlflowExperimentName", "x"),
    ],
)
def test_overrides_of_an_execution_are_refused_by_name(
    world: World, owner: Owner, field: str, value: Any
) -> None:
    name = owner.create(definition(world))
    call = {"PipelineName": name, "ClientRequestToken": token(), field: value}
    said = refused(world.admin(), "sagemaker", "start_pipeline_execution", **call)
    assert f"the local cloud does not model {field} of StartPipelineExecution" in said
