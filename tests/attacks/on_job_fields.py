"""Attacks by a field of a training job that IAM has a key for, and on the jobs of others."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from fedsm.names import job_name, step_name
from tests.attacks.agreed import NETWORK, OWNER, REGION, packed, person, role
from tests.attacks.tries import Refused, Tries, Try, api, attack
from tests.attacks.world import World

LOGS = "/aws/sagemaker/TrainingJobs"
KEY = f"arn:aws:kms:{REGION}:{OWNER}:key/1"

FIELDS: dict[str, list[dict[str, Any]]] = {
    "job-in-another-subnet": [
        {"VpcConfig": {"Subnets": ["subnet-0b"]}},
        {"VpcConfig": {"Subnets": [*NETWORK["Subnets"], "subnet-0b"]}},
        {"VpcConfig": None},
    ],
    "job-in-another-security-group": [
        {"VpcConfig": {"SecurityGroupIds": ["sg-0b"]}},
        {"VpcConfig": {"SecurityGroupIds": [*NETWORK["SecurityGroupIds"], "sg-0b"]}},
    ],
    "job-with-remote-debug": [{"RemoteDebugConfig": {"EnableRemoteDebug": True}}],
    "job-on-a-huge-instance": [
        {"ResourceConfig": {"InstanceType": "ml.p4d.24xlarge"}},
        {"ResourceConfig": {"InstanceType": None}},
    ],
    "job-that-runs-longer": [
        {"StoppingCondition": {"MaxRuntimeInSeconds": 601}},
        {"StoppingCondition": {"MaxRuntimeInSeconds": None}},
    ],
    "job-that-keeps-its-instance": [{"ResourceConfig": {"KeepAlivePeriodInSeconds": 3600}}],
    "job-with-another-key": [
        {"ResourceConfig": {"VolumeKmsKeyId": KEY}},
        {"OutputDataConfig": {"KmsKeyId": KEY}},
    ],
    "job-without-network": [{"EnableNetworkIsolation": True}],
    "job-with-other-tags": [
        {"Tags": [{"Key": "fedsm:site", "Value": "south"}]},
        {"Tags": [{"Key": "fedsm:site", "Value": "north"}, {"Key": "team", "Value": "admin"}]},
        {"Tags": None},
    ],
    "job-of-another-name": [
        {"TrainingJobName": job_name("heart", "heart-1", "north-2")},
        {"TrainingJobName": job_name("heart-2", "heart-2-1", "north")},
        {"TrainingJobName": f"pipelines-a1b2c3d4e5f6-{step_name('heart', 'north-2')}-AbCdEfGhIj"},
        {"TrainingJobName": f"pipelines-a1b2c3d4e5f6-{step_name('heart', 'north')}-AbCdEfGhIj"},
        {"TrainingJobName": "nightly-report"},
    ],
}
"""Attack to the changes of the site's own job that are tried."""


def create(world: World, request: dict[str, Any]) -> Try:
    return api(world.kickoff, "sagemaker", "create_training_job", **request)


def _by_field(changes: list[dict[str, Any]]) -> Tries:
    def tries(world: World) -> Iterator[Try]:
        for change in changes:
            yield create(world, world.job(**change))

    return tries


for _name, _changes in FIELDS.items():
    attack(_name)(_by_field(_changes))


@attack("job-in-another-region")
def other_region(world: World) -> Iterator[Try]:
    elsewhere = world.kickoff.client("sagemaker", region_name="us-east-1")
    request = world.job()
    yield Try(lambda: elsewhere.create_training_job(**request), create(world, request).says)


@attack("pass-another-role")
def other_role(world: World) -> Iterator[Try]:
    direct = world.launch == "direct"
    for arn in (
        role("execution", site="north-2"),
        role("execution", "heart-2"),
        role("kickoff"),
        role("publisher"),
        person("reviewer"),
    ):
        made = create(world, world.job(RoleArn=arn))
        passing = f"is not authorized to perform: iam:PassRole on resource: {arn} "
        yield Try(made.call, passing if direct else made.says)


def _reached(world: World, request: dict[str, Any], denied: str) -> Try:
    """A job whose execution role is what stops it."""
    made = create(world, request)
    if world.launch == "pipeline":
        return made

    def run() -> None:
        made.call()
        found = world.job_ended(request["TrainingJobName"])
        if found["TrainingJobStatus"] == "Failed":
            raise Refused(found["FailureReason"])

    return Try(run, denied)


@attack("job-over-other-data")
def other_data(world: World) -> Iterator[Try]:
    """Another prefix of the owner's data, another site's, or the attacker's own as a lure."""
    for uri in ("s3://heart-north-data/other/", "s3://heart-north-2-data/train/"):
        request = world.job(**packed("pass"))
        request["InputDataConfig"][0]["DataSource"]["S3DataSource"]["S3Uri"] = uri
        yield _reached(world, request, "Data download failed")


@attack("job-that-writes-elsewhere")
def other_output(world: World) -> Iterator[Try]:
    """The attacker's own bucket, and the owner's data."""
    for uri in ("s3://attackers/loot", "s3://heart-north-data/train"):
        output = {"OutputDataConfig": {"S3OutputPath": uri}}
        request = world.job(**packed("pass"), **output)
        yield _reached(world, request, "Artifact upload failed")


@attack("touch-another-job")
def other_job(world: World) -> Iterator[Try]:
    """Watch, stop, tag or list jobs of others."""
    for name in (
        job_name("heart", "heart-1", "north-2"),
        job_name("heart-2", "heart-2-1", "north"),
        f"pipelines-a1b2c3d4e5f6-{step_name('heart', 'north-2')}-AbCdEfGhIj",
        "nightly-report",
    ):
        for operation in ("describe_training_job", "stop_training_job"):
            yield api(world.kickoff, "sagemaker", operation, TrainingJobName=name)
        arn = f"arn:aws:sagemaker:{REGION}:{OWNER}:training-job/{name}"
        tags = [{"Key": "fedsm:site", "Value": "north"}]
        yield api(world.kickoff, "sagemaker", "add_tags", ResourceArn=arn, Tags=tags)
    yield api(world.kickoff, "sagemaker", "list_training_jobs")


@attack("read-logs")
def logs(world: World) -> Iterator[Try]:
    """The site's own jobs' too."""
    of = {"logGroupName": LOGS}
    for session in world.attackers.values():
        if session is world.kickoff:
            own = (job_name("heart", "heart-1", "north"), job_name("heart", "x", "north-2"))
            for name in own:
                stream = {**of, "logStreamName": f"{name}/algo-1-1763640000"}
                yield api(session, "logs", "get_log_events", **stream)
            yield api(session, "logs", "describe_log_streams", **of)
            yield api(session, "logs", "filter_log_events", **of)
