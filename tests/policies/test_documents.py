"""What holds for every document: sentences, named resources, closed boundaries, quotas, names."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedsm import onboarding, policies
from fedsm.errors import ConfigError
from fedsm.local.conditions import matches
from fedsm.names import (
    ROLES,
    job_name,
    job_names,
    pipeline_name,
    role_name,
    statement_prefix,
    step_name,
)
from fedsm.onboarding import account, explain
from fedsm.onboarding.account import LIMITS
from fedsm.onboarding.review import documents
from tests.policies.cases import CASES
from tests.policies.judges import Case, judge
from tests.policies.reference import ACTIONS
from tests.policies.world import DOCUMENTS, FULL, OWNER, PLAIN, REGION, WORLDS, agreement

STATEMENTS = [
    (name, statement) for name, document in DOCUMENTS.items() for statement in document["Statement"]
]


def test_every_statement_has_a_sid_and_a_sentence() -> None:
    for name, document in DOCUMENTS.items():
        sids = [statement["Sid"] for statement in document["Statement"]]
        assert len(set(sids)) == len(sids), name
        assert all(re.fullmatch("[A-Za-z0-9]+", sid) for sid in sids), name
    for name, statement in STATEMENTS:
        sentence = statement.sentence
        verb = "denies" if statement["Effect"] == "Deny" else "(lets|bounds)"
        assert re.match(rf"{verb} ", sentence), (name, sentence)
        # What, to whom and why: one sentence, whose full stop the reader's text sets.
        assert len(sentence.split()) >= 8, (name, sentence)
        assert ". " not in f"{sentence} ", (name, sentence)
        assert "{" not in sentence, (name, sentence)


@pytest.mark.parametrize("world", WORLDS, ids=lambda world: world.name)
def test_explain_has_a_line_for_every_statement(world: Any) -> None:
    lines = explain(world.account)
    held = documents(world.account)
    assert [(line.holder, line.sid) for line in lines] == [
        (each.holder, statement["Sid"]) for each in held for statement in each.document["Statement"]
    ]
    assert all(line.sentence for line in lines)
    files = onboarding.files(world.account)
    assert {each.file for each in held} == set(files) - {"README.md", "cloudformation.yaml"}
    assert all(line.sentence in files["README.md"] for line in lines)


def test_a_statement_without_a_sentence_is_refused() -> None:
    with pytest.raises(TypeError, match="no sentence"):
        onboarding.explained("role", {"Statement": [{"Sid": "Plain"}]})


def test_a_resource_is_named_wherever_aws_lets_it_be() -> None:
    starred = {
        action
        for name, statement in STATEMENTS
        if statement["Effect"] == "Allow"
        and statement.get("Resource") in ("*", ["*"])
        # In a key's policy the star is that key.
        and "key-policy" not in name
        for action in statement["Action"]
    }
    assert starred == {
        "ec2:DescribeDhcpOptions",
        "ec2:DescribeNetworkInterfaces",
        "ec2:DescribeSecurityGroups",
        "ec2:DescribeSubnets",
        "ec2:DescribeVpcs",
        "ecr:GetAuthorizationToken",
    }
    for action in starred:
        assert {row["resource_type"] for row in ACTIONS[action]["resource_types"]} == {""}, action


def test_no_action_is_a_pattern_and_each_exists() -> None:
    for name, statement in STATEMENTS:
        for action in statement["Action"]:
            if action == "s3:*":
                assert statement["Effect"] == "Deny", name
            else:
                assert action in ACTIONS, (name, action)


def allowed_actions(document: policies.Document) -> set[str]:
    """Every action of AWS that a document allows on anything, under whatever conditions."""
    patterns = [
        pattern
        for statement in document["Statement"]
        if statement["Effect"] == "Allow"
        for pattern in statement["Action"]
    ]
    return {action for action in ACTIONS if any(matches(p, action) for p in patterns)}


@pytest.mark.parametrize("world", WORLDS, ids=lambda world: world.name)
def test_the_boundary_of_the_execution_role_can_start_and_grant_nothing(world: Any) -> None:
    found = allowed_actions(world.documents["execution-boundary.json"])
    assert {action.partition(":")[0] for action in found} <= {"s3", "logs", "ecr", "kms", "ec2"}
    assert len(found) < 30
    assert not found & {"s3:PutBucketPolicy", "s3:DeleteObject", "kms:PutKeyPolicy"}


def test_the_boundary_of_the_kickoff_role_lets_it_start_pipelines_and_no_job() -> None:
    started = {
        "sagemaker:DescribePipelineExecution",
        "sagemaker:ListPipelineExecutionSteps",
        "sagemaker:StartPipelineExecution",
        "sagemaker:StopPipelineExecution",
    }
    logs = {"logs:DescribeLogStreams", "logs:GetLogEvents"}
    for world in WORLDS:
        if world.account.launch == "pipeline":
            found = allowed_actions(world.documents["kickoff-boundary.json"])
            assert found == started | (logs if world.full else set())


def test_an_approval_lies_within_the_boundaries() -> None:
    for world in WORLDS:
        if world.account.launch == "direct":
            continue
        for kind in ("kickoff", "execution"):
            approved = [c for c in CASES if c.document == f"{world.name}/{kind}-approval.json"]
            bound = world.documents[f"{kind}-boundary.json"]
            assert approved
            assert all(judge(case, bound) for case in approved if case.allowed)


# --- quotas -------------------------------------------------------------------------------------

BIG: dict[str, Any] = {
    **FULL,
    "channels": {
        f"channel-{i:02}": f"s3://hospital-north-research-data/registry/extract-{i:02}/2026/"
        for i in range(19)
    },
    "subnets": [f"subnet-{i:017x}" for i in range(16)],
    "security_groups": [f"sg-{i:017x}" for i in range(5)],
    "image": f"{OWNER}.dkr.ecr.{REGION}.amazonaws.com/research/federated/training-image:2026.11",
    "kms_key_arn": f"arn:aws:kms:{REGION}:{OWNER}:key/mrk-{'0' * 32}",
    "code": "s3://hospital-north-research-code/fedsm/published-bundles",
    "tags": {f"organisation:department:{i:02}": "x" for i in range(20)},
}
LONG = {"federation": "f" * 24, "site": "s" * 24, "external_id": "x" * 64}


def size(documents: Any) -> int:
    return len(json.dumps(documents, separators=(",", ":")))


@pytest.mark.parametrize("launch", ["pipeline", "direct"])
def test_a_big_site_stays_within_the_quotas_of_aws(launch: str) -> None:
    invitation, terms = agreement(BIG, launch=launch, **LONG)
    found = account(invitation, terms)
    for role in found.roles:
        held = list(role.policies.values())
        if launch == "pipeline" and role.kind in ("kickoff", "execution"):
            # Several bundles approved at a time.
            digests = [f"{i:064x}" for i in range(3)]
            held += [onboarding.approval(invitation, terms, d, None)[role.kind][1] for d in digests]
        assert size(held) <= 10_240, role.kind
        assert size(role.trust) <= 2_048, role.kind
        assert len(role.name) <= 64
    assert all(size(bound.document) <= 6_144 for bound in found.boundaries)
    assert all(len(bound.name) <= 128 for bound in found.boundaries)
    assert all(size(rule.statements) <= 20_480 for rule in found.buckets)
    assert size(onboarding.cloudformation(found)) < 51_200


def test_what_passes_a_quota_is_refused_in_words() -> None:
    channels = {f"c{i}": f"s3://bucket-{i}/{'deep/' * 100}" for i in range(19)}
    with pytest.raises(ConfigError, match="AWS takes") as caught:
        account(*agreement({"channels": channels}))
    assert "fewer or shorter channels" in str(caught.value)
    assert LIMITS == {
        "inline": 10_240,
        "managed": 6_144,
        "trust": 2_048,
        "bucket": 20_480,
        "key": 32_768,
    }


@pytest.mark.parametrize(
    ("changes", "launch", "said"),
    [
        ({"subnets": ["subnet-0a"]}, "direct", "go together"),
        ({"security_groups": ["sg-0a"]}, "pipeline", "go together"),
        ({"output": "s3://north-code/fedsm/models"}, "direct", "code and output overlap"),
        ({"channels": {"all": "s3://north-code"}}, "pipeline", "what nobody approved"),
        ({"channels": {"all": "s3://north-code/fedsm/x/"}}, "pipeline", "what nobody approved"),
        ({"image": None}, "direct", "there is no image"),
    ],
)
def test_terms_that_contradict_themselves(changes: dict[str, Any], launch: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        account(*agreement(changes, launch=launch))


def test_prefixes_beside_each_other_are_no_overlap() -> None:
    beside = {"output": "s3://north-code/fedsm-models", "channels": {"a": "s3://north-code/fed"}}
    assert account(*agreement(beside)).roles


# --- names: no site's rights reach another's ----------------------------------------------------

NAMES = st.from_regex(r"[a-z0-9](-?[a-z0-9]){0,23}", fullmatch=True).filter(lambda n: len(n) <= 24)
PAIRS = [
    (("heart", "north"), ("heart-2", "north")),
    (("heart", "north"), ("heart", "north-2")),
    (("heart", "a-b"), ("heart-a", "b")),
    (("h", "north-kickoff"), ("h", "north")),
    (("f" * 24, "s" * 24), ("f" * 24, "s" * 23)),
    (("f" * 11, "s" * 11), ("f" * 11, "s" * 24)),
]


@given(NAMES, NAMES, NAMES)
def test_a_sites_rights_cover_the_names_of_its_jobs(federation: str, own: str, site: str) -> None:
    pattern = job_names(federation, site, "direct")
    for run in (f"{federation}-20261120-120000-ab12", own):
        name = job_name(federation, run, site)
        assert matches(pattern, name)
        assert re.fullmatch(r"[a-zA-Z0-9](-*[a-zA-Z0-9]){0,62}", name)
    job = f"pipelines-a1b2c3d4e5f6-{step_name(federation, site)}-AbCdEfGhIj"
    assert matches(job_names(federation, site, "pipeline"), job)
    assert len(job) <= 63


@pytest.mark.parametrize(
    "name",
    [
        step_name("heart", "north"),
        statement_prefix("heart", "north"),
        role_name("g" * 24, "s" * 24, "execution"),
        job_name("g" * 24, "r" * 40, "s" * 24),
        job_name("heart", "r" * 60, "north"),
    ],
)
def test_marks_are_too_long_to_be_met_by_choosing_names(name: str) -> None:
    assert re.search(r"[0-9a-f]{20}", name)
    assert len(name) <= 63


def apart(one: tuple[str, str], other: tuple[str, str], run: str) -> None:
    digest = "ab" * 32
    assert not matches(job_names(*one, "direct"), job_name(other[0], run, other[1]))
    job = f"pipelines-a1b2c3d4e5f6-{step_name(*other)}-AbCdEfGhIj"
    assert not matches(job_names(*one, "pipeline"), job)
    assert not matches(pipeline_name(*one, "*"), pipeline_name(*other, digest))
    assert not {role_name(*one, kind) for kind in ROLES} & {role_name(*other, k) for k in ROLES}


@given(NAMES, NAMES, NAMES, NAMES, NAMES)
def test_names_of_any_two_sites_stay_apart(f1: str, s1: str, f2: str, s2: str, run: str) -> None:
    if (f1, s1) != (f2, s2):
        apart((f1, s1), (f2, s2), run)
        apart((f1, s1), (f1, f"{s1[:20]}-x"), run) if not s1.endswith("-x") else None


@pytest.mark.parametrize(("one", "other"), [*PAIRS, *((b, a) for a, b in PAIRS)])
@pytest.mark.parametrize("launch", ["pipeline", "direct"])
def test_no_right_of_one_site_reaches_another_of_the_account(
    one: tuple[str, str], other: tuple[str, str], launch: str
) -> None:
    apart(one, other, "20261120-120000-ab12")
    mine, theirs = (
        {
            held.file: held.document
            for held in documents(
                account(*agreement(PLAIN, launch=launch, federation=fed, site=site))
            )
        }
        for fed, site in (one, other)
    )
    for action, resource in named(theirs):
        for file, document in mine.items():
            if file.endswith(("-trust.json", "bucket-policy.json")):
                continue
            case = Case(file, False, action, resource, context=permissive(other[1]))
            assert not judge(case, document), (file, action, resource)


def named(files: dict[str, policies.Document]) -> Iterator[tuple[str, str]]:
    """What a site's own rights name by its own name, as requests."""
    for document in files.values():
        for statement in document["Statement"]:
            for resource in statement.get("Resource", []):
                if "fedsm" in resource and ":s3:" not in resource:
                    for action in statement["Action"]:
                        yield action, resource.replace("*", "x1")


def permissive(site: str) -> dict[str, list[str]]:
    return {
        "aws:RequestTag/fedsm:site": [site],
        "sagemaker:TaggingAction": ["CreateTrainingJob"],
        "sagemaker:InstanceTypes": ["ml.m5.xlarge"],
        "sagemaker:MaxRuntimeInSeconds": ["60"],
        "iam:PassedToService": ["sagemaker.amazonaws.com"],
    }


# --- ARNs ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("aws", ["aws", "aws-cn", "aws-us-gov"])
@pytest.mark.parametrize("launch", ["pipeline", "direct"])
def test_arns_are_of_the_sites_partition(aws: str, launch: str) -> None:
    moved = json.loads(json.dumps(FULL).replace("arn:aws:", f"arn:{aws}:"))
    role = f"arn:{aws}:iam::111111111111:role/fedsm-coordinator"
    invitation, terms = agreement(moved, launch=launch, server_role_arn=role)
    held = [each.document for each in documents(account(invitation, terms))]
    if launch == "pipeline":
        held += [d for _, d in onboarding.approval(invitation, terms, "ab" * 32, None).values()]
    held.append(policies.coordinator_policy("1" * 12, REGION, [role], "fedsm", aws=aws))
    pieces = json.dumps(held).split('"arn:')[1:]
    assert len(pieces) > 20
    assert {piece.split(":")[0] for piece in pieces} == {aws}


def test_wildcards_in_a_prefix_are_letters() -> None:
    odd = "s3://north-data/2026*/a?b/$x/"
    found = account(*agreement({"channels": {"train": odd}}))
    document = found.role("execution").policies["fedsm"]
    for key, allowed in (
        ("2026*/a?b/$x/y.csv", True),
        ("2026-11/a?b/$x/y.csv", False),
        ("2026*/acb/$x/y.csv", False),
    ):
        case = Case("x/policy", allowed, "s3:GetObject", f"arn:aws:s3:::north-data/{key}")
        assert judge(case, document) == allowed
        listing = Case(
            "x/policy",
            allowed,
            "s3:ListBucket",
            "arn:aws:s3:::north-data",
            {"s3:prefix": [key.removesuffix("/y.csv")]},
        )
        assert judge(listing, document) == allowed


def test_only_approvals_name_bundles() -> None:
    for world in WORLDS:
        if world.account.launch == "pipeline":
            text = json.dumps(world.documents["kickoff-policy.json"])
            assert "StartPipelineExecution" not in text
            assert "north-code" not in json.dumps(world.documents["execution-policy.json"])


def test_nothing_is_approved_in_the_direct_launch() -> None:
    with pytest.raises(ConfigError, match="direct launch"):
        onboarding.approval(*agreement(launch="direct"), "ab" * 32, None)
