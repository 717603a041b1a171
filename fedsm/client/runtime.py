"""The job's program: read the contract, load the app, serve the coordinator, leave the models."""

from __future__ import annotations

import base64
import binascii
import os
import signal
import sys
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from flwr.app import RecordDict

from fedsm.client import closing, log
from fedsm.client.app_loader import load_app
from fedsm.client.contract import TrainingContract, base_dir, write_failure
from fedsm.client.exits import Exit, Failure, failure, stated
from fedsm.client.handler import AppHandler, Interrupted
from fedsm.client.heads import Heads
from fedsm.client.limits import Limits
from fedsm.client.release import Release
from fedsm.client.signing import make_signer
from fedsm.contract import JobSettings
from fedsm.errors import (
    ConfigError,
    CoordinatorGone,
    FedsmError,
    IdentityRefused,
    ProtocolMismatch,
    TransportError,
)
from fedsm.learning.models import adapter
from fedsm.transport import notes
from fedsm.transport.session import Session

_GONE = signal.SIGUSR1
"""Sent by the job to itself, to break off an app that computes for nobody."""


def main() -> int:
    """Run the job whose ``train.py`` is this program; returns its exit code (:class:`Exit`)."""
    job = Job(Path(sys.argv[0]).resolve().parent, os.environ)
    signal.signal(signal.SIGTERM, job.on_stop)
    signal.signal(_GONE, job.on_gone)
    found = job.run()
    if found is None:
        log.line("ended", code=0, reason=Exit.OVER.sentence)
        return Exit.OVER
    log.line("ended", code=int(found.exit), reason=found.sentence)
    write_failure(base_dir(os.environ), found.sentence)
    return found.exit


class Job:
    """One job from its settings to its models.

    Parameters
    ----------
    code : Path
        Folder with ``app.py``.
    environ : mapping of str to str
        The job's environment.
    """

    def __init__(self, code: Path, environ: Mapping[str, str]) -> None:
        self._code = code
        self._environ = environ
        self._session: Session | None = None
        self._handler: AppHandler | None = None
        self._connected = False
        self._stopping = False

    def on_stop(self, *_: object) -> None:
        """Signal handler: leave with what there is."""
        self._stopping = True
        if self._session is None:
            raise Interrupted
        self._session.stop()
        self.on_gone()

    def on_gone(self, *_: object) -> None:
        """Signal handler: break off the app; the session ends by itself."""
        if self._handler is not None:
            self._handler.interrupt()

    def run(self) -> Failure | None:
        """Take part in the run; None if all went well."""
        try:
            return self._run()
        except Interrupted:
            return _STOPPED

    def _run(self) -> Failure | None:
        try:
            contract = TrainingContract.from_environment(self._environ)
            settings = JobSettings.from_environment(self._environ)
            release = Release.from_environment(self._environ)
            limits = Limits.from_environment(self._environ)
            limits.check(settings, contract.hyperparameters)
            if settings.model:
                adapter(settings.model, self._code)
            session = self._make_session(contract, settings)
        except ConfigError as error:
            return stated(Exit.SETTINGS_WRONG, error)
        log.line("starting", run=settings.run, site=settings.site, device=contract.device)
        try:
            app = load_app(self._code)
        except Interrupted:
            raise
        except BaseException as error:
            traceback.print_exception(error)
            if self._stopping:
                return _STOPPED
            return failure(Exit.APP_NOT_LOADED, error, self._code)
        heads = Heads(contract.model_dir, settings.run, settings.site, lambda: session.traffic.sent)
        handler = AppHandler(
            app,
            self._code,
            run_config=contract.hyperparameters,
            node_config={
                "site": settings.site,
                "model": settings.model,
                "code": str(self._code),
                "smallest-count": release.smallest,
                "partition-id": settings.partition,
                "num-partitions": settings.partitions,
                **{f"channel-{name}": str(path) for name, path in contract.channels.items()},
            },
            release=release,
            heads=heads,
            rounds=limits.rounds,
        )
        self._handler, self._session = handler, session
        if self._stopping:  # the import of the app may have swallowed the exception
            return _STOPPED
        final, found = self._serve(session, handler)
        if final is not None and (head := notes.take_head(final)) is not None:
            heads.add("closing", head)
        if final is not None:
            _fill(handler, final)
        unsaved = _save(contract, settings, handler, final, self._code)
        return found or unsaved or handler.failure

    def _make_session(self, contract: TrainingContract, settings: JobSettings) -> Session:
        try:
            certificate = base64.b64decode(settings.certificate, validate=True)
        except binascii.Error:
            raise ConfigError(
                "is not base64", where="FEDSM_CERTIFICATE", action="start the job through fedsm"
            ) from None
        return Session(
            address=settings.address,
            certificate_der=certificate,
            run=settings.run,
            site=settings.site,
            join_id=settings.join_id,
            sign=make_signer(settings.sts_region, self._environ),
            max_wait=settings.max_wait,
            device=contract.device,
            on_event=self._on_event,
        )

    def _on_event(self, kind: str, data: Mapping[str, Any]) -> None:
        """Called by the session in its own thread."""
        log.line(kind, **data)
        self._connected |= kind == "connected"
        if kind == "gone" and signal.getsignal(_GONE) == self.on_gone:
            os.kill(os.getpid(), _GONE)

    def _serve(
        self, session: Session, handler: AppHandler
    ) -> tuple[RecordDict | None, Failure | None]:
        """Serve until the end; returns the closing message and the failure of the link."""
        try:
            end = session.serve(handler)
        except CoordinatorGone as error:
            if not self._connected:
                return None, stated(Exit.COORDINATOR_NOT_REACHED, error)
            return None, None
        except ProtocolMismatch as error:
            return None, stated(Exit.PROTOCOL_MISMATCH, error)
        except IdentityRefused as error:
            return None, stated(Exit.IDENTITY_REFUSED, error)
        except TransportError as error:
            return None, stated(Exit.LINK_FAILED, error)
        except Interrupted:
            return None, _STOPPED
        return end.content, _STOPPED if end.reason == "stopped" else None


_STOPPED = Failure(Exit.STOPPED, f"Stopped: {Exit.STOPPED.sentence}.")


def _fill(handler: AppHandler, final: RecordDict) -> None:
    """Put the preparation into the closing message; without it the models are saved as arrays."""
    try:
        handler.prepared.fill(final)
    except LookupError:
        log.line("prepared-values-unknown", kind="closing")


def _save(
    contract: TrainingContract,
    settings: JobSettings,
    handler: AppHandler,
    final: RecordDict | None,
    code: Path,
) -> Failure | None:
    """Save the final global model, or the last one seen, and the site's own beside it."""
    arrays, config = handler.last_global, handler.config
    if final is not None:
        arrays = next(iter(final.array_records.values()), arrays)
        config = next(iter(final.config_records.values()), config)
    found = None
    for stem, content, statistics in (
        ("model", arrays, config),
        ("local", handler.last_local, handler.config),
        ("personal", handler.personal, handler.config),
    ):
        if content is None:
            continue
        try:
            closing.save(
                contract.model_dir,
                stem,
                content,
                statistics,
                model=settings.model,
                run_config=contract.hyperparameters,
                code=code,
            )
        except (OSError, ValueError, FedsmError) as error:
            traceback.print_exception(error)
            found = found or failure(Exit.MODEL_NOT_WRITTEN, error, contract.base)
    return found
