"""A job's output: to CloudWatch Logs with the role's rights, and through its metric regexes."""

from __future__ import annotations

import logging
import queue
import re
import threading
import time
from collections.abc import Mapping
from typing import IO, Any

from botocore.exceptions import BotoCoreError, ClientError

from fedsm.local.jobs import Job

GROUP = "/aws/sagemaker/TrainingJobs"
MAX_LINE = 256 * 1024
_BATCH, _INTERVAL = 1000, 0.5
_log = logging.getLogger(__name__)


class JobLog:
    """Ships the lines of a job's output until it ends.

    Lines go to the stream ``<job>/algo-1-<seconds>``. Where the role may not write logs the job
    goes on without, as SageMaker's does.
    """

    def __init__(self, job: Job, logs: Any, output: IO[bytes]) -> None:
        self._job, self._logs, self._output = job, logs, output
        specification = job.record.request["AlgorithmSpecification"]
        self._metrics = _compile(specification.get("MetricDefinitions", []))
        self._lines: queue.Queue[tuple[float, str] | None] = queue.Queue(maxsize=100_000)
        self._stream = f"{job.name}/algo-1-{int(time.time())}"
        self._threads = [
            threading.Thread(target=self._read, daemon=True, name=f"read-{job.name}"),
            threading.Thread(target=self._ship, daemon=True, name=f"logs-{job.name}"),
        ]
        for thread in self._threads:
            thread.start()

    def close(self, timeout: float) -> None:
        """Wait until everything is shipped, at most ``timeout`` seconds."""
        deadline = time.monotonic() + timeout
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))

    def _read(self) -> None:
        with self._output as output:
            for raw in iter(lambda: output.readline(MAX_LINE), b""):
                line, now = raw.decode("utf-8", "replace").rstrip("\r\n"), time.time()
                for name, pattern in self._metrics.items():
                    found = pattern.search(line)
                    if found:
                        self._keep(name, found, now)
                self._lines.put((now, line))
        self._lines.put(None)

    def _keep(self, name: str, found: re.Match[str], now: float) -> None:
        try:
            value = float(found[1] if found.re.groups else found[0])
        except (TypeError, ValueError):
            return
        self._job.measured(name, value, now)

    def _ship(self) -> None:
        open_ = self._create_stream()
        more = True
        while more:
            batch, more = self._collect()
            if batch and open_:
                open_ = self._put(batch)

    def _collect(self) -> tuple[list[dict[str, Any]], bool]:
        """Lines of the next half second, and whether more may come."""
        batch: list[dict[str, Any]] = []
        size, deadline = 0, None
        while len(batch) < _BATCH and size < 900_000:
            wait = None if deadline is None else max(0.0, deadline - time.monotonic())
            try:
                item = self._lines.get(timeout=wait)
            except queue.Empty:
                break
            if item is None:
                return batch, False
            deadline = deadline or time.monotonic() + _INTERVAL
            batch.append({"timestamp": int(item[0] * 1000), "message": item[1] or " "})
            size += len(item[1]) * 4 + 26
        return batch, True

    def _create_stream(self) -> bool:
        names = {"logGroupName": GROUP, "logStreamName": self._stream}
        return self._try("create_log_stream", names, quiet=True) or (
            self._try("create_log_group", {"logGroupName": GROUP})
            and self._try("create_log_stream", names)
        )

    def _put(self, batch: list[dict[str, Any]]) -> bool:
        return self._try(
            "put_log_events",
            {"logGroupName": GROUP, "logStreamName": self._stream, "logEvents": batch},
        )

    def _try(self, operation: str, arguments: Mapping[str, Any], *, quiet: bool = False) -> bool:
        try:
            getattr(self._logs, operation)(**arguments)
        except (ClientError, BotoCoreError) as error:
            code = ""
            if isinstance(error, ClientError):
                code = error.response.get("Error", {}).get("Code", "")
            if code == "ResourceAlreadyExistsException":
                return True
            if not quiet:
                _log.warning("%s: logs are not kept: %s", self._job.name, error)
            return False
        return True


def _compile(definitions: list[dict[str, str]]) -> dict[str, re.Pattern[str]]:
    return {item["Name"]: re.compile(item["Regex"]) for item in definitions}
