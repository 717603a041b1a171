"""``Federation``: check, plan, publish, train, attach."""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from fedsm import config as configuration
from fedsm.agreement import partition_of
from fedsm.agreements import AGREEMENTS
from fedsm.aws.artifacts import publish
from fedsm.bundle import Bundle, of_project
from fedsm.clouds import AwsCloud, Cloud, LocalCloud, role_session
from fedsm.config import FederationConfig
from fedsm.coordinator import Coordinator
from fedsm.errors import ConfigError
from fedsm.evaluation import on_test_rows
from fedsm.events import Event
from fedsm.hooks import Hooks, first_arrays, strategy_of
from fedsm.launch import make_join_ids, make_plan
from fedsm.names import role_arn
from fedsm.plan import LaunchPlan
from fedsm.provision import onboard, provision
from fedsm.run import RUNS, Run, run_ids
from fedsm.transport.identity import make_certificate

_RUN_ID = re.compile(r"(?=.{1,60}$)[a-z0-9](-?[a-z0-9])*")


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
        return of_project(self.directory)

    @property
    def cloud(self) -> Cloud:
        """Where sessions come from; starts the local cloud and sets up what it lacks."""
        if self.config.cloud == "local":
            # Each time: it may be down, and the data may have changed.
            return LocalCloud(self.directory, self.config, self._provision)
        if self._cloud is None:
            self._cloud = AwsCloud(self.config.coordinator.region)
        return self._cloud

    def plan(self, *, sites: Iterable[str] | None = None, run: str | None = None) -> LaunchPlan:
        """The whole launch as data. Makes no call; certificate and join ids are examples."""
        config = self._chosen(sites)
        # What train would refuse before it calls anything.
        strategy_of(config)
        first_arrays(config.training, Hooks(), self.directory)
        on_test_rows(config.training, self.directory)
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
        publisher = role_arn(
            chosen.account_id, self.config.name, site, "publisher", partition_of(chosen.role_arn)
        )
        session = role_session(cloud.owner(chosen), site, publisher, chosen.region)
        return publish(session.client("s3"), chosen, self.bundle)

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
        handle = Run(self.directory / RUNS / run_id)
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
        return Run.open(self.directory, run)

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
                action="let each owner set his account up: fedsm site accept",
            )
        return LocalCloud(self.directory, self.config, partial(self._provision, again=True))

    def onboard(self, sites: Iterable[str]) -> Iterator[str]:
        """Take owners in whose terms lie in ``agreements/``, on the local cloud.

        Each is invited, accepts, publishes, approves and is added to ``federation.yaml``, which is
        to be read anew afterwards.

        Returns
        -------
        iterator of str
            What was done, line by line.

        Raises
        ------
        FedsmError
            Whatever an owner would see.
        """
        made: list[str] = []
        LocalCloud(
            self.directory,
            self.config,
            lambda cloud: made.extend(
                onboard(cloud, self.config, self.directory, sites, self.bundle)
            ),
        )
        return iter(made)

    def how_to_approve(self, site: str) -> list[str]:
        """What the site's owner does next, after a bundle was published."""
        digest = self.bundle.sha256
        if self.config.cloud == "aws":
            return [f"{site}: next, by its owner's approver: fedsm site approve {digest}"]
        account = self.config.subset([site]).sites[0].account_id
        place = self.directory / AGREEMENTS / site
        return [
            f"{site}: next, as its owner's approver:",
            f'  eval "$(fedsm local env {account} {self.directory})"',
            f"  fedsm site approve {digest} {place}",
        ]

    def _chosen(self, sites: Iterable[str] | None) -> FederationConfig:
        if isinstance(sites, str):
            sites = [sites]
        if not self.config.sites:
            raise ConfigError(
                "there is no site yet",
                where="sites",
                action="invite a data owner with `fedsm site invite SITE`, and put its acceptance "
                "in with `fedsm site add`",
            )
        config = self.config if sites is None else self.config.subset(sites)
        if config.min_sites > len(config.sites):
            raise ConfigError(
                f"{config.min_sites} is more than the {len(config.sites)} sites",
                where="training.min_sites",
                action="lower it, or add sites with `fedsm site add`",
            )
        return config

    def _provision(self, cloud: LocalCloud, *, again: bool = False) -> None:
        provision(cloud, self.config, self.directory, lambda: self.bundle, again=again)
