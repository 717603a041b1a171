"""Rights to create, watch and stop the training jobs of one site, with every field that IAM knows.

The kickoff role of the direct launch has them, and the pipeline role. Source of the keys: Service
Authorization Reference, "Amazon SageMaker AI", ``CreateTrainingJob``.

No key bounds these fields of a job: image, entry point and arguments, hyperparameters, environment,
channels and output path (the execution role bounds what they reach), ``InstanceCount``,
``VolumeSizeInGB``, and how many jobs run.
"""

from __future__ import annotations

from collections.abc import Sequence

from fedsm.config import Site
from fedsm.policies.documents import Statement, allow, arn, deny, pass_role
from fedsm.request import TAG_RUN, TAG_SITE

_CREATE = ["sagemaker:CreateTrainingJob"]


def job_statements(site: Site, jobs: str, who: str) -> list[Statement]:
    """The rights of ``who`` on jobs whose names match the pattern ``jobs``."""
    own = [arn(site, "sagemaker", f"training-job/{jobs}")]
    tagged = {f"aws:RequestTag/{TAG_SITE}": site.name}
    return [
        allow(
            "CreateTaggedJobs",
            f"lets {who} create training jobs of this site's names, which bear its tag, so that "
            "no other job of the account is ever meant",
            _CREATE,
            own,
            {"StringEquals": tagged},
        ),
        allow(
            "TagAtCreationOnly",
            f"lets {who} tag such a job while it is created, and never later, since a tag says "
            "whose job it is",
            ["sagemaker:AddTags"],
            own,
            {"StringEquals": {**tagged, "sagemaker:TaggingAction": "CreateTrainingJob"}},
        ),
        allow(
            "WatchAndStopOwnJobs",
            f"lets {who} see how these jobs fare and stop them, so that none bills for nothing",
            ["sagemaker:DescribeTrainingJob", "sagemaker:StopTrainingJob"],
            own,
        ),
        pass_role(
            "PassTheExecutionRole",
            f"lets {who} give a job the one execution role of this site, and no other role",
            site.execution_role_arn,
        ),
        *_only(
            "InstanceTypes", [site.instance_type], "the owner's instance type", "bounds its cost"
        ),
        deny(
            "NeedMaxRuntime",
            "denies a job without a limit of its time, since it could bill for days",
            _CREATE,
            {"Null": {"sagemaker:MaxRuntimeInSeconds": "true"}},
        ),
        deny(
            "NoLongerRun",
            f"denies a job that may run longer than the {site.max_runtime} seconds of the owner's "
            "terms",
            _CREATE,
            {"NumericGreaterThan": {"sagemaker:MaxRuntimeInSeconds": str(site.max_runtime)}},
        ),
        *_only("VpcSubnets", site.subnets, "the owner's subnets", "bounds whom it can reach"),
        *_only(
            "VpcSecurityGroupIds",
            site.security_groups,
            "the owner's security groups",
            "bounds whom it can reach",
        ),
        *_keys("VolumeKmsKey", site.kms_key_arn, "the job's volume"),
        *_keys("OutputKmsKey", site.kms_key_arn, "the job's output"),
        *_switched_off(
            ("EnableRemoteDebug", "a shell in the job, since it would stand next to the data"),
            ("NetworkIsolation", "a job cut off from its coordinator, since it bills for nothing"),
            (
                "InterContainerTrafficEncryption",
                "a field for jobs of several instances, since what is not agreed stays unset",
            ),
        ),
        *_unused(
            ("KeepAlivePeriod", "a warm pool, since it bills after the job and may take another"),
            ("FileSystemId", "a file system, since no channel of the terms names its data"),
        ),
    ]


def tag_statements(site: Site) -> list[Statement]:
    """Denies of tags that the terms do not name.

    Not for the pipeline role: SageMaker adds tags of its own to the jobs of a pipeline.
    """
    keys = sorted({*site.tags, TAG_RUN, TAG_SITE})
    return [
        deny(
            "NoOtherTags",
            "denies a job with tags that the owner's terms do not name, since tags may open doors "
            "elsewhere in the account",
            [*_CREATE, "sagemaker:AddTags"],
            {"ForAnyValue:StringNotEquals": {"aws:TagKeys": keys}},
        )
    ]


def _only(key: str, allowed: Sequence[str], what: str, why: str) -> list[Statement]:
    """Denies of a new job that does not give these values, and these alone, to a SageMaker key.

    A condition on a key does not hold where the field is left out, hence the ``Null`` denies.
    """
    name = f"sagemaker:{key}"
    if not allowed:
        return _unused((key, "a network that the owner's terms do not name"))
    return [
        deny(
            f"Need{key}",
            f"denies a job that does not name {what}, which {why} and which a check of the value "
            "alone would let pass",
            _CREATE,
            {"Null": {name: "true"}},
        ),
        deny(
            f"NoOther{key}",
            f"denies a job that names anything but {what}, which {why}",
            _CREATE,
            {"ForAnyValue:StringNotEquals": {name: list(allowed)}},
        ),
    ]


def _keys(key: str, kms_key_arn: str | None, what: str) -> list[Statement]:
    name = f"sagemaker:{key}"
    if kms_key_arn is None:
        return _unused((key, f"a key for {what}, since the owner's terms name none"))
    # A negated operator without a quantifier holds too where the field is left out.
    return [
        deny(
            f"NoOther{key}",
            f"denies a job that encrypts {what} with any but the owner's key, or with none, so "
            "that nobody else can open or lock it",
            _CREATE,
            {"ArnNotEquals": {name: kms_key_arn}},
        )
    ]


def _switched_off(*switches: tuple[str, str]) -> list[Statement]:
    return [
        deny(f"No{key}", f"denies {what}", _CREATE, {"Bool": {f"sagemaker:{key}": "true"}})
        for key, what in switches
    ]


def _unused(*fields: tuple[str, str]) -> list[Statement]:
    return [
        deny(f"No{key}", f"denies {what}", _CREATE, {"Null": {f"sagemaker:{key}": "false"}})
        for key, what in fields
    ]
