"""What a request to IAM needs, and IAM's own rules on policies and boundaries that moto lacks.

Source: Service Authorization Reference, "AWS Identity and Access Management"; IAM User Guide, "IAM
and AWS STS quotas" and "Permissions boundaries for IAM entities".
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from fedsm.local import backends, resource_policies
from fedsm.local.authorise import Ask, resource_tags, tag_context
from fedsm.local.principals import Caller
from fedsm.local.protocol import ApiError, Call, members, not_modelled
from fedsm.local.validation import fields

INLINE_QUOTA, MANAGED_QUOTA, TRUST_QUOTA = 10_240, 6_144, 2_048
"""Characters, without white space: all inline policies of a role, a managed policy, a trust."""

_BOUNDED = {"PutRolePolicy", "DeleteRolePolicy", "AttachRolePolicy", "DetachRolePolicy"}
_BOUNDED |= {"DeleteRolePermissionsBoundary"}
_BOUNDING = {"CreateRole", "PutRolePermissionsBoundary"}
_BESIDE = {"CreateRole": "TagRole", "CreatePolicy": "TagPolicy", "CreateUser": "TagUser"}
_ON_ACCOUNT = {
    "CreateAccountAlias",
    "DeleteAccountAlias",
    "GetAccountAuthorizationDetails",
    "GetAccountPasswordPolicy",
    "GetAccountSummary",
}


def iam_asks(call: Call, caller: Caller) -> Iterator[Ask]:
    """Everything that must be allowed for a request to IAM.

    Raises
    ------
    ApiError
        An action or parameter is unknown, or of a resource that is not modelled.
    """
    form, account = call.form, caller.principal.account
    action = form.get("Action", "")
    known = fields("iam", action)
    if known is None:
        raise not_modelled(f"iam:{action}")
    for name in form:
        if name.partition(".")[0] not in {*known, "Action", "Version"}:
            raise ApiError("ValidationError", f"{name} is no parameter of {action}")
    resource, found = _resource(action, known, form, caller)
    tags = members(form, "Tags")
    context = tag_context(tags)
    if "TagKeys.member.1" in form:
        context["aws:tagkeys"] = [v for k, v in form.items() if k.startswith("TagKeys.member.")]
    if found is not None:
        context |= resource_tags(backends.iam_tags(account, found), "iam")
    if "PolicyArn" in form and action.startswith(("Attach", "Detach")):
        context["iam:policyarn"] = [form["PolicyArn"]]
    boundary = None
    if action in _BOUNDING:
        boundary = form.get("PermissionsBoundary")
    elif action in _BOUNDED and found is not None:
        boundary = found.permissions_boundary_arn
    if boundary:
        context["iam:permissionsboundary"] = [boundary]
    yield Ask(f"iam:{action}", resource, account, context)
    if tags and action in _BESIDE:
        yield Ask(f"iam:{_BESIDE[action]}", resource, account, context)


def _resource(
    action: str, known: Sequence[str], form: Mapping[str, str], caller: Caller
) -> tuple[str, Any | None]:
    """ARN of what an action is about, and moto's object of it where there is one."""
    account = caller.principal.account
    if "InstanceProfileName" in known:
        raise not_modelled(f"iam:{action}")
    for kind in ("Role", "Group", "User"):
        field = f"{kind}Name"
        if field not in known:
            continue
        if field not in form:
            own = kind == "User" and caller.principal.kind == "User"
            return (caller.principal.identity_arn if own else "*"), None
        found = backends.iam_entity(account, kind, form[field])
        path = form.get("Path", "/") if found is None else found.path
        return f"arn:aws:iam::{account}:{kind.lower()}{path or '/'}{form[field]}", found
    if action == "CreatePolicy":
        path, name = form.get("Path", "/"), form.get("PolicyName", "")
        return f"arn:aws:iam::{account}:policy{path}{name}", None
    if "PolicyArn" in known:
        arn = form.get("PolicyArn", "")
        return arn, backends.iam_entity(account, "Policy", arn)
    named = any(name.endswith(("Name", "Arn", "Number")) for name in known)
    if action in _ON_ACCOUNT or (action.startswith("List") and not named):
        return "*", None
    raise not_modelled(f"iam:{action}")


def check(call: Call, account: str) -> None:
    """IAM's refusals of an authorised request: quotas, boundaries that are not there or in use.

    Raises
    ------
    ApiError
        In IAM's codes and words.
    """
    form = call.form
    action = form.get("Action", "")
    if action == "CreateUser" and "PermissionsBoundary" in form:
        raise not_modelled("PermissionsBoundary of CreateUser")
    if action in _BOUNDING:
        boundary = form.get("PermissionsBoundary")
        if boundary and backends.iam_entity(account, "Policy", boundary) is None:
            raise ApiError(
                "NoSuchEntity",
                f"Scope ARN: {boundary} does not exist or is not attachable.",
                404,
            )
    elif action == "DeletePolicy" and backends.bounds_a_role(account, form.get("PolicyArn", "")):
        raise ApiError("DeleteConflict", "Cannot delete a policy attached to entities.", 409)
    document = form.get("PolicyDocument", form.get("AssumeRolePolicyDocument"))
    if document is None:
        return
    if action in ("CreateRole", "UpdateAssumeRolePolicy"):
        resource_policies.check(document, "MalformedPolicyDocument")
    _check_quota(action, form, account, document)


def _check_quota(action: str, form: Mapping[str, str], account: str, document: str) -> None:
    size = _size(document)
    if action in ("CreateRole", "UpdateAssumeRolePolicy") and size > TRUST_QUOTA:
        raise _too_long(f"Cannot exceed quota for ACLSizePerRole: {TRUST_QUOTA}")
    if action in ("CreatePolicy", "CreatePolicyVersion") and size > MANAGED_QUOTA:
        raise _too_long(f"Cannot exceed quota for PolicySize: {MANAGED_QUOTA}")
    role = backends.iam_entity(account, "Role", form.get("RoleName", ""))
    if action == "PutRolePolicy" and role is not None:
        others = [text for name, text in role.policies.items() if name != form.get("PolicyName")]
        if size + sum(map(_size, others)) > INLINE_QUOTA:
            raise _too_long(
                f"Maximum policy size of {INLINE_QUOTA} bytes exceeded for role {role.name}"
            )


def _size(document: str) -> int:
    return len(re.sub(r"\s", "", document))


def _too_long(message: str) -> ApiError:
    return ApiError("LimitExceeded", message, 409)
