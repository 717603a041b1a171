"""The kickoff role: all that the server may do in an owner's account."""

from __future__ import annotations

from fedsm.config import Site
from fedsm.names import job_names, pipeline_name
from fedsm.policies.documents import Document, Statement, allow, arn, document, trust
from fedsm.policies.jobs import job_statements, tag_statements
from fedsm.policies.logs import read_logs


def kickoff_trust(server_role_arn: str, external_id: str) -> Document:
    """Trust of the kickoff role: exactly the server's role, with external id and source identity.

    A source identity cannot be changed once it is set; it says in the owner's own records which
    run, or which person, every call belongs to.
    """
    server = {"AWS": server_role_arn}
    named = {"StringLike": {"sts:SourceIdentity": "*"}}
    return document(
        trust(
            "Server",
            "lets the server's one role take this role, with the external id of this site, so that "
            "no other customer of that server can make it do so, and only under a source identity",
            server,
            ["sts:AssumeRole"],
            {"StringEquals": {"sts:ExternalId": external_id}, **named},
        ),
        trust(
            "SourceIdentity",
            "lets the server's role say which run a session is for, which CloudTrail then keeps "
            "with each of its calls",
            server,
            ["sts:SetSourceIdentity"],
            named,
        ),
    )


def kickoff_policy(site: Site, federation: str, *, logs: bool = False) -> Document:
    """Rights of the kickoff role for the direct launch: the trusted server mode.

    The server creates the jobs, and chooses all that :mod:`fedsm.policies.jobs` says no key bounds.

    Parameters
    ----------
    site : Site
        The site as the owner agreed to it; without subnets its jobs may be in no VPC.
    federation : str
        The federation's name.
    logs : bool
        Whether the owner lets the server read the jobs' logs.
    """
    jobs = job_names(federation, site.name, "direct")
    reads = read_logs(site, jobs) if logs else []
    return document(*job_statements(site, jobs, "the server"), *tag_statements(site), *reads)


def watcher_policy(site: Site, federation: str, *, logs: bool = False) -> Document:
    """Rights of the kickoff role for pipelines, before any is approved: see and stop executions."""
    reads = _reads(site, federation) if logs else []
    return document(_watch(site, federation), *reads)


def kickoff_boundary(site: Site, federation: str, *, logs: bool = False) -> Document:
    """The most that the kickoff role may ever be given where pipelines are approved."""
    reads = _reads(site, federation) if logs else []
    return document(
        allow(
            "StartPipelinesOfTheSite",
            "bounds what an approval can give the server: to start pipelines of this site's names",
            ["sagemaker:StartPipelineExecution"],
            [_pipelines(site, federation, "*")],
        ),
        _watch(site, federation),
        *reads,
    )


def kickoff_approval(site: Site, federation: str, digest: str, until: str | None) -> Document:
    """The right to start the pipeline of one bundle, whose digest is part of its ARN."""
    return document(
        allow(
            "StartTheApprovedPipeline",
            "lets the server start the pipeline whose name carries this bundle's digest, "
            + (f"until {until}, " if until else "")
            + "since the owner's approver approved that bundle",
            ["sagemaker:StartPipelineExecution"],
            [_pipelines(site, federation, digest)],
            {"DateLessThan": {"aws:CurrentTime": until}} if until else None,
        )
    )


def _reads(site: Site, federation: str) -> list[Statement]:
    return read_logs(site, job_names(federation, site.name, "pipeline"))


def _pipelines(site: Site, federation: str, digest: str) -> str:
    return arn(site, "sagemaker", f"pipeline/{pipeline_name(federation, site.name, digest)}")


def _watch(site: Site, federation: str) -> Statement:
    return allow(
        "WatchAndStopExecutions",
        "lets the server see how executions of this site's pipelines fare, find their job, and "
        "stop them, so that none bills for nothing",
        [
            "sagemaker:DescribePipelineExecution",
            "sagemaker:ListPipelineExecutionSteps",
            "sagemaker:StopPipelineExecution",
        ],
        [f"{_pipelines(site, federation, '*')}/execution/*"],
    )
