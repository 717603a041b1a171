"""Training-job records: their life cycle, what Describe shows, and the file each is kept in."""

from __future__ import annotations

import json
import secrets
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from fedsm.local.accounts import write_private

TERMINAL = frozenset({"Completed", "Failed", "Stopped"})
MAX_REASON = 1024
RECORD = "job.json"


@dataclass(slots=True)
class Record:
    """What is kept about a job; plain JSON values only.

    Times are Unix seconds. ``transitions`` are SageMaker's SecondaryStatusTransitions.
    """

    account: str
    region: str
    request: dict[str, Any]
    created: float
    status: str = "InProgress"
    secondary: str = "Starting"
    reason: str = ""
    modified: float = 0.0
    started: float | None = None
    ended: float | None = None
    transitions: list[dict[str, Any]] = field(default_factory=list)
    metrics: dict[str, tuple[float, float]] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)


class Job:
    """One job: its record, and what its runner and the API share.

    Attributes
    ----------
    directory : Path
        Where its record and its ``ml`` tree lie.
    job_id, token : str
        Name and secret of its credentials endpoint.
    stop_requested : threading.Event
        Set once by StopTrainingJob, MaxRuntimeInSeconds or the cloud's end.
    done : threading.Event
        Set when its status is terminal.
    """

    def __init__(self, record: Record, directory: Path) -> None:
        self.record = record
        self.directory = directory
        self.name: str = record.request["TrainingJobName"]
        self.arn = f"arn:aws:sagemaker:{record.region}:{record.account}:training-job/{self.name}"
        self.job_id = secrets.token_urlsafe(12)
        self.token = secrets.token_urlsafe(32)
        self.stop_requested = threading.Event()
        self.timed_out = False
        self.done = threading.Event()
        self._lock = threading.RLock()

    @property
    def key(self) -> tuple[str, str, str]:
        return self.record.account, self.record.region, self.name

    @property
    def ml(self) -> Path:
        """The job's ``/opt/ml``."""
        return self.directory / "ml"

    @property
    def output(self) -> str:
        """S3 prefix of its artifacts, without a last slash."""
        path = self.record.request["OutputDataConfig"]["S3OutputPath"].rstrip("/")
        return f"{path}/{self.name}/output"

    @property
    def artifacts(self) -> str:
        return f"{self.output}/model.tar.gz"

    def move(self, secondary: str, message: str, status: str | None = None) -> None:
        """Enter the next secondary status, and with ``status`` the next status; keeps the record.

        A terminal status is final.
        """
        with self._lock:
            record, now = self.record, time.time()
            if record.status in TERMINAL:
                return
            if record.transitions:
                record.transitions[-1].setdefault("EndTime", now)
            record.transitions.append(
                {"Status": secondary, "StartTime": now, "StatusMessage": message}
            )
            record.secondary, record.modified = secondary, now
            record.status = status or record.status
            if record.status in TERMINAL:
                record.transitions[-1]["EndTime"] = now
                record.ended = now
            self.save()
            if record.status in TERMINAL:
                self.done.set()

    def measured(self, name: str, value: float, at: float) -> None:
        """Keep the last value of a metric."""
        with self._lock:
            self.record.metrics[name] = (value, at)

    def fail(self, reason: str) -> None:
        """End as Failed."""
        self.record.reason = reason[:MAX_REASON]
        self.move("Failed", "Training job failed", "Failed")

    def begin_stop(self) -> bool:
        """Enter Stopping; False when the job has ended already."""
        with self._lock:
            if self.record.status in TERMINAL:
                return False
            if not self.stop_requested.is_set():
                self.move("Stopping", "Stopping the training job", "Stopping")
                self.stop_requested.set()
            return True

    def save(self) -> None:
        """Write the record in one step."""
        with self._lock:
            self.directory.mkdir(parents=True, exist_ok=True)
            write_private(self.directory / RECORD, json.dumps(asdict(self.record)))

    def describe(self) -> dict[str, Any]:
        """The answer of DescribeTrainingJob."""
        with self._lock:
            record = self.record
            answer = {k: v for k, v in record.request.items() if k != "Tags"}
            answer |= {
                "TrainingJobArn": self.arn,
                "TrainingJobStatus": record.status,
                "SecondaryStatus": record.secondary,
                "CreationTime": record.created,
                "LastModifiedTime": record.modified,
                "SecondaryStatusTransitions": [dict(t) for t in record.transitions],
                "FinalMetricDataList": [
                    {"MetricName": name, "Value": value, "Timestamp": at}
                    for name, (value, at) in record.metrics.items()
                ],
                "ModelArtifacts": {"S3ModelArtifacts": self.artifacts},
            }
            if record.started is not None:
                answer["TrainingStartTime"] = record.started
            if record.ended is not None:
                answer["TrainingEndTime"] = record.ended
                if record.started is not None:
                    seconds = max(1, round(record.ended - record.started))
                    answer |= {"TrainingTimeInSeconds": seconds, "BillableTimeInSeconds": seconds}
            if record.reason:
                answer["FailureReason"] = record.reason
            return answer

    def summary(self) -> dict[str, Any]:
        """One entry of ListTrainingJobs."""
        record = self.record
        entry = {
            "TrainingJobName": self.name,
            "TrainingJobArn": self.arn,
            "CreationTime": record.created,
            "LastModifiedTime": record.modified,
            "TrainingJobStatus": record.status,
            "SecondaryStatus": record.secondary,
        }
        return entry if record.ended is None else entry | {"TrainingEndTime": record.ended}


class Jobs:
    """All jobs of the cloud, by account, region and name."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._jobs: dict[tuple[str, str, str], Job] = {}
        self._by_id: dict[str, Job] = {}
        self._lock = threading.Lock()

    def restore(self) -> None:
        """Read the records of an earlier cloud; what was running then has failed."""
        for path in sorted(self.directory.glob(f"*/*/*/{RECORD}")):
            try:
                job = Job(Record(**json.loads(path.read_text())), path.parent)
            except (ValueError, TypeError, KeyError):
                continue  # not a record of this version: the job's files stay where they are
            if job.record.status not in TERMINAL:
                job.fail("InternalServerError: the local cloud was restarted while the job ran")
            job.done.set()
            self._jobs[job.key] = job

    def add(self, record: Record) -> Job | None:
        """Register a job; None when the name is taken."""
        name = record.request["TrainingJobName"]
        job = Job(record, self.directory / record.account / record.region / name)
        with self._lock:
            if job.key in self._jobs:
                return None
            self._jobs[job.key] = self._by_id[job.job_id] = job
        return job

    def get(self, account: str, region: str, name: str) -> Job | None:
        return self._jobs.get((account, region, name))

    def by_id(self, job_id: str) -> Job | None:
        """The job of a credentials endpoint."""
        return self._by_id.get(job_id)

    def __iter__(self) -> Iterator[Job]:
        return iter(list(self._jobs.values()))
