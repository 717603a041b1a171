"""Judge one thing that a call needs: action, resource, context keys, the resource's policy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from fedsm.local.iam import (
    Decision,
    MalformedPolicy,
    Policies,
    Principal,
    Request,
    UnmodelledPolicy,
    decide,
    parse,
)
from fedsm.local.principals import Caller
from fedsm.local.protocol import ApiError, Call, not_modelled

SAGEMAKER = "sagemaker.amazonaws.com"


@dataclass(frozen=True, slots=True)
class Ask:
    """One thing that must be allowed for a call to pass.

    Attributes
    ----------
    owner : str
        Account of the resource.
    policy : str or Mapping, optional
        The resource's policy.
    resource_must_allow : bool
        Whether within the account too the resource's policy must let the caller in: of a role's
        trust policy and a key's policy.
    """

    action: str
    resource: str
    owner: str
    context: Mapping[str, Sequence[str]]
    policy: str | Mapping[str, Any] | None = None
    resource_must_allow: bool = False


def allow(call: Call, caller: Caller, ask: Ask) -> None:
    """Raise AccessDenied unless this one thing is allowed."""
    decision = judge(call, caller, ask)
    if not decision.allowed:
        raise denied(caller, ask.action, ask.resource, decision)


def judge(call: Call, caller: Caller, ask: Ask) -> Decision:
    """Judge one thing."""
    context = {
        **global_context(call, caller),
        "aws:resourceaccount": [ask.owner],
        **{key.lower(): values for key, values in ask.context.items()},
    }
    try:
        policies = caller.policies
        if ask.policy:
            policies = replace(policies, resource=parse(ask.policy))
        return decide(
            Request(caller.principal, ask.action, ask.resource, context),
            policies,
            resource_account=ask.owner,
            resource_must_allow=ask.resource_must_allow,
        )
    except UnmodelledPolicy as error:
        raise not_modelled(f"{error}, which a policy on {ask.action} uses") from error
    except MalformedPolicy as error:
        raise ApiError("MalformedPolicyDocument", f"a policy on {ask.action}: {error}") from error


def denied(caller: Caller, action: str, resource: str, decision: Decision) -> ApiError:
    """AWS's sentence for a refusal."""
    return ApiError(
        "AccessDenied",
        f"User: {caller.principal.arn} is not authorized to perform: {action} "
        f"on resource: {resource} {decision.reason}",
        403,
    )


def global_context(call: Call, caller: Caller) -> dict[str, Sequence[str]]:
    """Context keys that every request has.

    ``aws:SecureTransport`` is true: loopback stands for AWS's TLS endpoints.
    """
    now = datetime.now(UTC)
    return {
        "aws:currenttime": [now.isoformat()],
        "aws:epochtime": [str(int(now.timestamp()))],
        "aws:principalaccount": [caller.principal.account],
        "aws:principalarn": [caller.principal.identity_arn],
        "aws:principalisawsservice": ["false"],
        "aws:requestedregion": [call.region],
        "aws:securetransport": ["true"],
        "aws:sourceip": ["127.0.0.1"],
        "aws:useragent": [call.headers.get("user-agent", "")],
        "aws:viaawsservice": ["false"],
        **caller.context,
    }


def tag_context(tags: Sequence[Mapping[str, str]]) -> dict[str, Sequence[str]]:
    """``aws:RequestTag/...`` and ``aws:TagKeys`` of tags in a request."""
    context: dict[str, Sequence[str]] = {
        f"aws:requesttag/{tag['Key'].lower()}": [tag.get("Value", "")] for tag in tags
    }
    if tags:
        context["aws:tagkeys"] = [tag["Key"] for tag in tags]
    return context


def resource_tags(tags: Mapping[str, str], service: str) -> dict[str, Sequence[str]]:
    """``aws:ResourceTag/...`` of a resource's tags, and the service's own key of the same value."""
    return {
        f"{prefix}:resourcetag/{key.lower()}": [value]
        for key, value in tags.items()
        for prefix in ("aws", service)
    }


def service_caller(service: str, account: str, source: str = "") -> Caller:
    """A service principal, such as ``sagemaker.amazonaws.com``, acting for ``account``.

    ``source`` is the ARN of the resource for which it acts.
    """
    context: dict[str, Any] = {
        "aws:sourceaccount": [account],
        "aws:principalisawsservice": ["true"],
        "aws:viaawsservice": ["false"],
    }
    if source:
        context["aws:sourcearn"] = [source]
    return Caller(Principal(account, service, service, "Service"), service, Policies(), context)
