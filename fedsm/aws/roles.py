"""Roles of a data owner's account, their boundaries and their inline policies."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import partial
from typing import Any

from fedsm.aws.documents import same
from fedsm.aws.steps import Change, Steps
from fedsm.errors import ConfigError
from fedsm.names import approved_name
from fedsm.onboarding import Boundary, Role

APPROVALS = approved_name("")
"""Begins the names of the inline policies that approvals put into roles."""

GONE = "NoSuchEntity"
_MOST_VERSIONS = 5


def put_role(steps: Steps, role: Role) -> None:
    """Make or change a role: trust, boundary, policies. Approvals in it are left as they are.

    Raises
    ------
    ConfigError
        A role of that name has rights that fedsm did not give, or is another server's.
    """
    iam, arn, name = steps.client("iam"), role.arn, name_of(role.arn)
    found = steps.read("iam:GetRole", arn, lambda: iam.get_role(RoleName=name)["Role"], GONE)
    there: set[str] = set()
    if found is None:
        bound = {"PermissionsBoundary": role.boundary} if role.boundary else {}
        trust = json.dumps(role.trust)
        steps.do(
            "iam:CreateRole",
            arn,
            "created",
            lambda: iam.create_role(RoleName=name, AssumeRolePolicyDocument=trust, **bound),
            lambda: iam.delete_role(RoleName=name),
        )
    else:
        there = set(inline_policies(steps, arn))
        _check_role(steps, role, found, there)
        _change_role(steps, role, found)
    for policy, document in role.policies.items():
        put_inline(steps, arn, policy, document, fresh=policy not in there)


def _check_role(steps: Steps, role: Role, found: Mapping[str, Any], there: set[str]) -> None:
    own = {name for name in there if name in role.policies or name.startswith(APPROVALS)}
    if others := [*sorted(there - own), *_attached(steps, role.arn)]:
        raise ConfigError(
            f"the role {role.name} has rights that fedsm did not give: {', '.join(others)}",
            where=steps.where,
            action="take them away, or delete the role, and run the same command again",
        )
    # Its approvals were given for one server: no other shall find them there.
    trusted = _trusted(found["AssumeRolePolicyDocument"])
    if role.kind == "kickoff" and trusted != _trusted(role.trust):
        raise ConfigError(
            f"the role {role.name} trusts another server, or another external id, than the "
            "invitation names",
            where=steps.where,
            action="if you mean to change the server, take the site away first: fedsm site revoke",
        )


def _trusted(trust: Mapping[str, Any]) -> set[str]:
    """Principals and external ids of a trust policy, as text."""
    found = trust["Statement"]
    statements = found if isinstance(found, list) else [found]
    ids = [each.get("Condition", {}).get("StringEquals", {}) for each in statements]
    return {json.dumps(each.get("Principal"), sort_keys=True) for each in statements} | {
        str(each["sts:ExternalId"]) for each in ids if "sts:ExternalId" in each
    }


def _change_role(steps: Steps, role: Role, found: Mapping[str, Any]) -> None:
    iam, name = steps.client("iam"), name_of(role.arn)
    bound = found.get("PermissionsBoundary", {}).get("PermissionsBoundaryArn")
    trust = found["AssumeRolePolicyDocument"]

    def bind(arn: str | None) -> None:
        if arn is None:
            iam.delete_role_permissions_boundary(RoleName=name)
        else:
            iam.put_role_permissions_boundary(RoleName=name, PermissionsBoundary=arn)

    def let_in(document: Mapping[str, Any]) -> None:
        iam.update_assume_role_policy(RoleName=name, PolicyDocument=json.dumps(document))

    if bound != role.boundary:
        action = "iam:PutRolePermissionsBoundary"
        steps.do(action, role.arn, "changed", lambda: bind(role.boundary), lambda: bind(bound))
    if not same(trust, role.trust):
        action = "iam:UpdateAssumeRolePolicy"
        steps.do(action, role.arn, "changed", lambda: let_in(role.trust), lambda: let_in(trust))


def remove_role(steps: Steps, arn: str) -> None:
    """Delete a role with its policies, if there is one."""
    iam, name = steps.client("iam"), name_of(arn)
    if steps.read("iam:GetRole", arn, lambda: iam.get_role(RoleName=name), GONE) is None:
        return
    for policy in inline_policies(steps, arn):
        delete_inline(steps, arn, policy)
    for policy in _attached(steps, arn):
        steps.do(
            "iam:DetachRolePolicy",
            f"{arn} {policy}",
            "deleted",
            partial(iam.detach_role_policy, RoleName=name, PolicyArn=policy),
        )
    steps.do("iam:DeleteRole", arn, "deleted", lambda: iam.delete_role(RoleName=name))


def _attached(steps: Steps, arn: str) -> list[str]:
    """ARNs of the managed policies that are attached to a role."""
    pages = steps.client("iam").get_paginator("list_attached_role_policies")

    def listed() -> list[str]:
        found = pages.paginate(RoleName=name_of(arn))
        return [each["PolicyArn"] for page in found for each in page["AttachedPolicies"]]

    return steps.read("iam:ListAttachedRolePolicies", arn, listed) or []


def put_boundary(steps: Steps, boundary: Boundary) -> None:
    """Make a managed policy, or give it a new version."""
    iam, arn = steps.client("iam"), boundary.arn
    text = json.dumps(boundary.document)
    found = steps.read("iam:GetPolicy", arn, lambda: iam.get_policy(PolicyArn=arn), GONE)
    if found is None:
        steps.do(
            "iam:CreatePolicy",
            arn,
            "created",
            lambda: iam.create_policy(PolicyName=name_of(arn), PolicyDocument=text),
            lambda: iam.delete_policy(PolicyArn=arn),
        )
        return
    current = found["Policy"]["DefaultVersionId"]
    document = steps.read(
        "iam:GetPolicyVersion",
        arn,
        lambda: iam.get_policy_version(PolicyArn=arn, VersionId=current)["PolicyVersion"],
    )
    if document is not None and same(document["Document"], boundary.document):
        return
    others = _other_versions(steps, arn)
    if len(others) + 1 >= _MOST_VERSIONS:
        _delete_version(steps, arn, others[0])
    steps.do(
        "iam:CreatePolicyVersion",
        arn,
        "changed",
        lambda: iam.create_policy_version(PolicyArn=arn, PolicyDocument=text, SetAsDefault=True),
        lambda: iam.set_default_policy_version(PolicyArn=arn, VersionId=current),
    )


def remove_boundary(steps: Steps, arn: str) -> None:
    """Delete a managed policy with its versions, if there is one."""
    iam = steps.client("iam")
    if steps.read("iam:GetPolicy", arn, lambda: iam.get_policy(PolicyArn=arn), GONE) is None:
        return
    for version in _other_versions(steps, arn):
        _delete_version(steps, arn, version)
    steps.do("iam:DeletePolicy", arn, "deleted", lambda: iam.delete_policy(PolicyArn=arn))


def _other_versions(steps: Steps, arn: str) -> list[str]:
    """Versions of a managed policy that are not in force, oldest first."""
    iam = steps.client("iam")
    found = steps.read(
        "iam:ListPolicyVersions", arn, lambda: iam.list_policy_versions(PolicyArn=arn)["Versions"]
    )
    others = [each for each in found or [] if not each["IsDefaultVersion"]]
    return [each["VersionId"] for each in sorted(others, key=lambda each: each["CreateDate"])]


def _delete_version(steps: Steps, arn: str, version: str) -> None:
    iam = steps.client("iam")
    steps.do(
        "iam:DeletePolicyVersion",
        f"{arn} {version}",
        "deleted",
        lambda: iam.delete_policy_version(PolicyArn=arn, VersionId=version),
    )


def inline_policies(steps: Steps, arn: str) -> list[str]:
    """Names of a role's inline policies; none where there is no such role."""
    iam = steps.client("iam")

    def listed() -> list[str]:
        pages = iam.get_paginator("list_role_policies").paginate(RoleName=name_of(arn))
        return [name for page in pages for name in page["PolicyNames"]]

    return steps.read("iam:ListRolePolicies", arn, listed, GONE) or []


def inline_policy(steps: Steps, arn: str, policy: str) -> dict[str, Any] | None:
    """An inline policy of a role, None where there is none."""
    iam = steps.client("iam")
    found: dict[str, Any] | None = steps.read(
        "iam:GetRolePolicy",
        f"{arn} {policy}",
        lambda: iam.get_role_policy(RoleName=name_of(arn), PolicyName=policy)["PolicyDocument"],
        GONE,
    )
    return found


def put_inline(
    steps: Steps, arn: str, policy: str, document: Mapping[str, Any], *, fresh: bool = False
) -> None:
    """Put an inline policy into a role, unless it is there already.

    Parameters
    ----------
    fresh : bool
        There is none of that name, so it need not be looked for.
    """
    iam = steps.client("iam")
    place = {"RoleName": name_of(arn), "PolicyName": policy}
    before = None if fresh else inline_policy(steps, arn, policy)

    def put(content: Mapping[str, Any]) -> None:
        iam.put_role_policy(**place, PolicyDocument=json.dumps(content))

    def back() -> None:
        if before is None:
            iam.delete_role_policy(**place)
        else:
            put(before)

    if before is None or not same(before, document):
        change: Change = "created" if before is None else "changed"
        steps.do("iam:PutRolePolicy", f"{arn} {policy}", change, lambda: put(document), back)


def delete_inline(steps: Steps, arn: str, policy: str) -> None:
    """Delete an inline policy of a role, if there is one."""
    iam = steps.client("iam")
    place = {"RoleName": name_of(arn), "PolicyName": policy}
    before = inline_policy(steps, arn, policy)
    if before is None:
        return
    steps.do(
        "iam:DeleteRolePolicy",
        f"{arn} {policy}",
        "deleted",
        lambda: iam.delete_role_policy(**place),
        lambda: iam.put_role_policy(**place, PolicyDocument=json.dumps(before)),
    )


def name_of(arn: str) -> str:
    """Name of a role or policy, without its path."""
    return arn.rpartition("/")[2]
