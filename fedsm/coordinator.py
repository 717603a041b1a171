"""One run from the first call to the last: launch, rounds, closing, clean-up."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import secrets
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from flwr.app import ArrayRecord, ConfigRecord, RecordDict
from flwr.serverapp.strategy import Strategy

from fedsm.address import listen_host, resolve
from fedsm.assets import asset
from fedsm.aws.identity import ProofChecker
from fedsm.aws.images import image_uri
from fedsm.aws.jobs import JobState
from fedsm.aws.sessions import Sessions
from fedsm.bundle import object_key
from fedsm.clouds import Cloud
from fedsm.config import FederationConfig, Training
from fedsm.errors import ConfigError, FedsmError, StoppedEarly
from fedsm.events import Journal
from fedsm.execute import Launcher, RunningJob, Watcher
from fedsm.learning.arrays import arrays_from_npz, save_npz
from fedsm.learning.models import adapter
from fedsm.learning.preparation import Summary
from fedsm.learning.strategies import make_strategy
from fedsm.names import job_name, session_name
from fedsm.plan import DIRECT_MODE, Facts, LaunchPlan, launch_plan
from fedsm.tracking.base import Tracker
from fedsm.tracking.names import experiment_name
from fedsm.tracking.pump import Pump
from fedsm.training import ConfigFn, EvaluateFn, Loop, Outcome, Rounds
from fedsm.transport.flower import COORDINATOR_NODE
from fedsm.transport.grid import StreamGrid
from fedsm.transport.identity import Expected, make_certificate

STOP_FILE, PID_FILE = "stop", "coordinator.pid"

CLOSING_SECONDS = 60.0
"""How long the sites have to take the final model."""

ENDING_SECONDS = 600.0
"""How long their jobs have to upload it and to end; SageMaker takes minutes."""


@dataclass(frozen=True, slots=True)
class Hooks:
    """What a caller may add to a run from Python.

    Attributes
    ----------
    initial : ArrayRecord, optional
        First global arrays.
    evaluate_fn : callable, optional
        ``(round, arrays, summary) -> metrics`` on the coordinator's own rows.
    config_fn : callable, optional
        ``round -> mapping`` sent to the sites with each message.
    """

    initial: ArrayRecord | None = None
    evaluate_fn: EvaluateFn | None = None
    config_fn: ConfigFn | None = None


def make_plan(
    config: FederationConfig,
    run: str,
    bundle_sha256: str,
    certificate: str,
    join_ids: Mapping[str, str],
    port: int,
) -> LaunchPlan:
    """The launch of ``run``; makes no call."""
    return launch_plan(
        config,
        Facts(
            run=run,
            address=f"{resolve(config.coordinator, config.cloud)}:{port}",
            certificate=certificate,
            join_ids=join_ids,
            bundle_sha256=bundle_sha256,
            images={site.name: image_uri(site) for site in config.sites},
            bootstrap=asset("iam/bootstrap.py").read_text(encoding="utf-8"),
        ),
    )


def make_join_ids(config: FederationConfig) -> dict[str, str]:
    """An unguessable name for each site's launch."""
    return {site.name: secrets.token_urlsafe(24) for site in config.sites}


def strategy_of(config: FederationConfig) -> Strategy:
    """The strategy that the configuration names.

    Raises
    ------
    ConfigError
        Its name or an option is wrong.
    """
    training = config.training
    return make_strategy(
        training.strategy,
        dict(training.options),
        min_sites=config.min_sites,
        sites=len(config.sites),
    )


def first_arrays(
    training: Training, hooks: Hooks, project: Path
) -> Callable[[Summary | None], ArrayRecord] | None:
    """Where the first arrays come from; ``None`` for a site.

    Raises
    ------
    TrainingError
        The ``.npz`` file that ``training.initial`` names cannot be read.
    """
    if hooks.initial is not None:
        given = hooks.initial
        return lambda summary: given
    if training.initial.endswith(".npz"):
        arrays = arrays_from_npz(project / training.initial)
        return lambda summary: arrays
    if training.initial == "server" and training.model is not None:
        made = adapter(training.model)
        return lambda summary: made.initial(_known(summary), training.hyperparameters)
    return None


def _known(summary: Summary | None) -> Summary:
    if summary is None:
        raise ConfigError(
            "a model adapter needs the federation's statistics",
            where="training.prepare",
            action="set training.prepare: standardize",
        )
    return summary


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
        with _remembered(self._interrupted):
            return self._conduct()

    def _conduct(self) -> Outcome:
        self._started()
        sessions = Sessions(self._cloud.coordinator(), session_name(self._run))
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
            (self._directory / "plan.json").write_text(json.dumps(plan.as_data(), indent=1))
            launcher.start(plan)
            outcome = self._rounds(grid, loop, launcher)
        except BaseException:
            # With the coordinator gone, a job that missed its SIGTERM leaves after max-wait.
            grid.close()
            self._stop_jobs(launcher)
            raise
        grid.close()
        return outcome

    def _on_event(self, kind: str, data: dict[str, Any]) -> None:
        self.journal.append(kind, **data)

    def _rounds(self, grid: StreamGrid, loop: Loop, launcher: Launcher) -> Outcome:
        def on_end(site: str, state: JobState) -> None:
            self._on_end(site, state)
            if not self._closing:
                grid.end_site(site, self._ended[site])

        with self._watch(launcher.created, on_end) as watcher:
            outcome = loop.run()
            self._closing = True
            self._write_model(outcome)
            grid.finish(self._closing_message(outcome), timeout=CLOSING_SECONDS)
            watcher.wait(ENDING_SECONDS)
        # A job that took the model and stays must not go on billing.
        self._stop_jobs(launcher)
        return outcome

    def _stop_jobs(self, launcher: Launcher) -> None:
        """Stop the jobs that have not ended, and see them end."""
        left = {job.site for job in launcher.attempted} - set(self._ended)
        launcher.stop([job for job in launcher.attempted if job.site in left])
        seen = [job for job in launcher.created if job.site in left]
        with self._watch(seen, self._on_end) as watcher:
            watcher.wait(ENDING_SECONDS)

    def _watch(self, running: list[RunningJob], on_end: Callable[[str, JobState], None]) -> Watcher:
        cloud = self._cloud
        return Watcher(running, self.journal, on_end, cloud.poll_interval, cloud.check)

    def _on_end(self, site: str, state: JobState) -> None:
        reason = state.reason or f"its job is {state.status}"
        digest = next(s.bundle or self._bundle for s in self._config.sites if s.name == site)
        if object_key(digest) in reason:
            # SageMaker speaks of an S3 prefix and leaves open whose task it is.
            reason = f"bundle {digest[:12]} is not published; let the owner run `fedsm publish`"
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
                prepare=training.prepare is not None,
            ),
            self.journal,
            self._checkpoints,
            initial=self._initial,
            evaluate_fn=self._hooks.evaluate_fn,
            config_fn=self._hooks.config_fn,
            ended=lambda: dict(self._ended),
            stopping=self._stopping,
        )

    def _stopping(self) -> bool:
        if self._interrupted.is_set():
            raise KeyboardInterrupt
        return self.stop.is_set() or (self._directory / STOP_FILE).exists()

    def _closing_message(self, outcome: Outcome) -> RecordDict:
        values: dict[str, Any] = {"rounds": len(outcome.history)}
        if outcome.summary is not None:
            values |= outcome.summary.to_config()
        return RecordDict({"arrays": outcome.arrays, "config": ConfigRecord(values)})

    def _write_model(self, outcome: Outcome) -> None:
        training = self._config.training
        if training.model is None or outcome.summary is None:
            save_npz(self._directory / "model.npz", outcome.arrays)
        else:
            made = adapter(training.model)
            made.save(
                made.build(outcome.arrays, outcome.summary, training.hyperparameters),
                self._directory / "model.joblib",
            )

    def _trackers(self, source: Any) -> list[Tracker]:
        tracking = self._config.tracking
        if not tracking.experiments:
            return []
        from fedsm.tracking.sagemaker import SageMakerExperiments

        return [SageMakerExperiments(source, tracking.prefix)]

    def _started(self) -> None:
        config, training = self._config, self._config.training
        self.journal.append(
            "run-started",
            run=self._run,
            federation=config.name,
            cloud=config.cloud,
            isolation=self._cloud.isolation,
            rounds=training.rounds,
            strategy=training.strategy,
            options=training.options,
            hyperparameters=training.hyperparameters,
            min_sites=config.min_sites,
            model=training.model or "",
            mode=DIRECT_MODE,
            experiment=(
                experiment_name(config.tracking.prefix, config.name)
                if config.tracking.experiments
                else ""
            ),
            sites=[
                {
                    "name": site.name,
                    "account": site.account_id,
                    "region": site.region,
                    "instance_type": site.instance_type,
                    "bundle": site.bundle or self._bundle,
                    "role": site.role_arn,
                    "external_id": site.external_id,
                    "job": job_name(self._config.name, self._run, site.name),
                }
                for site in config.sites
            ],
            bundle=self._bundle,
        )

    def _end(self, status: str, reason: str, outcome: Outcome | None) -> None:
        path = next(
            (p for n in ("model.joblib", "model.npz") if (p := self._directory / n).exists()), None
        )
        digest = hashlib.sha256(path.read_bytes()).hexdigest() if path and outcome else ""
        self.journal.append(
            "run-ended",
            status=status,
            reason=reason,
            model=str(path) if path and outcome else "",
            model_sha256=digest,
        )


@contextmanager
def _remembered(interrupted: threading.Event) -> Iterator[None]:
    """Set ``interrupted`` at each signal that raises ``KeyboardInterrupt``.

    Python raises it wherever the main thread is, be it in a finalizer or in a caller's ``except``
    that swallows it.
    """
    taken = []
    if threading.current_thread() is threading.main_thread():
        taken = [
            number
            for number in (signal.SIGINT, signal.SIGTERM)
            if signal.getsignal(number) is signal.default_int_handler
        ]

    def handle(number: int, frame: FrameType | None) -> None:
        interrupted.set()
        signal.default_int_handler(number, frame)

    for number in taken:
        signal.signal(number, handle)
    try:
        yield
    finally:
        for number in taken:
            signal.signal(number, signal.default_int_handler)


def _reason(error: BaseException) -> str:
    """What the journal says: fedsm's own errors in full, of others only their class."""
    if isinstance(error, KeyboardInterrupt):
        return "interrupted"
    return str(error) if isinstance(error, FedsmError) else type(error).__name__
