"""A site's job in the two launches: started, watched and stopped in the same words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

from fedsm.aws import jobs, pipelines
from fedsm.aws.jobs import JobState
from fedsm.plan import SiteLaunch


class Job(Protocol):
    """One site's job, from before it is started until it has ended.

    Attributes
    ----------
    launch : SiteLaunch
        The site, and the request that starts the job.
    name, arn : str
        Of the job; empty as long as they are not known.
    execution : str
        ARN of the pipeline's execution; empty in the direct launch.
    watching, stopping : str
        The call that tells the job's state, and the one that stops it.
    """

    launch: SiteLaunch
    arn: str
    execution: str
    watching: ClassVar[str]
    stopping: ClassVar[str]

    @property
    def name(self) -> str: ...

    def start(self) -> None:
        """Start it.

        Raises
        ------
        LaunchError, AccessError
            AWS refused, or did not answer.
        """
        ...

    def describe(self) -> JobState:
        """Its state."""
        ...

    def stop(self) -> bool:
        """Ask it to stop, also when the answer to its start was lost; ``False`` if it had ended."""
        ...


@dataclass(slots=True)
class TrainingJob:
    """A job that the server creates itself."""

    launch: SiteLaunch
    client: Any
    arn: str = ""
    execution: str = ""
    watching: ClassVar[str] = "sagemaker:DescribeTrainingJob"
    stopping: ClassVar[str] = "sagemaker:StopTrainingJob"

    @property
    def name(self) -> str:
        """Known from the plan on."""
        return self.launch.job_name

    def start(self) -> None:
        """``CreateTrainingJob``."""
        self.arn = jobs.create(self.client, self.launch.site, self.launch.request)

    def describe(self) -> JobState:
        """``DescribeTrainingJob``."""
        return jobs.describe(self.client, self.launch.site, self.name)

    def stop(self) -> bool:
        """``StopTrainingJob``."""
        return jobs.stop(self.client, self.launch.site, self.name)


@dataclass(slots=True)
class PipelineJob:
    """A job that an execution of the owner's pipeline creates."""

    launch: SiteLaunch
    client: Any
    arn: str = ""
    execution: str = ""
    watching: ClassVar[str] = "sagemaker:ListPipelineExecutionSteps"
    stopping: ClassVar[str] = "sagemaker:StopPipelineExecution"

    @property
    def name(self) -> str:
        """Known once there is a job."""
        return self.arn.rpartition("/")[2]

    def start(self) -> None:
        """``StartPipelineExecution``; a second call gives the same execution."""
        launch = self.launch
        self.execution = pipelines.start(
            self.client, launch.site, launch.bundle_sha256, launch.request
        )

    def describe(self) -> JobState:
        """``DescribePipelineExecution`` and ``ListPipelineExecutionSteps``."""
        state, self.arn = pipelines.describe(
            self.client, self.launch.site, self.execution, self.launch.output
        )
        return state

    def stop(self) -> bool:
        """``StopPipelineExecution``; it also stops what has not come to its job yet."""
        if not self.execution:
            # The answer was lost; the request's token finds the execution, if there is one.
            self.start()
        return pipelines.stop(self.client, self.launch.site, self.execution)


def job_of(launch: SiteLaunch, client: Any) -> Job:
    """The job of a launch, not started yet."""
    return PipelineJob(launch, client) if launch.pipeline_arn else TrainingJob(launch, client)
