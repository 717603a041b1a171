"""The two clouds. They differ only in where sessions come from."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import boto3

from fedsm.aws.calls import translated
from fedsm.aws.sessions import Sessions, no_credentials
from fedsm.config import FederationConfig, Site
from fedsm.errors import AccessError, LocalCloudError

if TYPE_CHECKING:
    from fedsm.local import Endpoint


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


def owner_session(site: str, account_id: str, region: str) -> boto3.Session:
    """Ambient credentials, which must be of the account of a site's owner.

    Raises
    ------
    AccessError
        There are none, or they are of another account.
    """
    session = boto3.Session(region_name=region)
    if session.get_credentials() is None:
        raise no_credentials(site)
    with translated(site, "your credentials cannot be used", AccessError, "sign in again"):
        account = session.client("sts").get_caller_identity()["Account"]
    if account != account_id:
        raise AccessError(
            f"your credentials are of account {account}, the site is in {account_id}",
            where=site,
            action="run this with the credentials of the site's owner",
        )
    return session


def role_session(
    session: boto3.Session, site: str, role_arn: str, region: str, *, who: str | None = None
) -> boto3.Session:
    """A session of one of the owner's own roles, taken with the owner's credentials.

    Parameters
    ----------
    who : str, optional
        ARN of the principal that alone may take it.

    Raises
    ------
    AccessError
        These credentials may not take it.
    """
    name = role_arn.rpartition("/")[2]
    with translated(site, "your credentials cannot be used", AccessError, "sign in again"):
        caller = str(session.client("sts").get_caller_identity()["Arn"])
    if f":assumed-role/{name}/" in caller:
        return session
    sessions = Sessions(session, f"fedsm-{name.rpartition('-')[2]}")
    try:
        return sessions.assume(session, site, role_arn, region, "")
    except AccessError as error:
        raise AccessError(
            f"{caller} may not take the role {role_arn}",
            where=site,
            action=f"use the credentials of {who}"
            if who
            else "use credentials that IAM allows sts:AssumeRole on it; where there is no such "
            "role yet, set the account up: fedsm site accept --apply",
        ) from error


class AwsCloud:
    """AWS: whatever credentials boto3 finds."""

    isolation = "aws"
    poll_interval = 10.0

    def __init__(self, region: str) -> None:
        self._region = region

    def coordinator(self) -> boto3.Session:
        """Ambient credentials."""
        return boto3.Session(region_name=self._region)

    def owner(self, site: Site) -> boto3.Session:
        """Ambient credentials, which must be of the site's account.

        Raises
        ------
        AccessError
            They are of another account.
        """
        return owner_session(site.name, site.account_id, site.region)

    def check(self) -> None:
        """AWS does not go away."""


class RunningCloud:
    """A local cloud that is up.

    Parameters
    ----------
    endpoint : Endpoint
        It.
    account, region : str
        The server account.
    """

    poll_interval = 0.5

    def __init__(self, endpoint: Endpoint, account: str, region: str) -> None:
        self.endpoint = endpoint
        self.isolation = endpoint.isolation
        self._account = account
        self._region = region

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
        return self.endpoint.session(self._account, self._region)

    def owner(self, site: Site) -> boto3.Session:
        """An administrator of the site's account."""
        return self.endpoint.session(site.account_id, site.region)


class LocalCloud(RunningCloud):
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
        server = config.coordinator
        accounts = [server.account_id, *(s.account_id for s in config.sites)]
        lock = directory / ".fedsm" / "set-up.lock"
        lock.parent.mkdir(exist_ok=True)
        with lock.open("a") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            endpoint = local.up(directory, accounts=list(dict.fromkeys(accounts)))
            super().__init__(endpoint, server.account_id, server.region)
            prepare(self)


def reached(directory: Path, cloud: str, account: str, region: str) -> Cloud:
    """The cloud of an earlier run, for its credentials; a local one is not started to look back.

    Parameters
    ----------
    directory : Path
        The project's directory.
    cloud : str
        ``aws`` or ``local``.
    account, region : str
        The server account.

    Raises
    ------
    LocalCloudError
        The run was on the local cloud, and that is down.
    """
    if cloud == "aws":
        return AwsCloud(region)
    from fedsm import local

    endpoint = local.status(directory)
    if endpoint is None:
        raise LocalCloudError(
            "the local cloud is down; its jobs and logs ended with it",
            where=str(directory),
            action="read the journal with fedsm status and fedsm history",
        )
    return RunningCloud(endpoint, account, region)
