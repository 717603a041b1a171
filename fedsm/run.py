"""``Run``: a handle on one run, in this process or another; everything is read from its journal."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedsm import events
from fedsm.aws import jobs
from fedsm.aws.artifacts import read_object
from fedsm.aws.sessions import Sessions
from fedsm.config import Site
from fedsm.coordinator import PID_FILE, STOP_FILE
from fedsm.errors import FedsmError, JobError, TrainingError
from fedsm.plan import session_name
from fedsm.state import RunState, fold

if TYPE_CHECKING:
    from fedsm.federation import Federation


class Run:
    """One run.

    Attributes
    ----------
    id : str
        Run id.
    directory : Path
        Where its journal, checkpoints and model lie.
    """

    def __init__(self, directory: Path, federation: Federation) -> None:
        self.id = directory.name
        self.directory = directory
        self._federation = federation
        self._thread: threading.Thread | None = None
        self._stop: threading.Event | None = None
        self._error: BaseException | None = None

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
        """
        state = self.status().sites.get(site)
        if state is None or not state.job:
            raise JobError(
                "has no job in this run",
                where=site,
                action=f"choose one of {', '.join(self.status().sites) or 'its sites'}",
            )
        chosen = self._site(site)
        cloud = self._federation.cloud
        if owner:
            client = cloud.owner(chosen).client("logs", region_name=chosen.region)
        else:
            client = self._client(chosen, "logs")
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
        state = self.status().sites.get(site)
        if state is None or state.status != "Completed":
            raise JobError(
                "its job has left no model",
                where=site,
                action="see its status with fedsm status",
            )
        chosen = self._site(site)
        client = self._federation.cloud.owner(chosen).client("s3", region_name=chosen.region)
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

    def _site(self, name: str) -> Site:
        return self._federation.config.subset([name]).sites[0]

    def _client(self, site: Site, service: str) -> Any:
        cloud, server = self._federation.cloud, self._federation.config.coordinator
        sessions = Sessions(cloud.coordinator(), session_name(self.id))
        session = sessions.assume(
            sessions.coordinator(server.region, server.role_arn),
            site.name,
            site.role_arn,
            site.region,
            site.external_id,
        )
        return sessions.client(session, service, site.name, site.region)

    def _stop_jobs(self) -> None:
        errors = []
        for name, state in self.status().sites.items():
            if state.job:
                try:
                    jobs.stop(self._client(self._site(name), "sagemaker"), name, state.job)
                except FedsmError as error:
                    errors.append(error)
        if errors:
            raise errors[0]
