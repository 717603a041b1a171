"""The policy evaluator, by table and against an independent one."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedsm.local.conditions import UNKNOWN, arn_matches, holds, matches, modelled
from fedsm.local.iam import (
    MalformedPolicy,
    Policies,
    Principal,
    Request,
    UnmodelledPolicy,
    decide,
    parse,
)

HERE, THERE = "111111111111", "222222222222"
ROLE = f"arn:aws:iam::{HERE}:role/team/coordinator"
SESSION = f"arn:aws:sts::{HERE}:assumed-role/coordinator/run"
USER = f"arn:aws:iam::{HERE}:user/ann"
BUCKET = "arn:aws:s3:::data"

as_session = Principal(HERE, SESSION, ROLE, "AssumedRole")
as_user = Principal(HERE, USER, USER, "User")


def policy(effect: str = "Allow", **more: Any) -> Any:
    statement = {"Effect": effect, "Action": "s3:GetObject", "Resource": "*"} | more
    return parse({"Version": "2012-10-17", "Statement": [statement]})


def resource_policy(principal: Any, effect: str = "Allow", **more: Any) -> Any:
    return policy(effect, Principal=principal, **more)


ALLOW, DENY, OTHER = policy(), policy("Deny"), policy(Action="s3:PutObject")


def ask(
    principal: Principal = as_session,
    owner: str = HERE,
    context: dict[str, Sequence[str]] | None = None,
    *,
    must: bool = False,
    **policies: Any,
) -> bool:
    request = Request(principal, "s3:GetObject", f"{BUCKET}/key", context or {})
    bears = Policies(**policies)
    return decide(request, bears, resource_account=owner, resource_must_allow=must).allowed


@pytest.mark.parametrize(
    ("expected", "arguments"),
    [
        (False, {}),
        (True, {"identity": [ALLOW]}),
        (False, {"identity": [OTHER]}),
        (False, {"identity": [ALLOW, DENY]}),
        (False, {"identity": [ALLOW], "boundary": OTHER}),
        (True, {"identity": [ALLOW], "boundary": ALLOW}),
        (False, {"identity": [ALLOW], "boundary": DENY}),
        (False, {"identity": [ALLOW], "session": [OTHER]}),
        (True, {"identity": [ALLOW], "session": [OTHER, ALLOW]}),
        (False, {"identity": [], "session": [ALLOW]}),
        (False, {"identity": [ALLOW], "resource": resource_policy("*", "Deny")}),
        # within the account a resource policy that names the principal grants by itself ...
        (True, {"resource": resource_policy({"AWS": ROLE})}),
        (True, {"resource": resource_policy({"AWS": SESSION})}),
        (True, {"resource": resource_policy("*")}),
        # ... the account's root only hands the decision to the account
        (False, {"resource": resource_policy({"AWS": HERE})}),
        (True, {"identity": [ALLOW], "resource": resource_policy({"AWS": HERE})}),
        # a grant to the role is narrowed by boundary and session policy, one to the session not
        (False, {"resource": resource_policy({"AWS": ROLE}), "session": [OTHER]}),
        (False, {"resource": resource_policy({"AWS": ROLE}), "boundary": OTHER}),
        (True, {"resource": resource_policy({"AWS": SESSION}), "session": [OTHER]}),
        # across accounts both sides must allow
        (False, {"identity": [ALLOW], "owner": THERE}),
        (False, {"resource": resource_policy({"AWS": ROLE}), "owner": THERE}),
        (True, {"identity": [ALLOW], "resource": resource_policy({"AWS": ROLE}), "owner": THERE}),
        (True, {"identity": [ALLOW], "resource": resource_policy({"AWS": HERE}), "owner": THERE}),
        (False, {"identity": [ALLOW], "resource": resource_policy({"AWS": THERE}), "owner": THERE}),
        # a trust policy must let the caller in within the account too
        (False, {"identity": [ALLOW], "must": True}),
        (True, {"identity": [ALLOW], "resource": resource_policy({"AWS": HERE}), "must": True}),
        (True, {"resource": resource_policy({"AWS": ROLE}), "must": True}),
        # the grant of a user's ARN is direct
        (
            True,
            {"principal": as_user, "resource": resource_policy({"AWS": USER}), "boundary": OTHER},
        ),
    ],
)
def test_decisions(expected: bool, arguments: dict[str, Any]) -> None:
    assert ask(**arguments) is expected


def test_not_elements() -> None:
    assert ask(
        identity=[parse({"Statement": {"Effect": "Allow", "NotAction": "iam:*", "Resource": "*"}})]
    )
    assert not ask(
        identity=[parse({"Statement": {"Effect": "Allow", "NotAction": "s3:*", "Resource": "*"}})]
    )
    other = {"Effect": "Allow", "Action": "s3:*", "NotResource": f"{BUCKET}/*"}
    assert not ask(identity=[parse({"Statement": other})])
    deny = {"Effect": "Deny", "Action": "s3:*", "Resource": "*", "NotPrincipal": {"AWS": ROLE}}
    assert ask(identity=[ALLOW], resource=parse({"Statement": deny}))
    assert not ask(as_user, identity=[ALLOW], resource=parse({"Statement": deny}))


def test_a_service_needs_the_resource_policy_alone() -> None:
    service = Principal(HERE, "sagemaker.amazonaws.com", "sagemaker.amazonaws.com", "Service")
    trusted = resource_policy({"Service": "sagemaker.amazonaws.com"})
    assert ask(service, resource=trusted, must=True)
    assert not ask(service, resource=resource_policy({"Service": "ec2.amazonaws.com"}), must=True)
    assert not ask(service, resource=resource_policy({"AWS": HERE}), must=True)
    assert not ask(as_session, resource=trusted, must=True)


CONTEXT: dict[str, Sequence[str]] = {
    "aws:username": ["ann"],
    "aws:sourceip": ["10.1.2.3"],
    "aws:principalarn": [ROLE],
    "aws:currenttime": ["2026-11-20T12:00:00+00:00"],
    "aws:epochtime": ["1795176000"],
    "aws:securetransport": ["true"],
    "sagemaker:maxruntimeinseconds": ["3600"],
    "sagemaker:vpcsubnets": ["subnet-a", "subnet-b"],
    "s3:prefix": ["home/ann/x"],
}


@pytest.mark.parametrize(
    ("expected", "operator", "key", "values"),
    [
        (True, "StringEquals", "aws:username", ["bob", "ann"]),
        (False, "StringEquals", "aws:username", ["Ann"]),
        (True, "StringEqualsIgnoreCase", "AWS:UserName", ["ANN"]),
        (False, "StringNotEquals", "aws:username", ["bob", "ann"]),
        (True, "StringNotEquals", "aws:userid", ["x"]),
        (False, "StringEquals", "aws:userid", ["x"]),
        (True, "StringEqualsIfExists", "aws:userid", ["x"]),
        (True, "StringLike", "s3:prefix", ["home/${aws:username}/*"]),
        (False, "StringLike", "s3:prefix", ["home/${aws:userid}/*"]),
        (True, "StringLike", "s3:prefix", ["home/${aws:userid, 'ann'}/*"]),
        (False, "StringNotLike", "s3:prefix", ["home/*"]),
        (True, "NumericLessThanEquals", "sagemaker:MaxRuntimeInSeconds", ["3600"]),
        (False, "NumericGreaterThan", "sagemaker:MaxRuntimeInSeconds", ["3600"]),
        (False, "NumericNotEquals", "sagemaker:MaxRuntimeInSeconds", ["3600.0"]),
        (True, "DateLessThan", "aws:CurrentTime", ["2026-11-21T00:00:00Z"]),
        (True, "DateGreaterThan", "aws:EpochTime", ["1795000000"]),
        (True, "Bool", "aws:SecureTransport", ["true"]),
        (False, "Bool", "aws:SecureTransport", ["false"]),
        (True, "IpAddress", "aws:SourceIp", ["10.1.0.0/16"]),
        (True, "NotIpAddress", "aws:SourceIp", ["192.168.0.0/16"]),
        (True, "ArnLike", "aws:PrincipalArn", [f"arn:aws:iam::{HERE}:role/team/*"]),
        (False, "ArnLike", "aws:PrincipalArn", ["arn:*:role/team/coordinator"]),
        (False, "ArnNotEquals", "aws:PrincipalArn", [ROLE]),
        (True, "Null", "aws:userid", ["true"]),
        (False, "Null", "aws:username", ["true"]),
        (True, "ForAnyValue:StringEquals", "sagemaker:VpcSubnets", ["subnet-b"]),
        (False, "ForAllValues:StringEquals", "sagemaker:VpcSubnets", ["subnet-b"]),
        (True, "ForAllValues:StringLike", "sagemaker:VpcSubnets", ["subnet-*"]),
        (True, "ForAnyValue:StringNotEquals", "sagemaker:VpcSubnets", ["subnet-b"]),
        (False, "ForAllValues:StringNotEquals", "sagemaker:VpcSubnets", ["subnet-b"]),
        (False, "ForAnyValue:StringNotEquals", "sagemaker:InstanceTypes", ["ml.m5.large"]),
        (True, "ForAllValues:StringEquals", "sagemaker:InstanceTypes", ["ml.m5.large"]),
    ],
)
def test_conditions(expected: bool, operator: str, key: str, values: list[str]) -> None:
    assert holds(operator, key, values, CONTEXT) is expected


@pytest.mark.parametrize(
    ("condition", "named"),
    [
        ({"BinaryEquals": {"aws:username": "x"}}, "BinaryEquals"),
        ({"StringEquals": {"aws:MultiFactorAuthAge": "x"}}, "aws:MultiFactorAuthAge"),
        ({"Any:StringEquals": {"aws:username": "x"}}, "Any:StringEquals"),
        ({"StringLike": {"aws:username": "${aws:PrincipalOrgID}"}}, "aws:PrincipalOrgID"),
    ],
)
def test_what_is_not_modelled_is_named(condition: Any, named: str) -> None:
    with pytest.raises(UnmodelledPolicy, match=named):
        ask(identity=[policy(Condition=condition)], context=CONTEXT)


@pytest.mark.parametrize(
    "document",
    [
        "not json",
        "[]",
        '{"Statement": [{"Effect": "Maybe", "Action": "*", "Resource": "*"}]}',
        '{"Statement": [{"Effect": "Allow", "Resource": "*"}]}',
        '{"Statement": [{"Effect": "Allow", "Action": "*", "Resources": "*"}]}',
        '{"Statement": ["x"]}',
    ],
)
def test_malformed_policies(document: str) -> None:
    with pytest.raises(MalformedPolicy):
        parse(document)


def test_a_wildcard_in_a_variable_is_literal() -> None:
    context: dict[str, Sequence[str]] = {"aws:username": ["*"]}
    assert not matches("home/${aws:username}/x", "home/ann/x", context)
    assert matches("home/${aws:username}/x", "home/*/x", context)
    assert matches("a${*}b", "a*b", context)
    assert not matches("a${*}b", "axb", context)


def test_a_star_in_an_arn_stays_in_its_part() -> None:
    assert arn_matches("arn:aws:s3:::*", "arn:aws:s3:::data/x:y")
    assert not arn_matches("arn:aws:*", ROLE)
    assert modelled("aws:RequestTag/anything")
    assert not modelled("aws:MultiFactorAuthAge")


@given(st.text("ab*?", max_size=8), st.text("ab", max_size=8))
def test_wildcards_agree_with_their_definition(pattern: str, value: str) -> None:
    def reference(p: str, v: str) -> bool:
        if not p:
            return not v
        if p[0] == "*":
            return reference(p[1:], v) or (bool(v) and reference(p, v[1:]))
        return bool(v) and p[0] in ("?", v[0]) and reference(p[1:], v[1:])

    assert matches(pattern, value) == reference(pattern, value)


@given(
    st.permutations(["Allow", "Deny", "Allow"]),
    st.sets(st.sampled_from(["identity", "boundary", "session", "resource"]), min_size=1),
)
def test_an_explicit_deny_wins_wherever_it_stands(order: list[str], where: set[str]) -> None:
    mixed = parse({"Statement": [{"Effect": e, "Action": "*", "Resource": "*"} for e in order]})
    everyone = parse(
        {
            "Statement": [
                {"Effect": e, "Action": "*", "Resource": "*", "Principal": "*"} for e in order
            ]
        }
    )
    bears: dict[str, Any] = {"identity": [ALLOW]}
    bears |= {"identity": [mixed]} if "identity" in where else {}
    bears |= {"boundary": mixed} if "boundary" in where else {}
    bears |= {"session": [mixed]} if "session" in where else {}
    bears |= {"resource": everyone} if "resource" in where else {}
    assert not ask(**bears)


ORACLE = os.environ.get("FEDSM_MINISTACK", "")


@pytest.mark.skipif(not ORACLE, reason="FEDSM_MINISTACK does not name an unpacked ministack wheel")
def test_an_independent_evaluator_agrees(monkeypatch: pytest.MonkeyPatch) -> None:
    """Identity policies with conditions, judged by ministack's evaluator; no server is started."""
    monkeypatch.syspath_prepend(str(Path(ORACLE)))
    for name in [n for n in sys.modules if n.split(".")[0] == "ministack"]:
        monkeypatch.delitem(sys.modules, name)
    from ministack.core.iam_evaluator import (  # type: ignore[import-not-found]
        EvalContext,
        evaluate,
        parse_policy_document,
    )

    subnets = {"sagemaker:VpcSubnets": ["subnet-a", "subnet-b"]}
    deny = {"Effect": "Deny", "Action": "sagemaker:CreateTrainingJob", "Resource": "*"}
    allow = {
        "Effect": "Allow",
        "Action": ["sagemaker:Create*"],
        "Resource": "arn:aws:sagemaker:*:*:training-job/fedsm-*",
    }
    documents = [
        {"Version": "2012-10-17", "Statement": [allow, *extra]}
        for extra in (
            [],
            [deny | {"Condition": {"Null": {"sagemaker:VpcSubnets": "true"}}}],
            [deny | {"Condition": {"ForAnyValue:StringNotEquals": subnets}}],
            [
                deny
                | {
                    "Condition": {
                        "ForAnyValue:StringNotLike": {"sagemaker:InstanceTypes": ["ml.m5.*"]}
                    }
                }
            ],
            [
                deny
                | {"Condition": {"NumericGreaterThan": {"sagemaker:MaxRuntimeInSeconds": "14400"}}}
            ],
            [deny | {"Condition": {"Bool": {"sagemaker:EnableRemoteDebug": "true"}}}],
            [deny | {"Condition": {"StringNotEqualsIfExists": {"aws:RequestTag/team": "a"}}}],
            [{"Effect": "Deny", "NotAction": "sagemaker:*", "Resource": "*"}],
        )
    ]
    requests: list[dict[str, list[str]]] = [
        {},
        {"sagemaker:VpcSubnets": ["subnet-a"]},
        {"sagemaker:VpcSubnets": ["subnet-a", "subnet-x"]},
        {"sagemaker:InstanceTypes": ["ml.m5.large"], "sagemaker:MaxRuntimeInSeconds": ["60"]},
        {"sagemaker:InstanceTypes": ["ml.p4d.24xlarge"]},
        {"sagemaker:MaxRuntimeInSeconds": ["86400"]},
        {"sagemaker:EnableRemoteDebug": ["true"]},
        {"aws:RequestTag/team": ["b"]},
    ]
    compared = 0
    for document in documents:
        for keys in requests:
            for name in ("fedsm-1", "other"):
                arn = f"arn:aws:sagemaker:eu-west-1:{HERE}:training-job/{name}"
                tags = {k.partition("/")[2]: v[0] for k, v in keys.items() if "Tag/" in k}
                theirs = evaluate(
                    EvalContext(
                        principal_arn=SESSION,
                        principal_type="AssumedRole",
                        principal_account=HERE,
                        action="sagemaker:CreateTrainingJob",
                        resource_arn=arn,
                        region="eu-west-1",
                        request_tags=tags,
                        tag_keys=list(tags),
                        service_context={
                            k.lower(): v
                            if len(v) > 1 or "vpc" in k.lower() or "types" in k.lower()
                            else v[0]
                            for k, v in keys.items()
                            if "Tag/" not in k
                        },
                    ),
                    [parse_policy_document(document)],
                )
                ours = decide(
                    Request(
                        as_session,
                        "sagemaker:CreateTrainingJob",
                        arn,
                        {k.lower(): v for k, v in keys.items()},
                    ),
                    Policies(identity=[parse(document)]),
                    resource_account=HERE,
                )
                assert ours.allowed == (theirs.decision == "Allow"), (document, keys, name)
                compared += 1
    assert compared == len(documents) * len(requests) * 2


def test_a_key_that_the_cloud_cannot_know_is_named() -> None:
    context = {"ec2:vpc": UNKNOWN}
    for operator in ("StringEquals", "Null", "ForAnyValue:StringNotEquals"):
        with pytest.raises(UnmodelledPolicy, match="condition key ec2:Vpc of this request"):
            holds(operator, "ec2:Vpc", ["x"], context)
    with pytest.raises(UnmodelledPolicy, match=r"ec2:Vpc of this request"):
        matches("${ec2:Vpc}", "x", context)
