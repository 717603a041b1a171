"""The owner's people: the publisher writes bundles, the approver decides which of them may run."""

from __future__ import annotations

from fedsm.config import Site
from fedsm.names import boundary_arn, pipeline_name, role_arn
from fedsm.policies.documents import (
    Document,
    Statement,
    allow,
    arn,
    document,
    listings,
    objects,
    partition,
    pass_role,
)


def publisher_policy(site: Site) -> Document:
    """Rights of the owner's publisher: the sole writer of the bundle prefix."""
    return document(
        allow(
            "WriteNewBundles",
            "lets the publisher put bundles that are not there yet; one that is there can be "
            "neither overwritten nor deleted, so an approved digest keeps its bytes",
            ["s3:PutObject"],
            objects(site, [site.code]),
            {
                "StringEquals": {"aws:ResourceAccount": site.account_id},
                "Null": {"s3:if-none-match": "false"},
            },
        ),
        *_read_bundles(site, "the publisher", "to compare what is published"),
    )


def approver_policy(site: Site, federation: str) -> Document:
    """Rights of the owner's approver: make the pipeline of a bundle, and the rights to run it.

    There is no ``UpdatePipeline``: a pipeline whose name carries one digest shall never run
    another. What the approver may put into the two roles is bounded by their boundaries.
    """
    aws = partition(site.role_arn)
    place = (site.account_id, federation, site.name)
    pipelines = [arn(site, "sagemaker", f"pipeline/{pipeline_name(federation, site.name, '*')}")]
    kickoff, execution = (role_arn(*place, kind, aws) for kind in ("kickoff", "execution"))
    bounds = {
        "Kickoff": (kickoff, boundary_arn(*place, "kickoff", aws)),
        "Execution": (execution, boundary_arn(*place, "execution", aws)),
    }
    return document(
        allow(
            "MakePipelines",
            "lets the approver make, look at and remove pipelines of this site's names; none can "
            "be changed, since its name stands for one bundle",
            [
                "sagemaker:CreatePipeline",
                "sagemaker:DeletePipeline",
                "sagemaker:DescribePipeline",
            ],
            pipelines,
        ),
        allow(
            "TagPipelinesAtCreation",
            "lets the approver tag such a pipeline while it is made, and never later",
            ["sagemaker:AddTags"],
            pipelines,
            {"StringEquals": {"sagemaker:TaggingAction": "CreatePipeline"}},
        ),
        pass_role(
            "PassThePipelineRole",
            "lets the approver give a pipeline the one pipeline role of this site, and no other",
            role_arn(*place, "pipeline", aws),
        ),
        allow(
            "SeeApprovals",
            "lets the approver see which approvals this site's two roles hold",
            ["iam:GetRolePolicy", "iam:ListRolePolicies"],
            [kickoff, execution],
        ),
        *(
            allow(
                f"ApproveIn{kind}Role",
                f"lets the approver put approvals into the {kind.lower()} role and take them away, "
                "as long as that role bears its boundary, so that no approval widens it further",
                ["iam:DeleteRolePolicy", "iam:PutRolePolicy"],
                [role],
                {"StringEquals": {"iam:PermissionsBoundary": boundary}},
            )
            for kind, (role, boundary) in bounds.items()
        ),
        *_read_bundles(site, "the approver", "to check the bytes that are approved"),
    )


def _read_bundles(site: Site, who: str, why: str) -> list[Statement]:
    return [
        allow(
            "ReadBundles",
            f"lets {who} read published bundles, {why}",
            ["s3:GetObject"],
            objects(site, [site.code]),
            {"StringEquals": {"aws:ResourceAccount": site.account_id}},
        ),
        *listings(
            "ListBundles",
            f"lets {who} see which bundles are published in bucket {{bucket}}",
            site,
            [site.code],
        ),
    ]
