"""SageMaker training jobs of one account: create, describe, stop, read logs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from botocore.exceptions import ClientError

from fedsm.aws.calls import error_code, translated
from fedsm.errors import JobError, LaunchError
from fedsm.transport.text import clean

TERMINAL = frozenset({"Completed", "Failed", "Stopped"})
LOG_GROUP = "/aws/sagemaker/TrainingJobs"

LONGEST_REASON, LONGEST_LINE = 1024, 256 * 1024
"""Characters of a FailureReason (SageMaker's own limit) and of a log line."""


@dataclass(frozen=True, slots=True)
class JobState:
    """What ``DescribeTrainingJob`` says; ``seconds`` is the billable time."""

    status: str
    secondary: str
    reason: str
    seconds: int
    artifacts: str

    @property
    def ended(self) -> bool:
        """Whether the job will not change any more."""
        return self.status in TERMINAL


def create(sagemaker: Any, site: str, request: Mapping[str, Any]) -> str:
    """Create the job and return its ARN.

    Raises
    ------
    LaunchError, AccessError
        AWS refused; the message holds AWS's own.
    """
    with translated(
        site,
        f"CreateTrainingJob of {request['TrainingJobName']} failed",
        LaunchError,
        "compare the site's fields in federation.yaml with what its owner set up",
        denied="let the owner check the kickoff role's policy against iam/",
    ):
        return str(sagemaker.create_training_job(**request)["TrainingJobArn"])


def describe(sagemaker: Any, site: str, job: str) -> JobState:
    """State of a job."""
    with translated(
        site, f"DescribeTrainingJob of {job} failed", JobError, "check the job's name and Region"
    ):
        answer = sagemaker.describe_training_job(TrainingJobName=job)
    return JobState(
        status=answer["TrainingJobStatus"],
        secondary=answer["SecondaryStatus"],
        reason=clean(answer.get("FailureReason", ""), LONGEST_REASON),
        seconds=int(answer.get("BillableTimeInSeconds", 0)),
        artifacts=answer.get("ModelArtifacts", {}).get("S3ModelArtifacts", ""),
    )


def stop(sagemaker: Any, site: str, job: str) -> bool:
    """Ask a job to stop; ``False`` when it had ended or was never created."""
    with translated(
        site,
        f"StopTrainingJob of {job} failed",
        JobError,
        "stop the job in the SageMaker console of that account: it may bill until max_runtime",
    ):
        try:
            sagemaker.stop_training_job(TrainingJobName=job)
        except ClientError as error:
            if error_code(error) in ("ValidationException", "ResourceNotFound"):
                return False
            raise
    return True


def logs(client: Any, site: str, job: str) -> Iterator[tuple[int, str]]:
    """Yield ``(milliseconds since the epoch, line)`` of a job's log, oldest first.

    Raises
    ------
    JobError
        There is no log.
    AccessError
        These credentials may not read it.
    """
    absent = "wait until the job has started; logs of the local cloud end with it"
    with translated(
        site,
        f"the log of {job} cannot be read",
        JobError,
        absent,
        denied="logs are the owner's: read them with the owner's credentials and --owner "
        "(owner=True from Python), or let the owner grant the kickoff role "
        "logs:DescribeLogStreams and logs:GetLogEvents",
    ):
        streams = client.describe_log_streams(
            logGroupName=LOG_GROUP, logStreamNamePrefix=f"{job}/"
        )["logStreams"]
        if not streams:
            raise JobError(f"{job} has no log", where=site, action=absent)
        for stream in streams:
            token: dict[str, str] = {}
            while True:
                page = client.get_log_events(
                    logGroupName=LOG_GROUP,
                    logStreamName=stream["logStreamName"],
                    startFromHead=True,
                    **token,
                )
                for event in page["events"]:
                    yield event["timestamp"], clean(event["message"], LONGEST_LINE)
                if page["nextForwardToken"] == token.get("nextToken"):
                    break
                token = {"nextToken": page["nextForwardToken"]}
