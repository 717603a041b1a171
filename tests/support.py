"""Things that several tests need."""

from __future__ import annotations

from typing import Any


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
