"""The execution role: what a job itself can reach. It can create no job and pass no role."""

from __future__ import annotations

import re

from fedsm.config import Site
from fedsm.images import image_uri
from fedsm.names import Launch, job_names
from fedsm.policies.documents import (
    Document,
    Statement,
    allow,
    arn,
    document,
    listings,
    objects,
    partition,
    s3_service,
    service_trust,
)
from fedsm.policies.logs import write_logs

_ECR = re.compile(
    r"(?P<account>\d{12})\.dkr\.ecr\.(?P<region>[a-z0-9-]+)\.amazonaws\.com(\.cn)?/"
    r"(?P<repository>[^:@]+)([:@].*)?"
)


def execution_trust(site: Site, federation: str, launch: Launch) -> Document:
    """Trust of the execution role: SageMaker, for training jobs of this site's names."""
    jobs = job_names(federation, site.name, launch)
    return service_trust(site.account_id, arn(site, "sagemaker", f"training-job/{jobs}"))


def execution_policy(
    site: Site, federation: str, launch: Launch = "direct", vpc_id: str | None = None
) -> Document:
    """Rights of the execution role.

    In the pipeline launch it reads no code until an approval lets it; in the direct launch it reads
    all that the owner published.
    """
    code = [site.code] if launch == "direct" else []
    return document(
        *_reads(site, code),
        *_common(site, federation, launch),
        *_network(site, vpc_id),
    )


def execution_boundary(
    site: Site, federation: str, launch: Launch, vpc_id: str | None = None
) -> Document:
    """The most that the execution role may ever be given.

    It differs from the role's own rights in that it holds all published code, of which an approval
    grants a part, and names no single subnet or security group. Whatever is put into the role's
    policies, it can create no job, pass no role, take no other role and change no right.
    """
    return document(
        *_reads(site, [site.code]),
        *_common(site, federation, launch),
        *_network(site, vpc_id, bound=True),
    )


def execution_approval(site: Site, digest: str, until: str | None) -> Document:
    """The right to read one bundle."""
    condition = {"DateLessThan": {"aws:CurrentTime": until}} if until else {}
    when = f"until {until}, " if until else ""
    bundle = f"{site.code}/{digest}"
    (listing,) = listings(
        "ListTheApprovedBundle",
        f"lets jobs find this bundle in bucket {{bucket}}, {when}as SageMaker does before it reads",
        site,
        [bundle],
    )
    listing["Condition"] |= condition
    return document(
        allow(
            "ReadTheApprovedBundle",
            f"lets jobs read the bundle of this digest, {when}since the owner's approver approved "
            "it",
            ["s3:GetObject"],
            objects(site, [bundle]),
            {"StringEquals": {"aws:ResourceAccount": site.account_id}, **condition},
        ),
        listing,
    )


def _reads(site: Site, code: list[str]) -> list[Statement]:
    uris = [*site.channels.values(), *code]
    what = "the data of their channels" + (" and the published code" if code else "")
    return [
        allow(
            "ReadData",
            f"lets jobs read {what}, in buckets of the owner's account only",
            ["s3:GetObject"],
            objects(site, uris),
            {"StringEquals": {"aws:ResourceAccount": site.account_id}},
        ),
        *listings(
            "ListData",
            "lets jobs find the objects below these prefixes of bucket {bucket}, as SageMaker does "
            "before it reads",
            site,
            uris,
        ),
    ]


def _common(site: Site, federation: str, launch: Launch) -> list[Statement]:
    return [
        allow(
            "WriteOutput",
            "lets jobs write their model below the output prefix, in the owner's account only; "
            "they can neither read nor delete what lies there",
            ["s3:PutObject"],
            objects(site, [site.output]),
            {"StringEquals": {"aws:ResourceAccount": site.account_id}},
        ),
        *write_logs(site, job_names(federation, site.name, launch)),
        *_image(site),
        *_key(site),
    ]


def _image(site: Site) -> list[Statement]:
    found = _ECR.fullmatch(image_uri(site))
    if found is None:
        return []
    aws = partition(site.role_arn)
    repository = f"arn:{aws}:ecr:{found['region']}:{found['account']}"
    return [
        allow(
            "PullTheImage",
            "lets jobs pull their image from this one repository",
            ["ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"],
            [f"{repository}:repository/{found['repository']}"],
        ),
        # AWS knows no resource for this action: the token is the registry's, and opens only what
        # the other rights on repositories allow.
        allow(
            "SignInToTheRegistry",
            "lets jobs sign in to the registry, without which nothing can be pulled",
            ["ecr:GetAuthorizationToken"],
            ["*"],
        ),
    ]


def _key(site: Site) -> list[Statement]:
    if site.kms_key_arn is None:
        return []
    return [
        allow(
            "UseTheKey",
            "lets jobs encrypt their output and read what the owner encrypted with this key, "
            "through S3 only",
            ["kms:Decrypt", "kms:GenerateDataKey"],
            [site.kms_key_arn],
            {"StringEquals": {"kms:ViaService": s3_service(site)}},
        ),
        allow(
            "GrantTheKeyToAws",
            "lets SageMaker, in this role, give the job's volume its use of the key; a grant to "
            "anybody but an AWS service is refused",
            ["kms:CreateGrant"],
            [site.kms_key_arn],
            {"Bool": {"kms:GrantIsForAWSResource": "true"}},
        ),
    ]


def _network(site: Site, vpc_id: str | None, *, bound: bool = False) -> list[Statement]:
    """The interfaces that ``VpcConfig`` needs; a bound names no single subnet or group.

    Source: SageMaker Developer Guide, "Give SageMaker AI Training Jobs Access to Resources in Your
    Amazon VPC"; Service Authorization Reference, "Amazon EC2".
    """
    if not site.subnets:
        return []
    interfaces = arn(site, "ec2", "network-interface/*")
    subnets = [arn(site, "ec2", f"subnet/{name}") for name in site.subnets]
    groups = [arn(site, "ec2", f"security-group/{name}") for name in site.security_groups]
    condition: dict[str, object] = {} if bound else {"ec2:Subnet": subnets}
    if vpc_id is not None:
        condition["ec2:Vpc"] = arn(site, "ec2", f"vpc/{vpc_id}")
    if bound:
        # All of them would not fit into a managed policy.
        subnets, groups = [arn(site, "ec2", "subnet/*")], [arn(site, "ec2", "security-group/*")]
    where = "this account and Region" if bound else "the owner's terms"
    return [
        # The interface has no id before it is made; subnet and groups are named instead.
        allow(
            "CreateInterfaces",
            "lets SageMaker, in this role, make the job's network interface, with subnets and "
            f"security groups of {where} only",
            ["ec2:CreateNetworkInterface"],
            [interfaces, *subnets, *groups],
        ),
        allow(
            "UseInterfaces",
            "lets SageMaker, in this role, attach such an interface to the job and delete it "
            "afterwards, and touch no interface elsewhere",
            [
                "ec2:CreateNetworkInterfacePermission",
                "ec2:DeleteNetworkInterface",
                "ec2:DeleteNetworkInterfacePermission",
            ],
            [interfaces],
            {"ArnEquals": condition} if condition else None,
        ),
        # AWS knows no resource for these actions.
        allow(
            "SeeTheNetwork",
            "lets SageMaker, in this role, look up the network that the interface goes into; it "
            "changes nothing",
            [
                "ec2:DescribeDhcpOptions",
                "ec2:DescribeNetworkInterfaces",
                "ec2:DescribeSecurityGroups",
                "ec2:DescribeSubnets",
                "ec2:DescribeVpcs",
            ],
            ["*"],
            {"StringEquals": {"aws:RequestedRegion": site.region}},
        ),
    ]
