"""Approve one bundle in the owner's account, or take the approval away, as the approver.

An approval is three things: the pipeline whose name carries the bundle's digest, the execution
role's right to read that bundle, and the kickoff role's right to start that pipeline. They come in
this order and go in reverse, so that nothing can be started that is not complete.
"""

from __future__ import annotations

import hashlib
import json
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import boto3

from fedsm import __version__
from fedsm.agreement import Approval, Invitation, Terms, partition_of
from fedsm.aws.owner import delete_pipeline
from fedsm.aws.roles import APPROVALS, delete_inline, inline_policies, inline_policy, put_inline
from fedsm.aws.steps import OnStep, Step, Steps
from fedsm.bundle import object_key
from fedsm.errors import BundleError, JobError
from fedsm.names import RoleKind, approved_name, pipeline_name, role_arn
from fedsm.onboarding import approval
from fedsm.pipeline import create_request, definition_sha256

_NONE = ("ResourceNotFound", "ResourceNotFoundException")


@dataclass(frozen=True, slots=True)
class Approved:
    """A bundle that the server may start.

    Attributes
    ----------
    complete : bool
        Whether jobs may also read it; without, an approval was broken off.
    """

    bundle: str
    until: datetime | None
    complete: bool


def approve(
    session: boto3.Session,
    invitation: Invitation,
    terms: Terms,
    digest: str,
    until: datetime | None,
    image: str,
    bootstrap: str,
    on_step: OnStep = lambda step: None,
) -> Approval:
    """Let the server start one bundle; what is there already as it should be is left alone.

    Parameters
    ----------
    session : boto3.Session
        Of the approver's role.
    digest : str
        Of a published bundle, whose bytes are read and compared first.
    until : datetime, optional
        When the approval ends by itself.
    image, bootstrap : str
        Image URI, and source of the bootstrap.

    Raises
    ------
    BundleError
        No bundle of that digest is published, or its bytes are others.
    ConfigError
        The launch is direct: there is nothing that an approval could bind.
    AccessError
        A call failed; what had been done is undone, or named where it could not be.
    """
    steps = Steps(session, invitation.site, on_step)
    _read(steps, terms, digest)
    request = create_request(
        invitation,
        terms,
        digest,
        image,
        bootstrap,
        description=f"fedsm: bundle {digest[:12]} for {invitation.federation}",
    )
    rights = approval(invitation, terms, digest, until)
    with steps.undone_on_failure():
        arn = _pipeline(steps, invitation, terms, digest, request)
        for kind in ("execution", "kickoff"):
            name, document = rights[kind]
            put_inline(steps, _role(invitation, terms, kind), name, document)
        caller = steps.read("sts:GetCallerIdentity", "the caller", _identity(session))
    return Approval(
        fedsm=__version__,
        federation=invitation.federation,
        site=invitation.site,
        bundle=digest,
        until=until,
        pipeline_arn=arn,
        definition_sha256=_sha256(request["PipelineDefinition"]),
        approved_by=str(caller),
        approved_at=datetime.now(UTC).replace(microsecond=0),
        two_persons=terms.two_persons,
    )


def disapprove(
    session: boto3.Session,
    invitation: Invitation,
    terms: Terms,
    digest: str,
    on_step: OnStep = lambda step: None,
) -> tuple[Step, ...]:
    """Take an approval away, the right to start first; nothing of it is ever put back.

    Raises
    ------
    AccessError
        A call failed, such as that which deletes a pipeline while it runs; the right to start and
        the right to read are gone then.
    """
    steps = Steps(session, invitation.site, on_step)
    for kind in ("kickoff", "execution"):
        delete_inline(steps, _role(invitation, terms, kind), approved_name(digest))
    name = pipeline_name(invitation.federation, invitation.site, digest)
    if _described(steps, name) is not None:
        delete_pipeline(steps, name)
    return tuple(steps.done)


def withdraw_stale(
    session: boto3.Session,
    invitation: Invitation,
    terms: Terms,
    image: str,
    bootstrap: str,
    on_step: OnStep = lambda step: None,
) -> list[str]:
    """Take away the right to start what is not as invitation and terms now say.

    Returns
    -------
    list of str
        Digests of these bundles; :func:`approve` makes their pipelines anew.

    Raises
    ------
    AccessError
        A call failed.
    """
    steps, found = Steps(session, invitation.site, on_step), []
    for digest in (each.bundle for each in approvals(session, invitation, terms)):
        request = create_request(invitation, terms, digest, image, bootstrap, description="")
        there = _described(steps, request["PipelineName"])
        if there is None or not _as_wanted(there, request):
            delete_inline(steps, _role(invitation, terms, "kickoff"), approved_name(digest))
            found.append(digest)
    return found


def approvals(session: boto3.Session, invitation: Invitation, terms: Terms) -> list[Approved]:
    """What is approved and until when, as the roles' own policies say.

    Raises
    ------
    AccessError
        The policies may not be read.
    """
    steps = Steps(session, invitation.site, lambda step: None)
    kickoff, execution = (_role(invitation, terms, kind) for kind in ("kickoff", "execution"))
    readable = set(inline_policies(steps, execution))
    found = []
    for name in inline_policies(steps, kickoff):
        if not name.startswith(APPROVALS):
            continue
        document = inline_policy(steps, kickoff, name) or {}
        digest = re.search(r"pipeline/[a-z0-9-]*--([0-9a-f]{64})(?![0-9a-f])", str(document))
        if digest is not None:
            found.append(Approved(digest[1], _until(document), name in readable))
    return sorted(found, key=lambda each: each.bundle)


def read_bundle(session: boto3.Session, site: str, terms: Terms, digest: str) -> bytes:
    """A published bundle whose bytes are those of its digest.

    Raises
    ------
    BundleError
        They are not, or there is none.
    AccessError
        It may not be read.
    """
    return _read(Steps(session, site, lambda step: None), terms, digest)


def _read(steps: Steps, terms: Terms, digest: str) -> bytes:
    s3 = steps.client("s3")
    bucket, _, prefix = terms.code.removeprefix("s3://").partition("/")
    key = f"{prefix}/{object_key(digest)}" if prefix else object_key(digest)
    uri = f"s3://{bucket}/{key}"
    body = steps.read(
        "s3:GetObject", uri, lambda: s3.get_object(Bucket=bucket, Key=key)["Body"], "NoSuchKey"
    )
    if body is None:
        raise BundleError(
            f"{uri} is not there",
            where=steps.where,
            action="let the publisher publish it: fedsm site publish",
        )
    with steps.named("s3:GetObject", uri):
        data: bytes = body.read()
    if hashlib.sha256(data).hexdigest() != digest:
        raise BundleError(
            f"{uri} holds other bytes than its digest says",
            where=steps.where,
            action="do not approve it; find out who wrote it",
        )
    return data


def _pipeline(
    steps: Steps, invitation: Invitation, terms: Terms, digest: str, request: Mapping[str, Any]
) -> str:
    """The pipeline of the request; one of that name that does anything else is made anew."""
    sagemaker, name = steps.client("sagemaker"), request["PipelineName"]
    there = _described(steps, name)
    if there is not None and _as_wanted(there, request):
        return str(there["PipelineArn"])
    if there is not None:
        # Terms or invitation have changed since, or it was updated: nobody shall start it now.
        delete_inline(steps, _role(invitation, terms, "kickoff"), approved_name(digest))
        delete_pipeline(steps, name)
    steps.do(
        "sagemaker:CreatePipeline",
        name,
        "created",
        lambda: sagemaker.create_pipeline(**request, ClientRequestToken=secrets.token_hex()),
        lambda: sagemaker.delete_pipeline(PipelineName=name),
    )
    # What counts is what is there, not what was sent.
    made = _described(steps, name)
    if made is None or not _says(made, request):
        raise JobError(
            f"the pipeline {name} is not what was asked for",
            where=steps.where,
            action="run the same command again",
        )
    return str(made["PipelineArn"])


def _described(steps: Steps, name: str) -> dict[str, Any] | None:
    sagemaker = steps.client("sagemaker")
    found: dict[str, Any] | None = steps.read(
        "sagemaker:DescribePipeline",
        name,
        lambda: sagemaker.describe_pipeline(PipelineName=name),
        *_NONE,
    )
    return found


def _as_wanted(there: Mapping[str, Any], request: Mapping[str, Any]) -> bool:
    """Whether a pipeline is the one of the request, in its only version.

    Of one that was updated an earlier version may still be started by its number.
    """
    return _says(there, request) and there["LastModifiedTime"] == there["CreationTime"]


def _says(there: Mapping[str, Any], request: Mapping[str, Any]) -> bool:
    wanted = _sha256(request["PipelineDefinition"])
    return _sha256(there["PipelineDefinition"]) == wanted and there["RoleArn"] == request["RoleArn"]


def _sha256(text: str) -> str:
    return definition_sha256(json.loads(text))


def _identity(session: boto3.Session) -> Any:
    return lambda: session.client("sts").get_caller_identity()["Arn"]


def _role(invitation: Invitation, terms: Terms, kind: RoleKind) -> str:
    aws = partition_of(invitation.server_role_arn)
    return role_arn(terms.account_id, invitation.federation, invitation.site, kind, aws)


def _until(document: Mapping[str, Any]) -> datetime | None:
    """The earliest end that a policy's statements name."""
    ends = re.findall(r"'DateLessThan': \{'aws:CurrentTime': \[?'([^']+)'", str(document))
    return min((datetime.fromisoformat(end) for end in ends), default=None)
