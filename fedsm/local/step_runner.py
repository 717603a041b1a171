"""Run a pipeline execution's training step, with the rights of the pipeline's role.

The role creates, watches and stops the job. That it needs AddTags even for a job whose arguments
have no tags is as on AWS: SageMaker puts two tags of its own on the job of a step.
"""

from __future__ import annotations

import logging
import threading
from typing import Any

from fedsm.local import pipelines
from fedsm.local.execution_role import enter
from fedsm.local.jobs import Job
from fedsm.local.pipeline_records import Execution, random_name
from fedsm.local.principals import Caller, Directory
from fedsm.local.protocol import ApiError, Call
from fedsm.local.training_api import TrainingApi

_POLL = 0.05
_LONGEST_SESSION_NAME = 64
_log = logging.getLogger(__name__)


class StepRunner:
    """Runs each execution in a thread of its own."""

    def __init__(self, directory: Directory, training: TrainingApi) -> None:
        self._directory, self._training = directory, training

    def start(self, execution: Execution) -> None:
        """Begin an execution's step and return."""
        name = f"pipeline-{execution.record.execution}"
        threading.Thread(target=self._run, args=(execution,), name=name, daemon=True).start()

    def _run(self, execution: Execution) -> None:
        doing = "sagemaker:CreateTrainingJob"
        call = Call("POST", "/", {}, b"", service="sagemaker", region=execution.record.region)
        try:
            caller = self._role(call, execution)
            job = self._training.create(call, caller, _request(execution))
            execution.job_started(job.name)
            doing = "sagemaker:DescribeTrainingJob"
            self._training.find(call, caller, "DescribeTrainingJob", job.name)
            while not job.done.wait(_POLL) and not execution.stop_requested.is_set():
                pass
            if execution.stop_requested.is_set() and not job.done.is_set():
                doing = "sagemaker:StopTrainingJob"
                caller = self._role(call, execution)
                self._training.find(call, caller, "StopTrainingJob", job.name)
                job.begin_stop()
            job.done.wait()
            _finish(execution, job)
        except ApiError as error:
            reason = f"ClientError: Failed to invoke {doing}. Error Details: {error.message}"
            execution.finish("Failed", reason)
        except Exception:
            _log.exception("%s: the step could not be run", execution.arn)
            execution.finish("Failed", "InternalServerError: the local cloud failed; see its log")

    def _role(self, call: Call, execution: Execution) -> Caller:
        """The pipeline's role, in a session that SageMaker names after execution and step."""
        record = execution.record
        name = f"sagemaker-pipeline-{record.execution}-{record.step.name}"
        return enter(
            call,
            self._directory,
            record.role_arn,
            record.account,
            source=execution.arn,
            name=name[:_LONGEST_SESSION_NAME],
        )


def _request(execution: Execution) -> dict[str, Any]:
    """The step's CreateTrainingJob request."""
    record = execution.record
    arguments = pipelines.parse(record.definition).arguments
    request: dict[str, Any] = pipelines.substitute(arguments, record.parameters)
    request["TrainingJobName"] = pipelines.job_name(
        record.execution, record.step.name, random_name(10)
    )
    own = {
        "sagemaker:pipeline-execution-arn": execution.arn,
        "sagemaker:pipeline-step-name": record.step.name,
    }
    tags = [{"Key": key, "Value": value} for key, value in own.items()]
    request["Tags"] = [*request.get("Tags", []), *tags]
    return request


def _finish(execution: Execution, job: Job) -> None:
    status, reason = job.record.status, job.record.reason
    if status == "Failed":
        execution.finish("Failed", f"ClientError: {reason}")
    else:
        execution.finish("Succeeded" if status == "Completed" else "Stopped")
