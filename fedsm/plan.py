"""The launch as data: what would be called in each site's account, with which request.

Pure: the plan is computed from the configuration and facts, printing it is the dry run, and
``execute`` carries it out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from fedsm.config import FederationConfig, Site
from fedsm.contract import JobSettings
from fedsm.names import job_name, session_name
from fedsm.pipeline import parameters, pipeline_arn, start_request
from fedsm.request import TAG_RUN, TAG_SITE, hyperparameter_text, job_request

Mode = Literal["pipeline", "direct"]

MODES: dict[Mode, str] = {
    "pipeline": "pipeline: each site's owner chose image, entry point and code, and approved them",
    "direct": "direct: trusted server mode, the server account chooses image, entry point and code",
}


@dataclass(frozen=True, slots=True)
class Facts:
    """What a plan needs beside the configuration.

    Attributes
    ----------
    run : str
        Run id.
    address : str
        ``host:port`` that the jobs dial.
    certificate : str
        Base64 DER of the coordinator's certificate.
    join_ids : mapping of str to str
        Site name to the unguessable name of its launch.
    bundle_sha256 : str
        Digest of the local ``client_code``; a site's own ``bundle`` goes before it.
    images : mapping of str to str
        Site name to the image URI, for the direct launch.
    bootstrap : str
        Source of the bootstrap, for the direct launch.
    """

    run: str
    address: str
    certificate: str
    join_ids: Mapping[str, str]
    bundle_sha256: str
    images: Mapping[str, str]
    bootstrap: str


@dataclass(frozen=True, slots=True)
class SiteLaunch:
    """One site's part of a plan: assume ``role_arn``, then ``call`` with ``request``.

    Attributes
    ----------
    job_name : str
        Name of its job; empty for a pipeline, where SageMaker chooses it.
    pipeline_arn : str
        The approved pipeline; empty in the direct launch.
    output : str
        S3 prefix of the site's output.
    """

    site: str
    account_id: str
    region: str
    role_arn: str
    external_id: str
    bundle_sha256: str
    join_id: str
    request: Mapping[str, Any]
    output: str
    job_name: str = ""
    pipeline_arn: str = ""

    @property
    def call(self) -> str:
        """The call that starts the job."""
        if self.pipeline_arn:
            return "sagemaker:StartPipelineExecution"
        return "sagemaker:CreateTrainingJob"


@dataclass(frozen=True, slots=True)
class LaunchPlan:
    """The whole launch of one run."""

    run: str
    cloud: str
    address: str
    launch: Mode
    launches: tuple[SiteLaunch, ...]

    @property
    def mode(self) -> str:
        """Who chooses what runs, in one sentence."""
        return MODES[self.launch]

    def as_data(self) -> dict[str, Any]:
        """The plan as JSON-ready data, in the order in which it would be carried out."""
        return {
            "run": self.run,
            "cloud": self.cloud,
            "address": self.address,
            "launch": self.launch,
            "mode": self.mode,
            "steps": [
                step
                for launch in self.launches
                for step in (
                    {
                        "site": launch.site,
                        "account": launch.account_id,
                        "call": "sts:AssumeRole",
                        "request": {
                            "RoleArn": launch.role_arn,
                            "RoleSessionName": session_name(self.run),
                            "ExternalId": launch.external_id,
                            "SourceIdentity": session_name(self.run),
                            "DurationSeconds": 3600,
                        },
                    },
                    {
                        "site": launch.site,
                        "account": launch.account_id,
                        "call": launch.call,
                        "request": dict(launch.request),
                    },
                )
            ],
        }


def launch_plan(config: FederationConfig, facts: Facts) -> LaunchPlan:
    """Compute the launch of all sites.

    Raises
    ------
    LaunchError
        A limit of SageMaker is passed; names the site and the value.
    """
    return LaunchPlan(
        run=facts.run,
        cloud=config.cloud,
        address=facts.address,
        launch=config.mode,
        launches=tuple(_site_launch(config, facts, site, i) for i, site in enumerate(config.sites)),
    )


def _site_launch(config: FederationConfig, facts: Facts, site: Site, partition: int) -> SiteLaunch:
    training = config.training
    digest = site.bundle or facts.bundle_sha256
    settings = JobSettings(
        run=facts.run,
        site=site.name,
        partition=partition,
        partitions=len(config.sites),
        address=facts.address,
        certificate=facts.certificate,
        join_id=facts.join_ids[site.name],
        sts_region=config.coordinator.region,
        max_wait=training.max_wait,
        bundle_sha256=digest,
        rounds=training.rounds,
        model=training.model or "",
    )
    request: dict[str, Any]
    name = arn = ""
    if config.mode == "pipeline":
        arn = pipeline_arn(site, config.name, digest)
        values = parameters(settings, training.hyperparameters)
        request = start_request(config.name, site.name, digest, facts.run, values)
    else:
        name = job_name(config.name, facts.run, site.name)
        request = {
            "TrainingJobName": name,
            **job_request(
                site,
                digest,
                facts.images[site.name],
                facts.bootstrap,
                hyperparameters={
                    key: hyperparameter_text(value)
                    for key, value in training.hyperparameters.items()
                },
                environment=settings.to_environment(),
                tags={TAG_RUN: facts.run, TAG_SITE: site.name},
            ),
        }
    return SiteLaunch(
        site=site.name,
        account_id=site.account_id,
        region=site.region,
        role_arn=site.role_arn,
        external_id=site.external_id,
        bundle_sha256=digest,
        join_id=facts.join_ids[site.name],
        request=request,
        output=site.output,
        job_name=name,
        pipeline_arn=arn,
    )
