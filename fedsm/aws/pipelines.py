"""Executions of an owner's pipeline: start, watch, stop. The kickoff role may do no more."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from botocore.exceptions import ClientError

from fedsm.aws.calls import DENIED, error_code, translated
from fedsm.aws.jobs import LONGEST_REASON, JobState
from fedsm.errors import AccessError, FedsmError, JobError, LaunchError
from fedsm.pipeline import HYPERPARAMETER
from fedsm.transport.text import clean

_STEP_STATUS = {
    "Starting": "InProgress",
    "Executing": "InProgress",
    "Stopping": "Stopping",
    "Stopped": "Stopped",
    "Failed": "Failed",
    "Succeeded": "Completed",
}
# An execution without a step; one that ended so has run nothing.
_EXECUTION_STATUS = {"Executing": "InProgress", "Stopping": "Stopping", "Stopped": "Stopped"}


def start(sagemaker: Any, site: str, bundle: str, request: Mapping[str, Any]) -> str:
    """Start a pipeline and return the execution's ARN; sent again, the request gives the same.

    Parameters
    ----------
    bundle : str
        Digest of the bundle that the pipeline runs.

    Raises
    ------
    LaunchError, AccessError
        AWS refused; the message says whose task it is.
    """
    with translated(
        site,
        f"StartPipelineExecution of {request['PipelineName']} failed",
        LaunchError,
        "compare the site's fields in federation.yaml with what its owner accepted",
    ):
        try:
            return str(sagemaker.start_pipeline_execution(**request)["PipelineExecutionArn"])
        except ClientError as error:
            if (explained := _explained(site, bundle, request, error)) is None:
                raise
            raise explained from error


def describe(sagemaker: Any, site: str, execution: str, output: str) -> tuple[JobState, str]:
    """State of an execution's job, and the job's ARN; empty until there is a job.

    Parameters
    ----------
    output : str
        S3 prefix of the site's output, from which the place of the model follows.
    """
    with translated(
        site,
        f"DescribePipelineExecution of {execution} failed",
        JobError,
        "check the execution in the SageMaker console of that account",
    ):
        # In this order: of an execution that has ended, the steps are all there.
        whole = sagemaker.describe_pipeline_execution(PipelineExecutionArn=execution)
        steps = sagemaker.list_pipeline_execution_steps(PipelineExecutionArn=execution)
    found = steps["PipelineExecutionSteps"]
    if not found:
        status = whole["PipelineExecutionStatus"]
        reason = clean(whole.get("FailureReason", ""), LONGEST_REASON)
        return JobState(_EXECUTION_STATUS.get(status, "Failed"), "Starting", reason, 0, ""), ""
    step = found[0]
    job = str(step.get("Metadata", {}).get("TrainingJob", {}).get("Arn", ""))
    status = _STEP_STATUS.get(step["StepStatus"], "InProgress")
    began, ended = step.get("StartTime"), step.get("EndTime")
    seconds = int((ended - began).total_seconds()) if began and ended else 0
    name = job.rpartition("/")[2]
    model = f"{output}/{name}/output/model.tar.gz" if status == "Completed" and name else ""
    reason = clean(step.get("FailureReason", ""), LONGEST_REASON)
    return JobState(status, step["StepStatus"], reason, seconds, model), job


def stop(sagemaker: Any, site: str, execution: str) -> bool:
    """Ask an execution, and with it its job, to stop; ``False`` when it had ended."""
    with translated(
        site,
        f"StopPipelineExecution of {execution} failed",
        JobError,
        "stop the execution in the SageMaker console of that account: its job may bill until "
        "max_runtime",
    ):
        try:
            sagemaker.stop_pipeline_execution(PipelineExecutionArn=execution)
        except ClientError as error:
            if error_code(error) in ("ValidationException", "ResourceNotFound"):
                return False
            raise
    return True


def _explained(
    site: str, bundle: str, request: Mapping[str, Any], error: ClientError
) -> FedsmError | None:
    """What a refusal means, and whose task it is; ``None`` for those that speak for themselves."""
    code = error_code(error)
    said = clean(error.response.get("Error", {}).get("Message", ""), LONGEST_REASON).rstrip(".")
    approve = f"let the owner's approver run `fedsm site approve {bundle}`"
    if code == "ResourceNotFound":
        what = f"there is no pipeline of bundle {bundle[:12]}: {said}"
        return LaunchError(what, where=site, action=approve)
    if code in DENIED and "StartPipelineExecution" in said:
        what = f"bundle {bundle[:12]} is not approved, or its approval has ended: {said}"
        return AccessError(what, where=site, action=approve)
    if code != "ValidationException":
        return None
    named = [p["Name"] for p in request["PipelineParameters"] if p["Name"] in said]
    longest = max(named, key=len, default="")
    what = "the approved pipeline refuses the run's parameters"
    if longest.startswith(HYPERPARAMETER):
        name = longest.removeprefix(HYPERPARAMETER)
        what = f"the approved pipeline refuses the hyperparameter {name} or its value"
    return LaunchError(
        f"{what}: {said}",
        where=site,
        action="keep training.hyperparameters to what the owner accepted, or let `fedsm site "
        "invite` ask for more",
    )
