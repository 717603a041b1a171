"""Judge a request against IAM policies: pure, no AWS, no clock.

The order is AWS's ("Policy evaluation logic" of the IAM User Guide): an explicit deny anywhere
wins; within an account a resource policy that names the principal grants by itself, otherwise the
identity policies must allow; a permissions boundary and a session policy only narrow; across
accounts both sides must allow.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from functools import lru_cache
from typing import Any

from fedsm.local.conditions import (
    Context,
    MalformedPolicy,
    UnmodelledPolicy,
    holds,
    matches,
)

__all__ = [
    "Decision",
    "MalformedPolicy",
    "Policies",
    "Policy",
    "Principal",
    "Request",
    "UnmodelledPolicy",
    "decide",
    "parse",
]

_ELEMENTS = {
    "Sid",
    "Effect",
    "Action",
    "NotAction",
    "Resource",
    "NotResource",
    "Principal",
    "NotPrincipal",
    "Condition",
}


@dataclass(frozen=True, slots=True)
class Principal:
    """Who asks.

    Attributes
    ----------
    account : str
        Twelve digits.
    arn : str
        User ARN, assumed-role session ARN, or the name of a service.
    identity_arn : str
        ARN of the user or role that the policies are attached to.
    kind : {"User", "AssumedRole", "Service"}
    """

    account: str
    arn: str
    identity_arn: str
    kind: str


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked: action (``service:Name``), resource ARN or ``*``, context keys."""

    principal: Principal
    action: str
    resource: str
    context: Context


@dataclass(frozen=True, slots=True)
class Condition:
    operator: str
    key: str
    values: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Statement:
    """One statement; ``not_*`` say that the element was its ``Not`` form."""

    effect: str
    actions: tuple[str, ...]
    not_action: bool
    resources: tuple[str, ...]
    not_resource: bool
    principals: tuple[tuple[str, str], ...] | None
    not_principal: bool
    conditions: tuple[Condition, ...]


Policy = tuple[Statement, ...]


@dataclass(frozen=True, slots=True)
class Policies:
    """All policies that bear on one request.

    Attributes
    ----------
    identity : sequence of Policy
        Inline and attached policies of the user or role.
    boundary : Policy, optional
        Permissions boundary.
    session : sequence of Policy, optional
        Session policies; None when the session was made without.
    resource : Policy, optional
        Bucket policy or trust policy.
    """

    identity: Sequence[Policy] = ()
    boundary: Policy | None = None
    session: Sequence[Policy] | None = None
    resource: Policy | None = None


@dataclass(frozen=True, slots=True)
class Decision:
    """The verdict; ``reason`` completes "User: ... is not authorized to perform: ..."."""

    allowed: bool
    reason: str = ""


def parse(document: str | Mapping[str, Any]) -> Policy:
    """Read a policy document.

    Raises
    ------
    MalformedPolicy
        Not JSON, an unknown element, or a statement without effect or action.
    """
    if isinstance(document, str):
        return _parse_text(document)
    return _parse(document)


@lru_cache(maxsize=1024)
def _parse_text(text: str) -> Policy:
    try:
        document = json.loads(text)
    except ValueError:
        raise MalformedPolicy("the policy is not JSON") from None
    if not isinstance(document, dict):
        raise MalformedPolicy("the policy is not a JSON object")
    return _parse(document)


def _parse(document: Mapping[str, Any]) -> Policy:
    return tuple(_statement(item) for item in _items(document.get("Statement")))


def _items(value: Any) -> list[Any]:
    if value is None:
        return []
    return list(value) if isinstance(value, list | tuple) else [value]


def _text(value: Any) -> str:
    return ("true" if value else "false") if isinstance(value, bool) else str(value)


def _statement(item: Any) -> Statement:
    if not isinstance(item, Mapping):
        raise MalformedPolicy("a statement is not an object")
    unknown = sorted(set(item) - _ELEMENTS)
    if unknown:
        raise MalformedPolicy(f"unknown element {unknown[0]}")
    if item.get("Effect") not in ("Allow", "Deny"):
        raise MalformedPolicy("a statement has no Effect of Allow or Deny")
    if ("Action" in item) == ("NotAction" in item):
        raise MalformedPolicy("a statement needs either Action or NotAction")
    conditions = [
        Condition(operator, key, tuple(_text(v) for v in _items(values)))
        for operator, keys in (item.get("Condition") or {}).items()
        for key, values in keys.items()
    ]
    principal = item.get("Principal", item.get("NotPrincipal"))
    return Statement(
        effect=item["Effect"],
        actions=tuple(_items(item.get("Action", item.get("NotAction")))),
        not_action="NotAction" in item,
        resources=tuple(_items(item.get("Resource", item.get("NotResource")))),
        not_resource="NotResource" in item,
        principals=None if principal is None else _principals(principal),
        not_principal="NotPrincipal" in item,
        conditions=tuple(conditions),
    )


def _principals(element: Any) -> tuple[tuple[str, str], ...]:
    if element == "*":
        return (("*", "*"),)
    if not isinstance(element, Mapping):
        raise MalformedPolicy("Principal is neither '*' nor an object")
    return tuple((kind, value) for kind, values in element.items() for value in _items(values))


class Grant(IntEnum):
    """How far a resource policy's principal element reaches the caller."""

    NONE = 0
    ACCOUNT = 1
    EVERYONE = 2
    IDENTITY = 3
    SESSION = 4


def _reach(kind: str, value: str, principal: Principal) -> Grant:
    """How one principal of a statement names the caller."""
    if kind == "*" or (kind == "AWS" and value == "*"):
        return Grant.EVERYONE
    if kind == "Service":
        named = principal.kind == "Service" and value in (principal.arn, "*")
        return Grant.IDENTITY if named else Grant.NONE
    if kind in ("Federated", "CanonicalUser"):
        raise UnmodelledPolicy(f"the principal type {kind}")
    if kind != "AWS":
        raise MalformedPolicy(f"unknown principal type {kind}")
    if principal.kind == "Service":
        return Grant.NONE
    if value == principal.account or re.fullmatch(
        rf"arn:aws[a-z-]*:iam::{principal.account}:root", value
    ):
        return Grant.ACCOUNT
    if value == principal.arn:
        return Grant.SESSION
    return Grant.IDENTITY if value == principal.identity_arn else Grant.NONE


def _named(statement: Statement, principal: Principal) -> Grant:
    if statement.principals is None:
        return Grant.NONE
    reach = max((_reach(kind, value, principal) for kind, value in statement.principals), default=0)
    if statement.not_principal:
        return Grant.EVERYONE if reach == Grant.NONE else Grant.NONE
    return Grant(reach)


def _applies(statement: Statement, request: Request, resource_policy: bool) -> bool:
    """Action, resource and conditions of a statement fit; the principal is judged apart."""
    action = request.action.lower()
    if any(matches(a.lower(), action) for a in statement.actions) == statement.not_action:
        return False
    if statement.resources or not resource_policy:
        fits = any(matches(r, request.resource, request.context) for r in statement.resources)
        if fits == statement.not_resource:
            return False
    # Evaluated in full, so that an operator nobody models is found whatever the order of keys.
    verdicts = [
        holds(condition.operator, condition.key, condition.values, request.context)
        for condition in statement.conditions
    ]
    return all(verdicts)


def _effects(policies: Sequence[Policy], request: Request) -> set[str]:
    return {
        statement.effect
        for policy in policies
        for statement in policy
        if _applies(statement, request, resource_policy=False)
    }


def _resource_effects(policy: Policy | None, request: Request) -> tuple[bool, Grant]:
    """Whether the resource policy denies, and the best grant among its allows."""
    denied, grant = False, Grant.NONE
    for statement in policy or ():
        reach = _named(statement, request.principal)
        if reach is Grant.NONE or not _applies(statement, request, resource_policy=True):
            continue
        if statement.effect == "Deny":
            denied = True
        else:
            grant = max(grant, reach)
    return denied, grant


def decide(
    request: Request,
    policies: Policies,
    *,
    resource_account: str,
    resource_must_allow: bool = False,
) -> Decision:
    """Judge one action on one resource.

    Parameters
    ----------
    resource_account : str
        Account that owns the resource; another one than the principal's needs both sides.
    resource_must_allow : bool
        Within an account too the resource policy must let the caller in: a role's trust policy.

    Raises
    ------
    UnmodelledPolicy
        A statement that bears on the request uses what this evaluator does not model; the message
        names the operator, key or element.
    """
    identity = _effects(policies.identity, request)
    boundary = None if policies.boundary is None else _effects([policies.boundary], request)
    session = None if policies.session is None else _effects(policies.session, request)
    denied, grant = _resource_effects(policies.resource, request)
    for effects, name in (
        (identity, "an identity-based policy"),
        (boundary, "a permissions boundary"),
        (session, "a session policy"),
        ({"Deny"} if denied else set(), "a resource-based policy"),
    ):
        if effects and "Deny" in effects:
            return Decision(False, f"with an explicit deny in {name}")
    if request.principal.kind == "Service":
        return _verdict(grant > Grant.NONE, "resource-based policy", request.action)
    same_account = request.principal.account == resource_account
    if (not same_account or resource_must_allow) and grant is Grant.NONE:
        return _verdict(False, "resource-based policy", request.action)
    direct = grant is Grant.SESSION  # of a user its own ARN, of a role the session's
    if same_account and direct:
        return Decision(True)
    granted = same_account and grant in (Grant.EVERYONE, Grant.IDENTITY)
    if not granted and "Allow" not in identity:
        return _verdict(False, "identity-based policy", request.action)
    if boundary is not None and "Allow" not in boundary:
        return _verdict(False, "permissions boundary", request.action)
    if session is not None and "Allow" not in session:
        return _verdict(False, "session policy", request.action)
    return Decision(True)


def _verdict(allowed: bool, policy: str, action: str) -> Decision:
    return Decision(allowed, "" if allowed else f"because no {policy} allows the {action} action")
