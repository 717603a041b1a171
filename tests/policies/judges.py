"""Two judges of one case: the local cloud's evaluator, and ministack's."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from fedsm.local.iam import Policies, Principal, Request, decide, parse
from fedsm.policies import Document
from tests.policies.world import OWNER, REGION, SERVER

EVERYTHING: Document = {"Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]}
LISTS = {
    "aws:tagkeys",
    "sagemaker:instancetypes",
    "sagemaker:vpcsubnets",
    "sagemaker:vpcsecuritygroupids",
}


@dataclass(frozen=True)
class Case:
    """One request to one document, and the verdict that it must get.

    Attributes
    ----------
    role : str
        The caller's role or user, or a service's name.
    """

    document: str
    allowed: bool
    action: str
    resource: str = "*"
    context: Mapping[str, Sequence[str]] = field(default_factory=dict)
    role: str = f"arn:aws:iam::{OWNER}:role/anyone"

    def full_context(self) -> dict[str, list[str]]:
        """The context keys in lower case, with those that every request has."""
        common = {
            "aws:currenttime": ["2026-11-20T12:00:00+00:00"],
            "aws:principalaccount": [account_of(self.role)],
            "aws:principalarn": [self.role],
            "aws:requestedregion": [REGION],
            "aws:resourceaccount": [OWNER],
            "aws:securetransport": ["true"],
        }
        return common | {key.lower(): list(values) for key, values in self.context.items()}


@dataclass(frozen=True)
class Bears:
    """The documents that bear on a request.

    Attributes
    ----------
    resource : Document, optional
        The resource's own policy; ``must`` where it has to allow within the account too.
    owner : str
        Account of the resource.
    """

    identity: tuple[Document, ...] = ()
    boundary: Document | None = None
    resource: Document | None = None
    must: bool = False
    owner: str = OWNER


Judge = Callable[[Case, Bears], bool]


def alone(case: Case, document: Document) -> Bears:
    """A document by itself: no other hides what it lets through."""
    file = case.document.rpartition("/")[2]
    if not any(kind in file for kind in ("trust", "bucket", "key")):
        return Bears(identity=(document,), owner=account_of(case.role))
    service = ":" not in case.role
    return Bears(
        identity=() if service else (EVERYTHING,),
        resource=document,
        must="bucket" not in file,
        owner=SERVER if case.document.startswith("server/") else OWNER,
    )


def account_of(role: str) -> str:
    return role.split(":")[4] if ":" in role else OWNER


def session_of(role: str) -> str:
    if ":user/" in role:
        return role
    name = role.rpartition("/")[2]
    return f"arn:aws:sts::{account_of(role)}:assumed-role/{name}/run"


def judge(case: Case, document: Document) -> bool:
    """The verdict of the local cloud's evaluator on one document."""
    return local_judge(case, alone(case, document))


def local_judge(case: Case, bears: Bears) -> bool:
    """The verdict of the local cloud's evaluator."""
    if ":" not in case.role:
        principal = Principal(OWNER, case.role, case.role, "Service")
    else:
        what = "User" if ":user/" in case.role else "AssumedRole"
        principal = Principal(account_of(case.role), session_of(case.role), case.role, what)
    policies = Policies(
        identity=[parse(document) for document in bears.identity],
        boundary=None if bears.boundary is None else parse(bears.boundary),
        resource=None if bears.resource is None else parse(bears.resource),
    )
    return decide(
        Request(principal, case.action, case.resource, case.full_context()),
        policies,
        resource_account=bears.owner,
        resource_must_allow=bears.must,
    ).allowed


def oracle_judge(directory: str, patch: pytest.MonkeyPatch) -> Judge:
    """The verdict of ministack's evaluator, out of an unpacked wheel; no server is started."""
    patch.syspath_prepend(str(Path(directory)))
    for name in [n for n in sys.modules if n.split(".")[0] == "ministack"]:
        patch.delitem(sys.modules, name)
    from ministack.core import iam_evaluator as oracle  # type: ignore[import-not-found]

    resolve, read = oracle._resolve_condition_key, oracle.parse_policy_document

    def given(key: str, context: Any) -> Any:
        """It takes clock, transport and owner from its own server; a case brings its own."""
        found = context.service_context.get(key.lower())
        return resolve(key, context) if found is None else found

    patch.setattr(oracle, "_resolve_condition_key", given)

    def verdict(case: Case, bears: Bears) -> bool:
        # A service calls as its account's root there.
        root = f"arn:aws:iam::{OWNER}:root"
        caller = session_of(case.role) if ":" in case.role else root
        context = oracle.EvalContext(
            principal_arn=caller,
            principal_type="AssumedRole",
            principal_account=account_of(case.role),
            action=case.action,
            resource_arn=case.resource,
            region=REGION,
            service_context={
                key: values if key in LISTS else values[0]
                for key, values in case.full_context().items()
            },
        )
        limits = () if bears.boundary is None else ([read(bears.boundary)],)
        result = oracle.evaluate(context, [read(each) for each in bears.identity], *limits)
        if case.action.startswith("sts:") and bears.resource is not None:
            # It judges the two sides of a role's assumption apart.
            trusted = bool(oracle.evaluate_trust_policy(bears.resource, caller, context))
            direct = account_of(case.role) == bears.owner
            return trusted and (direct or result.decision == "Allow")
        if bears.resource is not None or bears.owner != account_of(case.role):
            result = oracle.combine_resource_policy(
                result, context, bears.resource, bears.owner, required=bears.must, limits=limits
            )
        return bool(result.decision == "Allow")

    return verdict
