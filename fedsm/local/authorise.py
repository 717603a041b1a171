"""From a request to what IAM judges: action, resources and context keys.

A service or action that has no mapping here is refused as not modelled, so that nothing passes
unjudged.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from fedsm.local import backends
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
from fedsm.local.s3_actions import s3_actions

EXPERIMENT_RESOURCES = {
    "Experiment": ("ExperimentName", "experiment"),
    "Trial": ("TrialName", "experiment-trial"),
    "TrialComponent": ("TrialComponentName", "experiment-trial-component"),
}
_SEARCHED = ("Experiment", "ExperimentTrial", "ExperimentTrialComponent")
_EC2_IDS = re.compile(r"(vpc|subnet|rtb|sg|pcx|vpce|igw|nat|eni|acl)-[0-9a-f]+")
_EC2_TYPES = {
    "vpc": "vpc",
    "subnet": "subnet",
    "rtb": "route-table",
    "sg": "security-group",
    "pcx": "vpc-peering-connection",
    "vpce": "vpc-endpoint",
    "igw": "internet-gateway",
    "nat": "natgateway",
    "eni": "network-interface",
    "acl": "network-acl",
}
_LOG_STREAM_ACTIONS = {"DeleteLogStream", "GetLogEvents", "PutLogEvents"}
_LOG_TAGS = {"ListTagsForResource", "TagResource", "UntagResource"}
"""Source: Service Authorization Reference, "Amazon CloudWatch Logs"; API reference, `LogGroup`."""
_BY_ACTION = {
    "kms": "kms",
    "secretsmanager": "secretsmanager",
    "ssm": "ssm",
    "ecr": "ecr",
    "events": "events",
    "cloudformation": "cloudformation",
    "monitoring": "cloudwatch",
    "sns": "sns",
    "sqs": "sqs",
}
"""Signing name -> IAM prefix of services that are judged by action alone, on resource ``*``.

A policy that allows them on single ARNs only is not enough here, though it may be on AWS.
"""


@dataclass(frozen=True, slots=True)
class Ask:
    """One thing that must be allowed for a call to pass.

    Attributes
    ----------
    owner : str
        Account of the resource.
    policy : str, optional
        The resource's policy.
    """

    action: str
    resource: str
    owner: str
    context: Mapping[str, Sequence[str]]
    policy: str | None = None


def authorise(call: Call, caller: Caller, service: str) -> str:
    """Raise unless the caller may make this call; returns the account it acts in.

    Raises
    ------
    ApiError
        AccessDenied in AWS's words, or the refusal of what is not modelled.
    """
    needed = list(asks(call, caller, service))
    for ask in needed:
        allow(call, caller, ask)
    return needed[0].owner if needed else caller.principal.account


def allow(call: Call, caller: Caller, ask: Ask) -> None:
    """Raise AccessDenied unless this one thing is allowed."""
    decision = judge(call, caller, ask)
    if not decision.allowed:
        raise denied(caller, ask.action, ask.resource, decision)


def judge(call: Call, caller: Caller, ask: Ask, *, trust: bool = False) -> Decision:
    """Judge one thing; ``trust`` for a role's trust policy, which must let the caller in."""
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
            resource_must_allow=trust,
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


def asks(call: Call, caller: Caller, service: str) -> Iterator[Ask]:
    """Everything that must be allowed for a call."""
    account = caller.principal.account
    if service == "s3":
        for action, resource, bucket, context in s3_actions(call):
            owner = backends.bucket_owner(bucket) or account
            policy = backends.bucket_policy(bucket)
            if action == "s3:CreateBucket":  # a name that is taken is S3's own answer
                owner, policy = account, None
            context |= {"s3:resourceaccount": [owner]}
            yield Ask(action, resource, owner, context, policy)
    elif service == "iam":
        yield Ask(f"iam:{_query_action(call)}", _iam_resource(call, account), account, {})
    elif service == "ec2":
        action = _query_action(call)
        for resource in _ec2_resources(call, action, account):
            yield Ask(f"ec2:{action}", resource, account, {})
    elif service == "logs":
        action = _target_action(call)
        yield Ask(f"logs:{action}", _logs_resource(call, action, account), account, {})
    elif service == "sagemaker":
        yield from _experiment_asks(call, account)
    elif service == "sagemaker-metrics":
        if call.raw_path != "/BatchPutMetrics":
            raise not_modelled(f"sagemaker-metrics: {call.raw_path}")
        name = call.json().get("TrialComponentName", "")
        arn = f"arn:aws:sagemaker:{call.region}:{account}:experiment-trial-component/{name}"
        yield Ask("sagemaker:BatchPutMetrics", arn, account, {})
    elif service in _BY_ACTION:
        action = _target_action(call) if "x-amz-target" in call.headers else _query_action(call)
        yield Ask(f"{_BY_ACTION[service]}:{action}", "*", account, {})
    else:
        raise not_modelled(f"the service {service}")


def tag_context(tags: Sequence[Mapping[str, str]]) -> dict[str, Sequence[str]]:
    """``aws:RequestTag/...`` and ``aws:TagKeys`` of tags in a request."""
    context: dict[str, Sequence[str]] = {
        f"aws:requesttag/{tag['Key'].lower()}": [tag.get("Value", "")] for tag in tags
    }
    if tags:
        context["aws:tagkeys"] = [tag["Key"] for tag in tags]
    return context


def _query_action(call: Call) -> str:
    action = call.form.get("Action")
    if not action:
        raise not_modelled(f"{call.service}: {call.method} {call.raw_path}")
    return action


def _target_action(call: Call) -> str:
    return call.headers.get("x-amz-target", "").rpartition(".")[2]


def _iam_resource(call: Call, account: str) -> str:
    form = call.form
    if "PolicyArn" in form and "RoleName" not in form and "UserName" not in form:
        return form["PolicyArn"]
    for kind in ("Role", "User", "Policy"):
        name = form.get(f"{kind}Name")
        if name and not (kind == "Policy" and form["Action"] != "CreatePolicy"):
            path = form.get("Path", "/")
            if kind == "Role":
                found = [r for r in list(backends.iam(account).roles.values()) if r.name == name]
                path = found[0].path if found else path
            return f"arn:aws:iam::{account}:{kind.lower()}{path}{name}"
    return "*"


def _ec2_resources(call: Call, action: str, account: str) -> list[str]:
    if action.startswith("Describe"):
        return ["*"]
    found = sorted({v for v in call.form.values() if _EC2_IDS.fullmatch(v)})
    return [
        f"arn:aws:ec2:{call.region}:{account}:{_EC2_TYPES[v.partition('-')[0]]}/{v}" for v in found
    ] or ["*"]


def _logs_resource(call: Call, action: str, account: str) -> str:
    """A log stream's ARN; of an action on a whole group, that of no stream.

    So a policy must end a group's ARN with ``:*``, as on AWS, but for the tags of a group.
    """
    body = call.json()
    prefix = f"arn:aws:logs:{call.region}:{account}:log-group:"
    if action in _LOG_TAGS:
        return prefix + str(body.get("resourceArn", "")).rpartition("log-group:")[2]
    group = str(body.get("logGroupName", body.get("logGroupIdentifier", "")))
    group = group.rpartition("log-group:")[2].removesuffix(":*")
    stream = body.get("logStreamName", "") if action in _LOG_STREAM_ACTIONS else ""
    return f"{prefix}{group}:log-stream:{stream}"


def _experiment_asks(call: Call, account: str) -> Iterator[Ask]:
    """The actions of SageMaker Experiments; others of SageMaker are not modelled."""
    action, body = _target_action(call), call.json()
    prefix = f"arn:aws:sagemaker:{call.region}:{account}:"
    context = tag_context(body.get("Tags", []))
    if action == "Search":
        if body.get("Resource") not in _SEARCHED:
            raise not_modelled(f"sagemaker:Search of {body.get('Resource')}")
        yield Ask("sagemaker:Search", "*", account, {})
        return
    if action in ("AddTags", "ListTags", "DeleteTags"):
        arn = str(body.get("ResourceArn", ""))
        if not any(f":{kind}/" in arn for _, kind in EXPERIMENT_RESOURCES.values()):
            raise not_modelled(f"sagemaker:{action} on {arn}")
        keys = {"aws:tagkeys": body["TagKeys"]} if "TagKeys" in body else {}
        yield Ask(f"sagemaker:{action}", arn, account, context | keys)
        return
    if action in ("AssociateTrialComponent", "DisassociateTrialComponent"):
        for kind in ("Trial", "TrialComponent"):
            field, resource = EXPERIMENT_RESOURCES[kind]
            yield Ask(f"sagemaker:{action}", f"{prefix}{resource}/{body.get(field)}", account, {})
        return
    found = re.fullmatch(r"(Create|Describe|Update|Delete)(\w+)|(List)(\w+)s", action)
    verb, kind = (found[1] or found[3], found[2] or found[4]) if found else ("", "")
    if kind not in EXPERIMENT_RESOURCES:
        raise not_modelled(f"sagemaker:{action}")
    field, resource = EXPERIMENT_RESOURCES[kind]
    arn = "*" if verb == "List" else f"{prefix}{resource}/{str(body.get(field, '*')).lower()}"
    yield Ask(f"sagemaker:{action}", arn, account, context)
    if body.get("Tags") and verb == "Create":
        yield Ask("sagemaker:AddTags", arn, account, context)


def service_caller(service: str, account: str) -> Caller:
    """A service principal, such as ``sagemaker.amazonaws.com``, acting for ``account``."""
    context: dict[str, Any] = {
        "aws:sourceaccount": [account],
        "aws:principalisawsservice": ["true"],
        "aws:viaawsservice": ["false"],
    }
    return Caller(Principal(account, service, service, "Service"), service, Policies(), context)
