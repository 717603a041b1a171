"""The SageMaker training-job actions: checks, IAM, and the hand-over to the runner."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from fedsm.local import training_request, validation
from fedsm.local.authorise import SAGEMAKER, Ask, allow, resource_tags, tag_context
from fedsm.local.execution_role import check as check_role
from fedsm.local.execution_role import enter
from fedsm.local.jobs import TERMINAL, Job, Jobs, Record
from fedsm.local.listing import ordered, page
from fedsm.local.principals import Caller, Directory
from fedsm.local.protocol import ApiError, Call, Reply, json_reply

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

    def __init__(self, jobs: Jobs, directory: Directory, start: Callable[[Job], None]) -> None:
        self._jobs, self._directory, self._start = jobs, directory, start

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
        if action == "CreateTrainingJob":
            return json_reply({"TrainingJobArn": self.create(call, caller, body).arn})
        validation.check(action, body)
        if action in TAG_ACTIONS:
            return json_reply(self._tags(call, caller, action, body))
        if action == "ListTrainingJobs":
            self._allow(call, caller, action, "*", {})
            return json_reply(self._list(call, caller, body))
        job = self.find(call, caller, action, body["TrainingJobName"])
        if action == "DescribeTrainingJob":
            return json_reply(job.describe())
        if not job.begin_stop():
            raise ApiError(
                "ValidationException",
                "The request was rejected because the training job is in status "
                f"{job.record.status}.",
            )
        return Reply(200, b"", {"Content-Type": "application/x-amz-json-1.1"})

    def find(self, call: Call, caller: Caller, action: str, name: str) -> Job:
        """The job of that name, on which the caller may take the action."""
        job = self._jobs.get(caller.principal.account, call.region, name)
        context = {} if job is None else resource_tags(job.record.tags, "sagemaker")
        self._allow(call, caller, action, _arn(call, caller, name), context)
        if job is None:
            raise ApiError("ValidationException", "Requested resource not found.")
        return job

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

    def create(self, call: Call, caller: Caller, body: dict[str, Any]) -> Job:
        """Check a CreateTrainingJob request with the caller's rights, and start its job.

        Raises
        ------
        ApiError
            In SageMaker's codes and words.
        """
        validation.check("CreateTrainingJob", body)
        account, name, role = caller.principal.account, body["TrainingJobName"], body["RoleArn"]
        arn, context = _arn(call, caller, name), training_request.creation_context(body)
        self._allow(call, caller, "CreateTrainingJob", arn, context)
        if body.get("Tags"):
            tagging = {"sagemaker:taggingaction": ["CreateTrainingJob"]}
            self._allow(call, caller, "AddTags", arn, context | tagging)
        if role.split(":")[4] != account:
            raise ApiError(
                "ValidationException", "RoleArn: Cross-account pass role is not allowed."
            )
        passed = {"iam:passedtoservice": [SAGEMAKER], "iam:associatedresourcearn": [arn]}
        allow(call, caller, Ask("iam:PassRole", role, account, passed))
        training_request.check(body)
        entered = enter(call, self._directory, role, account, source=arn)
        check_role(call, caller, entered, body)
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
        return job

    def _list(self, call: Call, caller: Caller, body: dict[str, Any]) -> dict[str, Any]:
        account = caller.principal.account
        found = [
            job for job in self._jobs if job.key[:2] == (account, call.region) and _fits(job, body)
        ]
        keys: dict[str, Callable[[Job], Any]] = {
            "CreationTime": lambda job: job.record.created,
            "Name": lambda job: job.name,
            "Status": lambda job: job.record.status,
        }
        jobs, more = page(ordered(found, body, keys), body)
        return {"TrainingJobSummaries": [job.summary() for job in jobs], **more}

    def _tags(
        self, call: Call, caller: Caller, action: str, body: dict[str, Any]
    ) -> dict[str, Any]:
        arn = body["ResourceArn"]
        parts = arn.split(":")
        job = self._jobs.get(parts[4], parts[3], arn.rpartition("/")[2])
        context = tag_context(body.get("Tags", [])) | (
            {} if job is None else resource_tags(job.record.tags, "sagemaker")
        )
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


def _arn(call: Call, caller: Caller, name: str) -> str:
    account = caller.principal.account
    return f"arn:aws:sagemaker:{call.region}:{account}:training-job/{name.lower()}"


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
