"""Start, find and end a project's local cloud."""

from __future__ import annotations

import fcntl
import hmac
import http.client
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedsm.errors import LocalCloudError
from fedsm.local.accounts import read_keys

if TYPE_CHECKING:
    import boto3

STATE = "cloud.json"
NOT_KEPT = (
    "roles, policies, keys, buckets, pipelines, logs, experiments and sessions end with the "
    "cloud's process"
)
LOG = "cloud.log"
START_TIMEOUT = 30.0
DOWN_TIMEOUT = 30.0


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A running local cloud.

    Attributes
    ----------
    url : str
        Where every AWS API answers; on loopback.
    pid : int
        The cloud's process.
    directory : Path
        Its state: ``credentials.ini``, ``cloud.log``, ``jobs/``, ``environments/``.
    isolation : {"bubblewrap", "process"}
        How jobs are kept apart.
    accounts : tuple of str
        Account ids.
    """

    url: str
    pid: int
    directory: Path
    isolation: str
    accounts: tuple[str, ...]

    def session(self, account_id: str, region: str) -> boto3.Session:
        """Administrator of an account; every client of the session goes to this cloud.

        The address is the variable ``endpoint_url`` of botocore's configuration store, where a
        derived session finds it with ``get_config_variable("endpoint_url")``.

        Raises
        ------
        LocalCloudError
            The cloud has no such account.
        """
        # boto3 is slow to import, and starting and finding a cloud need none of it.
        import boto3
        import botocore.session

        keys = read_keys(self.directory).get(account_id)
        if keys is None:
            raise LocalCloudError(
                "the local cloud has no such account",
                where=account_id,
                action=f"bring it up with this account; it has {', '.join(self.accounts)}",
            )
        core = botocore.session.Session()
        core.register_component("data_loader", _loader())
        core.set_credentials(*keys)
        core.set_config_variable("region", region)
        # The session's own variable gives way to botocore's provider of endpoints; the store's not.
        core.get_component("config_store").set_config_variable("endpoint_url", self.url)
        session = boto3.Session(botocore_session=core, region_name=region)
        # Each boto3 session adds its own folder once more.
        _loader().search_paths[:] = dict.fromkeys(_loader().search_paths)
        return session


@cache
def _loader() -> Any:
    """One reader of botocore's service models: to read them again takes longer than most calls."""
    import botocore.loaders

    return botocore.loaders.create_loader()


def state_directory(directory: Path) -> Path:
    """Where the cloud of a project's directory keeps its state."""
    return directory.resolve() / ".fedsm" / "cloud"


def up(directory: Path, *, accounts: Sequence[str], stop_grace: float | None = None) -> Endpoint:
    """Make sure that the project's cloud runs and has these accounts.

    Does nothing for what is there already. Two callers at once agree on one cloud. The cloud
    outlives the caller.

    Parameters
    ----------
    directory : Path
        The project's directory; state goes to ``.fedsm/cloud`` in it.
    accounts : sequence of str
        Account ids of twelve digits.
    stop_grace : float, optional
        Seconds between SIGTERM and SIGKILL of StopTrainingJob; 120 as SageMaker's. Of use only to
        the call that starts the cloud.

    Raises
    ------
    LocalCloudError
        The cloud did not start; the message holds the end of its log.
    """
    state = state_directory(directory)
    state.mkdir(parents=True, exist_ok=True, mode=0o700)
    with _locked(state / "start.lock"):
        found = status(directory)
        if found is None:
            _start(directory, state, stop_grace)
        _request(state, "POST", "/_fedsm/accounts", {"accounts": list(accounts)})
        found = status(directory)
        if found is None:
            raise _failed(state, "the local cloud went away while it was started")
        return found


def status(directory: Path) -> Endpoint | None:
    """The project's cloud, None when none runs."""
    state = state_directory(directory)
    try:
        health = _request(state, "GET", "/_fedsm/health")
    except (OSError, LocalCloudError, http.client.HTTPException):
        return None
    if health.get("directory") != str(state):
        return None
    return Endpoint(
        url=health["url"],
        pid=health["pid"],
        directory=state,
        isolation=health["isolation"],
        accounts=tuple(health["accounts"]),
    )


def down(directory: Path) -> None:
    """Stop the project's jobs and its cloud; does nothing when none runs.

    Raises
    ------
    LocalCloudError
        It did not end.
    """
    state = state_directory(directory)
    found = status(directory)
    if found is None:
        return
    os.kill(found.pid, signal.SIGTERM)
    deadline = time.monotonic() + DOWN_TIMEOUT
    # The cloud holds this lock for as long as it lives, so to get it is to see it ended.
    with (state / "serve.lock").open("a") as lock:
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise _failed(state, "the local cloud did not end") from None
                time.sleep(0.02)


def _start(directory: Path, state: Path, stop_grace: float | None) -> None:
    ready, ready_write = os.pipe()
    command = [sys.executable, "-m", "fedsm.local", "serve", str(directory.resolve())]
    command += ["--ready-fd", str(ready_write)]
    command += [] if stop_grace is None else ["--stop-grace", str(stop_grace)]
    try:
        with (state / LOG).open("a") as log:
            # This process ends at once: the cloud is its grandchild, in a session of its own.
            launched = subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=(ready_write,),
                check=False,
            )
    finally:
        os.close(ready_write)
    with os.fdopen(ready, "rb") as pipe:
        said = b"" if launched.returncode else pipe.read()
    if said != b"ready":
        raise _failed(state, "the local cloud did not start")


def _request(state: Path, method: str, path: str, body: Any = None) -> dict[str, Any]:
    """Call the cloud's own control address; only who can read its state file is let in."""
    try:
        described = json.loads((state / STATE).read_text())
        port, token, proof = (described[name] for name in ("port", "token", "proof"))
    except (ValueError, KeyError, TypeError) as error:
        raise LocalCloudError("the state file is no cloud's", where=str(state / STATE)) from error
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        headers = {"Authorization": token, "Content-Type": "application/json"}
        connection.request(method, path, json.dumps(body or {}), headers)
        response = connection.getresponse()
        answer: dict[str, Any] = json.loads(response.read())
        genuine = hmac.compare_digest(str(answer.get("proof", "")), proof)
    except (ValueError, AttributeError) as error:
        raise LocalCloudError("another program answers on the cloud's port") from error
    finally:
        connection.close()
    if response.status != 200 or not genuine:
        raise LocalCloudError(
            str(answer.get("message", "the local cloud refused")), where=str(state)
        )
    return answer


def _failed(state: Path, what: str) -> LocalCloudError:
    lines = []
    if (state / LOG).exists():
        lines = (state / LOG).read_text(errors="replace").splitlines()[-5:]
    tail = f" ({' | '.join(lines)})" if lines else ""
    return LocalCloudError(what + tail, where=str(state), action=f"read {state / LOG}")


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
