"""``Federation``: check, plan, publish, train, attach."""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from fedsm import bundle as bundles
from fedsm import config as configuration
from fedsm.assets import asset
from fedsm.aws.artifacts import publish
from fedsm.bundle import Bundle
from fedsm.clouds import AwsCloud, Cloud, LocalCloud
from fedsm.config import FederationConfig
from fedsm.coordinator import Coordinator, Hooks, make_join_ids, make_plan, strategy_of
from fedsm.errors import ConfigError
from fedsm.evaluation import on_test_rows
from fedsm.events import Event
from fedsm.plan import LaunchPlan
from fedsm.provision import provision, publisher_client
from fedsm.run import RUNS, Run, run_ids
from fedsm.transport.identity import make_certificate

_RUN_ID = re.compile(r"(?=.{1,60}$)[a-z0-9](-?[a-z0-9])*")

DATA = "data"
CLIENT_CODE = "client_code"
WHEELHOUSE = "wheelhouse"


class Federation:
    """A federation and the directory that its file lies in.

    Examples
    --------
    >>> federation = Federation.load("federation.yaml")   # doctest: +SKIP
    >>> run = federation.train()                          # doctest: +SKIP
    >>> run.history()[-1]["server"]["auc"]                # doctest: +SKIP
    """

    def __init__(self, config: FederationConfig, directory: Path) -> None:
        self.config = config
        self.directory = directory.resolve()
        self._cloud: Cloud | None = None

    @classmethod
    def load(
        cls, path: str | Path = "federation.yaml", overrides: Mapping[str, Any] | None = None
    ) -> Federation:
        """Read a ``federation.yaml``, or the one in a directory.

        Parameters
        ----------
        path : str or Path
            The file or its directory.
        overrides : mapping, optional
            Dotted path to value, such as ``{"training.rounds": 5}``.

        Raises
        ------
        ConfigError
            The file cannot be read or holds faults; all are listed.
        """
        file = Path(path)
        file = file / "federation.yaml" if file.is_dir() else file
        return cls(configuration.load(file, overrides), file.parent)

    @property
    def bundle(self) -> Bundle:
        """The local client code as a bundle: ``client_code/`` beside the file, or the shipped."""
        own = self.directory / CLIENT_CODE
        wheels = self.directory / WHEELHOUSE
        return bundles.build(
            own if own.is_dir() else asset(CLIENT_CODE),
            wheelhouse=wheels if wheels.is_dir() else None,
        )

    @property
    def cloud(self) -> Cloud:
        """Where sessions come from; starts the local cloud and sets up what it lacks."""
        if self.config.cloud == "local":
            # Each time: it may be down, and the data may have changed.
            return LocalCloud(self.directory, self.config, self._provision)
        if self._cloud is None:
            self._cloud = AwsCloud(self.config)
        return self._cloud

    def plan(self, *, sites: Iterable[str] | None = None, run: str | None = None) -> LaunchPlan:
        """The whole launch as data. Makes no call; certificate and join ids are examples."""
        config = self._chosen(sites)
        strategy_of(config)
        return make_plan(
            config,
            run or self.new_run_id(),
            self.bundle.sha256,
            make_certificate().der_base64,
            make_join_ids(config),
            config.coordinator.port,
        )

    def publish(self, site: str) -> str:
        """Publish the bundle in a site's bucket, with its owner's credentials.

        Returns
        -------
        str
            The bundle's S3 URI.

        Raises
        ------
        AccessError
            The credentials are of another account, or may not write there.
        """
        chosen = self.config.subset([site]).sites[0]
        cloud = self.cloud
        s3 = (
            publisher_client(cloud, chosen)
            if isinstance(cloud, LocalCloud)
            else cloud.owner(chosen).client("s3")
        )
        return publish(s3, chosen, self.bundle)

    def train(
        self,
        *,
        sites: Iterable[str] | None = None,
        wait: bool = True,
        initial: Any = None,
        evaluate_fn: Callable[..., Mapping[str, float]] | None = None,
        config_fn: Callable[[int], Mapping[str, Any]] | None = None,
        on_event: Callable[[Event], None] | None = None,
        run: str | None = None,
    ) -> Run:
        """Train one model over the sites.

        Parameters
        ----------
        sites : iterable of str, optional
            Only these sites.
        wait : bool
            Return when the run is over; otherwise at once, while it goes on in a thread.
        initial : flwr.app.ArrayRecord, optional
            First global arrays; goes before ``training.initial``.
        evaluate_fn : callable, optional
            ``(round, arrays, summary) -> metrics``; goes before ``training.test``.
        config_fn : callable, optional
            ``round -> mapping`` sent to the sites with each message.
        on_event : callable, optional
            Gets every event of the journal; must be quick.

        Raises
        ------
        FedsmError
            Whatever ended the run; jobs that had started are stopped.
        """
        config = self._chosen(sites)
        run_id = run or self.new_run_id()
        if not _RUN_ID.fullmatch(run_id):
            raise ConfigError(
                f"{run_id!r} is no run id",
                where="run",
                action="use at most 60 lower-case letters, digits and single hyphens",
            )
        evaluate = evaluate_fn or on_test_rows(config.training, self.directory)
        coordinator = Coordinator(
            config,
            self.cloud,
            run_id,
            self.directory / RUNS / run_id,
            self.bundle.sha256,
            Hooks(initial=initial, evaluate_fn=evaluate, config_fn=config_fn),
            self.directory,
        )
        if on_event is not None:
            coordinator.journal.subscribe(on_event)
        handle = Run(self.directory / RUNS / run_id, self)
        if wait:
            coordinator.conduct()
        else:
            handle.follow(coordinator.conduct, coordinator.stop)
        return handle

    def attach(self, run: str | None = None) -> Run:
        """A handle on a run of this directory; without an id, on the latest.

        Raises
        ------
        ConfigError
            There is no such run.
        """
        return Run.open(self.directory, run, self)

    def runs(self) -> list[str]:
        """Ids of the runs of this directory, oldest first."""
        return run_ids(self.directory)

    def new_run_id(self) -> str:
        """A fresh run id: name, UTC time, and four random characters."""
        stamp = datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
        return f"{self.config.name}-{stamp}-{secrets.token_hex(2)}"

    def set_up(self) -> LocalCloud:
        """Set up again, on the local cloud, what server and owners would set up on AWS.

        Done by itself when the cloud starts or gains an account, and for changed data. To other
        changes of ``federation.yaml`` the owners must consent: that is this call.

        Raises
        ------
        ConfigError
            The federation is on AWS, where the owners set up their accounts.
        """
        if self.config.cloud == "aws":
            raise ConfigError(
                "the federation is on AWS",
                where="cloud",
                action="let each owner create roles and buckets from the documents in policies.py",
            )
        return LocalCloud(self.directory, self.config, partial(self._provision, again=True))

    def _chosen(self, sites: Iterable[str] | None) -> FederationConfig:
        if isinstance(sites, str):
            sites = [sites]
        return self.config if sites is None else self.config.subset(sites)

    def _provision(self, cloud: LocalCloud, *, again: bool = False) -> None:
        provision(cloud, self.config, self.directory / DATA, self.bundle, again=again)
