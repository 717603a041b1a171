"""One run from the first call to the last: launch, rounds, closing, clean-up."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from flwr.app import ConfigRecord, RecordDict

from fedsm.address import listen_host, resolve
from fedsm.aws.handles import Job
from fedsm.aws.identity import ProofChecker
from fedsm.aws.jobs import JobState
from fedsm.aws.sessions import Sessions
from fedsm.bundle import object_key
from fedsm.clouds import Cloud
from fedsm.config import FederationConfig
from fedsm.errors import ConfigError, FedsmError, StoppedEarly
from fedsm.evaluation import test_rows
from fedsm.events import Journal
from fedsm.execute import Launcher, Watcher
from fedsm.hooks import Hooks, first_arrays, model_of, strategy_of
from fedsm.interrupts import remembered
from fedsm.launch import check_approvals, make_join_ids, make_plan, run_started, unread_bundle
from fedsm.learning.arrays import save_npz
from fedsm.learning.models import save
from fedsm.names import session_name
from fedsm.reporting import Reporter
from fedsm.tracking.base import Tracker
from fedsm.tracking.pump import Pump
from fedsm.training import Loop, Outcome, Rounds
from fedsm.transport.flower import COORDINATOR_NODE
from fedsm.transport.grid import StreamGrid
from fedsm.transport.identity import Expected, make_certificate
from fedsm.transport.notes import JOURNAL, Head

STOP_FILE, PID_FILE = "stop", "coordinator.pid"

CLOSING_SECONDS = 60.0
"""How long the sites have to take the final model."""

ENDING_SECONDS = 600.0
"""How long their jobs have to upload it and to end; SageMaker takes minutes."""


class Coordinator:
    """Conducts one run; ``conduct`` does it all, in the calling thread.

    Parameters
    ----------
    config : FederationConfig
        The federation, already cut to the sites of this run.
    cloud : Cloud
        Where sessions come from.
    run : str
        Run id.
    directory : Path
        The run's directory.
    bundle_sha256 : str
        Digest of the local client code.
    hooks : Hooks
        The caller's additions.
    project : Path
        Directory that relative paths of the configuration start from.
    """

    def __init__(
        self,
        config: FederationConfig,
        cloud: Cloud,
        run: str,
        directory: Path,
        bundle_sha256: str,
        hooks: Hooks,
        project: Path,
    ) -> None:
        self._config = config
        self._cloud = cloud
        self._run = run
        self._directory = directory
        self._bundle = bundle_sha256
        self._hooks = hooks
        self._project = project
        # Whatever a user may have got wrong is found before anything is called or written.
        self._strategy = strategy_of(config)
        self._initial = first_arrays(config.training, hooks, project)
        check_approvals(config, bundle_sha256)
        self._checkpoints = directory / "checkpoints"
        # Models and plans are for the one who runs this, not for all of the machine.
        try:
            directory.mkdir(mode=0o700, parents=True)
        except FileExistsError:
            raise ConfigError(
                "there is a run of that id already",
                where=run,
                action="choose another id, or leave it out",
            ) from None
        self._checkpoints.mkdir()
        self.journal = Journal(directory / "events.jsonl")
        self.stop = threading.Event()
        self._interrupted = threading.Event()
        self._ended: dict[str, str] = {}
        self._closing = False
        self._model: dict[str, str] = {}

    def conduct(self) -> Outcome:
        """Launch the jobs, go through the rounds, close.

        Raises
        ------
        FedsmError
            Whatever ended the run; jobs are stopped and the journal says why.
        """
        # Flower's strategies log each step; the journal has it all.
        logging.getLogger("flwr").setLevel(logging.WARNING)
        (self._directory / PID_FILE).write_text(str(os.getpid()))
        with remembered(self._interrupted):
            return self._conduct()

    def _conduct(self) -> Outcome:
        self.journal.append(
            "run-started",
            **run_started(self._config, self._run, self._bundle, self._cloud.isolation),
        )
        sessions = Sessions(
            self._cloud.coordinator(), session_name(self._run), on_assumed=self._on_assumed
        )
        pump: Pump | None = None
        try:
            server = self._config.coordinator
            source = sessions.coordinator(server.region, server.role_arn)
            pump = Pump(self.journal, self._trackers(source))
            outcome = self._launched(Launcher(sessions, source, self.journal))
            self.journal.append("calls", calls=sessions.counter.as_data())
            self._end("Stopped" if outcome.stopped else "Completed", "", outcome)
            return outcome
        except BaseException as error:
            self.journal.append("calls", calls=sessions.counter.as_data())
            stopped = isinstance(error, KeyboardInterrupt | StoppedEarly)
            self._end("Stopped" if stopped else "Failed", _reason(error), None)
            raise
        finally:
            if pump is not None:
                pump.close(timeout=30.0)
            self.journal.close()
            (self._directory / PID_FILE).unlink(missing_ok=True)

    def _launched(self, launcher: Launcher) -> Outcome:
        config = self._config
        certificate = make_certificate()
        join_ids = make_join_ids(config)
        host = resolve(config.coordinator, config.cloud)
        grid = StreamGrid(
            listen=f"{listen_host(host)}:{config.coordinator.port}",
            certificate=certificate,
            run_id=self._run,
            sites=[
                Expected(
                    site=site.name,
                    node_id=COORDINATOR_NODE + 1 + i,
                    account_id=site.account_id,
                    role_name=site.execution_role_arn.rpartition("/")[2],
                    join_id=join_ids[site.name],
                )
                for i, site in enumerate(config.sites)
            ],
            check=ProofChecker(self._cloud.coordinator()),
            sts_region=config.coordinator.region,
            on_event=self._on_event,
        )
        loop = self._loop(grid)
        port = grid.start()
        try:
            plan = make_plan(
                config, self._run, self._bundle, certificate.der_base64, join_ids, port
            )
            self._write_plan(plan.as_data())
            launcher.start(plan)
            outcome = self._rounds(grid, loop, launcher)
        except BaseException:
            # With the coordinator gone, a job that missed its SIGTERM leaves after max-wait.
            grid.close()
            self._stop_jobs(launcher)
            raise
        finally:
            self.journal.append("traffic", sites=grid.traffic())
        grid.close()
        return outcome

    def _on_event(self, kind: str, data: dict[str, Any]) -> None:
        self.journal.append(kind, **data)

    def _on_assumed(self, site: str, answer: dict[str, str]) -> None:
        self.journal.append("role-assumed", site=site, **answer)

    def _write_plan(self, plan: dict[str, Any]) -> None:
        """The plan beside the journal, which keeps its digest."""
        text = json.dumps(plan, indent=1).encode()
        (self._directory / "plan.json").write_bytes(text)
        self.journal.append("planned", sha256=hashlib.sha256(text).hexdigest())

    def _rounds(self, grid: StreamGrid, loop: Loop, launcher: Launcher) -> Outcome:
        def on_end(site: str, state: JobState) -> None:
            self._on_end(site, state)
            if not self._closing:
                grid.end_site(site, self._ended[site])

        with self._watch(launcher.started, on_end) as watcher:
            outcome = loop.run()
            self._closing = True
            self._write_model(outcome)
            told = grid.finish(self._closing_message(outcome), timeout=CLOSING_SECONDS)
            self.journal.append("closing", sites=sorted(told))
            watcher.wait(ENDING_SECONDS)
        # A job that took the model and stays must not go on billing.
        self._stop_jobs(launcher)
        return outcome

    def _stop_jobs(self, launcher: Launcher) -> None:
        """Stop the jobs that have not ended, and see them end."""
        left = [job for job in launcher.attempted if job.launch.site not in self._ended]
        launcher.stop(left)
        seen = [job for job in left if job in launcher.started or job.execution]
        with self._watch(seen, self._on_end) as watcher:
            watcher.wait(ENDING_SECONDS)

    def _watch(self, running: list[Job], on_end: Callable[[str, JobState], None]) -> Watcher:
        cloud = self._cloud
        return Watcher(running, self.journal, on_end, cloud.poll_interval, cloud.check)

    def _on_end(self, site: str, state: JobState) -> None:
        reason = state.reason or f"its job is {state.status}"
        digest = next(s.bundle or self._bundle for s in self._config.sites if s.name == site)
        if object_key(digest) in reason:
            # SageMaker speaks of an S3 prefix and leaves open whose task it is.
            reason = unread_bundle(digest, self._config.mode)
        self._ended[site] = reason

    def _loop(self, grid: StreamGrid) -> Loop:
        config, training = self._config, self._config.training
        return Loop(
            grid,
            self._strategy,
            Rounds(
                rounds=training.rounds,
                sites=tuple(site.name for site in config.sites),
                min_sites=config.min_sites,
                join_deadline=training.join_deadline,
                round_deadline=training.round_deadline,
                seed=training.seed,
                prepare=training.prepare,
                best=training.best,
            ),
            self.journal,
            self._checkpoints,
            initial=self._initial,
            evaluate_fn=self._hooks.evaluate_fn,
            config_fn=self._hooks.config_fn,
            ended=lambda: dict(self._ended),
            stopping=self._stopping,
            report=self._reporter(),
        )

    def _reporter(self) -> Reporter | None:
        training = self._config.training
        if training.report is None:
            return None
        return Reporter(
            training.report,
            self.journal,
            self._directory,
            model=partial(model_of, training, self._project),
            test=partial(test_rows, training, self._project),
            hyperparameters=training.hyperparameters,
        )

    def _stopping(self) -> bool:
        if self._interrupted.is_set():
            raise KeyboardInterrupt
        return self.stop.is_set() or (self._directory / STOP_FILE).exists()

    def _closing_message(self, outcome: Outcome) -> RecordDict:
        values: dict[str, Any] = {"rounds": len(outcome.history), **outcome.prepared}
        head = Head(len(outcome.history), *self.journal.tip)
        return RecordDict(
            {"arrays": outcome.arrays, "config": ConfigRecord(values), JOURNAL: head.record()}
        )

    def _write_model(self, outcome: Outcome) -> None:
        training = self._config.training
        made = model_of(training, self._project)
        if made is None or outcome.summary is None:
            path = self._directory / "model.npz"
            save_npz(path, outcome.arrays)
        else:
            path = self._directory / "model.joblib"
            save(made.build(outcome.arrays, outcome.summary, training.hyperparameters), path)
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        self._model = {"model": str(path), "model_sha256": digest}
        # Before the closing message, whose head then vouches for it.
        self.journal.append("model", **self._model)

    def _trackers(self, source: Any) -> list[Tracker]:
        tracking = self._config.tracking
        if not tracking.experiments:
            return []
        from fedsm.tracking.sagemaker import SageMakerExperiments

        return [SageMakerExperiments(source, tracking.prefix)]

    def _end(self, status: str, reason: str, outcome: Outcome | None) -> None:
        model = self._model if outcome else {"model": "", "model_sha256": ""}
        self.journal.append("run-ended", status=status, reason=reason, **model)


def _reason(error: BaseException) -> str:
    """What the journal says: fedsm's own errors in full, of others only their class."""
    if isinstance(error, KeyboardInterrupt):
        return "interrupted"
    return str(error) if isinstance(error, FedsmError) else type(error).__name__
