"""Cases of what a job itself can reach."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tests.policies.facts import (
    ALL,
    BUNDLE,
    CODE,
    DATA,
    FOREIGN,
    GET,
    GROUP,
    LIST,
    MODELS,
    PUT,
    STEP,
    but,
    own_job,
)
from tests.policies.judges import Case
from tests.policies.world import DIGEST, KEY, OWNER, REGION, SAGEMAKER, SERVER, World, arn


def execution_cases(world: World) -> Iterator[Case]:
    direct = world.account.launch == "direct"
    for file in ("execution-policy.json", "execution-boundary.json"):
        document = f"{world.name}/{file}"
        code = direct or "boundary" in file
        yield from _data_cases(document, world.full, code)
        yield from log_cases(
            document,
            own_job(world),
            ["PutLogEvents"],
            ["CreateLogGroup", "CreateLogStream", "DescribeLogStreams"],
        )
        yield from _image_cases(document, world.full)
        yield from key_cases(document, world.full, world.role("execution"))
        yield from _network_cases(document, world.full)
        passed = {"iam:PassedToService": [SAGEMAKER]}
        yield Case(document, False, "iam:PassRole", world.role("execution"), passed)
        yield Case(document, False, "iam:PutRolePolicy", world.role("execution"))
        yield Case(document, False, "sts:AssumeRole", world.role("kickoff"))
        for action in ("CreateTrainingJob", "CreateProcessingJob", "StartPipelineExecution"):
            job = arn("sagemaker", f"training-job/{own_job(world)}")
            yield Case(document, False, f"sagemaker:{action}", job)


def _data_cases(document: str, full: bool, code: bool) -> Iterator[Case]:
    readable = {f"{DATA}/train/x.csv": True, f"{ALL}/x": full, BUNDLE: code}
    for key, allowed in readable.items():
        yield Case(document, allowed, GET, key)
        yield Case(document, False, GET, key, FOREIGN)
        yield Case(document, False, PUT, key)
        yield Case(document, False, "s3:GetObjectVersion", key)
    yield Case(document, False, GET, f"{DATA}/private/x.csv")
    yield Case(document, False, GET, f"{DATA}/training/x.csv")
    yield Case(document, False, GET, f"{CODE}/else/x")
    yield Case(document, True, PUT, f"{MODELS}/output/x")
    yield Case(document, False, PUT, f"{MODELS}/output/x", FOREIGN)
    yield Case(document, False, PUT, f"{MODELS}/x")
    yield Case(document, False, GET, f"{MODELS}/output/x")
    yield Case(document, False, "s3:DeleteObject", f"{MODELS}/output/x")
    listed = [(DATA, "train", True), (DATA, "train/x", True), (ALL, "", full), (ALL, "x", full)]
    listed += [(CODE, "fedsm", code), (CODE, f"fedsm/{DIGEST}", code), (CODE, "else", False)]
    listed += [(DATA, "", False), ("arn:aws:s3:::other", "train", False), (MODELS, "output", False)]
    for bucket, prefix, allowed in listed:
        below = {"s3:prefix": [prefix]}
        yield Case(document, allowed, LIST, bucket, below)
        yield Case(document, False, LIST, bucket, {**below, **FOREIGN})
        yield Case(document, False, "s3:ListBucketVersions", bucket, below)
        yield Case(document, False, LIST, bucket)
    for bucket in (DATA, ALL, CODE):
        other = {"s3:prefix": ["train", "fedsm", ""][:1]}
        yield Case(document, False, LIST, bucket.replace("north", "south"), other)
        yield Case(
            document, False, LIST, bucket.replace("north", "south"), {"s3:prefix": ["fedsm"]}
        )
        yield Case(document, False, LIST, bucket.replace("north", "south"), {"s3:prefix": [""]})


def _image_cases(document: str, full: bool) -> Iterator[Case]:
    own, other = (arn("ecr", f"repository/{name}") for name in ("hospital/fedsm", "hospital/x"))
    for action in ("BatchCheckLayerAvailability", "BatchGetImage", "GetDownloadUrlForLayer"):
        yield Case(document, full, f"ecr:{action}", own)
        yield Case(document, False, f"ecr:{action}", other)
    yield Case(document, False, "ecr:PutImage", own)
    yield Case(document, full, "ecr:GetAuthorizationToken", "*")
    yield Case(document, False, "ecr:DescribeRepositories", "*")


def key_cases(document: str, full: bool, role: str) -> Iterator[Case]:
    other_key = KEY.replace("1f2e", "9f2e")
    by_s3 = {"kms:ViaService": [f"s3.{REGION}.amazonaws.com"]}
    by_other = {"kms:ViaService": [f"secretsmanager.{REGION}.amazonaws.com"]}
    for_aws = {"kms:GrantIsForAWSResource": ["true"]}
    for action, good, bad in (
        ("kms:Decrypt", by_s3, by_other),
        ("kms:GenerateDataKey", by_s3, by_other),
        ("kms:CreateGrant", for_aws, {"kms:GrantIsForAWSResource": ["false"]}),
    ):
        yield Case(document, full, action, KEY, good, role)
        yield Case(document, False, action, KEY, bad, role)
        yield Case(document, False, action, KEY, {}, role)
        if "key-policy" not in document:
            yield Case(document, False, action, other_key, good, role)
    both = {**by_s3, **for_aws}
    yield Case(document, False, "kms:ScheduleKeyDeletion", KEY, both, role)
    yield Case(document, False, "kms:PutKeyPolicy", KEY, both, role)


def _network_cases(document: str, full: bool) -> Iterator[Case]:
    bound = "boundary" in document
    interface = arn("ec2", "network-interface/eni-01")
    create = "ec2:CreateNetworkInterface"
    for kind, ids, other in (
        ("subnet", ("subnet-0a", "subnet-0b"), "subnet-0e"),
        ("security-group", ("sg-0a", "sg-0b"), "sg-0e"),
    ):
        for name in ids:
            yield Case(document, full, create, arn("ec2", f"{kind}/{name}"))
        # The bound holds whatever the terms may come to name in this account.
        yield Case(document, full and bound, create, arn("ec2", f"{kind}/{other}"))
        for elsewhere in (arn("ec2", f"{kind}/{other}", SERVER), arn("ec2", f"{kind}/x", "")):
            yield Case(document, False, create, elsewhere)
    yield Case(document, full, create, arn("ec2", "network-interface/*"))
    yield Case(document, False, create, arn("ec2", "network-interface/*", SERVER))
    subnets = [arn("ec2", f"subnet/{name}") for name in ("subnet-0a", "subnet-0b", "subnet-0e")]
    vpc, other_vpc = (arn("ec2", f"vpc/{name}") for name in ("vpc-0a", "vpc-0e"))
    for action in (
        "CreateNetworkInterfacePermission",
        "DeleteNetworkInterface",
        "DeleteNetworkInterfacePermission",
    ):
        inside = {"ec2:Subnet": subnets[:1], "ec2:Vpc": [vpc]}
        for good in (inside, but(inside, "ec2:Subnet", subnets[1])):
            yield Case(document, full, f"ec2:{action}", interface, good)
        elsewhere = interface.replace(OWNER, SERVER)
        yield Case(document, False, f"ec2:{action}", elsewhere, inside)
        yield Case(document, False, f"ec2:{action}", interface, but(inside, "ec2:Vpc", other_vpc))
        outside = but(inside, "ec2:Subnet", subnets[2])
        yield Case(document, full and bound, f"ec2:{action}", interface, outside)
    yield Case(document, False, "ec2:ModifyNetworkInterfaceAttribute", interface, inside)
    for what in ("DhcpOptions", "NetworkInterfaces", "SecurityGroups", "Subnets", "Vpcs"):
        yield Case(document, full, f"ec2:Describe{what}", "*")
        there = {"aws:RequestedRegion": ["us-east-1"]}
        yield Case(document, False, f"ec2:Describe{what}", "*", there)
    yield Case(document, False, "ec2:DescribeInstances", "*")


def log_cases(
    document: str, job: str, streams: Sequence[str], groups: Sequence[str], granted: bool = True
) -> Iterator[Case]:
    own, of_group = f"{GROUP}:log-stream:{job}/algo-1-1763640000", f"{GROUP}:log-stream:"
    for action in groups:
        yield Case(document, granted, f"logs:{action}", arn("logs", of_group))
        yield Case(document, False, f"logs:{action}", arn("logs", "log-group:/other:log-stream:"))
    for action in streams:
        yield Case(document, granted, f"logs:{action}", arn("logs", own))
        other = own.replace("heart", "lung").replace(STEP, "fedsm-00000000")
        yield Case(document, False, f"logs:{action}", arn("logs", other))
    yield Case(document, False, "logs:DeleteLogGroup", arn("logs", of_group))
    yield Case(document, False, "logs:DeleteLogStream", arn("logs", own))
