"""Every IAM and bucket document, as pure data.

Each function returns a policy document. The kickoff role's rights are those of the direct launch:
the server account may create, watch and stop jobs of its federation, in the given subnets and
security groups, and pass one role. No IAM key of ``CreateTrainingJob`` pins image, entry point or
hyperparameters, so this is the mode in which the data owner trusts the server.

ARNs are of the partition of the site's kickoff role: ``aws``, ``aws-cn`` or ``aws-us-gov``.
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


def partition(arn: str) -> str:
    """Partition of an ARN, such as ``aws`` or ``aws-cn``."""
    return arn.split(":")[1]


def _objects(site: Site, *uris: str) -> list[str]:
    aws = f"arn:{partition(site.role_arn)}"
    found = {_bucket(uri) for uri in uris}
    return sorted(
        f"{aws}:s3:::{bucket}/{prefix}/*" if prefix else f"{aws}:s3:::{bucket}/*"
        for bucket, prefix in found
    )


def _list_prefixes(sid: str, site: Site, uris: Sequence[str]) -> list[Document]:
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
            [f"arn:{partition(site.role_arn)}:s3:::{bucket}"],
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


def kickoff_policy(site: Site, federation: str, *, logs: bool = False) -> Document:
    """Rights of the kickoff role for the direct launch.

    Jobs are told apart by name, as ``plan.job_name`` makes it: ``fedsm-<federation>-...``. So no
    two federations of an account may have names of which one continues the other after a hyphen.

    No key bounds these fields of a job, the server chooses them: image, entry point and arguments,
    hyperparameters, environment, channels and output path (the execution role bounds what they
    reach), ``InstanceCount``, ``VolumeSizeInGB``, and how many jobs run.

    Parameters
    ----------
    site : Site
        The site as the owner agreed to it; without subnets its jobs may be in no VPC.
    federation : str
        The federation's name.
    logs : bool
        Whether the owner lets the server read the jobs' logs.
    """
    names = f"fedsm-{federation}-*"
    aws = f"arn:{partition(site.role_arn)}"
    jobs = f"{aws}:sagemaker:{site.region}:{site.account_id}:training-job/{names}"
    create = ["sagemaker:CreateTrainingJob"]
    tagged = {"aws:RequestTag/fedsm:site": site.name}
    statements = [
        _allow("CreateTaggedJobs", create, [jobs], Condition={"StringEquals": tagged}),
        _allow(
            "TagAtCreationOnly",
            ["sagemaker:AddTags"],
            [jobs],
            Condition={"StringEquals": {**tagged, "sagemaker:TaggingAction": "CreateTrainingJob"}},
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
        *_only("InstanceTypes", [site.instance_type]),
        _deny("NeedMaxRuntime", create, {"Null": {"sagemaker:MaxRuntimeInSeconds": "true"}}),
        _deny(
            "NoLongerRun",
            create,
            {"NumericGreaterThan": {"sagemaker:MaxRuntimeInSeconds": str(site.max_runtime)}},
        ),
        _deny("NoRemoteDebug", create, {"Bool": {"sagemaker:EnableRemoteDebug": "true"}}),
        *_only("VpcSubnets", site.subnets),
        *_only("VpcSecurityGroupIds", site.security_groups),
    ]
    if logs:
        statements += _logs(
            "Read", site, names, group=["logs:DescribeLogStreams"], stream=["logs:GetLogEvents"]
        )
    return _document(*statements)


def _only(key: str, allowed: Sequence[str]) -> list[Document]:
    """Denies of a new job that does not give these values, and these alone, to a SageMaker key.

    A condition on a key does not hold where the field is left out, hence the ``Null`` denies.
    """
    create, name = ["sagemaker:CreateTrainingJob"], f"sagemaker:{key}"
    if not allowed:
        return [_deny(f"No{key}", create, {"Null": {name: "false"}})]
    return [
        _deny(f"Need{key}", create, {"Null": {name: "true"}}),
        _deny(f"NoOther{key}", create, {"ForAnyValue:StringNotEquals": {name: list(allowed)}}),
    ]


def _logs(
    verb: str, site: Site, names: str, *, group: Sequence[str], stream: Sequence[str]
) -> list[Document]:
    """Rights on the log group of training jobs, and on the streams of the jobs of these names.

    Source: Service Authorization Reference, "Amazon CloudWatch Logs". In a policy a group's ARN
    ends with ``:*``, which covers its streams too: so actions on streams stand apart.
    """
    arn = (
        f"arn:{partition(site.role_arn)}:logs:{site.region}:{site.account_id}"
        ":log-group:/aws/sagemaker/TrainingJobs"
    )
    return [
        _allow(f"{verb}LogGroup", group, [f"{arn}:*"]),
        _allow(f"{verb}LogStreams", stream, [f"{arn}:log-stream:{names}"]),
    ]


def execution_policy(site: Site, federation: str) -> Document:
    """Rights of the execution role: read data and code, write output and the federation's logs."""
    reads = [*site.channels.values(), site.code]
    return _document(
        _allow("ReadDataAndCode", ["s3:GetObject"], _objects(site, *reads)),
        *_list_prefixes("List", site, reads),
        _allow("WriteOutput", ["s3:PutObject"], _objects(site, site.output)),
        *_logs(
            "Write",
            site,
            f"fedsm-{federation}-*",
            group=["logs:CreateLogGroup", "logs:CreateLogStream", "logs:DescribeLogStreams"],
            stream=["logs:PutLogEvents"],
        ),
    )


def publisher_policy(site: Site) -> Document:
    """Rights of the owner's publisher: the sole writer of the bundle prefix."""
    return _document(
        _allow("WriteBundles", ["s3:PutObject", "s3:GetObject"], _objects(site, site.code)),
        *_list_prefixes("List", site, [site.code]),
    )


def code_bucket_policy(site: Site, publisher_arn: str) -> Document:
    """Bucket policy that keeps everybody but the publisher from writing or deleting bundles."""
    return _document(
        {
            "Sid": "OnlyThePublisherWrites",
            "Effect": "Deny",
            "Principal": "*",
            "Action": ["s3:PutObject"],
            "Resource": _objects(site, site.code),
            "Condition": {"ArnNotEquals": {"aws:PrincipalArn": publisher_arn}},
        },
        {
            "Sid": "NobodyDeletes",
            "Effect": "Deny",
            "Principal": "*",
            "Action": ["s3:DeleteObject", "s3:DeleteObjectVersion"],
            "Resource": _objects(site, site.code),
        },
    )


def coordinator_trust(account_id: str) -> Document:
    """Trust of the coordinator's role: principals of its account that may assume it."""
    return _document(
        {
            "Sid": "ServerAccount",
            "Effect": "Allow",
            "Principal": {"AWS": account_id},
            "Action": ["sts:AssumeRole", "sts:SetSourceIdentity"],
        }
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

    Parameters
    ----------
    prefix : str
        ``tracking.prefix``: only experiments named after it may be written. None may be read, the
        tracker has no need to.
    aws : str
        Partition of the server account.
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
            _experiments(f"arn:{aws}:sagemaker:{region}:{account_id}", prefix),
        ),
    )


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
