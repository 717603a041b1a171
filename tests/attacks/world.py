"""A federation on a local cloud, set up as its owners do it, and an attacker in the server account.

The attacker has all of the server account: its administrator, the coordinator's role, and through
that the kickoff roles. Site ``north`` is attacked. In the same owner's account live a site whose
name begins alike, and a site of the same name in a federation whose name begins alike.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import boto3

from fedsm.assets import asset
from fedsm.aws.sessions import Sessions
from fedsm.bundle import Bundle
from fedsm.contract import JobSettings
from fedsm.local import Endpoint
from fedsm.names import Launch, RoleKind, job_name
from fedsm.pipeline import parameters, pipeline_arn, start_request
from fedsm.request import TAG_RUN, TAG_SITE, hyperparameter_text, job_request
from fedsm.site_folder import SiteFolder
from fedsm.transport.identity import make_certificate
from tests.attacks import set_up
from tests.attacks.agreed import (
    BUNDLES,
    COORDINATOR,
    HYPERPARAMETERS,
    NETWORK,
    OWNER,
    PEOPLE,
    REGION,
    RUN,
    SERVER,
    SITES,
    invitation,
    merged,
    person,
    terms,
)

CERTIFICATE = make_certificate()
ENDED = {"Succeeded", "Failed", "Stopped", "Completed"}


@dataclass
class World:
    """One federation in one launch.

    Attributes
    ----------
    sites : dict
        Federation and site to the owner's folder.
    bundles : dict
        What is published at the attacked site, by its name in :data:`BUNDLES`.
    executions, jobs : dict
        What was started, by the names that :meth:`run` and :meth:`create` were given.
    """

    endpoint: Endpoint
    place: Path
    launch: Launch
    sites: dict[tuple[str, str], SiteFolder] = field(default_factory=dict)
    bundles: dict[str, Bundle] = field(default_factory=dict)
    executions: dict[str, str] = field(default_factory=dict)
    jobs: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        set_up.server(self)
        set_up.people(self)
        for federation, site in SITES:
            network = {
                "subnets": NETWORK["Subnets"],
                "security_groups": NETWORK["SecurityGroupIds"],
            }
            name = f"{federation}-{site}"
            folder = set_up.accept(
                self, invitation(federation, site, self.launch), terms(name, **network)
            )
            self.sites[federation, site] = folder
        set_up.rows(self)
        for name in BUNDLES:
            self.bundles[name] = set_up.bundle(self.place, name)
            self.folder("publisher").publish(self.bundles[name])
        if self.launch == "pipeline":
            set_up.approve(self)
        set_up.swap(self)

    # The owner ------------------------------------------------------------------------------

    @property
    def north(self) -> SiteFolder:
        """The site that is attacked."""
        return self.sites["heart", "north"]

    def folder(self, kind: RoleKind) -> SiteFolder:
        """The site's folder in the hands of the publisher or approver."""
        session = self.sessions.coordinator(REGION, person(PEOPLE[kind]))
        return SiteFolder(self.north.path, session)

    @cached_property
    def sessions(self) -> Sessions:
        """Sessions of the owner's people."""
        return Sessions(self.admin(OWNER), "person")

    @property
    def approved(self) -> Bundle:
        """The bundle that may run."""
        return self.bundles["approved"]

    def admin(self, account: str) -> boto3.Session:
        """An administrator."""
        return self.endpoint.session(account, REGION)

    def role_of(self, session: boto3.Session, arn: str, **more: Any) -> boto3.Session:
        """Take a role."""
        name = {"RoleSessionName": "attack", **more}
        given = session.client("sts").assume_role(RoleArn=arn, **name)["Credentials"]
        return self.with_keys(given)

    def with_keys(self, given: dict[str, Any]) -> boto3.Session:
        """A session of these credentials."""
        made = boto3.Session(
            given["AccessKeyId"], given["SecretAccessKey"], given["SessionToken"], REGION
        )
        made._session.get_component("config_store").set_config_variable(
            "endpoint_url", self.endpoint.url
        )
        return made

    # The server -----------------------------------------------------------------------------

    @cached_property
    def coordinator(self) -> boto3.Session:
        """The role that the owners trust."""
        return self.role_of(self.admin(SERVER), COORDINATOR)

    @cached_property
    def kickoff(self) -> boto3.Session:
        """The role of the attacked site that the server may take."""
        return self.take(("heart", "north"))

    def take(self, which: tuple[str, str], **changes: Any) -> boto3.Session:
        """The kickoff role of a site."""
        site = self.sites[which].site
        more = {"ExternalId": site.external_id, "SourceIdentity": f"fedsm-{RUN}", **changes}
        return self.role_of(self.coordinator, site.role_arn, **more)

    @property
    def attackers(self) -> dict[str, boto3.Session]:
        """Everybody that the server account can be."""
        everybody = {"administrator": self.admin(SERVER), "coordinator": self.coordinator}
        return everybody | {"kickoff": self.kickoff}

    def settings(self, **changes: Any) -> JobSettings:
        """What a run tells the job; nobody listens at the address."""
        values = {
            "run": RUN,
            "site": "north",
            "partition": 0,
            "partitions": 1,
            "address": "127.0.0.1:8443",
            "certificate": CERTIFICATE.der_base64,
            "join_id": "join-north",
            "sts_region": REGION,
            "max_wait": 0.5,
            "bundle_sha256": self.approved.sha256,
            "rounds": 5,
            **changes,
        }
        return JobSettings(**values)

    def pipeline(self, bundle: Bundle, which: tuple[str, str] = ("heart", "north")) -> str:
        """ARN of a bundle's pipeline, whether there is one or not."""
        return pipeline_arn(self.sites[which].site, which[0], bundle.sha256)

    def start(
        self, changes: Mapping[str, str | None] | None = None, **fields: Any
    ) -> dict[str, Any]:
        """The request that starts the approved pipeline.

        Parameters
        ----------
        changes : mapping, optional
            Of its parameters; None leaves one out.
        fields
            Of the request.
        """
        values = {**parameters(self.settings(), HYPERPARAMETERS), **(changes or {})}
        given = {name: text for name, text in values.items() if text is not None}
        request = start_request("heart", "north", self.approved.sha256, RUN, given)
        return {**request, "ClientRequestToken": uuid.uuid4().hex, **fields}

    def run(self, name: str, request: dict[str, Any]) -> None:
        """Start an execution, to be found under a name."""
        started = self.kickoff.client("sagemaker").start_pipeline_execution(**request)
        self.executions[name] = started["PipelineExecutionArn"]

    def create(self, name: str, request: dict[str, Any]) -> None:
        """Create a job, to be found under a name."""
        self.kickoff.client("sagemaker").create_training_job(**request)
        self.jobs[name] = request["TrainingJobName"]

    def job(self, *, environment: dict[str, str] | None = None, **changes: Any) -> dict[str, Any]:
        """The request that creates the site's job as the direct launch does, some of it changed."""
        site, digest = self.north.site, self.approved.sha256
        request = {
            "TrainingJobName": job_name("heart", f"heart-{uuid.uuid4().hex[:12]}", "north"),
            **job_request(
                site,
                digest,
                "fedsm/local",
                asset("iam/bootstrap.py").read_text(encoding="utf-8"),
                hyperparameters={
                    name: hyperparameter_text(value) for name, value in HYPERPARAMETERS.items()
                },
                environment={**self.settings().to_environment(), **(environment or {})},
                tags={TAG_RUN: RUN, TAG_SITE: "north"},
            ),
        }
        return merged(request, changes)

    def job_of(self, bundle: Bundle, **changes: Any) -> dict[str, Any]:
        """The request that runs a bundle, whose digest the server names itself."""
        request = self.job(environment={"FEDSM_BUNDLE_SHA256": bundle.sha256}, **changes)
        for channel in request["InputDataConfig"]:
            source = channel["DataSource"]["S3DataSource"]
            source["S3Uri"] = source["S3Uri"].replace(self.approved.sha256, bundle.sha256)
        return request

    # What came of it ------------------------------------------------------------------------

    def ended(self, execution: str) -> dict[str, Any]:
        """The one step of an execution once that has ended, as the owner sees it."""
        sagemaker = self.admin(OWNER).client("sagemaker")
        deadline = time.monotonic() + 120
        while True:
            found = sagemaker.describe_pipeline_execution(PipelineExecutionArn=execution)
            if found["PipelineExecutionStatus"] in ENDED:
                steps = sagemaker.list_pipeline_execution_steps(PipelineExecutionArn=execution)
                return dict(steps["PipelineExecutionSteps"][0])
            assert time.monotonic() < deadline, found
            time.sleep(0.1)

    def job_ended(self, name: str) -> dict[str, Any]:
        """A job once it has ended, as the owner sees it."""
        sagemaker = self.admin(OWNER).client("sagemaker")
        deadline = time.monotonic() + 120
        while True:
            found = sagemaker.describe_training_job(TrainingJobName=name)
            if found["TrainingJobStatus"] in ENDED:
                return dict(found)
            assert time.monotonic() < deadline, found
            time.sleep(0.05)
