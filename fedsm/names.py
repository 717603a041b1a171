"""Names of what fedsm makes in an account, and the patterns by which policies speak of them.

Pure. A role's name tells federation and site, since STS drops a role's path. Two hyphens end each
part, and no part holds two in a row: so the names of one site never begin with another's, even
where two federations of one account are called ``heart`` and ``heart-2``.
"""

from __future__ import annotations

import hashlib
from typing import Literal

RoleKind = Literal["kickoff", "pipeline", "execution", "publisher", "approver"]
ROLES: tuple[RoleKind, ...] = ("kickoff", "pipeline", "execution", "publisher", "approver")

Launch = Literal["pipeline", "direct"]

MAX_NAME = 63
"""Characters of a training job's name; a role's has one more."""

_MARK = 20
"""Hexadecimal digits that stand for a name; a step's has room for 23."""


def _limited(name: str) -> str:
    """The name, or its beginning and a mark of the whole where it is too long."""
    if len(name) <= MAX_NAME:
        return name
    return f"{name[: MAX_NAME - _MARK - 1].rstrip('-')}-{_mark(name)}"


def site_prefix(federation: str, site: str) -> str:
    """What the names of a site's jobs begin with: at most 41 characters.

    So short that :func:`_limited` leaves it whole. No federation begins with a hyphen, so that what
    stands in for a longer one begins with no other site's.
    """
    plain = f"fedsm-{federation}--{site}--"
    return plain if len(plain) < MAX_NAME - _MARK - 1 else f"fedsm--{_mark(plain)}--"


def session_name(run: str) -> str:
    """Role session name and source identity of a run: at most 64 characters."""
    return f"fedsm-{run}"[:64]


def job_name(federation: str, run: str, site: str) -> str:
    """Name of a site's job in the direct launch, unique to run and site.

    It begins with :func:`site_prefix`, which the kickoff role's policy demands.
    """
    return _limited(site_prefix(federation, site) + run.removeprefix(f"{federation}-"))


def role_name(federation: str, site: str, kind: RoleKind) -> str:
    """Name of one of the site's roles."""
    return _limited(f"fedsm-{federation}--{site}-{kind}")


def role_arn(account: str, federation: str, site: str, kind: RoleKind, aws: str = "aws") -> str:
    """ARN of one of the site's roles; ``aws`` is the partition."""
    return f"arn:{aws}:iam::{account}:role/{role_name(federation, site, kind)}"


def boundary_arn(account: str, federation: str, site: str, kind: RoleKind, aws: str = "aws") -> str:
    """ARN of the managed policy that bounds a role."""
    name = f"{role_name(federation, site, kind)}-boundary"
    return f"arn:{aws}:iam::{account}:policy/{name}"


def pipeline_name(federation: str, site: str, digest: str) -> str:
    """Name of the pipeline of one approved bundle: at most 122 characters, all lower-case."""
    return f"fedsm-{federation}--{site}--{digest}"


def approved_name(digest: str) -> str:
    """Name of the inline policies that hold the approval of a bundle."""
    return f"fedsm-approved-{digest[:16]}"


def statement_prefix(federation: str, site: str) -> str:
    """What the Sids of a site's statements in a bucket's or a key's policy begin with."""
    return f"Fedsm{_mark(f'{federation}/{site}')}"


def step_name(federation: str, site: str) -> str:
    """Name of the pipeline's one step; part of the name that SageMaker gives to the job.

    ``pipelines-<execution id>-<step>-<random>`` has to fit into 63 characters.
    """
    return f"fedsm-{_mark(f'{federation}/{site}')}"


def _mark(whole: str) -> str:
    """So long that nobody finds a name for another's mark by trying."""
    return hashlib.sha256(whole.encode()).hexdigest()[:_MARK]


def pipeline_jobs(federation: str, site: str) -> str:
    """Pattern of the names of the jobs that the site's pipelines create."""
    return f"pipelines-*-{step_name(federation, site)}-*"


def job_names(federation: str, site: str, launch: Launch) -> str:
    """Pattern of the names of the site's jobs, however they are launched."""
    if launch == "pipeline":
        return pipeline_jobs(federation, site)
    return f"{site_prefix(federation, site)}*"
