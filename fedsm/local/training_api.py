"""The SageMaker training-job actions: checks, IAM, and the hand-over to the runner."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from fedsm.local import backends, validation
from fedsm.local.authorise import Ask, allow, judge, service_caller, tag_context
from fedsm.local.jobs import TERMINAL, Job, Jobs, Record
from fedsm.local.principals import Caller
from fedsm.local.protocol import ApiError, Call, Reply, json_reply, not_modelled

IMAGES = re.compile(
    r"(\d{12}\.dkr\.ecr\.[a-z0-9-]+\.amazonaws\.com(\.cn)?/)?"
    r"(sagemaker-scikit-learn|fedsm(/[a-z0-9._/-]+)?)([:@][\w.:-]+)?"
)
"""Images that stand for the interpreter which runs the cloud."""

_MODELLED: dict[str, Any] = {
    "TrainingJobName": True,
    "HyperParameters": True,
    "AlgorithmSpecification": {
        "TrainingImage": True,
        "TrainingInputMode": {"File"},
        "MetricDefinitions": True,
        "ContainerEntrypoint": True,
        "ContainerArguments": True,
        "EnableSageMakerMetricsTimeSeries": {False},
    },
    "RoleArn": True,
    "InputDataConfig": [
        {
            "ChannelName": True,
            "DataSource": {
                "S3DataSource": {
                    "S3DataType": {"S3Prefix"},
                    "S3Uri": True,
                    "S3DataDistributionType": {"FullyReplicated"},
                }
            },
            "ContentType": True,
            "CompressionType": {"None"},
            "RecordWrapperType": {"None"},
            "InputMode": {"File"},
        }
    ],
    "OutputDataConfig": {"S3OutputPath": True, "KmsKeyId": True, "CompressionType": {"GZIP"}},
    "ResourceConfig": {
        "InstanceType": True,
        "InstanceCount": {1},
        "VolumeSizeInGB": True,
        "VolumeKmsKeyId": True,
    },
    "VpcConfig": {"SecurityGroupIds": True, "Subnets": True},
    "StoppingCondition": {"MaxRuntimeInSeconds": True},
    "Tags": True,
    "EnableNetworkIsolation": {False},
    "EnableInterContainerTrafficEncryption": True,
    "EnableManagedSpotTraining": {False},
    "Environment": True,
    "ProfilerConfig": {"DisableProfiler": {True}},
    "RemoteDebugConfig": {"EnableRemoteDebug": {False}},
}
"""Fields of CreateTrainingJob that are honoured: True for any value, a set for these values."""

ACTIONS = frozenset(
    {"CreateTrainingJob", "DescribeTrainingJob", "ListTrainingJobs", "StopTrainingJob"}
)
TAG_ACTIONS = frozenset({"AddTags", "ListTags", "DeleteTags"})


class TrainingApi:
    """Answers training-job actions.

    Parameters
    ----------
    start : callable
        Starts a registered job; returns at once.
    """

    def __init__(self, jobs: Jobs, start: Callable[[Job], None]) -> None:
        self._jobs, self._start = jobs, start

    def owns(self, call: Call) -> bool:
        """Whether a SageMaker call is about training jobs."""
        action = call.headers.get("x-amz-target", "").rpartition(".")[2]
        if action in TAG_ACTIONS:
            return ":training-job/" in str(call.json().get("ResourceArn", ""))
        return action in ACTIONS

    def answer(self, call: Call, caller: Caller) -> Reply:
        """Validate, authorise and carry out one action.

        Raises
        ------
        ApiError
            In SageMaker's codes and words.
        """
        action = call.headers["x-amz-target"].rpartition(".")[2]
        body = call.json()
        validation.check(action, body)
        if action in TAG_ACTIONS:
            return json_reply(self._tags(call, caller, action, body))
        if action == "CreateTrainingJob":
            return json_reply(self._create(call, caller, body))
        if action == "ListTrainingJobs":
            self._allow(call, caller, action, "*", {})
            return json_reply(self._list(call, caller, body))
        name = body["TrainingJobName"]
        job = self._jobs.get(caller.principal.account, call.region, name)
        resource_tags = {} if job is None else _resource_tags(job)
        self._allow(call, caller, action, _arn(call, caller, name), resource_tags)
        if job is None:
            raise ApiError("ValidationException", "Requested resource not found.")
        if action == "DescribeTrainingJob":
            return json_reply(job.describe())
        if not job.begin_stop():
            raise ApiError(
                "ValidationException",
                "The request was rejected because the training job is in status "
                f"{job.record.status}.",
            )
        return Reply(200, b"", {"Content-Type": "application/x-amz-json-1.1"})

    def _allow(
        self,
        call: Call,
        caller: Caller,
        action: str,
        resource: str,
        context: Mapping[str, Sequence[str]],
    ) -> None:
        ask = Ask(f"sagemaker:{action}", resource, caller.principal.account, context)
        allow(call, caller, ask)

    def _create(self, call: Call, caller: Caller, body: dict[str, Any]) -> dict[str, Any]:
        account, name, role = caller.principal.account, body["TrainingJobName"], body["RoleArn"]
        arn, context = _arn(call, caller, name), creation_context(body)
        self._allow(call, caller, "CreateTrainingJob", arn, context)
        if body.get("Tags"):
            tagging = {"sagemaker:taggingaction": ["CreateTrainingJob"]}
            self._allow(call, caller, "AddTags", arn, context | tagging)
        if role.split(":")[4] != account:
            raise ApiError(
                "ValidationException", "RoleArn: Cross-account pass role is not allowed."
            )
        passed = {
            "iam:passedtoservice": ["sagemaker.amazonaws.com"],
            "iam:associatedresourcearn": [arn],
        }
        allow(call, caller, Ask("iam:PassRole", role, account, passed))
        refuse_unmodelled(body, _MODELLED, "")
        self._check_role(call, role, account)
        image = body["AlgorithmSpecification"].get("TrainingImage", "")
        if not IMAGES.fullmatch(image):
            raise ApiError(
                "ValidationException",
                f"Cannot pull image {image!r}: the local cloud has no registry; it runs "
                "sagemaker-scikit-learn and fedsm images, in its own interpreter",
            )
        _check_metrics(body["AlgorithmSpecification"].get("MetricDefinitions", []))
        tags = {tag["Key"]: tag["Value"] for tag in body.get("Tags", [])}
        request = {k: v for k, v in body.items() if k != "Tags"}
        record = Record(account, call.region, request, time.time(), tags=tags)
        job = self._jobs.add(record)
        if job is None:
            raise ApiError(
                "ResourceInUse",
                "Training job names must be unique within an AWS account and region, and a "
                f"training job with this name already exists ({arn})",
            )
        job.move("Starting", "Launching requested ML instances")
        self._start(job)
        return {"TrainingJobArn": job.arn}

    def _check_role(self, call: Call, arn: str, account: str) -> None:
        role = backends.find_role(arn)
        if role is not None:
            trust = Ask("sts:AssumeRole", arn, account, {}, role.assume_role_policy_document)
            service = service_caller("sagemaker.amazonaws.com", account)
            if judge(call, service, trust, trust=True).allowed:
                return
        raise ApiError(
            "ValidationException",
            f"Could not assume role {arn}. Please ensure that the role exists and allows "
            "principal 'sagemaker.amazonaws.com' to assume the role.",
        )

    def _list(self, call: Call, caller: Caller, body: dict[str, Any]) -> dict[str, Any]:
        account = caller.principal.account
        found = [
            job for job in self._jobs if job.key[:2] == (account, call.region) and _fits(job, body)
        ]
        keys: dict[str, Callable[[Job], Any]] = {
            "Name": lambda job: job.name,
            "Status": lambda job: job.record.status,
        }
        key = keys.get(body.get("SortBy", "CreationTime"), lambda job: job.record.created)
        found.sort(key=key, reverse=body.get("SortOrder", "Descending") == "Descending")
        start = int(body["NextToken"]) if body.get("NextToken", "").isdigit() else 0
        end = start + body.get("MaxResults", 10)
        answer: dict[str, Any] = {
            "TrainingJobSummaries": [job.summary() for job in found[start:end]]
        }
        return answer if end >= len(found) else answer | {"NextToken": str(end)}

    def _tags(
        self, call: Call, caller: Caller, action: str, body: dict[str, Any]
    ) -> dict[str, Any]:
        arn = body["ResourceArn"]
        parts = arn.split(":")
        job = self._jobs.get(parts[4], parts[3], arn.rpartition("/")[2])
        context = tag_context(body.get("Tags", [])) | ({} if job is None else _resource_tags(job))
        if "TagKeys" in body:
            context["aws:tagkeys"] = body["TagKeys"]
        self._allow(call, caller, action, arn, context)
        if job is None or job.record.account != caller.principal.account:
            raise ApiError("ValidationException", "Requested resource not found.")
        tags = job.record.tags
        if action == "AddTags":
            tags.update({tag["Key"]: tag["Value"] for tag in body["Tags"]})
        for key in body.get("TagKeys", []):
            tags.pop(key, None)
        job.save()
        listed = [{"Key": key, "Value": value} for key, value in tags.items()]
        return {} if action == "DeleteTags" else {"Tags": listed}


def refuse_unmodelled(value: Any, known: Any, where: str) -> None:
    """Refuse fields and values of a request that the cloud would not honour.

    Raises
    ------
    ApiError
        Names the first such field.
    """
    if known is True:
        return
    if isinstance(known, set):
        if value not in known:
            raise not_modelled(f"{where}={value}")
        return
    if isinstance(known, list):
        for item in value:
            refuse_unmodelled(item, known[0], where)
        return
    for name, member in value.items():
        path = f"{where}.{name}" if where else name
        if name not in known:
            raise not_modelled(f"{path} of CreateTrainingJob")
        refuse_unmodelled(member, known[name], path)


def creation_context(body: Mapping[str, Any]) -> dict[str, Sequence[str]]:
    """SageMaker's condition keys of CreateTrainingJob; a field that is not set gives no key.

    Source: Service Authorization Reference, "Condition keys for Amazon SageMaker".
    """
    resources, vpc = body["ResourceConfig"], body.get("VpcConfig", {})
    types = [resources["InstanceType"]] if "InstanceType" in resources else []
    types += [group["InstanceType"] for group in resources.get("InstanceGroups", [])]
    single = {
        "MaxRuntimeInSeconds": body.get("StoppingCondition", {}).get("MaxRuntimeInSeconds"),
        "VolumeKmsKey": resources.get("VolumeKmsKeyId"),
        "KeepAlivePeriod": resources.get("KeepAlivePeriodInSeconds"),
        "OutputKmsKey": body["OutputDataConfig"].get("KmsKeyId") or None,
        "InterContainerTrafficEncryption": body.get("EnableInterContainerTrafficEncryption"),
        "NetworkIsolation": body.get("EnableNetworkIsolation"),
        "EnableRemoteDebug": body.get("RemoteDebugConfig", {}).get("EnableRemoteDebug"),
    }
    lists = {
        "InstanceTypes": types,
        "VpcSubnets": vpc.get("Subnets", []),
        "VpcSecurityGroupIds": vpc.get("SecurityGroupIds", []),
    }
    context = {f"sagemaker:{name.lower()}": values for name, values in lists.items() if values}
    for name, value in single.items():
        if value is not None:
            text = str(value).lower() if isinstance(value, bool) else str(value)
            context[f"sagemaker:{name.lower()}"] = [text]
    return context | tag_context(body.get("Tags", []))


def _check_metrics(definitions: Sequence[Mapping[str, str]]) -> None:
    for definition in definitions:
        try:
            re.compile(definition["Regex"])
        except re.error as error:
            raise ApiError(
                "ValidationException",
                f"the regular expression of the metric {definition['Name']} is invalid: {error}",
            ) from error


def _arn(call: Call, caller: Caller, name: str) -> str:
    account = caller.principal.account
    return f"arn:aws:sagemaker:{call.region}:{account}:training-job/{name.lower()}"


def _resource_tags(job: Job) -> dict[str, Sequence[str]]:
    context: dict[str, Sequence[str]] = {}
    for key, value in job.record.tags.items():
        context[f"aws:resourcetag/{key.lower()}"] = [value]
        context[f"sagemaker:resourcetag/{key.lower()}"] = [value]
    return context


def _fits(job: Job, body: Mapping[str, Any]) -> bool:
    record = job.record
    times = {
        "CreationTimeAfter": record.created >= body.get("CreationTimeAfter", 0),
        "CreationTimeBefore": record.created <= body.get("CreationTimeBefore", record.created),
        "LastModifiedTimeAfter": record.modified >= body.get("LastModifiedTimeAfter", 0),
        "LastModifiedTimeBefore": record.modified
        <= body.get("LastModifiedTimeBefore", record.modified),
    }
    return (
        all(times.values())
        and body.get("NameContains", "") in job.name
        and body.get("StatusEquals", record.status) == record.status
    )


def running(jobs: Jobs) -> list[Job]:
    """Jobs that have not ended."""
    return [job for job in jobs if job.record.status not in TERMINAL]
