"""The case table: who asks for what, under which conditions, and whether it is allowed.

A case is a request to one document, so that no document hides what another lets through.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from tests.policies.execution_cases import execution_cases, key_cases, log_cases
from tests.policies.facts import (
    ALL,
    BUNDLE,
    CODE,
    DATA,
    DIRECT_JOB,
    EARLY,
    FOREIGN,
    GET,
    LATE,
    LIST,
    MODELS,
    OTHER_BUNDLE,
    PIPELINE_JOB,
    PUT,
    but,
    own_job,
)
from tests.policies.job_cases import job_cases
from tests.policies.judges import Case
from tests.policies.world import (
    APPROVING_PERSON,
    COORDINATOR,
    DIGEST,
    KEY,
    OTHER_DIGEST,
    OWNER,
    PUBLISHING_PERSON,
    REGION,
    SAGEMAKER,
    SERVER,
    WORLDS,
    World,
    arn,
)


def trust_cases(world: World) -> Iterator[Case]:
    assume, name, identity = "sts:AssumeRole", "sts:SetSourceIdentity", "sts:SourceIdentity"
    document, kickoff = f"{world.name}/kickoff-trust.json", world.role("kickoff")
    good = {"sts:ExternalId": ["agreed"], identity: ["fedsm-run"]}
    stranger = COORDINATOR.replace("fedsm-", "other-")
    yield Case(document, True, assume, kickoff, good, COORDINATOR)
    yield Case(document, True, name, kickoff, good, COORDINATOR)
    for role in (stranger, COORDINATOR.replace(SERVER, OWNER), SAGEMAKER):
        yield Case(document, False, assume, kickoff, good, role)
        yield Case(document, False, name, kickoff, good, role)
    for context in (but(good, "sts:ExternalId"), but(good, "sts:ExternalId", "guess")):
        yield Case(document, False, assume, kickoff, context, COORDINATOR)
    for action in (assume, name):
        yield Case(document, False, action, kickoff, but(good, identity), COORDINATOR)
    yield Case(document, False, "sts:TagSession", kickoff, good, COORDINATOR)

    job = arn("sagemaker", f"training-job/{own_job(world)}")
    yield from _service_cases(world, "execution", job, job.replace(own_job(world), "notebook-job"))
    if world.account.launch == "pipeline":
        run = f"{world.pipeline(DIGEST)}/execution/a1b2c3d4e5f6"
        other = run.replace("heart", "lung")
        yield from _service_cases(world, "pipeline", run, other)
    people = {"publisher": PUBLISHING_PERSON, "approver": APPROVING_PERSON}
    for kind, person in people.items():
        document = f"{world.name}/{kind}-trust.json"
        if document.rpartition("/")[2] not in world.documents:
            continue
        role, elsewhere = world.role(kind), PUBLISHING_PERSON.replace(OWNER, SERVER)
        yield Case(document, True, assume, role, {}, person)
        for other in (*people.values(), world.role("kickoff")):
            # Without a principal in the terms it is for the account's own policies to say who.
            yield Case(document, not world.full or other == person, assume, role, {}, other)
        for other in (elsewhere, COORDINATOR):
            yield Case(document, False, assume, role, {}, other)
        yield Case(document, False, "sts:TagSession", role, {}, person)


def _service_cases(world: World, kind: str, source: str, other: str) -> Iterator[Case]:
    document, role, assume = f"{world.name}/{kind}-trust.json", world.role(kind), "sts:AssumeRole"
    own = {"aws:SourceAccount": [OWNER], "aws:SourceArn": [source]}
    yield Case(document, True, assume, role, own, SAGEMAKER)
    for key, value in (("aws:SourceAccount", SERVER), ("aws:SourceArn", other)):
        yield Case(document, False, assume, role, but(own, key), SAGEMAKER)
        yield Case(document, False, assume, role, but(own, key, value), SAGEMAKER)
    yield Case(document, False, assume, role, own, world.role("kickoff"))
    yield Case(document, False, assume, role, own, COORDINATOR)
    yield Case(document, False, "sts:SetSourceIdentity", role, own, SAGEMAKER)


def watch_cases(world: World) -> Iterator[Case]:
    own = f"{world.pipeline(DIGEST)}/execution/a1b2c3d4e5f6"
    others = [own.replace("heart--north", name) for name in ("heart--south", "heart-2--north")]
    start = "sagemaker:StartPipelineExecution"
    for file in ("kickoff-policy.json", "kickoff-boundary.json"):
        document = f"{world.name}/{file}"
        for action in (
            "DescribePipelineExecution",
            "ListPipelineExecutionSteps",
            "StopPipelineExecution",
        ):
            yield Case(document, True, f"sagemaker:{action}", own)
            for other in others:
                yield Case(document, False, f"sagemaker:{action}", other)
        for action in ("UpdatePipelineExecution", "RetryPipelineExecution"):
            yield Case(document, False, f"sagemaker:{action}", own)
        for action in ("CreatePipeline", "UpdatePipeline", "DeletePipeline", "DescribePipeline"):
            yield Case(document, False, f"sagemaker:{action}", world.pipeline(DIGEST))
        for action in ("CreateTrainingJob", "DescribeTrainingJob", "CreateProcessingJob"):
            job = arn("sagemaker", f"training-job/{PIPELINE_JOB}")
            yield Case(document, False, f"sagemaker:{action}", job)
        passed = {"iam:PassedToService": [SAGEMAKER]}
        yield Case(document, False, "iam:PassRole", world.role("pipeline"), passed)
        bound = "boundary" in file
        yield Case(document, bound, start, world.pipeline(DIGEST))
        yield Case(document, False, start, others[0].partition("/execution")[0])
        yield from log_cases(
            document, PIPELINE_JOB, ["GetLogEvents"], ["DescribeLogStreams"], world.full
        )
    for suffix, late in (("", True), ("-until", False)):
        document = f"{world.name}/kickoff-approval{suffix}.json"
        yield Case(document, True, start, world.pipeline(DIGEST), EARLY)
        yield Case(document, late, start, world.pipeline(DIGEST), LATE)
        yield Case(document, False, start, world.pipeline(OTHER_DIGEST), EARLY)
        yield Case(document, False, "sagemaker:UpdatePipeline", world.pipeline(DIGEST), EARLY)
        document = f"{world.name}/execution-approval{suffix}.json"
        yield from _approved_reads(document, EARLY, LATE, late)


def _approved_reads(
    document: str,
    early: Mapping[str, Sequence[str]],
    late: Mapping[str, Sequence[str]],
    holds: bool,
) -> Iterator[Case]:
    for context, allowed in ((early, True), (late, holds)):
        yield Case(document, allowed, GET, BUNDLE, context)
        for prefix in (f"fedsm/{DIGEST}", f"fedsm/{DIGEST}/source.tar.gz"):
            yield Case(document, allowed, LIST, CODE, {**context, "s3:prefix": [prefix]})
    below = {"s3:prefix": [f"fedsm/{DIGEST}"]}
    yield Case(document, False, GET, BUNDLE, {**early, **FOREIGN})
    yield Case(document, False, LIST, CODE, {**early, **FOREIGN, **below})
    yield Case(document, False, GET, OTHER_BUNDLE, early)
    yield Case(document, False, PUT, BUNDLE, early)
    yield Case(document, False, LIST, CODE, {**early, "s3:prefix": [f"fedsm/{OTHER_DIGEST}"]})
    yield Case(document, False, LIST, CODE, early)
    yield Case(document, False, "s3:ListBucketVersions", CODE, {**early, **below})
    yield Case(document, False, LIST, MODELS, {**early, **below})


def bundle_readers(document: str) -> Iterator[Case]:
    yield Case(document, True, GET, BUNDLE)
    yield Case(document, False, GET, BUNDLE, FOREIGN)
    yield Case(document, False, GET, f"{CODE}/else/x")
    yield Case(document, False, GET, f"{DATA}/train/x.csv")
    for prefix in ("fedsm", f"fedsm/{DIGEST}"):
        yield Case(document, True, LIST, CODE, {"s3:prefix": [prefix]})
        yield Case(document, False, LIST, CODE, {"s3:prefix": [prefix], **FOREIGN})
        yield Case(document, False, "s3:ListBucketVersions", CODE, {"s3:prefix": [prefix]})
        yield Case(document, False, LIST, DATA, {"s3:prefix": [prefix]})
    yield Case(document, False, LIST, CODE, {"s3:prefix": ["else"]})
    yield Case(document, False, LIST, CODE)
    yield Case(document, False, "s3:DeleteObject", BUNDLE)


def publisher_cases(world: World) -> Iterator[Case]:
    document, fresh = f"{world.name}/publisher-policy.json", {"s3:if-none-match": ["*"]}
    yield from bundle_readers(document)
    yield Case(document, True, PUT, BUNDLE, fresh)
    yield Case(document, False, PUT, BUNDLE)
    yield Case(document, False, PUT, BUNDLE, {**fresh, **FOREIGN})
    yield Case(document, False, PUT, f"{CODE}/else/x", fresh)
    yield Case(document, False, "s3:PutObjectAcl", BUNDLE, fresh)
    yield Case(document, False, "s3:PutBucketPolicy", CODE)
    yield Case(document, False, "iam:PutRolePolicy", world.role("execution"))


def approver_cases(world: World) -> Iterator[Case]:
    document = f"{world.name}/approver-policy.json"
    yield from bundle_readers(document)
    yield Case(document, False, PUT, BUNDLE, {"s3:if-none-match": ["*"]})
    own, other = world.pipeline(DIGEST), world.pipeline(DIGEST).replace("heart", "heart-2")
    for action in ("CreatePipeline", "DeletePipeline", "DescribePipeline"):
        yield Case(document, True, f"sagemaker:{action}", own)
        yield Case(document, False, f"sagemaker:{action}", other)
    for action in ("UpdatePipeline", "StartPipelineExecution", "CreateTrainingJob"):
        yield Case(document, False, f"sagemaker:{action}", own)
    tagging = {"sagemaker:TaggingAction": ["CreatePipeline"]}
    yield Case(document, True, "sagemaker:AddTags", own, tagging)
    yield Case(document, False, "sagemaker:AddTags", own)
    yield Case(document, False, "sagemaker:AddTags", other, tagging)
    yield Case(document, False, "sagemaker:DeleteTags", own, tagging)
    passed = {"iam:PassedToService": [SAGEMAKER]}
    yield Case(document, True, "iam:PassRole", world.role("pipeline"), passed)
    yield Case(document, False, "iam:PassRole", world.role("pipeline"))
    yield Case(document, False, "iam:UpdateAssumeRolePolicy", world.role("pipeline"), passed)
    elsewhere = {"iam:PassedToService": ["ec2.amazonaws.com"]}
    yield Case(document, False, "iam:PassRole", world.role("pipeline"), elsewhere)
    yield Case(document, False, "iam:PassRole", world.role("execution"), passed)
    bounds = {
        kind: {"iam:PermissionsBoundary": [f"arn:aws:iam::{OWNER}:policy/{name}-boundary"]}
        for kind in ("kickoff", "execution")
        for name in [world.role(kind).rpartition("/")[2]]
    }
    for kind, bound in bounds.items():
        role = world.role(kind)
        for action in ("GetRolePolicy", "ListRolePolicies"):
            yield Case(document, True, f"iam:{action}", role)
            yield Case(document, False, f"iam:{action}", world.role("publisher"))
        for action in ("DeleteRolePolicy", "PutRolePolicy"):
            yield Case(document, True, f"iam:{action}", role, bound)
            yield Case(document, False, f"iam:{action}", role)
            swapped = bounds["execution" if kind == "kickoff" else "kickoff"]
            yield Case(document, False, f"iam:{action}", role, swapped)
            for other in ("pipeline", "publisher", "approver"):
                yield Case(document, False, f"iam:{action}", world.role(other), bound)
        for action in (
            "AttachRolePolicy",
            "DeleteRolePermissionsBoundary",
            "PutRolePermissionsBoundary",
            "UpdateAssumeRolePolicy",
        ):
            yield Case(document, False, f"iam:{action}", role, bound)


def store_cases(world: World) -> Iterator[Case]:
    document, fresh = f"{world.name}/code-bucket-policy.json", {"s3:if-none-match": ["*"]}
    publisher, plain = world.role("publisher"), {"aws:SecureTransport": ["false"]}
    beside = f"{CODE}/else/x"
    for role in (publisher, world.role("approver"), f"arn:aws:iam::{OWNER}:user/admin"):
        own = role == publisher
        yield Case(document, own, PUT, BUNDLE, fresh, role)
        yield Case(document, False, PUT, BUNDLE, {}, role)
        yield Case(document, True, PUT, beside, {}, role)
        yield Case(document, own, "s3:PutObjectAcl", BUNDLE, {}, role)
        yield Case(document, own, "s3:ReplicateObject", BUNDLE, {}, role)
        yield Case(document, True, GET, BUNDLE, {}, role)
        yield Case(document, False, GET, BUNDLE, plain, role)
        yield Case(document, True, GET, beside, plain, role)
        for action in ("s3:DeleteObject", "s3:DeleteObjectVersion"):
            yield Case(document, False, action, BUNDLE, {}, role)
            yield Case(document, True, action, beside, {}, role)
    # Across accounts a bucket policy must allow, and this one allows nobody.
    yield Case(document, False, GET, BUNDLE, {}, COORDINATOR)
    if not world.full:
        return
    document, execution = f"{world.name}/key-policy.json", world.role("execution")
    yield from key_cases(document, True, execution)
    by_s3 = {"kms:ViaService": [f"s3.{REGION}.amazonaws.com"]}
    for_aws = {"kms:GrantIsForAWSResource": ["true"]}
    for role in (publisher, COORDINATOR):
        yield Case(document, False, "kms:Decrypt", KEY, by_s3, role)
        yield Case(document, False, "kms:CreateGrant", KEY, for_aws, role)
    yield from _endpoint_cases(f"{world.name}/s3-endpoint-policy.json")


def _endpoint_cases(document: str) -> Iterator[Case]:
    inside = {"aws:PrincipalAccount": [OWNER], "aws:ResourceAccount": [OWNER]}
    for action in (GET, PUT):
        for key in (f"{DATA}/train/x", f"{ALL}/x", BUNDLE, f"{MODELS}/output/x"):
            yield Case(document, True, action, key, inside)
            for account in inside:
                yield Case(document, False, action, key, but(inside, account, SERVER))
        yield Case(document, False, action, "arn:aws:s3:::thief/x", inside)
    for bucket in (DATA, ALL, CODE, MODELS):
        yield Case(document, True, LIST, bucket, inside)
        for account in inside:
            yield Case(document, False, LIST, bucket, but(inside, account, SERVER))
    yield Case(document, False, LIST, "arn:aws:s3:::thief", inside)
    yield Case(document, False, "s3:DeleteObject", f"{MODELS}/output/x", inside)
    yield Case(document, False, "s3:GetBucketPolicy", CODE, inside)
    layers = f"arn:aws:s3:::prod-{REGION}-starport-layer-bucket/x"
    amazon = but(inside, "aws:ResourceAccount", "333333333333")
    yield Case(document, True, GET, layers, amazon)
    yield Case(document, False, PUT, layers, amazon)


def server_cases() -> Iterator[Case]:
    document, kickoff = "server/coordinator-policy.json", WORLDS[0].role("kickoff")
    publisher = WORLDS[0].role("publisher")
    person = COORDINATOR.replace("fedsm-coordinator", "researcher")
    for action in ("sts:AssumeRole", "sts:SetSourceIdentity"):
        yield Case(document, True, action, kickoff, {}, COORDINATOR)
        yield Case(document, False, action, publisher, {}, COORDINATOR)
        yield Case("server/coordinator-trust.json", True, action, COORDINATOR, {}, person)
        yield Case("server/coordinator-trust.json", False, action, COORDINATOR, {}, kickoff)
        yield Case("server/caller-policy.json", True, action, COORDINATOR, {}, person)
        yield Case("server/caller-policy.json", False, action, kickoff, {}, person)
    for each, target, role in (
        ("coordinator-policy", kickoff, COORDINATOR),
        ("coordinator-trust", COORDINATOR, person),
        ("caller-policy", COORDINATOR, person),
    ):
        yield Case(f"server/{each}.json", False, "sts:TagSession", target, {}, role)
    resources = (
        "experiment/fed-x-heart",
        "experiment-trial/Default-Run-Group-fed-x-heart",
        "experiment-trial/default-run-group-fed-x-heart",
        "experiment-trial-component/fed-x-heart-run",
    )
    actions = ("AddTags", "AssociateTrialComponent", "BatchPutMetrics", "CreateExperiment")
    actions += ("CreateTrial", "CreateTrialComponent", "UpdateTrialComponent")
    for action in (f"sagemaker:{action}" for action in actions):
        for rest in resources:
            own = arn("sagemaker", rest, SERVER)
            yield Case(document, True, action, own, {}, COORDINATOR)
            yield Case(document, False, action, own.replace("fed-x", "other"), {}, COORDINATOR)
    experiment = arn("sagemaker", resources[0], SERVER)
    for action in ("DescribeExperiment", "DeleteExperiment", "CreateTrainingJob"):
        yield Case(document, False, f"sagemaker:{action}", experiment, {}, COORDINATOR)


def all_cases() -> Iterator[Case]:
    for world in WORLDS:
        yield from trust_cases(world)
        yield from execution_cases(world)
        yield from publisher_cases(world)
        yield from store_cases(world)
        if world.account.launch == "pipeline":
            yield from watch_cases(world)
            yield from approver_cases(world)
            yield from job_cases(world, "pipeline-policy.json", PIPELINE_JOB)
            continue
        for file in ("kickoff-policy.json", "kickoff-boundary.json"):
            yield from job_cases(world, file, DIRECT_JOB)
            document = f"{world.name}/{file}"
            yield from log_cases(
                document, DIRECT_JOB, ["GetLogEvents"], ["DescribeLogStreams"], world.full
            )
    yield from server_cases()


CASES = list(all_cases())
