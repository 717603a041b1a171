"""Every IAM and bucket document, as pure data.

Each function returns a policy document. The kickoff role's rights are those of the direct launch:
the server account may create, watch and stop jobs whose names start with ``fedsm-``, in the given
subnets and security groups, and pass one role. No IAM key of ``CreateTrainingJob`` pins image,
entry point or hyperparameters, so this is the mode in which the data owner trusts the server.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from fedsm.config import Site

Document = dict[str, Any]


def _document(*statements: dict[str, Any]) -> Document:
    return {"Version": "2012-10-17", "Statement": list(statements)}


def _allow(sid: str, actions: Sequence[str], resources: Sequence[str], **extra: Any) -> Document:
    return {
        "Sid": sid,
        "Effect": "Allow",
        "Action": list(actions),
        "Resource": list(resources),
        **extra,
    }


def _deny(sid: str, actions: Sequence[str], condition: Document) -> Document:
    return {
        "Sid": sid,
        "Effect": "Deny",
        "Action": list(actions),
        "Resource": ["*"],
        "Condition": condition,
    }


def _bucket(uri: str) -> tuple[str, str]:
    bucket, _, prefix = uri.removeprefix("s3://").partition("/")
    return bucket, prefix.rstrip("/")


def _objects(uri: str) -> str:
    bucket, prefix = _bucket(uri)
    return f"arn:aws:s3:::{bucket}/{prefix}/*" if prefix else f"arn:aws:s3:::{bucket}/*"


def _list_prefixes(sid: str, uris: Sequence[str]) -> list[Document]:
    """One statement a bucket: listing is a right on the bucket, limited by prefix."""
    prefixes: dict[str, list[str]] = {}
    for uri in uris:
        bucket, prefix = _bucket(uri)
        prefixes.setdefault(bucket, []).append(f"{prefix}/*" if prefix else "*")
        if prefix:
            prefixes[bucket].append(prefix)
    return [
        _allow(
            f"{sid}{i}",
            ["s3:ListBucket"],
            [f"arn:aws:s3:::{bucket}"],
            Condition={"StringLike": {"s3:prefix": sorted(set(values))}},
        )
        for i, (bucket, values) in enumerate(sorted(prefixes.items()))
    ]


def service_trust(account_id: str) -> Document:
    """Trust of a role that SageMaker takes for jobs of ``account_id``."""
    return _document(
        {
            "Sid": "SageMaker",
            "Effect": "Allow",
            "Principal": {"Service": "sagemaker.amazonaws.com"},
            "Action": "sts:AssumeRole",
            "Condition": {"StringEquals": {"aws:SourceAccount": account_id}},
        }
    )


def kickoff_trust(server_role_arn: str, external_id: str) -> Document:
    """Trust of the kickoff role: exactly the server's role, and only with the external id."""
    return _document(
        {
            "Sid": "Server",
            "Effect": "Allow",
            "Principal": {"AWS": server_role_arn},
            "Action": "sts:AssumeRole",
            "Condition": {"StringEquals": {"sts:ExternalId": external_id}},
        },
        {
            "Sid": "SourceIdentity",
            "Effect": "Allow",
            "Principal": {"AWS": server_role_arn},
            "Action": "sts:SetSourceIdentity",
            "Condition": {"StringLike": {"sts:SourceIdentity": "*"}},
        },
    )


def kickoff_policy(site: Site, *, logs: bool = False) -> Document:
    """Rights of the kickoff role for the direct launch.

    Parameters
    ----------
    site : Site
        The site as the owner agreed to it.
    logs : bool
        Whether the owner lets the server read the jobs' logs.
    """
    jobs = f"arn:aws:sagemaker:{site.region}:{site.account_id}:training-job/fedsm-*"
    create = ["sagemaker:CreateTrainingJob"]
    statements = [
        _allow(
            "CreateTaggedJobs",
            [*create, "sagemaker:AddTags"],
            [jobs],
            Condition={"StringEquals": {"aws:RequestTag/fedsm:site": site.name}},
        ),
        _allow(
            "WatchAndStopOwnJobs",
            ["sagemaker:DescribeTrainingJob", "sagemaker:StopTrainingJob"],
            [jobs],
        ),
        _allow(
            "PassTheExecutionRole",
            ["iam:PassRole"],
            [site.execution_role_arn],
            Condition={"StringEquals": {"iam:PassedToService": "sagemaker.amazonaws.com"}},
        ),
        _deny(
            "NoOtherInstance",
            create,
            {"ForAnyValue:StringNotEquals": {"sagemaker:InstanceTypes": [site.instance_type]}},
        ),
        _deny(
            "NoLongerRun",
            create,
            {"NumericGreaterThan": {"sagemaker:MaxRuntimeInSeconds": str(site.max_runtime)}},
        ),
        _deny("NoRemoteDebug", create, {"Bool": {"sagemaker:EnableRemoteDebug": "true"}}),
    ]
    for key, allowed in (
        ("VpcSubnets", site.subnets),
        ("VpcSecurityGroupIds", site.security_groups),
    ):
        if allowed:
            # A negated condition does not hold for a missing key: the Null deny closes that gap.
            statements += [
                _deny(f"Need{key}", create, {"Null": {f"sagemaker:{key}": "true"}}),
                _deny(
                    f"NoOther{key}",
                    create,
                    {"ForAnyValue:StringNotEquals": {f"sagemaker:{key}": list(allowed)}},
                ),
            ]
    if logs:
        group = (
            f"arn:aws:logs:{site.region}:{site.account_id}:log-group:/aws/sagemaker/TrainingJobs"
        )
        statements.append(
            _allow(
                "ReadJobLogs",
                ["logs:DescribeLogStreams", "logs:GetLogEvents"],
                [group, f"{group}:log-stream:fedsm-*"],
            )
        )
    return _document(*statements)


def execution_policy(site: Site) -> Document:
    """Rights of the execution role: read data and code, write output and logs."""
    reads = [*site.channels.values(), site.code]
    group = f"arn:aws:logs:{site.region}:{site.account_id}:log-group:/aws/sagemaker/TrainingJobs"
    return _document(
        _allow("ReadDataAndCode", ["s3:GetObject"], sorted({_objects(uri) for uri in reads})),
        *_list_prefixes("List", reads),
        _allow("WriteOutput", ["s3:PutObject"], [_objects(site.output)]),
        _allow(
            "WriteLogs",
            [
                "logs:CreateLogGroup",
                "logs:CreateLogStream",
                "logs:DescribeLogStreams",
                "logs:PutLogEvents",
            ],
            [group, f"{group}:log-stream:fedsm-*"],
        ),
    )


def publisher_policy(site: Site) -> Document:
    """Rights of the owner's publisher: the sole writer of the bundle prefix."""
    return _document(
        _allow("WriteBundles", ["s3:PutObject", "s3:GetObject"], [_objects(site.code)]),
        *_list_prefixes("List", [site.code]),
    )


def code_bucket_policy(site: Site, publisher_arn: str) -> Document:
    """Bucket policy that keeps everybody but the publisher from writing or deleting bundles."""
    return _document(
        {
            "Sid": "OnlyThePublisherWrites",
            "Effect": "Deny",
            "Principal": "*",
            "Action": ["s3:PutObject"],
            "Resource": [_objects(site.code)],
            "Condition": {"ArnNotEquals": {"aws:PrincipalArn": publisher_arn}},
        },
        {
            "Sid": "NobodyDeletes",
            "Effect": "Deny",
            "Principal": "*",
            "Action": ["s3:DeleteObject", "s3:DeleteObjectVersion"],
            "Resource": [_objects(site.code)],
        },
    )


def coordinator_trust(account_id: str) -> Document:
    """Trust of the coordinator's role: principals of the server account that may assume it."""
    return _document(
        {
            "Sid": "ServerAccount",
            "Effect": "Allow",
            "Principal": {"AWS": f"arn:aws:iam::{account_id}:root"},
            "Action": ["sts:AssumeRole", "sts:SetSourceIdentity"],
        }
    )


def coordinator_policy(
    account_id: str, region: str, kickoff_role_arns: Sequence[str], prefix: str
) -> Document:
    """Rights of the coordinator's role: assume the kickoff roles, write its experiments.

    Parameters
    ----------
    prefix : str
        ``tracking.prefix``: only experiments named after it may be written. None may be read, the
        tracker has no need to.
    """
    return _document(
        _allow(
            "StartJobsAtSites",
            ["sts:AssumeRole", "sts:SetSourceIdentity"],
            sorted(kickoff_role_arns),
        ),
        _allow(
            "WriteExperiments",
            [
                "sagemaker:AddTags",
                "sagemaker:AssociateTrialComponent",
                "sagemaker:BatchPutMetrics",
                "sagemaker:CreateExperiment",
                "sagemaker:CreateTrial",
                "sagemaker:CreateTrialComponent",
                "sagemaker:UpdateTrialComponent",
            ],
            _experiments(account_id, region, prefix),
        ),
    )


def _experiments(account_id: str, region: str, prefix: str) -> list[str]:
    """ARNs of the experiments of ``prefix``, their trials and trial components.

    The names are those of ``fedsm.tracking.names``, which lower-cases, joins hyphens and keeps at
    least 50 characters of a name that is too long.
    """
    name = re.sub("-+", "-", prefix.lower())[:50].rstrip("-")
    kind = f"arn:aws:sagemaker:{region}:{account_id}:experiment"
    return [
        f"{kind}/{name}-*",
        # IAM compares letter by letter; an ARN may hold the trial's name as given or in lower case.
        f"{kind}-trial/Default-Run-Group-{name}-*",
        f"{kind}-trial/default-run-group-{name}-*",
        f"{kind}-trial-component/{name}-*",
    ]
