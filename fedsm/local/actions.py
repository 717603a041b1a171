"""From a request to what IAM judges: action, resources and context keys.

A service or action that has no mapping here is refused as not modelled, so that nothing passes
unjudged.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from fedsm.local import iam_actions, kms_actions, resource_policies, stores
from fedsm.local.authorise import Ask, allow, tag_context
from fedsm.local.conditions import UNKNOWN
from fedsm.local.principals import Caller
from fedsm.local.protocol import Call, not_modelled
from fedsm.local.s3_actions import copy_source, s3_actions, split

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
_EC2_UNKNOWN = ("ec2:vpc", "ec2:subnet", "ec2:subnetid", "ec2:securitygroupid")
_LOG_STREAM_ACTIONS = {"DeleteLogStream", "GetLogEvents", "PutLogEvents"}
_LOG_TAGS = {"ListTagsForResource", "TagResource", "UntagResource"}
"""Source: Service Authorization Reference, "Amazon CloudWatch Logs"; API reference, `LogGroup`."""
_BY_ACTION = {
    "secretsmanager": "secretsmanager",
    "ssm": "ssm",
    "events": "events",
    "cloudformation": "cloudformation",
    "monitoring": "cloudwatch",
    "sns": "sns",
    "sqs": "sqs",
}
"""Signing name -> IAM prefix of services that are judged by action alone, on resource ``*``.

A policy that allows them on single ARNs only is not enough here, though it may be on AWS.
"""


def authorise(call: Call, caller: Caller, service: str) -> str:
    """Raise unless the caller may make this call; returns the account it acts in.

    Raises
    ------
    ApiError
        AccessDenied in AWS's words, or the refusal of what is not modelled.
    """
    owner = ""
    for ask in asks(call, caller, service):
        allow(call, caller, ask)  # before the next is made: it may tell what is there
        owner = owner or ask.owner
    return owner or caller.principal.account


def prepare(call: Call, service: str, account: str) -> None:
    """Refuse of an authorised call what AWS refuses and moto does not; write it as moto reads it.

    Raises
    ------
    ApiError
        In the service's codes and words.
    """
    if service == "iam":
        iam_actions.check(call, account)
    elif service == "s3" and call.method == "PUT" and "policy" in call.query:
        bucket, _ = split(call.path)
        resource_policies.check(
            call.body.decode("utf-8", "replace"), "MalformedPolicy", bucket=bucket
        )
    elif service == "kms":
        kms_actions.complete(call, account)
        if call.json().get("Policy"):
            code = "MalformedPolicyDocumentException"
            resource_policies.check(call.json()["Policy"], code)


def asks(call: Call, caller: Caller, service: str) -> Iterator[Ask]:
    """Everything that must be allowed for a call."""
    account = caller.principal.account
    if service == "s3":
        yield from _s3_asks(call, caller)
    elif service == "iam":
        yield from iam_actions.iam_asks(call, caller)
    elif service == "kms":
        yield from kms_actions.kms_asks(call, caller)
    elif service == "ecr":
        if call.json().get("registryId", account) != account:
            raise not_modelled("ECR of another account")
        name = call.json().get("repositoryName")
        arn = f"arn:aws:ecr:{call.region}:{account}:repository/{name}" if name else "*"
        yield Ask(f"ecr:{_target_action(call)}", arn, account, {})
    elif service == "ec2":
        action = _query_action(call)
        context = {"ec2:region": [call.region], **dict.fromkeys(_EC2_UNKNOWN, UNKNOWN)}
        for resource in _ec2_resources(call, action, account):
            yield Ask(f"ec2:{action}", resource, account, context)
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


def _s3_asks(call: Call, caller: Caller) -> Iterator[Ask]:
    account = caller.principal.account
    for action, resource, bucket, context in s3_actions(call):
        owner = stores.bucket_owner(bucket) or account
        policy = stores.bucket_policy(bucket)
        if action == "s3:CreateBucket":  # a name that is taken is S3's own answer
            owner, policy = account, None
        yield Ask(action, resource, owner, {**context, "s3:resourceaccount": [owner]}, policy)
    bucket, key = split(call.path)
    if key:
        yield from kms_actions.object_asks(call, caller, bucket, key)
        if copied := copy_source(call):
            yield from kms_actions.copied_asks(call, caller, *copied)


def _query_action(call: Call) -> str:
    action = call.form.get("Action")
    if not action:
        raise not_modelled(f"{call.service}: {call.method} {call.raw_path}")
    return action


def _target_action(call: Call) -> str:
    return call.headers.get("x-amz-target", "").rpartition(".")[2]


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
