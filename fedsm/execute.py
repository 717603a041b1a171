"""Carry out a launch plan: all sites in parallel, journalled, undone on failure; then watch."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import boto3

from fedsm.aws import jobs
from fedsm.aws.sessions import Sessions
from fedsm.errors import FedsmError, LaunchError
from fedsm.events import Journal
from fedsm.plan import LaunchPlan, SiteLaunch

_PARALLEL = 16


@dataclass(frozen=True, slots=True)
class RunningJob:
    """A job and the SageMaker client of its account."""

    site: str
    name: str
    client: Any


class Launcher:
    """Assumes each site's role and creates its job.

    Parameters
    ----------
    sessions : Sessions
        Makes and counts the clients.
    source : boto3.Session
        The coordinator's session.
    journal : Journal
        Records each call before and after it is made.

    Attributes
    ----------
    attempted : list of RunningJob
        Jobs that AWS was asked to create; one whose answer was lost would bill on.
    created : list of RunningJob
        Those that AWS said it created.
    """

    def __init__(self, sessions: Sessions, source: boto3.Session, journal: Journal) -> None:
        self._sessions = sessions
        self._source = source
        self._journal = journal
        self.attempted: list[RunningJob] = []
        self.created: list[RunningJob] = []

    def sagemaker(self, launch: SiteLaunch) -> Any:
        """The site's SageMaker client; assumes its role."""
        session = self._sessions.assume(
            self._source, launch.site, launch.role_arn, launch.region, launch.external_id
        )
        return self._sessions.client(session, "sagemaker", launch.site, launch.region)

    def start(self, plan: LaunchPlan) -> None:
        """Create every job of the plan.

        Roles are assumed first, so that a refusal creates nothing.

        Raises
        ------
        FedsmError
            At least one site failed; ``attempted`` says what there is to stop.
        """

        def create(launch: SiteLaunch) -> None:
            job = RunningJob(launch.site, launch.job_name, self.sagemaker(launch))
            self.attempted.append(job)
            self._create(job, launch)

        _in_parallel(self._assume, plan.launches)
        _in_parallel(create, plan.launches)

    def stop(self, running: list[RunningJob]) -> None:
        """Ask all jobs to stop; failures are journalled, and none hides another."""

        def stop(job: RunningJob) -> None:
            self._call(
                job.site,
                "sagemaker:StopTrainingJob",
                job.name,
                lambda: jobs.stop(job.client, job.site, job.name),
            )

        if running:
            with ThreadPoolExecutor(_PARALLEL) as pool:
                for future in [pool.submit(stop, job) for job in running]:
                    future.exception()

    def _assume(self, launch: SiteLaunch) -> None:
        self._call(launch.site, "sts:AssumeRole", launch.role_arn, lambda: self.sagemaker(launch))

    def _create(self, job: RunningJob, launch: SiteLaunch) -> None:
        arn = self._call(
            launch.site,
            "sagemaker:CreateTrainingJob",
            launch.job_name,
            lambda: jobs.create(job.client, launch.site, launch.request),
        )
        self.created.append(job)
        self._journal.append(
            "job-created",
            site=launch.site,
            account=launch.account_id,
            job=launch.job_name,
            arn=arn,
            bundle=launch.bundle_sha256,
        )

    def _call(self, site: str, action: str, detail: str, call: Callable[[], Any]) -> Any:
        self._journal.append("call", site=site, action=action, phase="begin", detail=detail)
        try:
            answer = call()
        except BaseException as error:
            self._journal.append(
                "call", site=site, action=action, phase="failed", detail=str(error)[:1024]
            )
            raise
        self._journal.append("call", site=site, action=action, phase="end", detail=detail)
        return answer


def _in_parallel(work: Callable[[SiteLaunch], Any], launches: tuple[SiteLaunch, ...]) -> None:
    """Run ``work`` for every site; wait for all, then report all failures in one error."""
    with ThreadPoolExecutor(min(_PARALLEL, len(launches))) as pool:
        futures = [pool.submit(work, launch) for launch in launches]
        errors = [error for future in futures if (error := future.exception()) is not None]
    if not errors:
        return
    if len(errors) == 1:
        raise errors[0]
    lines = "\n".join(
        f"  {error if isinstance(error, FedsmError) else repr(error)}" for error in errors
    )
    raise LaunchError(
        f"{len(errors)} of {len(launches)} sites failed:\n{lines}",
        action="mend what the lines above name; jobs that had started are stopped",
    )


class Watcher:
    """Polls ``DescribeTrainingJob`` of every job until it has ended, inside a ``with`` block.

    Parameters
    ----------
    running : list of RunningJob
        The jobs.
    journal : Journal
        Gets a ``job-status`` event at each change.
    on_end : callable
        Called with ``(site, state)`` once a job has ended, from the watcher's thread.
    interval : float
        Seconds between two polls.
    check : callable
        Raises ``FedsmError`` when the cloud itself has gone; then every job has ended with it.
    """

    def __init__(
        self,
        running: list[RunningJob],
        journal: Journal,
        on_end: Callable[[str, jobs.JobState], None],
        interval: float,
        check: Callable[[], None] = lambda: None,
    ) -> None:
        self._running = {job.site: job for job in running}
        self._journal = journal
        self._on_end = on_end
        self._interval = interval
        self._check = check
        self._states: dict[str, jobs.JobState] = {}
        self._changed = threading.Condition()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="fedsm-watcher", daemon=True)

    def __enter__(self) -> Watcher:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def wait(self, timeout: float) -> bool:
        """Wait until every job has ended; ``False`` when time ran out."""
        with self._changed:
            return self._changed.wait_for(self._all_ended, timeout)

    def _all_ended(self) -> bool:
        return all(
            (state := self._states.get(site)) is not None and state.ended for site in self._running
        )

    def _watch(self) -> None:
        with ThreadPoolExecutor(min(_PARALLEL, max(1, len(self._running)))) as pool:
            while not self._stop.is_set():
                began = time.monotonic()
                with self._changed:
                    pending = [
                        job
                        for site, job in self._running.items()
                        if site not in self._states or not self._states[site].ended
                    ]
                if not pending or self._lost(pending):
                    return
                list(pool.map(self._poll, pending))
                self._stop.wait(max(0.0, self._interval - (time.monotonic() - began)))

    def _lost(self, pending: list[RunningJob]) -> bool:
        try:
            self._check()
        except FedsmError as error:
            for job in pending:
                self._take(job, jobs.JobState("Failed", "Failed", str(error), 0, ""))
            return True
        return False

    def _poll(self, job: RunningJob) -> None:
        try:
            state = jobs.describe(job.client, job.site, job.name)
        except FedsmError as error:
            # One failed poll says nothing about the job: the next one asks again.
            self._journal.append(
                "call",
                site=job.site,
                action="sagemaker:DescribeTrainingJob",
                phase="failed",
                detail=str(error)[:1024],
            )
            return
        self._take(job, state)

    def _take(self, job: RunningJob, state: jobs.JobState) -> None:
        with self._changed:
            before = self._states.get(job.site)
            self._states[job.site] = state
        if before is None or (before.status, before.secondary) != (state.status, state.secondary):
            self._journal.append(
                "job-status",
                site=job.site,
                job=job.name,
                status=state.status,
                secondary=state.secondary,
                reason=state.reason,
                seconds=state.seconds,
                artifacts=state.artifacts if state.ended else "",
            )
        if state.ended:
            self._on_end(job.site, state)
            with self._changed:
                self._changed.notify_all()
