"""Calls that a job makes with its execution role's credentials."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from fedsm.names import site_prefix, step_name
from tests.policies.place import Ask, Site, job_request
from tests.policies.probes import GROUP, creation
from tests.policies.world import DIGEST, OTHER_DIGEST, REGION, arn


def pipeline_job(site: Site) -> str:
    """A name as SageMaker gives it to a pipeline's job."""
    return f"pipelines-a1b2c3d4e5f6-{step_name('heart', site.name)}-AbCdEfGhIj"


JobCall = tuple[str, bool, Ask, tuple[str, str, dict[str, Any]]]
"""What it tries, whether it may, what it asks for, and the call: service, operation, arguments."""


def of_a_job(site: Site) -> Iterator[JobCall]:
    """Calls of a job: its data and its output, and none of what others may."""
    direct = site.invitation.launch == "direct"
    data, code, models = (site.bucket(name) for name in ("data", "code", "models"))
    bundles = ((DIGEST, True), (OTHER_DIGEST, direct))
    for digest, allowed in bundles:
        key = f"fedsm/{digest}/source.tar.gz"
        ask: Ask = ("s3:GetObject", f"arn:aws:s3:::{code}/{key}", {})
        yield f"read {digest[:2]}", allowed, ask, ("s3", "get_object", {"Bucket": code, "Key": key})
        ask = ("s3:ListBucket", f"arn:aws:s3:::{code}", {"s3:prefix": [key]})
        listing = ("s3", "list_objects_v2", {"Bucket": code, "Prefix": key})
        yield f"list {digest[:2]}", allowed, ask, listing
    for bucket, key, action, allowed in (
        (data, "train/x.csv", "get_object", True),
        (data, "train/x.csv", "put_object", False),
        (data, "train/x.csv", "delete_object", False),
        (data, "private.csv", "get_object", False),
        (models, "output/x", "put_object", True),
        (models, "output/x", "get_object", False),
        (models, "x", "put_object", False),
        (code, "fedsm/x", "put_object", False),
    ):
        name = {"get": "GetObject", "put": "PutObject", "delete": "DeleteObject"}
        ask = (f"s3:{name[action.partition('_')[0]]}", f"arn:aws:s3:::{bucket}/{key}", {})
        yield f"{action} {key}", allowed, ask, ("s3", action, {"Bucket": bucket, "Key": key})
    for prefix, allowed in (("train/", True), ("", False)):
        ask = ("s3:ListBucket", f"arn:aws:s3:::{data}", {"s3:prefix": [prefix]})
        listing = ("s3", "list_objects_v2", {"Bucket": data, "Prefix": prefix})
        yield f"list data {prefix}", allowed, ask, listing
    kickoff = site.account.role("kickoff")
    ask = ("sts:AssumeRole", kickoff.arn, {})
    taken = {"RoleArn": kickoff.arn, "RoleSessionName": "job"}
    yield "take the kickoff role", False, ask, ("sts", "assume_role", taken)
    ask = ("iam:ListRolePolicies", kickoff.arn, {})
    yield "see roles", False, ask, ("iam", "list_role_policies", {"RoleName": kickoff.name})
    name = pipeline_job(site) if not direct else f"{site_prefix('heart', site.name)}x"
    request = {"TrainingJobName": name, **job_request(site)}
    yield (
        "create a job",
        False,
        creation(site, name, request)[0],
        (
            "sagemaker",
            "create_training_job",
            request,
        ),
    )
    group = arn("logs", f"log-group:{GROUP}:log-stream:")
    for stream, allowed in ((f"{name}/algo-1", True), ("other-job/algo-1", False)):
        events = [{"timestamp": 0, "message": "x"}]
        put = {"logGroupName": GROUP, "logStreamName": stream, "logEvents": events}
        ask = ("logs:PutLogEvents", f"{group}{stream}", {})
        yield f"log into {stream}", allowed, ask, ("logs", "put_log_events", put)
        ask = ("logs:GetLogEvents", f"{group}{stream}", {})
        got = {"logGroupName": GROUP, "logStreamName": stream}
        yield f"read {stream}", False, ask, ("logs", "get_log_events", got)


def caller(asked: list[JobCall]) -> str:
    """A program that makes these calls and says what came of each."""
    calls = json.dumps([made for _, _, _, made in asked])
    return f"""
import boto3, json
from botocore.exceptions import ClientError
codes = []
for service, operation, arguments in json.loads({calls!r}):
    try:
        getattr(boto3.client(service, region_name={REGION!r}), operation)(**arguments)
    except ClientError as error:
        codes.append(error.response["Error"]["Code"])
    else:
        codes.append("passed")
print("CODES " + json.dumps(codes), flush=True)
"""
