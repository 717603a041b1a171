"""The body of ``CreateTrainingJob`` that both launches share.

Pure. In the direct launch the server sends it; in the pipeline launch it lies fixed in the owner's
pipeline, with references to the pipeline's parameters where a run may choose.
"""

from __future__ import annotations

import base64
import json
import re
import zlib
from collections.abc import Mapping
from typing import Any

from fedsm.bundle import object_key
from fedsm.config import Site
from fedsm.contract import CODE_CHANNEL
from fedsm.errors import LaunchError

TAG_RUN, TAG_SITE = "fedsm:run", "fedsm:site"

Value = str | Mapping[str, str]
"""A text, or in a pipeline ``{"Get": "Parameters.NAME"}``."""

# `.` of ContainerArguments' pattern matches no line feed and an item holds at most 256 characters,
# so the bootstrap travels packed. Its source is iam/bootstrap.py.
LOADER = (
    "import sys,base64,zlib;exec(compile(zlib.decompress(base64.b64decode(''.join(sys.argv[1:])))"
    ",'bootstrap','exec'))"
)
_PIECE, _PIECES = 256, 100

LONGEST_VARIABLE, MOST_VARIABLES = 512, 100
MOST_HYPERPARAMETERS, MOST_TAGS = 100, 50


def hyperparameter_text(value: bool | int | float | str) -> str:
    """A hyperparameter as SageMaker's framework images expect it: JSON."""
    return json.dumps(value)


def job_request(
    site: Site,
    digest: str,
    image: str,
    bootstrap: str,
    *,
    hyperparameters: Mapping[str, Value],
    environment: Mapping[str, Value],
    tags: Mapping[str, str],
) -> dict[str, Any]:
    """A site's training job, but for its name.

    Parameters
    ----------
    site : Site
        Data, network, instance, roles and keys.
    digest : str
        Of the bundle.
    image : str
        Image URI.
    bootstrap : str
        Source of the bootstrap.
    hyperparameters, environment, tags : mapping
        ``environment`` and ``tags`` go before the site's own.

    Raises
    ------
    LaunchError
        A limit of ``CreateTrainingJob`` is passed; names the site and the value.
    """
    environment = {**site.environment, **environment}
    tags = {**site.tags, **tags}
    _check(site.name, hyperparameters, environment, tags)
    channels = {**site.channels, CODE_CHANNEL: f"{site.code}/{object_key(digest)}"}
    request: dict[str, Any] = {
        "AlgorithmSpecification": {
            "TrainingImage": image,
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
            **_entrypoint(bootstrap),
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
        "HyperParameters": dict(hyperparameters),
        "Environment": environment,
        "Tags": [{"Key": key, "Value": value} for key, value in sorted(tags.items())],
    }
    if site.subnets:
        request["VpcConfig"] = {
            "Subnets": list(site.subnets),
            "SecurityGroupIds": list(site.security_groups),
        }
    if site.kms_key_arn is not None:
        request["ResourceConfig"]["VolumeKmsKeyId"] = site.kms_key_arn
        request["OutputDataConfig"]["KmsKeyId"] = site.kms_key_arn
    return request


def check_variable(site: str, name: str, value: str) -> None:
    """See that SageMaker takes an environment variable.

    Raises
    ------
    LaunchError
        It is too long.
    """
    if len(value) > LONGEST_VARIABLE:
        raise LaunchError(
            f"environment variable {name} has {len(value)} characters, SageMaker takes "
            f"{LONGEST_VARIABLE}",
            where=site,
            action="shorten the value, or pass it as a file in a channel",
        )


def _check(
    site: str,
    hyperparameters: Mapping[str, Value],
    environment: Mapping[str, Value],
    tags: Mapping[str, str],
) -> None:
    for name, value in environment.items():
        if isinstance(value, str):
            check_variable(site, name, value)
    for kind, values, most in (
        ("environment variables", environment, MOST_VARIABLES),
        ("hyperparameters", hyperparameters, MOST_HYPERPARAMETERS),
        ("tags", tags, MOST_TAGS),
    ):
        if len(values) > most:
            raise LaunchError(
                f"there are {len(values)} {kind} with fedsm's own, SageMaker takes {most}",
                where=site,
                action="leave some out",
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
