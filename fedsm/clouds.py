"""The two clouds. They differ only in where sessions come from."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import boto3

from fedsm.aws.calls import translated
from fedsm.aws.sessions import no_credentials
from fedsm.config import FederationConfig, Site
from fedsm.errors import AccessError, LocalCloudError


class Cloud(Protocol):
    """Where sessions come from.

    Attributes
    ----------
    isolation : str
        How jobs are kept apart.
    poll_interval : float
        Seconds between two looks at a job.
    """

    isolation: str
    poll_interval: float

    def coordinator(self) -> boto3.Session:
        """Ambient credentials in the server account."""
        ...

    def owner(self, site: Site) -> boto3.Session:
        """Ambient credentials of a site's owner."""
        ...

    def check(self) -> None:
        """Raise ``LocalCloudError`` when the cloud itself has gone."""
        ...


class AwsCloud:
    """AWS: whatever credentials boto3 finds."""

    isolation = "aws"
    poll_interval = 10.0

    def __init__(self, config: FederationConfig) -> None:
        self._config = config

    def coordinator(self) -> boto3.Session:
        """Ambient credentials."""
        return boto3.Session(region_name=self._config.coordinator.region)

    def owner(self, site: Site) -> boto3.Session:
        """Ambient credentials, which must be of the site's account.

        Raises
        ------
        AccessError
            They are of another account.
        """
        session = boto3.Session(region_name=site.region)
        if session.get_credentials() is None:
            raise no_credentials(site.name)
        with translated(site.name, "your credentials cannot be used", AccessError, "sign in again"):
            account = session.client("sts").get_caller_identity()["Account"]
        if account != site.account_id:
            raise AccessError(
                f"your credentials are of account {account}, the site is in {site.account_id}",
                where=site.name,
                action="run this with the credentials of the site's owner",
            )
        return session

    def check(self) -> None:
        """AWS does not go away."""


class LocalCloud:
    """The local cloud of a project's directory, started on demand.

    Parameters
    ----------
    directory : Path
        The project's directory; the cloud's state lies in ``.fedsm/cloud`` below it.
    config : FederationConfig
        Names the accounts.
    prepare : callable
        Called with the cloud each time, to set up what the owners would and is not there yet. Only
        one process at a time starts and prepares a project's cloud: another waits for it.
    """

    poll_interval = 0.5

    def __init__(
        self,
        directory: Path,
        config: FederationConfig,
        prepare: Callable[[LocalCloud], None],
    ) -> None:
        try:
            import fcntl

            from fedsm import local
        except ImportError as error:
            raise LocalCloudError(
                f"the local cloud needs {error.name}",
                where="cloud: local",
                action="pip install 'fedsm[local]', or set cloud: aws",
            ) from error
        self._config = config
        accounts = [config.coordinator.account_id, *(s.account_id for s in config.sites)]
        lock = directory / ".fedsm" / "set-up.lock"
        lock.parent.mkdir(exist_ok=True)
        with lock.open("a") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            self.endpoint = local.up(directory, accounts=list(dict.fromkeys(accounts)))
            self.isolation = self.endpoint.isolation
            prepare(self)

    def identity(self) -> str:
        """Hex digest that tells this process of the cloud from any other, earlier or later.

        Raises
        ------
        LocalCloudError
            The cloud has ended.
        """
        from fedsm.local.control import STATE

        # The state file holds the process's random tokens; a process id is used again.
        try:
            state = (self.endpoint.directory / STATE).read_bytes()
        except OSError as error:
            raise LocalCloudError(
                "the local cloud went away while it was set up",
                where=str(self.endpoint.directory),
                action="try again",
            ) from error
        return hashlib.sha256(state).hexdigest()

    def check(self) -> None:
        """See that the cloud's process lives, whose jobs end with it.

        Raises
        ------
        LocalCloudError
            It has ended.
        """
        try:
            os.kill(self.endpoint.pid, 0)
        except ProcessLookupError:
            raise LocalCloudError(
                "the local cloud has gone, and its jobs with it",
                where=str(self.endpoint.directory),
                action="read cloud.log there, then train again: that starts it",
            ) from None

    def coordinator(self) -> boto3.Session:
        """An administrator of the server account."""
        coordinator = self._config.coordinator
        return self.endpoint.session(coordinator.account_id, coordinator.region)

    def owner(self, site: Site) -> boto3.Session:
        """An administrator of the site's account."""
        return self.endpoint.session(site.account_id, site.region)
