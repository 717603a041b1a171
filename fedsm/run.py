"""``Run``: a handle on one run, in this process or another; everything is read from its journal."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from fedsm import events
from fedsm.aws import jobs, pipelines
from fedsm.aws.artifacts import read_object
from fedsm.aws.sessions import Sessions
from fedsm.clouds import Cloud, reached
from fedsm.config import Site
from fedsm.coordinator import PID_FILE, STOP_FILE
from fedsm.errors import ConfigError, FedsmError, JobError, TrainingError
from fedsm.names import session_name
from fedsm.state import RunState, SiteState, fold

RUNS = "runs"


def run_ids(directory: Path) -> list[str]:
    """Ids of the runs of a project's directory, oldest first."""
    journals = (directory / RUNS).glob("*/events.jsonl")
    return [j.parent.name for j in sorted(journals, key=lambda j: j.stat().st_ctime)]


class Run:
    """One run.

    Parameters
    ----------
    directory : Path
        Its directory, ``<project>/runs/<id>``.

    Attributes
    ----------
    id : str
        Run id.
    directory : Path
        Where its journal, checkpoints and model lie.
    """

    def __init__(self, directory: Path) -> None:
        self.id = directory.name
        self.directory = directory
        self._thread: threading.Thread | None = None
        self._stop: threading.Event | None = None
        self._error: BaseException | None = None

    @classmethod
    def open(cls, project: Path, run: str | None) -> Run:
        """A run of a project's directory; without an id, the latest.

        Raises
        ------
        ConfigError
            There is no such run.
        """
        known = run_ids(project)
        if run is None and known:
            run = known[-1]
        if run is None or run not in known:
            raise ConfigError(
                f"there is no run {run}" if run else "there is no run",
                where=str(project / RUNS),
                action=f"choose one of {', '.join(known)}" if known else "start one: fedsm train",
            )
        return cls(project / RUNS / run)

    def follow(self, conduct: Callable[[], Any], stop: threading.Event) -> None:
        """Conduct the run in a thread of this process."""

        def work() -> None:
            try:
                conduct()
            except BaseException as error:  # handed on by wait()
                self._error = error

        self._stop = stop
        self._thread = threading.Thread(target=work, name=f"fedsm-{self.id}")
        self._thread.start()

    @property
    def journal(self) -> Path:
        """Path of the journal."""
        return self.directory / "events.jsonl"

    def events(self) -> Iterator[events.Event]:
        """The journal's events, checked."""
        if not self.journal.exists():
            return iter(())
        return events.read(self.journal)

    def status(self) -> RunState:
        """The run's state as its journal tells it."""
        return fold(self.events())

    def history(self) -> list[dict[str, Any]]:
        """One row a round: ``round, seconds, train, evaluate, server, sites``."""
        return [
            {
                "round": row.number,
                "seconds": row.seconds,
                "train": dict(row.train),
                "evaluate": dict(row.evaluate),
                "server": dict(row.server),
                "sites": row.sites,
            }
            for row in self.status().rounds
        ]

    def report(self) -> dict[str, Any]:
        """The final evaluation: ``sites``, ``pooled``, ``server``, ``groups`` and more.

        docs/evaluation.md says what each number means; what is undefined is None, with its reason
        under ``undefined``.

        Raises
        ------
        TrainingError
            There is none: the run is not over, or ``training.report`` is null.
        """
        state = self.status()
        if not state.report:
            raise TrainingError(
                f"has no report, it is {state.status}",
                where=self.id,
                action="train with training.report, to the end",
            )
        return dict(state.report)

    @property
    def alive(self) -> bool:
        """Whether a coordinator conducts this run."""
        if self._thread is not None:
            return self._thread.is_alive()
        try:
            os.kill(int((self.directory / PID_FILE).read_text()), 0)
        except (OSError, ValueError):
            return False
        return True

    def wait(self, timeout: float | None = None) -> RunState:
        """Wait until the run is over.

        Raises
        ------
        FedsmError
            What ended the run, when it ended badly; or its coordinator is gone.
        TimeoutError
            It is not over after ``timeout`` seconds.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        if self._thread is not None:
            self._thread.join(timeout)
            if self._error is not None:
                raise self._error
        while not (state := self.status()).ended:
            if not self.alive and not self.status().ended:
                raise TrainingError(
                    "the coordinator is gone; its jobs leave by themselves after max_wait",
                    where=self.id,
                    action="stop the jobs at once with `fedsm stop`, and train again",
                )
            if deadline is not None and time.monotonic() >= deadline:
                raise TimeoutError(f"{self.id} is not over after {timeout:g} s")
            time.sleep(0.2)
        if state.status == "Failed":
            raise TrainingError(
                state.reason, where=self.id, action="read the journal: fedsm history"
            )
        return state

    def stop(self) -> None:
        """End the run after the round under way; without a coordinator, stop its jobs.

        Raises
        ------
        FedsmError
            A job could not be stopped.
        """
        if self._stop is not None:
            self._stop.set()
        elif self.alive:
            (self.directory / STOP_FILE).touch()
        else:
            self._stop_jobs()

    def logs(self, site: str, *, owner: bool = False) -> Iterator[tuple[int, str]]:
        """Lines of a site's job log: ``(milliseconds since the epoch, line)``.

        Parameters
        ----------
        site : str
            Its name.
        owner : bool
            Read with the owner's own credentials, not through the kickoff role.

        Raises
        ------
        AccessError
            Logs are the owner's, and the owner has not granted them.
        LocalCloudError
            The run was on the local cloud, and that is down.
        """
        run = self.status()
        state = run.sites.get(site)
        if state is None or not state.job:
            raise JobError(
                "has no job in this run",
                where=site,
                action=f"choose one of {', '.join(run.sites) or 'its sites'}",
            )
        cloud = self._cloud(run)
        if owner:
            client = cloud.owner(_site(state)).client("logs", region_name=state.region)
        else:
            client = self._client(cloud, run, state, "logs")
        return jobs.logs(client, site, state.job)

    def fetch(self, site: str, directory: Path) -> Path:
        """Fetch a site's ``model.tar.gz`` with its owner's credentials.

        Returns
        -------
        Path
            ``<directory>/<site>.tar.gz``.

        Raises
        ------
        JobError, AccessError
            The site's job has left none, or the credentials may not read it.
        """
        run = self.status()
        state = run.sites.get(site)
        if state is None or state.status != "Completed":
            raise JobError(
                "its job has left no model",
                where=site,
                action="see its status with fedsm status",
            )
        session = self._cloud(run).owner(_site(state))
        client = session.client("s3", region_name=state.region)
        path = directory / f"{site}.tar.gz"
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.write_bytes(read_object(client, site, state.artifacts))
        return path

    def model_path(self) -> Path:
        """Path of the final model.

        Raises
        ------
        TrainingError
            There is none: the run is not over, or ended badly.
        """
        state = self.status()
        if not state.model:
            raise TrainingError(
                f"has no final model, it is {state.status}",
                where=self.id,
                action=f"take a checkpoint from {self.directory / 'checkpoints'}",
            )
        return Path(state.model)

    def model(self) -> Any:
        """The final model: a fitted scikit-learn pipeline, or a dict of arrays.

        ``model.joblib`` was written by this account's own coordinator, so loading it is safe.
        """
        path = self.model_path()
        if path.suffix == ".npz":
            from fedsm.learning.arrays import arrays_from_npz

            return {name: array.numpy() for name, array in arrays_from_npz(path).items()}
        import joblib

        return joblib.load(path)

    def _cloud(self, run: RunState) -> Cloud:
        server = run.coordinator
        return reached(self.directory.parent.parent, run.cloud, server.account, server.region)

    def _client(self, cloud: Cloud, run: RunState, site: SiteState, service: str) -> Any:
        """A client with the rights of a site's kickoff role."""
        sessions = Sessions(cloud.coordinator(), session_name(self.id))
        session = sessions.assume(
            sessions.coordinator(run.coordinator.region, run.coordinator.role or None),
            site.name,
            site.role,
            site.region,
            site.external_id,
        )
        return sessions.client(session, service, site.name, site.region)

    def _stop_jobs(self) -> None:
        run = self.status()
        # A coordinator may have died between starting a job and saying so.
        left = [
            site
            for site in run.sites.values()
            if not site.ended and (site.job or site.planned_job or site.asked)
        ]
        if not left:
            return
        cloud = self._cloud(run)
        errors = []
        for site in left:
            try:
                self._stop_job(self._client(cloud, run, site, "sagemaker"), site)
            except FedsmError as error:
                errors.append(error)
        if errors:
            raise errors[0]

    def _stop_job(self, client: Any, site: SiteState) -> None:
        if not site.pipeline:
            jobs.stop(client, site.name, site.job or site.planned_job)
            return
        # Sent again, the request of an execution that there is gives that execution.
        execution = site.execution or pipelines.start(
            client, site.name, site.bundle, self._request(site.name)
        )
        pipelines.stop(client, site.name, execution)

    def _request(self, site: str) -> dict[str, Any]:
        """The request by which the coordinator started a site's pipeline."""
        plan = json.loads((self.directory / "plan.json").read_text(encoding="utf-8"))
        found: dict[str, Any] = next(
            step["request"]
            for step in plan["steps"]
            if step["site"] == site and step["call"] == "sagemaker:StartPipelineExecution"
        )
        return found


def _site(state: SiteState) -> Site:
    """A site as it was when the run started, as far as its owner's session needs it."""
    known: dict[str, Any] = {
        "name": state.name,
        "account_id": state.account,
        "region": state.region,
        "role_arn": state.role,
    }
    return Site.model_construct(**known)
