"""Carry out a launch plan: all sites in parallel, journalled, undone on failure; then watch."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import boto3

from fedsm.aws.calls import was_refused
from fedsm.aws.handles import Job, job_of
from fedsm.aws.jobs import JobState
from fedsm.aws.sessions import Sessions
from fedsm.errors import FedsmError, LaunchError
from fedsm.events import Journal
from fedsm.plan import LaunchPlan, SiteLaunch

_PARALLEL = 16


class Launcher:
    """Assumes each site's role and starts its job.

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
    attempted : list of Job
        Jobs that AWS was asked to start and did not refuse; one whose answer was lost bills on.
    started : list of Job
        Those that AWS said it started.
    """

    def __init__(self, sessions: Sessions, source: boto3.Session, journal: Journal) -> None:
        self._sessions = sessions
        self._source = source
        self._journal = journal
        self.attempted: list[Job] = []
        self.started: list[Job] = []

    def sagemaker(self, launch: SiteLaunch) -> Any:
        """The site's SageMaker client; assumes its role."""
        session = self._sessions.assume(
            self._source, launch.site, launch.role_arn, launch.region, launch.external_id
        )
        return self._sessions.client(session, "sagemaker", launch.site, launch.region)

    def start(self, plan: LaunchPlan) -> None:
        """Start every job of the plan.

        Roles are assumed first, so that a refusal starts nothing.

        Raises
        ------
        FedsmError
            At least one site failed; ``attempted`` says what there is to stop.
        """

        def start(launch: SiteLaunch) -> None:
            job = job_of(launch, self.sagemaker(launch))
            self.attempted.append(job)
            detail = launch.job_name or launch.pipeline_arn
            try:
                self._call(launch.site, launch.call, detail, job.start)
            except FedsmError as error:
                if was_refused(error):
                    self.attempted.remove(job)
                raise
            self.started.append(job)
            self._tell(job)

        _in_parallel(self._assume, plan.launches)
        _in_parallel(start, plan.launches)

    def stop(self, running: list[Job]) -> None:
        """Ask all jobs to stop; failures are journalled, and none hides another."""

        def stop(job: Job) -> None:
            known = job.execution or job.name
            self._call(job.launch.site, job.stopping, known, job.stop)
            if not known and job.execution:
                self._tell(job)

        if running:
            with ThreadPoolExecutor(_PARALLEL) as pool:
                for future in [pool.submit(stop, job) for job in running]:
                    future.exception()

    def _assume(self, launch: SiteLaunch) -> None:
        self._call(launch.site, "sts:AssumeRole", launch.role_arn, lambda: self.sagemaker(launch))

    def _tell(self, job: Job) -> None:
        """Journal what AWS said: the job, or the execution that will create it."""
        launch = job.launch
        if not job.execution:
            _created(self._journal, job)
            return
        self._journal.append(
            "execution-started",
            site=launch.site,
            account=launch.account_id,
            pipeline=launch.pipeline_arn,
            execution=job.execution,
            bundle=launch.bundle_sha256,
            parameters={p["Name"]: p["Value"] for p in launch.request["PipelineParameters"]},
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


def _created(journal: Journal, job: Job) -> None:
    launch = job.launch
    journal.append(
        "job-created",
        site=launch.site,
        account=launch.account_id,
        job=job.name,
        arn=job.arn,
        bundle=launch.bundle_sha256,
        execution=job.execution,
    )


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
    """Asks for the state of every job until it has ended, inside a ``with`` block.

    Parameters
    ----------
    running : list of Job
        The jobs.
    journal : Journal
        Gets a ``job-created`` event once a pipeline's job is found, and a ``job-status`` event at
        each change.
    on_end : callable
        Called with ``(site, state)`` once a job has ended, from the watcher's thread.
    interval : float
        Seconds between two polls.
    check : callable
        Raises ``FedsmError`` when the cloud itself has gone; then every job has ended with it.
    """

    def __init__(
        self,
        running: list[Job],
        journal: Journal,
        on_end: Callable[[str, JobState], None],
        interval: float,
        check: Callable[[], None] = lambda: None,
    ) -> None:
        self._running = {job.launch.site: job for job in running}
        self._journal = journal
        self._on_end = on_end
        self._interval = interval
        self._check = check
        self._states: dict[str, JobState] = {}
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

    def _lost(self, pending: list[Job]) -> bool:
        try:
            self._check()
        except FedsmError as error:
            for job in pending:
                self._take(job, JobState("Failed", "Failed", str(error), 0, ""))
            return True
        return False

    def _poll(self, job: Job) -> None:
        known = job.name
        try:
            state = job.describe()
        except FedsmError as error:
            # One failed poll says nothing about the job: the next one asks again.
            self._journal.append(
                "call",
                site=job.launch.site,
                action=job.watching,
                phase="failed",
                detail=str(error)[:1024],
            )
            return
        if job.name and not known:
            _created(self._journal, job)
        self._take(job, state)

    def _take(self, job: Job, state: JobState) -> None:
        site = job.launch.site
        with self._changed:
            before = self._states.get(site)
            self._states[site] = state
        if before is None or (before.status, before.secondary) != (state.status, state.secondary):
            self._journal.append(
                "job-status",
                site=site,
                job=job.name,
                status=state.status,
                secondary=state.secondary,
                reason=state.reason,
                seconds=state.seconds,
                artifacts=state.artifacts if state.ended else "",
            )
        if state.ended:
            self._on_end(site, state)
            with self._changed:
                self._changed.notify_all()
