"""Pipelines and their executions: life, what Describe shows, and an execution's file."""

from __future__ import annotations

import json
import secrets
import shutil
import string
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from fedsm.local.accounts import write_private
from fedsm.local.pipelines import Value

TERMINAL = frozenset({"Succeeded", "Failed", "Stopped"})
MAX_STEP_REASON = 1024
STEP_FAILED = "Step failure: One or multiple steps failed."
_ALPHABET = string.ascii_lowercase + string.digits


def pipeline_arn(account: str, region: str, name: str) -> str:
    """A pipeline's ARN; SageMaker lower-cases the name in it."""
    return f"arn:aws:sagemaker:{region}:{account}:pipeline/{name.lower()}"


def random_name(length: int) -> str:
    """Lower-case letters and digits."""
    return "".join(secrets.choice(_ALPHABET) for _ in range(length))


@dataclass(slots=True)
class StepRecord:
    """The one step. ``job`` is the name of its training job, ``shown`` what Describe adds."""

    name: str
    shown: dict[str, str] = field(default_factory=dict)
    status: str = "Starting"
    reason: str = ""
    job: str = ""
    started: float = 0.0
    ended: float | None = None


@dataclass(slots=True)
class ExecutionRecord:
    """What is kept about an execution; plain JSON values only.

    Attributes
    ----------
    pipeline : str
        The pipeline's name.
    request : dict
        StartPipelineExecution's.
    definition, role_arn : str
        The pipeline's when the execution began.
    by : dict
        IamIdentity of who began it.
    """

    account: str
    region: str
    pipeline: str
    execution: str
    request: dict[str, Any]
    definition: str
    role_arn: str
    parameters: dict[str, Value]
    by: dict[str, str]
    step: StepRecord
    created: float
    modified: float
    status: str = "Executing"
    reason: str = ""


@dataclass(slots=True)
class Pipeline:
    """A pipeline.

    Attributes
    ----------
    request : dict
        CreatePipeline's, with what UpdatePipeline changed in it.
    created_with : dict
        CreatePipeline's as it was.
    by, changed_by : dict
        IamIdentity of who made it, and of who changed it last.
    """

    arn: str
    request: dict[str, Any]
    created_with: dict[str, Any]
    by: dict[str, str]
    changed_by: dict[str, str]
    created: float
    modified: float
    tags: dict[str, str]
    last_run: float | None = None

    def summary(self) -> dict[str, Any]:
        """One entry of ListPipelines."""
        names = ("PipelineName", "PipelineDisplayName", "PipelineDescription", "RoleArn")
        entry = {
            "PipelineArn": self.arn,
            **{name: self.request[name] for name in names if name in self.request},
            "CreationTime": self.created,
            "LastModifiedTime": self.modified,
        }
        return entry if self.last_run is None else entry | {"LastExecutionTime": self.last_run}

    def describe(self) -> dict[str, Any]:
        """The answer of DescribePipeline."""
        answer = self.summary() | {
            "PipelineDefinition": self.request["PipelineDefinition"],
            "PipelineStatus": "Active",
            "CreatedBy": {"IamIdentity": self.by},
            "LastModifiedBy": {"IamIdentity": self.changed_by},
        }
        last_run = answer.pop("LastExecutionTime", None)
        return answer if last_run is None else answer | {"LastRunTime": last_run}


class Execution:
    """One execution: its record, and what its runner and the API share.

    Attributes
    ----------
    stop_requested, done : threading.Event
        Set by StopPipelineExecution, and when the status is terminal.
    stop_token : str
        ClientRequestToken of the call that stopped it.
    """

    def __init__(self, record: ExecutionRecord, file: Path) -> None:
        self.record, self.file = record, file
        self.stop_requested, self.done = threading.Event(), threading.Event()
        self.stop_token = ""
        self._lock = threading.RLock()
        if record.status in TERMINAL:
            self.done.set()

    @property
    def pipeline_arn(self) -> str:
        return pipeline_arn(self.record.account, self.record.region, self.record.pipeline)

    @property
    def arn(self) -> str:
        return f"{self.pipeline_arn}/execution/{self.record.execution}"

    def job_started(self, name: str) -> None:
        """The step has its job."""
        with self._lock:
            self.record.step.job = name
            if self.record.step.status == "Starting":
                self.record.step.status = "Executing"
            self.save()

    def begin_stop(self, token: str) -> bool:
        """Enter Stopping; False unless it is executing, or this very call stopped it."""
        with self._lock:
            if self.record.status != "Executing":
                return bool(self.stop_token) and token == self.stop_token
            self.record.status = self.record.step.status = "Stopping"
            self.stop_token = token
            self.save()
            self.stop_requested.set()
            return True

    def finish(self, status: str, reason: str = "") -> None:
        """End step and execution; the first end is final."""
        with self._lock:
            record = self.record
            if record.status in TERMINAL:
                return
            record.status = record.step.status = status
            record.step.reason = reason[:MAX_STEP_REASON]
            record.reason = STEP_FAILED if status == "Failed" else ""
            record.step.ended = time.time()
            self.save()
            self.done.set()

    def save(self) -> None:
        """Write the record in one step."""
        with self._lock:
            self.record.modified = time.time()
            self.file.parent.mkdir(parents=True, exist_ok=True)
            write_private(self.file, json.dumps(asdict(self.record)))

    def describe(self) -> dict[str, Any]:
        """The answer of DescribePipelineExecution."""
        with self._lock:
            record = self.record
            answer: dict[str, Any] = {
                "PipelineArn": self.pipeline_arn,
                "PipelineExecutionArn": self.arn,
                "PipelineExecutionDisplayName": self.shown_name,
                "PipelineExecutionStatus": record.status,
                "CreationTime": record.created,
                "LastModifiedTime": record.modified,
                "CreatedBy": {"IamIdentity": record.by},
                "LastModifiedBy": {"IamIdentity": record.by},
            }
            said = record.request.get("PipelineExecutionDescription")
            answer |= {"PipelineExecutionDescription": said} if said else {}
            return answer | ({"FailureReason": record.reason} if record.reason else {})

    @property
    def shown_name(self) -> str:
        default = f"execution-{int(self.record.created * 1000)}"
        return str(self.record.request.get("PipelineExecutionDisplayName", default))

    def summary(self) -> dict[str, Any]:
        """One entry of ListPipelineExecutions."""
        shown = self.describe()
        fields = ("Arn", "Status", "DisplayName", "Description")
        names = [f"PipelineExecution{field}" for field in fields]
        entry = {name: shown[name] for name in names if name in shown}
        entry["StartTime"] = shown["CreationTime"]
        reason = shown.get("FailureReason")
        return entry | ({"PipelineExecutionFailureReason": reason} if reason else {})

    def steps(self) -> list[dict[str, Any]]:
        """The entries of ListPipelineExecutionSteps."""
        with self._lock:
            record, step = self.record, self.record.step
            prefix = f"arn:aws:sagemaker:{record.region}:{record.account}:training-job/"
            entry: dict[str, Any] = {
                "StepName": step.name,
                **step.shown,
                "StartTime": step.started,
                "StepStatus": step.status,
                "AttemptCount": 1,
                "Metadata": {"TrainingJob": {"Arn": prefix + step.job}} if step.job else {},
            }
            entry |= {"EndTime": step.ended} if step.ended is not None else {}
            return [entry | ({"FailureReason": step.reason} if step.reason else {})]


class Executions:
    """All executions of the cloud."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._executions: dict[str, Execution] = {}
        self._lock = threading.Lock()

    def restore(self) -> None:
        """Read the records of an earlier cloud; what was executing then has failed."""
        for path in sorted(self.directory.glob("*/*/*/*.json")):
            try:
                kept = json.loads(path.read_text())
                record = ExecutionRecord(**{**kept, "step": StepRecord(**kept["step"])})
            except (ValueError, TypeError, KeyError):
                continue  # not a record of this version: the file stays where it is
            execution = Execution(record, path)
            execution.finish(
                "Failed",
                "InternalServerError: the local cloud was restarted while the pipeline ran",
            )
            self._executions[execution.arn] = execution

    def add(self, record: ExecutionRecord) -> Execution:
        """Register a new execution."""
        folder = self.directory / record.account / record.region / record.pipeline.lower()
        execution = Execution(record, folder / f"{record.execution}.json")
        execution.save()
        with self._lock:
            self._executions[execution.arn] = execution
        return execution

    def get(self, arn: str) -> Execution | None:
        return self._executions.get(arn)

    def of(self, pipeline: str) -> list[Execution]:
        """The executions of a pipeline, by its ARN."""
        return [execution for execution in self if execution.pipeline_arn == pipeline]

    def begun_by(self, pipeline: str, token: str) -> Execution | None:
        """The execution that a ClientRequestToken began."""
        for execution in self.of(pipeline):
            if execution.record.request["ClientRequestToken"] == token:
                return execution
        return None

    def forget(self, pipeline: str) -> None:
        """Drop the executions of a pipeline that is deleted."""
        with self._lock:
            for execution in self.of(pipeline):
                del self._executions[execution.arn]
                shutil.rmtree(execution.file.parent, ignore_errors=True)

    def __iter__(self) -> Iterator[Execution]:
        return iter(list(self._executions.values()))
