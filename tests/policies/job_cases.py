"""Cases of the rights to create, watch and stop one site's jobs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from fedsm.names import step_name
from tests.policies.facts import but
from tests.policies.judges import Case
from tests.policies.world import KEY, SAGEMAKER, World, arn

CREATE, ADD_TAGS = "sagemaker:CreateTrainingJob", "sagemaker:AddTags"
TAG = "aws:RequestTag/fedsm:site"
PLAIN: dict[str, Sequence[str]] = {
    TAG: ["north"],
    "aws:TagKeys": ["fedsm:run", "fedsm:site"],
    "sagemaker:InstanceTypes": ["ml.m5.xlarge"],
    "sagemaker:MaxRuntimeInSeconds": ["600"],
}
FULL: dict[str, Sequence[str]] = {
    **PLAIN,
    "sagemaker:VpcSubnets": ["subnet-0a", "subnet-0b"],
    "sagemaker:VpcSecurityGroupIds": ["sg-0a", "sg-0b"],
    "sagemaker:VolumeKmsKey": [KEY],
    "sagemaker:OutputKmsKey": [KEY],
}
TAGGING = {
    TAG: ["north"],
    "aws:TagKeys": ["fedsm:run", "fedsm:site"],
    "sagemaker:TaggingAction": ["CreateTrainingJob"],
}


def job_cases(world: World, file: str, name: str) -> Iterator[Case]:
    """All cases of one document that grants jobs."""
    document, job = f"{world.name}/{file}", arn("sagemaker", f"training-job/{name}")
    others = [
        job.replace("heart--north", "heart-2--north"),
        job.replace("heart--north", "heart--south"),
        job.replace("training-job/", "training-job/x-"),
        job.replace(step_name("heart", "north"), step_name("heart", "south")),
        job.replace(":training-job/", ":processing-job/"),
    ]
    others = [other for other in others if other != job]
    good = FULL if world.full else PLAIN
    yield Case(document, True, CREATE, job, good)
    yield Case(document, True, CREATE, job, but(good, "sagemaker:MaxRuntimeInSeconds", "60"))
    for switch in ("EnableRemoteDebug", "NetworkIsolation", "InterContainerTrafficEncryption"):
        yield Case(document, True, CREATE, job, but(good, f"sagemaker:{switch}", "false"))
        yield Case(document, False, CREATE, job, but(good, f"sagemaker:{switch}", "true"))
    for unused, value in (("KeepAlivePeriod", "60"), ("FileSystemId", "fs-01")):
        yield Case(document, False, CREATE, job, but(good, f"sagemaker:{unused}", value))
    for key, value in (
        (TAG, "south"),
        ("sagemaker:InstanceTypes", "ml.p5.48xlarge"),
        ("sagemaker:MaxRuntimeInSeconds", "601"),
    ):
        yield Case(document, False, CREATE, job, but(good, key))
        yield Case(document, False, CREATE, job, but(good, key, value))
    two = ("ml.m5.xlarge", "ml.p5.48xlarge")
    yield Case(document, False, CREATE, job, but(good, "sagemaker:InstanceTypes", *two))
    yield from _network_and_keys(document, job, good, world.full)
    yield from _tags(document, job, good, world)
    for action in ("DescribeTrainingJob", "StopTrainingJob"):
        yield Case(document, True, f"sagemaker:{action}", job)
    for other in others:
        yield Case(document, False, CREATE, other, good)
        yield Case(document, False, ADD_TAGS, other, TAGGING)
        yield Case(document, False, "sagemaker:DescribeTrainingJob", other)
        yield Case(document, False, "sagemaker:StopTrainingJob", other)
    for action in ("CreateProcessingJob", "DeleteTags", "UpdateTrainingJob", "ListTrainingJobs"):
        yield Case(document, False, f"sagemaker:{action}", job, good)
    yield from _passing(document, world)


def _network_and_keys(
    document: str, job: str, good: Mapping[str, Sequence[str]], full: bool
) -> Iterator[Case]:
    for key, ids, other in (
        ("sagemaker:VpcSubnets", ("subnet-0a", "subnet-0b"), "subnet-0e"),
        ("sagemaker:VpcSecurityGroupIds", ("sg-0a", "sg-0b"), "sg-0e"),
    ):
        for value in ids:
            yield Case(document, full, CREATE, job, but(good, key, value))
        yield Case(document, not full, CREATE, job, but(good, key))
        yield Case(document, False, CREATE, job, but(good, key, other))
        yield Case(document, False, CREATE, job, but(good, key, ids[0], other))
    for key in ("sagemaker:VolumeKmsKey", "sagemaker:OutputKmsKey"):
        yield Case(document, full, CREATE, job, but(good, key, KEY))
        yield Case(document, not full, CREATE, job, but(good, key))
        yield Case(document, False, CREATE, job, but(good, key, KEY.replace("1f2e", "9f2e")))


def _tags(
    document: str, job: str, good: Mapping[str, Sequence[str]], world: World
) -> Iterator[Case]:
    yield Case(document, True, ADD_TAGS, job, TAGGING)
    yield Case(document, False, "sagemaker:DeleteTags", job, TAGGING)
    for key, value in ((TAG, "south"), ("sagemaker:TaggingAction", "CreateModel")):
        yield Case(document, False, ADD_TAGS, job, but(TAGGING, key))
        yield Case(document, False, ADD_TAGS, job, but(TAGGING, key, value))
    # SageMaker adds tags of its own to a pipeline's jobs, so they are free there.
    free = world.account.launch == "pipeline"
    known = {"cost": world.full or free, "department": free}
    for action, context in ((CREATE, good), (ADD_TAGS, TAGGING)):
        for tag, allowed in known.items():
            keys = ("fedsm:run", "fedsm:site", tag)
            yield Case(document, allowed, action, job, but(context, "aws:TagKeys", *keys))


def _passing(document: str, world: World) -> Iterator[Case]:
    passed = {"iam:PassedToService": [SAGEMAKER]}
    execution = world.role("execution")
    elsewhere = {"iam:PassedToService": ["ec2.amazonaws.com"]}
    yield Case(document, True, "iam:PassRole", execution, passed)
    yield Case(document, False, "iam:PassRole", execution, elsewhere)
    yield Case(document, False, "iam:PassRole", execution)
    for other in ("publisher", "pipeline", "kickoff"):
        yield Case(document, False, "iam:PassRole", world.role(other), passed)
    yield Case(document, False, "iam:PutRolePolicy", execution, passed)
