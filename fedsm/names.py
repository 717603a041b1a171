"""Names of what fedsm makes in an account, and the patterns by which policies speak of them.

Pure. A role's name tells federation and site, since STS drops a role's path.
"""

from __future__ import annotations

import hashlib
from typing import Literal

RoleKind = Literal["kickoff", "pipeline", "execution", "publisher", "approver"]
ROLES: tuple[RoleKind, ...] = ("kickoff", "pipeline", "execution", "publisher", "approver")

MAX_NAME = 63
"""Characters of a training job's name; a role's has one more."""


def _limited(name: str) -> str:
    """The name, or its beginning and a mark of the whole where it is too long."""
    if len(name) <= MAX_NAME:
        return name
    mark = hashlib.sha256(name.encode()).hexdigest()[:8]
    return f"{name[: MAX_NAME - 9].rstrip('-')}-{mark}"


def session_name(run: str) -> str:
    """Role session name and source identity of a run: at most 64 characters."""
    return f"fedsm-{run}"[:64]


def job_name(federation: str, run: str, site: str) -> str:
    """Name of a site's job in the direct launch, unique to run and site.

    It begins with ``fedsm-<federation>-``, which the kickoff role's policy demands.
    """
    own = run.startswith(f"{federation}-")
    return _limited(f"fedsm-{run}-{site}" if own else f"fedsm-{federation}-{run}-{site}")


def role_name(federation: str, site: str, kind: RoleKind) -> str:
    """Name of one of the site's roles."""
    return _limited(f"fedsm-{federation}-{site}-{kind}")


def role_arn(account: str, federation: str, site: str, kind: RoleKind, aws: str = "aws") -> str:
    """ARN of one of the site's roles; ``aws`` is the partition."""
    return f"arn:{aws}:iam::{account}:role/{role_name(federation, site, kind)}"


def boundary_arn(account: str, federation: str, site: str, kind: RoleKind, aws: str = "aws") -> str:
    """ARN of the managed policy that bounds a role."""
    name = f"{role_name(federation, site, kind)}-boundary"
    return f"arn:{aws}:iam::{account}:policy/{name}"


def pipeline_name(federation: str, site: str, digest: str) -> str:
    """Name of the pipeline of one approved bundle: at most 120 characters, all lower-case."""
    return f"fedsm-{federation}-{site}-{digest}"


def step_name(federation: str, site: str) -> str:
    """Name of the pipeline's one step; part of the name that SageMaker gives to the job.

    ``pipelines-<execution id>-<step>-<random>`` has to fit into 63 characters.
    """
    return f"fedsm-{hashlib.sha256(f'{federation}/{site}'.encode()).hexdigest()[:8]}"


def pipeline_jobs(federation: str, site: str) -> str:
    """Pattern of the names of the jobs that the site's pipelines create."""
    return f"pipelines-*-{step_name(federation, site)}-*"
