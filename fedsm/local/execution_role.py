"""What SageMaker does with a job's execution role before the job starts.

It takes the role, pulls the image, makes network interfaces in the job's subnets and a grant for
its volume. Nothing of that happens here; that the role may do it is checked.

Source: SageMaker Developer Guide, "How to use SageMaker AI execution roles" and "Amazon SageMaker
AI API Permissions"; Service Authorization Reference, "Amazon EC2".
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from typing import Any

from fedsm.local import kms_actions, stores, sts
from fedsm.local.authorise import Ask, allow, denied, judge
from fedsm.local.conditions import UNKNOWN
from fedsm.local.principals import Caller, Directory
from fedsm.local.protocol import ApiError, Call

_CHECKS = timedelta(minutes=15)
_ECR_IMAGE = re.compile(
    r"(?P<registry>\d{12})\.dkr\.ecr\.(?P<region>[a-z0-9-]+)\.amazonaws\.com(\.cn)?/"
    r"(?P<repository>[^:@]+)([:@].*)?"
)
_PUBLIC = {"sagemaker-scikit-learn"}
"""Repositories of AWS's own accounts, whose policies let everybody pull."""

_OPEN = {
    "Statement": [{"Effect": "Allow", "Principal": "*", "Action": "ecr:*", "Resource": "*"}],
}
_PULLS = ("BatchCheckLayerAvailability", "BatchGetImage", "GetDownloadUrlForLayer")
_LOOKS = ("NetworkInterfaces", "Vpcs", "DhcpOptions", "Subnets", "SecurityGroups")


def enter(
    call: Call,
    directory: Directory,
    role: str,
    account: str,
    *,
    source: str,
    name: str = "SageMaker",
) -> Caller:
    """The role as SageMaker takes it for ``source``, the ARN of a job or pipeline.

    Raises
    ------
    ApiError
        ValidationException: it is not there, or does not trust SageMaker.
    """
    session = sts.service_session(call, directory, role, account, _CHECKS, source=source, name=name)
    if session is None:
        raise ApiError(
            "ValidationException",
            f"Could not assume role {role}. Please ensure that the role exists and allows "
            "principal 'sagemaker.amazonaws.com' to assume the role.",
        )
    return directory.caller(session.access_key_id)


def check(call: Call, creator: Caller, role: Caller, body: Mapping[str, Any]) -> None:
    """Whether the role may do what a CreateTrainingJob request asks of it.

    Parameters
    ----------
    creator, role : Caller
        Who sent the request, and the execution role in it.

    Raises
    ------
    ApiError
        Names the right that is missing.
    """
    _check_image(call, role, body["AlgorithmSpecification"]["TrainingImage"])
    for ask in _network_asks(call, role.principal.account, body.get("VpcConfig", {})):
        allow(call, role, ask)
    key = body["ResourceConfig"].get("VolumeKmsKeyId")
    if key:
        _check_volume_key(call, creator, role, key)


def _check_image(call: Call, role: Caller, image: str) -> None:
    found = _ECR_IMAGE.fullmatch(image)
    if found is None:
        return
    account, registry, name = role.principal.account, found["registry"], found["repository"]
    arn = f"arn:aws:ecr:{found['region']}:{registry}:repository/{name}"
    policy = stores.repository_policy(registry, found["region"], name)
    shared = _OPEN if name in _PUBLIC and registry != account else policy
    asks = [Ask("ecr:GetAuthorizationToken", "*", account, {})]
    asks += [Ask(f"ecr:{action}", arn, registry, {}, shared) for action in _PULLS]
    for ask in asks:
        decision = judge(call, role, ask)
        if not decision.allowed:
            raise ApiError(
                "ValidationException",
                f"Access denied for repository: {name} in registry ID: {registry}. "
                + denied(role, ask.action, ask.resource, decision).message,
            )


def _network_asks(call: Call, account: str, vpc: Mapping[str, Sequence[str]]) -> Iterator[Ask]:
    """What it needs to make a job's network interfaces, and to take them away again."""
    if not vpc:
        return
    ec2 = f"arn:aws:ec2:{call.region}:{account}"
    region = {"ec2:region": [call.region]}
    for what in _LOOKS:
        yield Ask(f"ec2:Describe{what}", "*", account, region)
    create = "ec2:CreateNetworkInterface"
    for subnet in vpc["Subnets"]:
        vpc_id = stores.vpc_of_subnet(account, call.region, subnet)
        within = {"ec2:vpc": [f"{ec2}:vpc/{vpc_id}"] if vpc_id else UNKNOWN, **region}
        arn = f"{ec2}:subnet/{subnet}"
        yield Ask(create, arn, account, {**within, "ec2:subnetid": [subnet]})
        for group in vpc["SecurityGroupIds"]:
            own = {**within, "ec2:securitygroupid": [group]}
            yield Ask(create, f"{ec2}:security-group/{group}", account, own)
        yield Ask(create, f"{ec2}:network-interface/*", account, region)
        made = {**within, "ec2:subnet": [arn]}
        interface = f"{ec2}:network-interface/eni-00000000000000000"
        for action in ("CreateNetworkInterfacePermission", "DeleteNetworkInterfacePermission"):
            yield Ask(f"ec2:{action}", interface, account, made)
        yield Ask("ec2:DeleteNetworkInterface", interface, account, made)


def _check_volume_key(call: Call, creator: Caller, role: Caller, identifier: str) -> None:
    """The grant for the volume is made with the role's right, or else with the creator's."""
    key = stores.kms_key(identifier, role.principal.account, call.region)
    if key is None or key.region != call.region or key.key_state != "Enabled":
        raise ApiError("ValidationException", f"The KMS key {identifier} cannot be used.")
    via = f"sagemaker.{call.region}.amazonaws.com"
    context = {"kms:grantisforawsresource": ["true"]}
    own = kms_actions.use(role, "CreateGrant", key, context, via)
    if not judge(call, role, own).allowed:
        theirs = kms_actions.use(creator, "CreateGrant", key, context, via)
        if not judge(call, creator, theirs).allowed:
            allow(call, role, own)
