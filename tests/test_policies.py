"""Every policy document, judged case by case, and no part of any that no case needs."""

from __future__ import annotations

import copy
import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedsm import policies
from fedsm.config import Site
from fedsm.local.conditions import matches
from fedsm.local.iam import Policies, Principal, Request, decide, parse
from fedsm.names import job_name
from tests.support import site

SERVER, OWNER = "111111111111", "222222222222"
REGION = "eu-west-1"
COORDINATOR = f"arn:aws:iam::{SERVER}:role/fedsm-coordinator"
KICKOFF = f"arn:aws:iam::{OWNER}:role/fedsm-kickoff"
PUBLISHER = f"arn:aws:iam::{OWNER}:role/fedsm-publisher"
EXECUTION = f"arn:aws:iam::{OWNER}:role/fedsm-execution-north"


def make_site(**changes: Any) -> Site:
    given = {
        "account": OWNER,
        "region": REGION,
        "channels": {"train": "s3://north-data/train/", "more": "s3://north-all"},
        "max_runtime": 600,
        **changes,
    }
    return Site.model_validate(site("north", **given))


NETWORK = {
    "subnets": ["subnet-0a", "subnet-0b"],
    "security_groups": ["sg-0a", "sg-0b"],
}
INSIDE, OUTSIDE = make_site(**NETWORK), make_site()

IDENTITY, TRUST, BUCKET = "identity", "trust", "bucket"
DOCUMENTS: dict[str, tuple[str, policies.Document]] = {
    "kickoff": (IDENTITY, policies.kickoff_policy(INSIDE, "heart", logs=True)),
    "kickoff-no-vpc": (IDENTITY, policies.kickoff_policy(OUTSIDE, "heart")),
    "execution": (IDENTITY, policies.execution_policy(INSIDE, "heart")),
    "publisher": (IDENTITY, policies.publisher_policy(INSIDE)),
    "coordinator": (IDENTITY, policies.coordinator_policy(SERVER, REGION, [KICKOFF], "Fed--X")),
    "service-trust": (TRUST, policies.service_trust(OWNER)),
    "kickoff-trust": (TRUST, policies.kickoff_trust(COORDINATOR, "agreed")),
    "coordinator-trust": (TRUST, policies.coordinator_trust(SERVER)),
    "code-bucket": (BUCKET, policies.code_bucket_policy(INSIDE, PUBLISHER)),
}
EVERYTHING = {"Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]}


@dataclass(frozen=True)
class Case:
    """One request to one document; ``role`` is the caller's, or a service's name."""

    document: str
    allowed: bool
    action: str
    resource: str = "*"
    context: Mapping[str, Sequence[str]] = field(default_factory=dict)
    role: str = KICKOFF


def arn(service: str, rest: str, account: str = OWNER) -> str:
    return f"arn:aws:{service}:{REGION}:{account}:{rest}"


JOB = arn("sagemaker", "training-job/fedsm-heart-20261120-120000-ab12-north")
OTHER_JOB = arn("sagemaker", "training-job/fedsm-lung-20261120-120000-ab12-north")
GROUP = "log-group:/aws/sagemaker/TrainingJobs"
CREATE, ADD_TAGS, TAG = (
    "sagemaker:CreateTrainingJob",
    "sagemaker:AddTags",
    "aws:RequestTag/fedsm:site",
)
PLAIN: dict[str, list[str]] = {
    TAG: ["north"],
    "aws:TagKeys": ["fedsm:run", "fedsm:site"],
    "sagemaker:InstanceTypes": ["ml.m5.xlarge"],
    "sagemaker:MaxRuntimeInSeconds": ["600"],
}
INSIDE_VPC = {
    **PLAIN,
    "sagemaker:VpcSubnets": ["subnet-0a", "subnet-0b"],
    "sagemaker:VpcSecurityGroupIds": ["sg-0a", "sg-0b"],
}
TAGGING = {TAG: ["north"], "sagemaker:TaggingAction": ["CreateTrainingJob"]}


def but(context: Mapping[str, Sequence[str]], key: str, *values: str) -> dict[str, Sequence[str]]:
    """The context with another value of a key; without the key where there is none."""
    rest = {name: held for name, held in context.items() if name != key}
    return {**rest, key: values} if values else rest


def creations(document: str, good: Mapping[str, Sequence[str]]) -> Iterator[Case]:
    yield Case(document, True, CREATE, JOB, good)
    yield Case(document, True, CREATE, JOB, but(good, "sagemaker:MaxRuntimeInSeconds", "60"))
    yield Case(document, True, CREATE, JOB, but(good, "sagemaker:EnableRemoteDebug", "false"))
    yield Case(document, False, CREATE, OTHER_JOB, good)
    yield Case(document, False, CREATE, JOB.replace("fedsm-heart-", "heart-"), good)
    for key, value in (
        (TAG, "south"),
        ("sagemaker:InstanceTypes", "ml.p5.48xlarge"),
        ("sagemaker:MaxRuntimeInSeconds", "601"),
    ):
        yield Case(document, False, CREATE, JOB, but(good, key))
        yield Case(document, False, CREATE, JOB, but(good, key, value))
    two = ("ml.m5.xlarge", "ml.p5.48xlarge")
    yield Case(document, False, CREATE, JOB, but(good, "sagemaker:InstanceTypes", *two))
    yield Case(document, False, CREATE, JOB, but(good, "sagemaker:EnableRemoteDebug", "true"))
    yield Case(document, True, ADD_TAGS, JOB, TAGGING)
    yield Case(document, False, ADD_TAGS, OTHER_JOB, TAGGING)
    for key, value in ((TAG, "south"), ("sagemaker:TaggingAction", "CreateModel")):
        yield Case(document, False, ADD_TAGS, JOB, but(TAGGING, key))
        yield Case(document, False, ADD_TAGS, JOB, but(TAGGING, key, value))
    for action in ("DescribeTrainingJob", "StopTrainingJob"):
        yield Case(document, True, f"sagemaker:{action}", JOB)
        yield Case(document, False, f"sagemaker:{action}", OTHER_JOB)
    yield Case(document, False, "sagemaker:DeleteTags", JOB, TAGGING)
    yield Case(document, False, "sagemaker:UpdateTrainingJob", JOB)
    passed = {"iam:PassedToService": ["sagemaker.amazonaws.com"]}
    elsewhere = but(passed, "iam:PassedToService", "ec2.amazonaws.com")
    yield Case(document, True, "iam:PassRole", EXECUTION, passed)
    yield Case(document, False, "iam:PassRole", EXECUTION, elsewhere)
    yield Case(document, False, "iam:PassRole", PUBLISHER, passed)
    yield Case(document, False, "iam:PutRolePolicy", EXECUTION, passed)


def network_cases() -> Iterator[Case]:
    for key, of, other in (
        ("sagemaker:VpcSubnets", "subnet-0a", "subnet-0e"),
        ("sagemaker:VpcSecurityGroupIds", "sg-0a", "sg-0e"),
    ):
        yield Case("kickoff", True, CREATE, JOB, but(INSIDE_VPC, key, of))
        yield Case("kickoff", False, CREATE, JOB, but(INSIDE_VPC, key))
        yield Case("kickoff", False, CREATE, JOB, but(INSIDE_VPC, key, other))
        yield Case("kickoff", False, CREATE, JOB, but(INSIDE_VPC, key, of, other))
        yield Case("kickoff-no-vpc", False, CREATE, JOB, but(PLAIN, key, of))


def log_cases(document: str, streams: Sequence[str], groups: Sequence[str]) -> Iterator[Case]:
    own, of_group = f"{GROUP}:log-stream:fedsm-heart-x/algo-1", f"{GROUP}:log-stream:"
    for action in groups:
        yield Case(document, True, f"logs:{action}", arn("logs", of_group))
        yield Case(document, False, f"logs:{action}", arn("logs", "log-group:/other:log-stream:"))
    for action in streams:
        yield Case(document, True, f"logs:{action}", arn("logs", own))
        other = own.replace("fedsm-heart", "fedsm-lung")
        yield Case(document, False, f"logs:{action}", arn("logs", other))
    yield Case(document, False, "logs:DeleteLogGroup", arn("logs", of_group))
    yield Case(document, False, "logs:DeleteLogStream", arn("logs", own))


def bucket_cases() -> Iterator[Case]:
    get, put, list_ = "s3:GetObject", "s3:PutObject", "s3:ListBucket"
    data, every, code = (
        "arn:aws:s3:::north-data",
        "arn:aws:s3:::north-all",
        "arn:aws:s3:::north-code",
    )
    models = "arn:aws:s3:::north-models"
    for key in (f"{data}/train/x.csv", f"{every}/x", f"{code}/fedsm/ab/source.tar.gz"):
        yield Case("execution", True, get, key)
        yield Case("execution", False, put, key)
    yield Case("execution", False, get, f"{data}/private/x.csv")
    yield Case("execution", False, get, f"{code}/else/x")
    yield Case("execution", True, put, f"{models}/output/x")
    yield Case("execution", False, put, f"{models}/x")
    yield Case("execution", False, get, f"{models}/output/x")
    yield Case("execution", False, "s3:DeleteObject", f"{models}/output/x")
    for bucket, prefix in ((data, "train"), (data, "train/x"), (every, ""), (every, "x")):
        yield Case("execution", True, list_, bucket, {"s3:prefix": [prefix]})
        versions = "s3:ListBucketVersions"
        yield Case("execution", False, versions, bucket, {"s3:prefix": [prefix]})
    for document in ("execution", "publisher"):
        for prefix in ("fedsm", "fedsm/ab"):
            yield Case(document, True, list_, code, {"s3:prefix": [prefix]})
            yield Case(document, False, "s3:ListBucketVersions", code, {"s3:prefix": [prefix]})
        yield Case(document, False, list_, code, {"s3:prefix": ["else"]})
        yield Case(document, False, list_, code)
        yield Case(document, False, list_, models, {"s3:prefix": ["fedsm"]})
    yield Case("execution", False, list_, data, {"s3:prefix": [""]})
    yield Case("execution", False, list_, every)
    for prefix in ("train", "train/x", "fedsm"):
        yield Case("execution", False, list_, "arn:aws:s3:::other", {"s3:prefix": [prefix]})
    bundle = f"{code}/fedsm/ab/source.tar.gz"
    for action in (get, put):
        yield Case("publisher", True, action, bundle)
        yield Case("publisher", False, action, f"{code}/else/x")
    yield Case("publisher", False, "s3:DeleteObject", bundle)
    for role, allowed in ((PUBLISHER, True), (KICKOFF, False)):
        yield Case("code-bucket", allowed, put, bundle, role=role)
        yield Case("code-bucket", True, put, f"{code}/else/x", role=role)
        yield Case("code-bucket", True, get, bundle, role=role)
        for action in ("s3:DeleteObject", "s3:DeleteObjectVersion"):
            yield Case("code-bucket", False, action, bundle, role=role)
            yield Case("code-bucket", True, action, f"{code}/else/x", role=role)


def trust_cases() -> Iterator[Case]:
    assume, set_source = "sts:AssumeRole", "sts:SetSourceIdentity"
    sagemaker, owner = "sagemaker.amazonaws.com", {"aws:SourceAccount": [OWNER]}
    other = but(owner, "aws:SourceAccount", SERVER)
    yield Case("service-trust", True, assume, EXECUTION, owner, sagemaker)
    yield Case("service-trust", False, assume, EXECUTION, other, sagemaker)
    yield Case("service-trust", False, assume, EXECUTION, {}, sagemaker)
    yield Case("service-trust", False, assume, EXECUTION, owner, KICKOFF)
    yield Case("service-trust", False, set_source, EXECUTION, owner, sagemaker)
    agreed, named = {"sts:ExternalId": ["agreed"]}, {"sts:SourceIdentity": ["fedsm-run"]}
    stranger = COORDINATOR.replace("fedsm-", "other-")
    yield Case("kickoff-trust", True, assume, KICKOFF, agreed, COORDINATOR)
    yield Case("kickoff-trust", False, assume, KICKOFF, {}, COORDINATOR)
    wrong = but(agreed, "sts:ExternalId", "guess")
    yield Case("kickoff-trust", False, assume, KICKOFF, wrong, COORDINATOR)
    yield Case("kickoff-trust", False, assume, KICKOFF, agreed, stranger)
    yield Case("kickoff-trust", True, set_source, KICKOFF, named, COORDINATOR)
    yield Case("kickoff-trust", False, set_source, KICKOFF, {}, COORDINATOR)
    yield Case("kickoff-trust", False, set_source, KICKOFF, named, stranger)
    for context in (agreed, named):
        yield Case("kickoff-trust", False, "sts:TagSession", KICKOFF, context, COORDINATOR)
    yield Case("coordinator-trust", False, "sts:TagSession", COORDINATOR, {}, COORDINATOR)
    yield Case("coordinator", False, "sts:TagSession", KICKOFF, {}, COORDINATOR)
    for action in (assume, set_source):
        yield Case("coordinator-trust", True, action, COORDINATOR, {}, stranger)
        yield Case("coordinator-trust", False, action, COORDINATOR, {}, KICKOFF)
        yield Case("coordinator", True, action, KICKOFF, {}, COORDINATOR)
        yield Case("coordinator", False, action, PUBLISHER, {}, COORDINATOR)


def experiment_cases() -> Iterator[Case]:
    resources = (
        "experiment/fed-x-heart",
        "experiment-trial/Default-Run-Group-fed-x-heart",
        "experiment-trial/default-run-group-fed-x-heart",
        "experiment-trial-component/fed-x-heart-run",
    )
    actions = (
        "AddTags",
        "AssociateTrialComponent",
        "BatchPutMetrics",
        "CreateExperiment",
        "CreateTrial",
        "CreateTrialComponent",
        "UpdateTrialComponent",
    )
    for action in (f"sagemaker:{action}" for action in actions):
        for rest in resources:
            own = arn("sagemaker", rest, SERVER)
            yield Case("coordinator", True, action, own, {}, COORDINATOR)
            other = own.replace("fed-x", "other")
            yield Case("coordinator", False, action, other, {}, COORDINATOR)
    experiment = arn("sagemaker", resources[0], SERVER)
    for action in ("DescribeExperiment", "DeleteExperiment"):
        yield Case("coordinator", False, f"sagemaker:{action}", experiment, {}, COORDINATOR)


CASES = [
    *creations("kickoff", INSIDE_VPC),
    *creations("kickoff-no-vpc", PLAIN),
    *network_cases(),
    *log_cases("kickoff", ["GetLogEvents"], ["DescribeLogStreams"]),
    *log_cases(
        "execution",
        ["PutLogEvents"],
        ["CreateLogGroup", "CreateLogStream", "DescribeLogStreams"],
    ),
    *bucket_cases(),
    *trust_cases(),
    *experiment_cases(),
]


def account_of(role: str) -> str:
    return role.split(":")[4] if ":" in role else OWNER


def session_of(role: str) -> str:
    name = role.rpartition("/")[2]
    return f"arn:aws:sts::{account_of(role)}:assumed-role/{name}/run"


def judge(case: Case, kind: str, document: policies.Document) -> bool:
    """The verdict of the local cloud's evaluator."""
    service = ":" not in case.role
    principal = (
        Principal(OWNER, case.role, case.role, "Service")
        if service
        else Principal(account_of(case.role), session_of(case.role), case.role, "AssumedRole")
    )
    context = {key.lower(): values for key, values in case.context.items()}
    context["aws:principalarn"] = [case.role]
    request = Request(principal, case.action, case.resource, context)
    parsed, everything = parse(document), parse(EVERYTHING)
    if kind == IDENTITY:
        bears, owner = Policies(identity=[parsed]), principal.account
    else:
        bears = Policies(identity=[] if service else [everything], resource=parsed)
        owner = SERVER if case.document == "coordinator-trust" else OWNER
    must = kind == TRUST
    return decide(request, bears, resource_account=owner, resource_must_allow=must).allowed


@pytest.mark.parametrize("name", DOCUMENTS)
def test_cases(name: str) -> None:
    kind, document = DOCUMENTS[name]
    wrong = [c for c in CASES if c.document == name and judge(c, kind, document) != c.allowed]
    assert not wrong


def changed(document: policies.Document, path: Sequence[Any], to: Any = None) -> policies.Document:
    """A copy of the document without what is at a path of its statements, or with ``to`` there."""
    mutant = copy.deepcopy(document)
    at = mutant["Statement"]
    for step in path[:-1]:
        at = at[step]
    if to is None:
        del at[path[-1]]
    else:
        at[path[-1]] = to
    return mutant


def mutants(document: policies.Document) -> Iterator[tuple[str, policies.Document]]:
    """The document without one of its parts, or with one that is wider, each with a name."""
    for i, statement in enumerate(document["Statement"]):
        paths: list[tuple[Any, ...]] = [(i,)]
        conditions = statement.get("Condition", {})
        lists = [(i, "Action"), (i, "Resource")]
        for operator, key in ((o, k) for o, keys in conditions.items() for k in keys):
            paths.append((i, "Condition", operator, key))
            lists.append(paths[-1])
        for path in lists:
            values = statement
            for step in path[1:]:
                values = values.get(step, ())
            if isinstance(values, list) and len(values) > 1:
                paths += [(*path, j) for j in range(len(values))]
        for path in paths:
            yield f"{statement['Sid']} without {path[1:]}", changed(document, path)
        wider = {"Resource", "Principal"} | (
            {"Action"} if statement["Effect"] == "Allow" else set()
        )
        for element in sorted(wider & set(statement)):
            if statement[element] not in ("*", ["*"]):
                yield f"{statement['Sid']} with any {element}", changed(document, (i, element), "*")


@pytest.mark.parametrize("name", DOCUMENTS)
def test_every_part_is_needed_by_a_case(name: str) -> None:
    kind, document = DOCUMENTS[name]
    cases = [case for case in CASES if case.document == name]
    unnoticed = [
        part
        for part, mutant in mutants(document)
        if all(judge(case, kind, mutant) == case.allowed for case in cases)
    ]
    assert not unnoticed


NAMES = st.from_regex(r"[a-z0-9](-?[a-z0-9]){0,23}", fullmatch=True).filter(lambda n: len(n) <= 24)


@given(NAMES, NAMES, NAMES)
def test_the_kickoff_policy_covers_the_names_of_jobs(federation: str, own: str, name: str) -> None:
    statements = policies.kickoff_policy(INSIDE, federation)["Statement"]
    (pattern,) = next(s["Resource"] for s in statements if s["Sid"] == "CreateTaggedJobs")
    for run in (f"{federation}-20261120-120000-ab12", own):
        job = job_name(federation, run, name)
        assert matches(pattern, arn("sagemaker", f"training-job/{job}"))


@pytest.mark.parametrize("aws", ["aws", "aws-cn", "aws-us-gov"])
def test_arns_are_of_the_sites_partition(aws: str) -> None:
    role, execution = (a.replace(":aws:", f":{aws}:") for a in (KICKOFF, EXECUTION))
    there = make_site(role_arn=role, execution_role_arn=execution)
    documents = [
        policies.kickoff_policy(there, "heart", logs=True),
        policies.execution_policy(there, "heart"),
        policies.publisher_policy(there),
        policies.code_bucket_policy(there, role),
        policies.coordinator_policy(SERVER, REGION, [role], "fedsm", aws=aws),
        policies.coordinator_trust(SERVER),
        policies.kickoff_trust(role, "agreed"),
    ]
    pieces = json.dumps(documents).split('"arn:')[1:]
    assert len(pieces) > 20
    assert {piece.split(":")[0] for piece in pieces} == {aws}


ORACLE = os.environ.get("FEDSM_MINISTACK", "")


@pytest.mark.skipif(not ORACLE, reason="FEDSM_MINISTACK does not name an unpacked ministack wheel")
def test_an_independent_evaluator_agrees(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same table, judged by ministack's evaluator; no server is started."""
    monkeypatch.syspath_prepend(str(Path(ORACLE)))
    for name in [n for n in sys.modules if n.split(".")[0] == "ministack"]:
        monkeypatch.delitem(sys.modules, name)
    from ministack.core import iam_evaluator as oracle  # type: ignore[import-not-found]

    lists = {"sagemaker:instancetypes", "sagemaker:vpcsubnets", "sagemaker:vpcsecuritygroupids"}
    wrong = []
    for case in CASES:
        kind, document = DOCUMENTS[case.document]
        # A service calls as its account's root there, and a bucket policy knows a role as such.
        root = f"arn:aws:iam::{OWNER}:root"
        caller = session_of(case.role) if ":" in case.role else root
        tags = {"fedsm:site": case.context[TAG][0]} if TAG in case.context else {}
        context = oracle.EvalContext(
            principal_arn=case.role if kind == BUCKET else caller,
            principal_type="AssumedRole",
            principal_account=account_of(case.role),
            action=case.action,
            resource_arn=case.resource,
            region=REGION,
            request_tags=tags,
            tag_keys=list(case.context.get("aws:TagKeys", [])),
            service_context={
                key.lower(): list(values) if key.lower() in lists else values[0]
                for key, values in case.context.items()
                if not key.startswith(("aws:RequestTag/", "aws:TagKeys"))
            },
        )
        if kind == TRUST:
            allowed = oracle.evaluate_trust_policy(document, caller, context)
        else:
            granted = document if kind == IDENTITY else EVERYTHING
            result = oracle.evaluate(context, [oracle.parse_policy_document(granted)])
            if kind == BUCKET:
                result = oracle.combine_resource_policy(result, context, document, OWNER)
            allowed = result.decision == "Allow"
        if allowed != case.allowed:
            wrong.append(case)
    assert not wrong
