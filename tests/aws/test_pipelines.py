"""Executions of an owner's pipeline: what is asked of AWS, and how its answers are understood."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import boto3
import pytest
from botocore.exceptions import ReadTimeoutError
from botocore.stub import Stubber

from fedsm.aws import pipelines
from fedsm.aws.calls import was_refused
from fedsm.aws.handles import PipelineJob, TrainingJob, job_of
from fedsm.config import FederationConfig
from fedsm.errors import AccessError, FedsmError, JobError, LaunchError
from fedsm.plan import Facts, SiteLaunch, launch_plan
from tests.support import federation, site

DIGEST = "a" * 64
BEGAN = datetime(2026, 11, 1, 12, 0, tzinfo=UTC)
PIPELINE = f"arn:aws:sagemaker:us-east-1:222222222222:pipeline/fedsm-heart--a--{DIGEST}"
EXECUTION = f"{PIPELINE}/execution/0123456789ab"
JOB = "pipelines-0123456789ab-fedsm-0a0b0c0d-abcdefghij"
JOB_ARN = f"arn:aws:sagemaker:us-east-1:222222222222:training-job/{JOB}"


@pytest.fixture
def stub() -> Iterator[Stubber]:
    client = boto3.client(
        "sagemaker",
        region_name="us-east-1",
        aws_access_key_id="x",
        aws_secret_access_key="x",
    )
    with Stubber(client) as made:
        yield made
        made.assert_no_pending_responses()


def launch(mode: str = "pipeline") -> SiteLaunch:
    config = FederationConfig.model_validate(
        federation(
            site("a"),
            launch=mode,
            training={"hyperparameters": {"learning-rate": 0.1, "learning-rate-decay": 1}},
        )
    )
    facts = Facts(
        run="heart-1",
        address="10.0.1.5:8443",
        certificate="Q0VSVA==",
        join_ids={"a": "join"},
        bundle_sha256=DIGEST,
        images={"a": "x:1"},
        bootstrap="x",
    )
    return launch_plan(config, facts).launches[0]


def handle(stub: Stubber, execution: str = EXECUTION) -> PipelineJob:
    return PipelineJob(launch(), stub.client, execution=execution)


def answers(stub: Stubber, execution: dict[str, Any] | None = None, *steps: dict[str, Any]) -> None:
    whole = {"PipelineExecutionStatus": "Executing", **(execution or {})}
    named = {"PipelineExecutionArn": EXECUTION}
    stub.add_response("describe_pipeline_execution", whole, named)
    listed = [{"StepName": "fedsm-0a0b0c0d", "StartTime": BEGAN, **step} for step in steps]
    stub.add_response("list_pipeline_execution_steps", {"PipelineExecutionSteps": listed}, named)


def test_a_launch_becomes_the_job_of_its_mode(stub: Stubber) -> None:
    assert isinstance(job_of(launch(), stub.client), PipelineJob)
    assert isinstance(job_of(launch("direct"), stub.client), TrainingJob)


def test_it_is_started_with_the_plans_request(stub: Stubber) -> None:
    job = handle(stub, "")
    expected = dict(job.launch.request)
    stub.add_response("start_pipeline_execution", {"PipelineExecutionArn": EXECUTION}, expected)
    job.start()
    assert job.execution == EXECUTION


@pytest.mark.parametrize(
    ("code", "message", "kind", "said"),
    [
        (
            "AccessDeniedException",
            f"User: x is not authorized to perform: sagemaker:StartPipelineExecution on {PIPELINE}",
            AccessError,
            r"a: bundle a{12} is not approved, or its approval has ended: .*"
            r"let the owner's approver run `fedsm site approve a{64}`",
        ),
        (
            "ResourceNotFound",
            "Pipeline does not exist.",
            LaunchError,
            r"a: there is no pipeline of bundle a{12}.*fedsm site approve",
        ),
        (
            "ValidationException",
            "The value '0.1' of the parameter 'Hp-learning-rate-decay' is not one of ['1'].",
            LaunchError,
            r"a: the approved pipeline refuses the hyperparameter learning-rate-decay or its value"
            r".*fedsm site invite",
        ),
        (
            "ValidationException",
            "Parameter 'Other' is undefined.",
            LaunchError,
            r"a: the approved pipeline refuses the run's parameters: Parameter 'Other'",
        ),
        (
            "ThrottlingException",
            "Rate exceeded",
            LaunchError,
            r"a: StartPipelineExecution of fedsm-heart--a--a{64} failed: ThrottlingException",
        ),
        ("ExpiredTokenException", "expired", AccessError, r"ExpiredTokenException: expired"),
    ],
)
def test_a_refusal_says_whose_task_it_is(
    stub: Stubber, code: str, message: str, kind: type[FedsmError], said: str
) -> None:
    stub.add_client_error("start_pipeline_execution", code, message, http_status_code=400)
    job = handle(stub, "")
    with pytest.raises(kind, match=said) as caught:
        job.start()
    assert was_refused(caught.value)


def test_a_start_whose_answer_was_lost_is_sent_again_to_stop_it(
    stub: Stubber, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = handle(stub, "")

    def lost(**_: Any) -> None:
        raise ReadTimeoutError(endpoint_url="https://sagemaker")

    with monkeypatch.context() as patched:
        patched.setattr(stub.client, "start_pipeline_execution", lost)
        with pytest.raises(LaunchError, match="timeout"):
            job.start()
    request = dict(job.launch.request)
    stub.add_response("start_pipeline_execution", {"PipelineExecutionArn": EXECUTION}, request)
    stub.add_response("stop_pipeline_execution", {"PipelineExecutionArn": EXECUTION})
    assert job.stop() is True
    assert job.execution == EXECUTION


def test_an_internal_failure_is_no_refusal(stub: Stubber) -> None:
    job = handle(stub, "")
    stub.add_client_error("start_pipeline_execution", "InternalFailure", http_status_code=500)
    with pytest.raises(LaunchError) as caught:
        job.start()
    assert not was_refused(caught.value)
    stub.add_response("start_pipeline_execution", {"PipelineExecutionArn": EXECUTION})
    stub.add_response("stop_pipeline_execution", {"PipelineExecutionArn": EXECUTION})
    assert job.stop() is True


def test_before_there_is_a_job(stub: Stubber) -> None:
    job = handle(stub)
    answers(stub)
    assert (job.describe().status, job.name) == ("InProgress", "")
    answers(stub, None, {"StepStatus": "Starting"})
    state = job.describe()
    assert (state.status, state.secondary, state.ended) == ("InProgress", "Starting", False)
    assert not job.name


def test_the_job_is_found_by_its_step(stub: Stubber) -> None:
    job = handle(stub)
    metadata = {"TrainingJob": {"Arn": JOB_ARN}}
    answers(stub, None, {"StepStatus": "Executing", "Metadata": metadata})
    state = job.describe()
    assert (job.name, job.arn) == (JOB, JOB_ARN)
    assert (state.status, state.secondary, state.seconds) == ("InProgress", "Executing", 0)
    end = BEGAN + timedelta(seconds=90.5)
    answers(
        stub,
        {"PipelineExecutionStatus": "Succeeded"},
        {"StepStatus": "Succeeded", "Metadata": metadata, "EndTime": end},
    )
    state = job.describe()
    assert (state.status, state.seconds, state.ended) == ("Completed", 90, True)
    assert state.artifacts == f"s3://a-models/output/{JOB}/output/model.tar.gz"


@pytest.mark.parametrize(
    ("step", "status"), [("Failed", "Failed"), ("Stopped", "Stopped"), ("Stopping", "Stopping")]
)
def test_how_a_step_may_end(stub: Stubber, step: str, status: str) -> None:
    reason = "ClientError: AlgorithmError: \x1b[31mNot there, exit code: 20"
    answers(stub, None, {"StepStatus": step, "FailureReason": reason})
    state = handle(stub).describe()
    assert (state.status, state.artifacts) == (status, "")
    assert "\x1b" not in state.reason
    assert "exit code: 20" in state.reason


def test_an_execution_that_ends_without_a_step_has_failed(stub: Stubber) -> None:
    for status, expected in (("Failed", "Failed"), ("Succeeded", "Failed"), ("Stopped", "Stopped")):
        answers(stub, {"PipelineExecutionStatus": status, "FailureReason": "no role"})
        state = handle(stub).describe()
        assert (state.status, state.reason) == (expected, "no role")


def test_stopping_what_has_ended_is_no_fault(stub: Stubber) -> None:
    stub.add_client_error("stop_pipeline_execution", "ValidationException", "is 'Succeeded'")
    assert handle(stub).stop() is False
    stub.add_client_error("stop_pipeline_execution", "AccessDeniedException", "no")
    with pytest.raises(AccessError, match="against iam"):
        handle(stub).stop()
    stub.add_client_error("stop_pipeline_execution", "InternalFailure", "no")
    with pytest.raises(JobError, match="may bill until max_runtime"):
        pipelines.stop(stub.client, "a", EXECUTION)
