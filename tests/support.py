"""Things that several tests need."""

from __future__ import annotations

from typing import Any

from fedsm.agreement import Invitation, Terms


def site(name: str, account: str = "222222222222", **changes: Any) -> dict[str, Any]:
    """A site's fields, as ``federation.yaml`` has them."""
    return {
        "name": name,
        "account_id": account,
        "region": "us-east-1",
        "role_arn": f"arn:aws:iam::{account}:role/fedsm-kickoff",
        "external_id": f"{name}-external",
        "execution_role_arn": f"arn:aws:iam::{account}:role/fedsm-execution-{name}",
        "channels": {"train": f"s3://{name}-data/train/"},
        "output": f"s3://{name}-models/output/",
        "code": f"s3://{name}-code/fedsm",
        "image": "fedsm/local",
        **changes,
    }


def federation(*sites: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """A federation's fields."""
    return {
        "cloud": "aws",
        "name": "heart",
        "coordinator": {
            "account_id": "111111111111",
            "region": "us-east-1",
            "address": "10.0.1.5",
            "port": 8443,
        },
        "sites": list(sites) or [site("a", "222222222222"), site("b", "333333333333")],
        **changes,
    }


def agreement(*, terms: dict[str, Any] | None = None, **invited: Any) -> tuple[Invitation, Terms]:
    """What the federation ``heart`` asks of the owner of site ``a``, and the owner's terms."""
    invitation = {
        "fedsm": "0.1.0",
        "federation": "heart",
        "site": "a",
        "launch": "pipeline",
        "server_account": "111111111111",
        "server_role_arn": "arn:aws:iam::111111111111:role/fedsm-coordinator",
        "external_id": "a-external",
        "addresses": ["10.0.0.0/16"],
        "port": 8443,
        "sts_region": "us-east-1",
        "rounds": 100,
        "max_wait": 600.0,
        "model": "logistic-regression",
        **invited,
    }
    agreed = {
        "account_id": "222222222222",
        "region": "us-east-1",
        "channels": {"train": "s3://a-data/train/"},
        "output": "s3://a-models/out/",
        "code": "s3://a-code/fedsm/",
        "image": "fedsm/local",
        **(terms or {}),
    }
    return Invitation.model_validate(invitation), Terms.model_validate(agreed)
