"""What the parties of the attacked federation agree on, and requests that are made of it."""

from __future__ import annotations

import base64
from typing import Any

from fedsm import names
from fedsm.agreement import Invitation, Terms
from fedsm.fields import Limit
from fedsm.names import Launch, RoleKind

SERVER, OWNER = "111111111111", "222222222222"
REGION = "eu-west-1"
COORDINATOR = f"arn:aws:iam::{SERVER}:role/fedsm-coordinator"
RUN = "heart-20261121-120000-ab12"
NETWORK = {"Subnets": ["subnet-0a"], "SecurityGroupIds": ["sg-0a"]}
HYPERPARAMETERS = {"learning-rate": 0.1, "penalty": "l2"}
LIMITS = {"learning-rate": Limit(low=0.001, high=1.0), "penalty": Limit(choices=("l2", "none"))}
PEOPLE: dict[RoleKind, str] = {"publisher": "data-steward", "approver": "reviewer"}
SITES = (("heart", "north"), ("heart", "north-2"), ("heart-2", "north"))
BUNDLES = ("approved", "disapproved", "unapproved", "swapped", "expired")
"""``swapped`` was approved, and other bytes lie in its place now; ``expired`` was until now."""
OTHERS = 7
"""Exit code of the code in the other bundles than the approved one."""
APPROVED_FOR = 2.0
"""Seconds for which ``expired`` is."""


def invitation(federation: str, site: str, launch: Launch, **changes: Any) -> Invitation:
    """What the server asks."""
    return Invitation.model_validate(
        {
            "fedsm": "0.1.0",
            "federation": federation,
            "site": site,
            "launch": launch,
            "server_account": SERVER,
            "server_role_arn": COORDINATOR,
            "external_id": f"agreed-{federation}-{site}",
            "addresses": ["127.0.0.1"],
            "port": 8443,
            "sts_region": REGION,
            "rounds": 5,
            "max_wait": 0.5,
            "hyperparameters": LIMITS,
            **changes,
        }
    )


def terms(name: str, **changes: Any) -> Terms:
    """What the owner answers; ``name`` begins the names of the buckets."""
    return Terms.model_validate(
        {
            "account_id": OWNER,
            "region": REGION,
            "channels": {"train": f"s3://{name}-data/train/"},
            "output": f"s3://{name}-models/output",
            "code": f"s3://{name}-code/fedsm",
            "image": "fedsm/local",
            "instance_type": "ml.m5.large",
            "volume_gb": 5,
            "max_runtime": 600,
            "publisher": person(PEOPLE["publisher"]),
            "approver": person(PEOPLE["approver"]),
            **changes,
        }
    )


def role(kind: RoleKind, federation: str = "heart", site: str = "north") -> str:
    """ARN of a site's role."""
    return names.role_arn(OWNER, federation, site, kind)


def person(name: str) -> str:
    """ARN of the role of one of the owner's people."""
    return f"arn:aws:iam::{OWNER}:role/{name}"


def packed(code: str) -> dict[str, Any]:
    """Changes of a job that make it run this Python, and nothing of the bundle."""
    text = base64.b64encode(code.encode()).decode()
    pieces = [text[i : i + 256] for i in range(0, len(text), 256)]
    loader = "import sys,base64;exec(base64.b64decode(''.join(sys.argv[1:])))"
    algorithm = {"ContainerEntrypoint": ["python3", "-c", loader], "ContainerArguments": pieces}
    return {"AlgorithmSpecification": algorithm}


def merged(request: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """The request with fields changed, at any depth; None takes one away."""
    out = dict(request)
    for name, value in changes.items():
        if isinstance(value, dict) and isinstance(out.get(name), dict) and name != "Environment":
            out[name] = merged(out[name], value)
        elif value is None:
            out.pop(name, None)
        else:
            out[name] = value
    return out
