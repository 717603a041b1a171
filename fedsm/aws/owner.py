"""Set up a data owner's account, or take all of it away again.

What is to be there is data (:class:`fedsm.onboarding.Account`). Each call that changes something is
a step; when one fails, the steps before it are undone in reverse. What is there already as it
should be is not touched, so everything can be done again.
"""

from __future__ import annotations

import time
from functools import partial
from typing import Any

import boto3

from fedsm.agreement import partition_of
from fedsm.aws.roles import put_boundary, put_role, remove_boundary, remove_role
from fedsm.aws.steps import OnStep, Step, Steps
from fedsm.aws.stores import put_bucket, put_bucket_statements, put_key_statements
from fedsm.config import Site
from fedsm.errors import AccessError
from fedsm.names import (
    RoleKind,
    boundary_arn,
    pipeline_name,
    role_arn,
    site_prefix,
    statement_prefix,
)
from fedsm.onboarding import Account

STOP_TIMEOUT = 300.0
"""Seconds that executions get to stop; SageMaker gives a job 120 s between its two signals."""

_KINDS: tuple[RoleKind, ...] = ("kickoff", "pipeline", "execution", "approver", "publisher")
_BETWEEN = 1.0


def apply(
    session: boto3.Session,
    account: Account,
    on_step: OnStep = lambda step: None,
    *,
    earlier: Site | None = None,
) -> tuple[Step, ...]:
    """Create what is missing and change what differs, with the owner's credentials.

    Parameters
    ----------
    session : boto3.Session
        May do so in the account.
    account : Account
        What is to be there.
    on_step : callable, optional
        Called with each step once it is done, and with each that undoes one.
    earlier : Site, optional
        The site as it was accepted before: its bucket and key lose what the new ones get.

    Returns
    -------
    tuple of Step
        What was done; nothing where all was there.

    Raises
    ------
    AccessError, ConfigError
        A call failed; what had been done is undone, or named where it could not be.
    """
    site = account.site
    mine = statement_prefix(account.federation, site.name)
    steps = Steps(session, site.name, on_step)
    with steps.undone_on_failure():
        fresh = {b.bucket for b in account.buckets if put_bucket(steps, site.account_id, b)}
        for boundary in account.boundaries:
            put_boundary(steps, boundary)
        for role in account.roles:
            put_role(steps, role)
        for b in account.buckets:
            put_bucket_statements(steps, b.bucket, b.statements, mine, fresh=b.bucket in fresh)
        for key in account.keys:
            put_key_statements(steps, key.key_arn, key.statements, mine)
        (buckets, key_arns), (before, keys_before) = _stores(account), _stores(account, earlier)
        for name in sorted(before - buckets):
            put_bucket_statements(steps, name, (), mine)
        for name in sorted(keys_before - key_arns):
            put_key_statements(steps, name, (), mine)
    return tuple(steps.done)


def revoke(
    session: boto3.Session,
    account: Account,
    on_step: OnStep = lambda step: None,
    *,
    earlier: Site | None = None,
) -> tuple[Step, ...]:
    """Take away all that :func:`apply` and approvals made; never data, models or bundles.

    The kickoff role goes first, so that nothing can be started any more; then what runs is stopped.
    What is taken away stays so when a call fails, and the rest is taken away by another try.

    Raises
    ------
    AccessError
        A call failed.
    """
    site, federation = account.site, account.federation
    aws, place = partition_of(site.role_arn), (site.account_id, federation, site.name)
    mine = statement_prefix(federation, site.name)
    steps = Steps(session, site.name, on_step)
    first, *others = _KINDS
    remove_role(steps, role_arn(*place, first, aws))
    _stop_jobs(steps, site_prefix(federation, site.name))
    for name in _pipelines(steps, pipeline_name(federation, site.name, "")):
        _remove_pipeline(steps, name)
    for kind in others:
        remove_role(steps, role_arn(*place, kind, aws))
    for kind in _KINDS:
        remove_boundary(steps, boundary_arn(*place, kind, aws))
    buckets, keys = _stores(account, earlier)
    for name in sorted(keys):
        put_key_statements(steps, name, (), mine)
    for name in sorted(buckets):
        put_bucket_statements(steps, name, (), mine)
    return tuple(steps.done)


def _stores(account: Account, earlier: Site | None = None) -> tuple[set[str], set[str]]:
    """Names of buckets and ARNs of keys that bear, or bore, statements of the site."""
    buckets = {rules.bucket for rules in account.buckets}
    keys = {rules.key_arn for rules in account.keys}
    if earlier is not None:
        buckets.add(earlier.code.removeprefix("s3://").partition("/")[0])
        keys |= {earlier.kms_key_arn} if earlier.kms_key_arn else set()
    return buckets, keys


def latest_job(session: boto3.Session, site: str, mark: str) -> str | None:
    """Name of the latest job whose name holds ``mark``, None where there has been none.

    Raises
    ------
    AccessError
        The jobs may not be listed.
    """
    steps = Steps(session, site, lambda step: None)
    sagemaker = steps.client("sagemaker")
    found = steps.read(
        "sagemaker:ListTrainingJobs",
        mark,
        lambda: sagemaker.list_training_jobs(
            NameContains=mark, SortBy="CreationTime", SortOrder="Descending", MaxResults=1
        )["TrainingJobSummaries"],
    )
    return str(found[0]["TrainingJobName"]) if found else None


def _stop_jobs(steps: Steps, prefix: str) -> None:
    """Stop the jobs that the server created in the direct launch."""
    sagemaker = steps.client("sagemaker")
    pages = sagemaker.get_paginator("list_training_jobs")
    found = steps.read(
        "sagemaker:ListTrainingJobs",
        prefix,
        lambda: [
            job["TrainingJobName"]
            for page in pages.paginate(StatusEquals="InProgress", NameContains=prefix)
            for job in page["TrainingJobSummaries"]
        ],
    )
    for job in (name for name in found or [] if name.startswith(prefix)):
        steps.do(
            "sagemaker:StopTrainingJob",
            job,
            "changed",
            partial(sagemaker.stop_training_job, TrainingJobName=job),
        )


def _pipelines(steps: Steps, prefix: str) -> list[str]:
    pages = steps.client("sagemaker").get_paginator("list_pipelines")
    found = steps.read(
        "sagemaker:ListPipelines",
        prefix,
        lambda: [
            each["PipelineName"]
            for page in pages.paginate(PipelineNamePrefix=prefix.rstrip("-"))
            for each in page["PipelineSummaries"]
        ],
    )
    return [name for name in found or [] if name.startswith(prefix)]


def _remove_pipeline(steps: Steps, name: str) -> None:
    """Stop a pipeline's executions, wait for them, and delete it."""
    sagemaker = steps.client("sagemaker")
    deadline = time.monotonic() + STOP_TIMEOUT
    asked: set[str] = set()
    while running := _running(steps, name):
        if time.monotonic() > deadline:
            raise AccessError(
                f"an execution of {name} does not stop",
                where=steps.where,
                action="run the same command again in a few minutes",
            )
        for arn in sorted(set(running) - asked):
            steps.do(
                "sagemaker:StopPipelineExecution",
                arn,
                "changed",
                partial(sagemaker.stop_pipeline_execution, PipelineExecutionArn=arn),
            )
            asked.add(arn)
        time.sleep(_BETWEEN)
    delete_pipeline(steps, name)


def delete_pipeline(steps: Steps, name: str) -> Any:
    """Delete a pipeline that nothing runs of."""
    sagemaker = steps.client("sagemaker")
    return steps.do(
        "sagemaker:DeletePipeline",
        name,
        "deleted",
        lambda: sagemaker.delete_pipeline(PipelineName=name),
    )


def _running(steps: Steps, name: str) -> list[str]:
    pages = steps.client("sagemaker").get_paginator("list_pipeline_executions")
    found = steps.read(
        "sagemaker:ListPipelineExecutions",
        name,
        lambda: [
            each["PipelineExecutionArn"]
            for page in pages.paginate(PipelineName=name)
            for each in page["PipelineExecutionSummaries"]
            if each["PipelineExecutionStatus"] in ("Executing", "Stopping")
        ],
    )
    return found or []
