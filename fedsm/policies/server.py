"""The server account: the coordinator's role, and who may take it."""

from __future__ import annotations

import re
from collections.abc import Sequence

from fedsm.policies.documents import Document, Statement, allow, document, trust


def coordinator_trust(account_id: str) -> Document:
    """Trust of the coordinator's role: principals of its account that may assume it."""
    return document(
        trust(
            "ServerAccount",
            "lets those whom the server account's IAM allows it take the coordinator's role, "
            "under a source identity that names them or the run",
            {"AWS": account_id},
            ["sts:AssumeRole", "sts:SetSourceIdentity"],
        )
    )


def caller_policy(coordinator_role_arn: str) -> Document:
    """Rights of the people and programs of the server account that start runs."""
    return document(
        allow(
            "TakeTheCoordinatorRole",
            "lets its holder take the coordinator's role and nothing else, so that all that a run "
            "does is done in one role",
            ["sts:AssumeRole", "sts:SetSourceIdentity"],
            [coordinator_role_arn],
        )
    )


def coordinator_policy(
    account_id: str,
    region: str,
    kickoff_role_arns: Sequence[str],
    prefix: str,
    *,
    aws: str = "aws",
) -> Document:
    """Rights of the coordinator's role: assume the kickoff roles, write its experiments.

    The state of a run lies on the coordinator's disk, so no right on a bucket is needed.

    Parameters
    ----------
    prefix : str
        ``tracking.prefix``: only experiments named after it may be written. None may be read, the
        tracker has no need to.
    aws : str
        Partition of the server account.
    """
    return document(
        *_start(kickoff_role_arns),
        allow(
            "WriteExperiments",
            "lets the coordinator record its runs in experiments of its own prefix, and read none",
            [
                "sagemaker:AddTags",
                "sagemaker:AssociateTrialComponent",
                "sagemaker:BatchPutMetrics",
                "sagemaker:CreateExperiment",
                "sagemaker:CreateTrial",
                "sagemaker:CreateTrialComponent",
                "sagemaker:UpdateTrialComponent",
            ],
            _experiments(f"arn:{aws}:sagemaker:{region}:{account_id}", prefix),
        ),
    )


def _start(kickoff_role_arns: Sequence[str]) -> list[Statement]:
    # AWS takes no statement without a resource, and before the first site there is none.
    if not kickoff_role_arns:
        return []
    return [
        allow(
            "StartJobsAtSites",
            "lets the coordinator take the kickoff roles of its sites, whose owners decide what "
            "they may do",
            ["sts:AssumeRole", "sts:SetSourceIdentity"],
            sorted(kickoff_role_arns),
        ),
    ]


def _experiments(sagemaker: str, prefix: str) -> list[str]:
    """ARNs of the experiments of ``prefix``, their trials and trial components.

    The names are those of ``fedsm.tracking.names``, which lower-cases, joins hyphens and keeps at
    least 50 characters of a name that is too long.
    """
    name = re.sub("-+", "-", prefix.lower())[:50].rstrip("-")
    kind = f"{sagemaker}:experiment"
    return [
        f"{kind}/{name}-*",
        # IAM compares letter by letter; an ARN may hold the trial's name as given or in lower case.
        f"{kind}-trial/Default-Run-Group-{name}-*",
        f"{kind}-trial/default-run-group-{name}-*",
        f"{kind}-trial-component/{name}-*",
    ]
