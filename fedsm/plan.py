"""The launch as data: what would be called in each site's account, with which request.

Pure: the plan is computed from the configuration and facts, printing it is the dry run, and
``execute`` carries it out.
"""

from __future__ import annotations

import base64
import json
import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fedsm.bundle import object_key
from fedsm.config import FederationConfig, Site
from fedsm.contract import CODE_CHANNEL, JobSettings
from fedsm.errors import LaunchError
from fedsm.names import job_name, session_name

TAG_RUN, TAG_SITE = "fedsm:run", "fedsm:site"

# `.` of ContainerArguments' pattern matches no line feed and an item holds at most 256 characters,
# so the bootstrap travels packed. Its source is iam/bootstrap.py.
LOADER = (
    "import sys,base64,zlib;exec(compile(zlib.decompress(base64.b64decode(''.join(sys.argv[1:])))"
    ",'bootstrap','exec'))"
)
_PIECE, _PIECES = 256, 100

DIRECT_MODE = "direct: trusted server mode, the server account chooses image, entry point and code"


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
        Site name to the image URI.
    bootstrap : str
        Source of the bootstrap.
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
    """One site's part of a plan: assume ``role_arn``, then ``CreateTrainingJob(**request)``."""

    site: str
    account_id: str
    region: str
    role_arn: str
    external_id: str
    job_name: str
    bundle_sha256: str
    join_id: str
    request: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class LaunchPlan:
    """The whole launch of one run."""

    run: str
    cloud: str
    address: str
    mode: str
    launches: tuple[SiteLaunch, ...]

    def as_data(self) -> dict[str, Any]:
        """The plan as JSON-ready data, in the order in which it would be carried out."""
        return {
            "run": self.run,
            "cloud": self.cloud,
            "address": self.address,
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
                        "call": "sagemaker:CreateTrainingJob",
                        "request": dict(launch.request),
                    },
                )
            ],
        }


def hyperparameter_text(value: bool | int | float | str) -> str:
    """A hyperparameter as SageMaker's framework images expect it: JSON."""
    return json.dumps(value)


def launch_plan(config: FederationConfig, facts: Facts) -> LaunchPlan:
    """Compute the launch of all sites.

    Raises
    ------
    LaunchError
        A limit of ``CreateTrainingJob`` is passed; names the site and the value.
    """
    entrypoint = _entrypoint(facts.bootstrap)
    launches = tuple(
        _site_launch(config, facts, site, i, entrypoint) for i, site in enumerate(config.sites)
    )
    return LaunchPlan(
        run=facts.run,
        cloud=config.cloud,
        address=facts.address,
        mode=DIRECT_MODE,
        launches=launches,
    )


def _entrypoint(bootstrap: str) -> dict[str, list[str]]:
    packed = base64.b64encode(zlib.compress(bootstrap.encode(), 9)).decode()
    pieces = re.findall(f".{{1,{_PIECE}}}", packed)
    if len(pieces) > _PIECES:
        raise LaunchError(
            f"the bootstrap needs {len(pieces)} arguments, CreateTrainingJob takes {_PIECES}",
            where="iam/bootstrap.py",
            action="shorten it, or bake it into the owner's image",
        )
    return {
        "ContainerEntrypoint": ["python3", "-c", LOADER],
        "ContainerArguments": pieces,
    }


def _site_launch(
    config: FederationConfig,
    facts: Facts,
    site: Site,
    partition: int,
    entrypoint: Mapping[str, list[str]],
) -> SiteLaunch:
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
        model=training.model or "",
    )
    environment = {**site.environment, **settings.to_environment()}
    for key, value in environment.items():
        if len(value) > 512:
            raise LaunchError(
                f"environment variable {key} has {len(value)} characters, SageMaker takes 512",
                where=site.name,
                action="shorten the value, or pass it as a file in a channel",
            )
    channels = {**site.channels, CODE_CHANNEL: f"{site.code}/{object_key(digest)}"}
    name = job_name(config.name, facts.run, site.name)
    tags = {**site.tags, TAG_RUN: facts.run, TAG_SITE: site.name}
    request: dict[str, Any] = {
        "TrainingJobName": name,
        "AlgorithmSpecification": {
            "TrainingImage": facts.images[site.name],
            "TrainingInputMode": "File",
            "MetricDefinitions": [
                {"Name": metric, "Regex": rf"(?:^|\s){key}=([0-9.eE+-]+);"}
                for metric, key in (
                    ("Training:Loss", "train-loss"),
                    ("Validation:Loss", "evaluate-loss"),
                    ("Validation:Accuracy", "evaluate-accuracy"),
                    ("Validation:AUC", "evaluate-auc"),
                )
            ],
            **entrypoint,
        },
        "RoleArn": site.execution_role_arn,
        "InputDataConfig": [
            {
                "ChannelName": channel,
                "DataSource": {
                    "S3DataSource": {
                        "S3DataType": "S3Prefix",
                        "S3Uri": uri,
                        "S3DataDistributionType": "FullyReplicated",
                    }
                },
            }
            for channel, uri in sorted(channels.items())
        ],
        "OutputDataConfig": {"S3OutputPath": site.output},
        "ResourceConfig": {
            "InstanceType": site.instance_type,
            "InstanceCount": site.instance_count,
            "VolumeSizeInGB": site.volume_gb,
        },
        "StoppingCondition": {"MaxRuntimeInSeconds": site.max_runtime},
        "HyperParameters": {
            key: hyperparameter_text(value) for key, value in training.hyperparameters.items()
        },
        "Environment": environment,
        "Tags": [{"Key": key, "Value": value} for key, value in sorted(tags.items())],
    }
    if site.subnets:
        request["VpcConfig"] = {
            "Subnets": list(site.subnets),
            "SecurityGroupIds": list(site.security_groups),
        }
    return SiteLaunch(
        site=site.name,
        account_id=site.account_id,
        region=site.region,
        role_arn=site.role_arn,
        external_id=site.external_id,
        job_name=name,
        bundle_sha256=digest,
        join_id=facts.join_ids[site.name],
        request=request,
    )
