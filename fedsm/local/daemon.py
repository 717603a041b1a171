"""The cloud's process: puts the parts together, serves until SIGTERM, then stops its jobs."""

from __future__ import annotations

import fcntl
import hmac
import json
import logging
import os
import secrets
import signal
import sys
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

from fedsm.errors import LocalCloudError
from fedsm.local import sandbox, sts, validation
from fedsm.local.accounts import ensure_keys, write_private
from fedsm.local.control import STATE, state_directory
from fedsm.local.jobs import Job, Jobs
from fedsm.local.pipeline_records import Executions
from fedsm.local.pipelines_api import PipelinesApi
from fedsm.local.principals import Directory, Session
from fedsm.local.protocol import Call
from fedsm.local.runner import STOP_GRACE, Runner
from fedsm.local.server import Cloud, CloudServer
from fedsm.local.step_runner import StepRunner
from fedsm.local.training_api import TrainingApi, running

DOWN_GRACE = 10.0
"""Seconds that jobs get between SIGTERM and SIGKILL when the cloud ends."""


def serve(
    directory: Path, *, stop_grace: float | None = None, ready: Callable[[], None] = lambda: None
) -> int:
    """Serve a project's cloud until SIGTERM or SIGINT; returns an exit code.

    Raises
    ------
    LocalCloudError
        Another cloud serves this directory.
    """
    state = state_directory(directory)
    state.mkdir(parents=True, exist_ok=True, mode=0o700)
    logging.basicConfig(
        stream=sys.stderr,
        level=logging.WARNING,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
    )
    # Held until the process is gone: to get this lock is to see the cloud ended.
    lock = os.open(state / "serve.lock", os.O_WRONLY | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        raise LocalCloudError(
            "another local cloud serves this directory",
            where=str(state),
            action="use it, or bring it down first",
        ) from None
    Daemon(state, STOP_GRACE if stop_grace is None else stop_grace).run(ready)
    return 0


class Daemon:
    """One serving cloud.

    Parameters
    ----------
    state : Path
        Its state directory.
    stop_grace : float
        Seconds between SIGTERM and SIGKILL of StopTrainingJob.
    """

    def __init__(self, state: Path, stop_grace: float) -> None:
        self.state = state
        self.directory = Directory()
        self.jobs = Jobs(state / "jobs")
        self.jobs.restore()
        self.server = CloudServer()
        self.proof = secrets.token_urlsafe(24)
        self.token = secrets.token_urlsafe(24)
        self.isolation = sandbox.probe()
        self.runner = Runner(
            self.server.url,
            self._open_session,
            state / "environments",
            isolation=self.isolation,
            stop_grace=stop_grace,
        )
        self.executions = Executions(state / "executions")
        self.executions.restore()
        training = TrainingApi(self.jobs, self.directory, self.runner.start)
        steps = StepRunner(self.directory, training)
        self.server.cloud = Cloud(
            self.directory,
            training,
            PipelinesApi(self.executions, self.directory, steps),
            credentials=self._credentials,
            control=self._control,
            control_token=self.token,
        )
        self._add_accounts([])
        self._end = threading.Event()

    def run(self, ready: Callable[[], None]) -> None:
        """Serve until a signal; then stop all jobs, keep their records and leave."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self._end.set())
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()
        described = {
            "port": self.server.server_address[1],
            "pid": os.getpid(),
            "token": self.token,
            "proof": self.proof,
        }
        write_private(self.state / STATE, json.dumps(described))
        ready()
        threading.Thread(target=self._warm, daemon=True).start()
        self._end.wait()
        (self.state / STATE).unlink(missing_ok=True)
        self._stop_jobs()
        self.server.shutdown()
        self.server.server_close()

    def _warm(self) -> None:
        validation.load()
        self.runner.warm()

    def _stop_jobs(self) -> None:
        self.runner.stop_grace = min(self.runner.stop_grace, DOWN_GRACE)
        waiting = [job for job in running(self.jobs) if job.begin_stop()]
        deadline = time.monotonic() + self.runner.stop_grace + DOWN_GRACE
        for job in waiting:
            if not job.done.wait(max(0.0, deadline - time.monotonic())):
                job.fail("InternalServerError: the local cloud was brought down")
        for execution in self.executions:
            execution.done.wait(1.0)  # its job has ended, so it is about to

    def _open_session(self, job: Job, lifetime: timedelta) -> Session | None:
        call = Call("POST", "/", {}, b"", service="sts", region=job.record.region)
        role = job.record.request["RoleArn"]
        account = job.record.account
        return sts.service_session(call, self.directory, role, account, lifetime, source=job.arn)

    def _credentials(self, job_id: str, token: str) -> dict[str, str] | None:
        job = self.jobs.by_id(job_id)
        given = token.encode()
        expected = (job.token if job else secrets.token_urlsafe()).encode()
        if not hmac.compare_digest(given, expected) or job is None or job.done.is_set():
            return None
        return self.runner.credentials(job)

    def _add_accounts(self, accounts: list[str]) -> None:
        for account, keys in ensure_keys(self.state, accounts).items():
            self.directory.add_account(account, *keys)

    def _control(self, method: str, path: str, body: dict[str, Any]) -> dict[str, Any]:
        if (method, path) == ("POST", "/_fedsm/accounts"):
            self._add_accounts([str(account) for account in body.get("accounts", [])])
        elif (method, path) != ("GET", "/_fedsm/health"):
            raise LocalCloudError(f"no control call {method} {path}")
        return {
            "url": self.server.url,
            "pid": os.getpid(),
            "directory": str(self.state),
            "isolation": self.isolation,
            "accounts": list(self.directory.accounts),
            "running": [job.arn for job in running(self.jobs)],
            "proof": self.proof,
        }
