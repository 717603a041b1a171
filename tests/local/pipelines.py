"""An owner's pipelines, and what tests do with them."""

from __future__ import annotations

import json
import time
import uuid
from typing import Any

from tests.local.conftest import EXECUTION, REGION, SITE, World, client_of, statement, trust

STEP = "fedsm-0a1b2c3d"
JOBS = f"arn:aws:sagemaker:{REGION}:{SITE}:training-job/pipelines-*-{STEP}-*"
SAGEMAKER = {"StringEquals": {"iam:PassedToService": "sagemaker.amazonaws.com"}}
PASS = statement("Allow", "iam:PassRole", EXECUTION, Condition=SAGEMAKER)
TRUSTED = trust({"Service": "sagemaker.amazonaws.com"}, StringEquals={"aws:SourceAccount": SITE})
ENDED = {"Succeeded", "Failed", "Stopped"}


def rights(*left_out: str) -> list[dict[str, Any]]:
    """What the pipeline's role needs, but for some actions."""
    actions = {"CreateTrainingJob", "AddTags", "DescribeTrainingJob", "StopTrainingJob"}
    own = [f"sagemaker:{action}" for action in sorted(actions - set(left_out))]
    return [statement("Allow", own, JOBS), *([] if "PassRole" in left_out else [PASS])]


def token() -> str:
    return uuid.uuid4().hex


def get(name: str) -> dict[str, str]:
    return {"Get": f"Parameters.{name}"}


def definition(world: World, program: str = "pass", **more: Any) -> dict[str, Any]:
    arguments = world.request(program, **more)
    del arguments["TrainingJobName"]
    return {
        "Version": "2020-12-01",
        "Parameters": [],
        "Steps": [{"Name": STEP, "Type": "Training", "Arguments": arguments}],
    }


class Owner:
    """The site's administrator, with a role for pipelines."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.client = client_of(world.admin(), "sagemaker")
        self.role = world.role(SITE, "pipeline", TRUSTED, *rights())

    def create(self, definition: dict[str, Any], **more: Any) -> str:
        """Make a pipeline of a fresh name; returns the name."""
        name = f"p-{token()[:12]}"
        self.client.create_pipeline(
            **{
                "PipelineName": name,
                "RoleArn": self.role,
                "PipelineDefinition": json.dumps(definition),
                "ClientRequestToken": token(),
                **more,
            }
        )
        return name

    def start(self, name: str, **parameters: str) -> str:
        given = [{"Name": key, "Value": value} for key, value in parameters.items()]
        return str(
            self.client.start_pipeline_execution(
                PipelineName=name, PipelineParameters=given, ClientRequestToken=token()
            )["PipelineExecutionArn"]
        )

    def step(self, execution: str) -> dict[str, Any]:
        listed = self.client.list_pipeline_execution_steps(PipelineExecutionArn=execution)
        (found,) = listed["PipelineExecutionSteps"]
        return dict(found)

    def wait(self, execution: str, step: str = "") -> dict[str, Any]:
        """Poll until the step has this status, or the execution has ended."""
        deadline = time.monotonic() + 60
        while True:
            found = self.client.describe_pipeline_execution(PipelineExecutionArn=execution)
            status = found["PipelineExecutionStatus"]
            if status in ENDED or self.step(execution)["StepStatus"] == step:
                return dict(found)
            assert time.monotonic() < deadline, found
            time.sleep(0.05)

    def job(self, execution: str) -> str:
        return str(self.step(execution)["Metadata"]["TrainingJob"]["Arn"].rpartition("/")[2])


def creation(owner: Owner, **changes: Any) -> dict[str, Any]:
    return {
        "PipelineName": f"p-{token()[:12]}",
        "RoleArn": owner.role,
        "PipelineDefinition": json.dumps(definition(owner.world)),
        "ClientRequestToken": token(),
        **changes,
    }
