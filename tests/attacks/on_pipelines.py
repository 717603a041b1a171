"""Attacks on pipelines and their executions."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from typing import Any

from tests.attacks.agreed import OWNER, REGION, person
from tests.attacks.tries import Try, api, attack, instead
from tests.attacks.world import World

NIGHTLY = f"arn:aws:sagemaker:{REGION}:{OWNER}:pipeline/nightly-report"


def token() -> str:
    return uuid.uuid4().hex


def _start(world: World, name: str) -> Try:
    request = world.start(PipelineName=name)
    return api(world.kickoff, "sagemaker", "start_pipeline_execution", **request)


@attack("start-another-pipeline")
def start_another(world: World) -> Iterator[Try]:
    """The owner's own, those of sites whose names begin alike, and one that does not exist."""
    approved = world.approved
    yield _start(world, NIGHTLY)
    yield _start(world, "nightly-report")
    for which in (("heart", "north-2"), ("heart-2", "north")):
        yield _start(world, world.pipeline(approved, which))
    own = world.pipeline(approved)
    for name in (f"{own}-2", own[:-1], own.replace("--north--", "--north-2--")):
        yield _start(world, name)


@attack("start-a-disapproved-digest")
def start_older(world: World) -> Iterator[Try]:
    yield _start(world, world.pipeline(world.bundles["disapproved"]))


@attack("start-an-unapproved-digest")
def start_newer(world: World) -> Iterator[Try]:
    yield _start(world, world.pipeline(world.bundles["unapproved"]))


def _override(world: World, name: str, value: Any) -> Try:
    """A start with a field that would change what runs.

    The right to start the approved pipeline covers it, so that what refuses it is SageMaker; here,
    the local cloud by name.
    """
    request = world.start(**{name: value})
    refused = api(world.kickoff, "sagemaker", "start_pipeline_execution", **request)
    return instead(refused, f"does not model {name} of") if _pipelines(world) else refused


@attack("start-an-alias-or-version")
def start_version(world: World) -> Iterator[Try]:
    yield _override(world, "PipelineVersionId", 1)
    yield _override(world, "PipelineVersionId", 2)
    yield _override(world, "PipelineVersionAlias", "latest")


@attack("start-selected-steps")
def start_selected(world: World) -> Iterator[Try]:
    execution = world.pipeline(world.bundles["disapproved"]) + "/execution/a1b2c3d4e5f6"
    selected = {
        "SourcePipelineExecutionArn": execution,
        "SelectedSteps": [{"StepName": "fedsm"}],
    }
    yield _override(world, "SelectiveExecutionConfig", selected)


@attack("start-with-another-role")
def start_role(world: World) -> Iterator[Try]:
    yield _override(world, "RoleArn", person("reviewer"))


@attack("change-a-pipeline")
def change(world: World) -> Iterator[Try]:
    """Make one, change the approved one, remove it, tag it."""
    own = world.pipeline(world.approved)
    role = f"arn:aws:iam::{OWNER}:role/fedsm-heart--north-pipeline"
    definition = json.dumps({"Version": "2020-12-01", "Steps": []})
    for name in (
        own.rpartition("/")[2],
        world.pipeline(world.bundles["unapproved"]).rpartition("/")[2],
    ):
        made = {"PipelineName": name, "PipelineDefinition": definition, "RoleArn": role}
        yield api(world.kickoff, "sagemaker", "update_pipeline", **made)
        made["ClientRequestToken"] = token()
        yield api(world.kickoff, "sagemaker", "create_pipeline", **made)
        gone = {"PipelineName": name, "ClientRequestToken": token()}
        yield api(world.kickoff, "sagemaker", "delete_pipeline", **gone)
    tags = [{"Key": "fedsm:site", "Value": "other"}]
    yield api(world.kickoff, "sagemaker", "add_tags", ResourceArn=own, Tags=tags)


@attack("look-into-pipelines")
def look(world: World) -> Iterator[Try]:
    """What the owner fixed is his: where data and code lie, which network, which limits."""
    own = world.pipeline(world.approved)
    yield api(world.kickoff, "sagemaker", "describe_pipeline", PipelineName=own)
    yield api(world.kickoff, "sagemaker", "list_pipelines")
    yield api(world.kickoff, "sagemaker", "list_pipeline_executions", PipelineName=own)


@attack("touch-another-execution")
def touch(world: World) -> Iterator[Try]:
    """Watch, stop, retry or change an execution of another pipeline."""
    others = [NIGHTLY]
    others += [
        world.pipeline(world.approved, w) for w in (("heart", "north-2"), ("heart-2", "north"))
    ]
    for other in others:
        of = {"PipelineExecutionArn": f"{other}/execution/a1b2c3d4e5f6"}
        for operation in ("describe_pipeline_execution", "list_pipeline_execution_steps"):
            yield api(world.kickoff, "sagemaker", operation, **of)
        stop = {**of, "ClientRequestToken": token()}
        yield api(world.kickoff, "sagemaker", "stop_pipeline_execution", **stop)
    own = {"PipelineExecutionArn": f"{world.pipeline(world.approved)}/execution/a1b2c3d4e5f6"}
    yield api(
        world.kickoff,
        "sagemaker",
        "retry_pipeline_execution",
        **own,
        ClientRequestToken=token(),
    )
    yield api(world.kickoff, "sagemaker", "update_pipeline_execution", **own)
    for operation in (
        "describe_pipeline_definition_for_execution",
        "list_pipeline_parameters_for_execution",
    ):
        yield api(world.kickoff, "sagemaker", operation, **own)


def _pipelines(world: World) -> bool:
    return world.launch == "pipeline"
