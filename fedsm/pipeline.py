"""The owner's pipeline of one approved bundle, as data, and the request that starts it.

Pure. The definition fixes everything about the job but its parameters: all are strings, without
defaults, and each is checked. Enumerations are checked by the pipeline; ranges by the job, which
finds them in its environment as ``FEDSM_LIMIT_...``.

Source of the schema: aws-sagemaker-mlops.github.io/sagemaker-model-building-pipeline-definition-
JSON-schema, version 2020-12-01.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from fedsm.agreement import Invitation, Terms, partition_of, site_of
from fedsm.config import Site
from fedsm.contract import (
    LIMIT_ADDRESS,
    LIMIT_COUNT,
    LIMIT_METRICS,
    LIMIT_ROUNDS,
    PREFIX,
    JobSettings,
    limit_name,
)
from fedsm.errors import LaunchError
from fedsm.fields import Scalar
from fedsm.names import pipeline_name, role_arn, step_name
from fedsm.request import (
    LONGEST_VARIABLE,
    TAG_SITE,
    Value,
    check_variable,
    hyperparameter_text,
    job_request,
)

PARAMETERS = {
    "run": "Run",
    "address": "Address",
    "certificate": "Certificate",
    "join_id": "JoinId",
    "rounds": "Rounds",
    "partition": "Partition",
    "partitions": "Partitions",
}
"""Field of :class:`JobSettings` to the parameter that carries it; the others are fixed."""

HYPERPARAMETER = "Hp-"
"""Begins the names of the parameters that carry hyperparameters."""

LONGEST_PARAMETER, LARGEST_DEFINITION = 1024, 1 << 20

Definition = dict[str, Any]


def pipeline_arn(site: Site, federation: str, digest: str) -> str:
    """ARN of the pipeline of one approved bundle."""
    aws = partition_of(site.role_arn)
    name = pipeline_name(federation, site.name, digest)
    return f"arn:{aws}:sagemaker:{site.region}:{site.account_id}:pipeline/{name}"


def definition(
    invitation: Invitation, terms: Terms, digest: str, image: str, bootstrap: str
) -> Definition:
    """What the pipeline of a bundle does: one training job.

    Parameters
    ----------
    invitation, terms : Invitation, Terms
        What server and owner agreed on.
    digest : str
        Of the bundle.
    image : str
        Image URI.
    bootstrap : str
        Source of the bootstrap.

    Raises
    ------
    LaunchError
        A limit of SageMaker is passed; names the site and the value.
    """
    site = site_of(invitation, terms)
    # What a run chooses is replaced by the parameters.
    fixed = JobSettings(
        site=site.name,
        sts_region=invitation.sts_region,
        max_wait=invitation.max_wait,
        bundle_sha256=digest,
        model=invitation.model,
        **dict.fromkeys(PARAMETERS, ""),  # type: ignore[arg-type]
    ).to_environment()
    chosen: dict[str, Value] = {
        PREFIX + field.upper(): _get(name) for field, name in PARAMETERS.items()
    }
    made: Definition = {
        "Version": "2020-12-01",
        "Metadata": {},
        "Parameters": _declared(invitation),
        "Steps": [
            {
                "Name": step_name(invitation.federation, site.name),
                "Type": "Training",
                "Arguments": job_request(
                    site,
                    digest,
                    image,
                    bootstrap,
                    hyperparameters={
                        name: _get(HYPERPARAMETER + name) for name in invitation.hyperparameters
                    },
                    environment={**fixed, **chosen, **limits(invitation, terms)},
                    tags={TAG_SITE: site.name},
                ),
            }
        ],
    }
    if len(definition_text(made)) > LARGEST_DEFINITION:
        raise LaunchError(
            f"the pipeline's definition has {len(definition_text(made))} characters, SageMaker "
            f"takes {LARGEST_DEFINITION}",
            where=site.name,
            action="invite fewer or shorter choices of hyperparameters",
        )
    return made


def definition_text(definition: Definition) -> str:
    """The one text of a definition, the same for the same content."""
    return json.dumps(definition, sort_keys=True, separators=(",", ":"))


def definition_sha256(definition: Definition) -> str:
    """Digest of a definition's text."""
    return hashlib.sha256(definition_text(definition).encode()).hexdigest()


def create_request(
    invitation: Invitation,
    terms: Terms,
    digest: str,
    image: str,
    bootstrap: str,
    *,
    description: str,
) -> dict[str, Any]:
    """What ``CreatePipeline`` is called with, but for a token, which is each call's own.

    AWS may remember a token whose pipeline has gone.

    Raises
    ------
    LaunchError
        A limit of SageMaker is passed; names the site and the value.
    """
    made = definition(invitation, terms, digest, image, bootstrap)
    aws = partition_of(invitation.server_role_arn)
    return {
        "PipelineName": pipeline_name(invitation.federation, invitation.site, digest),
        "PipelineDefinition": definition_text(made),
        "PipelineDescription": description,
        "RoleArn": role_arn(
            terms.account_id, invitation.federation, invitation.site, "pipeline", aws
        ),
        "Tags": [{"Key": TAG_SITE, "Value": invitation.site}],
    }


def limits(invitation: Invitation, terms: Terms) -> dict[str, str]:
    """What the job checks its settings and its reports against, as environment variables.

    Raises
    ------
    LaunchError
        They do not fit; names the site and the value.
    """
    site = invitation.site
    found = {
        LIMIT_ADDRESS: " ".join([*invitation.addresses, str(invitation.port)]),
        LIMIT_ROUNDS: str(invitation.rounds),
        LIMIT_COUNT: str(terms.smallest_count),
        **_metrics(site, terms.metrics),
    }
    for name, limit in invitation.hyperparameters.items():
        if limit.choices is None:
            found[limit_name(name)] = f"{limit.low!r} {limit.high!r}"
    for name, value in found.items():
        check_variable(site, name, value)
    return found


def parameters(settings: JobSettings, hyperparameters: Mapping[str, Scalar]) -> dict[str, str]:
    """A run's values of the pipeline's parameters.

    Raises
    ------
    LaunchError
        A value is longer than SageMaker takes; names the site and the parameter.
    """
    found = {name: str(getattr(settings, field)) for field, name in PARAMETERS.items()}
    for name, value in found.items():
        check_variable(settings.site, name, value)
    for name, scalar in hyperparameters.items():
        text = hyperparameter_text(scalar)
        found[HYPERPARAMETER + name] = text
        if len(text) > LONGEST_PARAMETER:
            raise LaunchError(
                f"hyperparameter {name} has {len(text)} characters, a pipeline takes "
                f"{LONGEST_PARAMETER}",
                where=settings.site,
                action="shorten it",
            )
    return found


def start_request(
    federation: str, site: str, digest: str, run: str, values: Mapping[str, str]
) -> dict[str, Any]:
    """What ``StartPipelineExecution`` is called with.

    The token makes it idempotent: a start whose answer was lost, sent again, gives the execution
    that there is.

    Parameters
    ----------
    values : mapping of str to str
        The parameters.
    """
    return {
        "PipelineName": pipeline_name(federation, site, digest),
        "PipelineExecutionDisplayName": run[:82].rstrip("-"),
        "ClientRequestToken": hashlib.sha256(f"{run}/{site}".encode()).hexdigest(),
        "PipelineParameters": [
            {"Name": name, "Value": value} for name, value in sorted(values.items())
        ],
    }


def _get(name: str) -> dict[str, str]:
    return {"Get": f"Parameters.{name}"}


def _declared(invitation: Invitation) -> list[dict[str, Any]]:
    declared: list[dict[str, Any]] = [
        {"Name": name, "Type": "String"} for name in PARAMETERS.values()
    ]
    for name, limit in invitation.hyperparameters.items():
        choices = {} if limit.texts is None else {"EnumValues": limit.texts}
        declared.append({"Name": HYPERPARAMETER + name, "Type": "String", **choices})
    return declared


def _metrics(site: str, names: tuple[str, ...]) -> dict[str, str]:
    """Names joined by commas, over as many variables as they need."""
    pieces = [""]
    for name in names:
        if not name or "," in name or len(name) > LONGEST_VARIABLE:
            raise LaunchError(
                f"{name[:40]!r} cannot be the name of a metric that may leave a job",
                where=site,
                action="name metrics without commas in the terms",
            )
        joined = f"{pieces[-1]},{name}" if pieces[-1] else name
        if len(joined) > LONGEST_VARIABLE:
            pieces.append(name)
        else:
            pieces[-1] = joined
    return {LIMIT_METRICS + (f"_{i}" if i else ""): piece for i, piece in enumerate(pieces)}
