"""Two agreements, in both launches, and all documents that come of them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from fedsm import onboarding, policies
from fedsm.agreement import Invitation, Terms
from fedsm.names import pipeline_name
from fedsm.onboarding import Account
from fedsm.onboarding.review import documents
from fedsm.policies import Document

SERVER, OWNER = "111111111111", "222222222222"
REGION = "eu-west-1"
COORDINATOR = f"arn:aws:iam::{SERVER}:role/fedsm-coordinator"
PUBLISHING_PERSON = f"arn:aws:iam::{OWNER}:role/data-steward"
APPROVING_PERSON = f"arn:aws:iam::{OWNER}:user/review/alice"
SAGEMAKER = "sagemaker.amazonaws.com"
KEY = f"arn:aws:kms:{REGION}:{OWNER}:key/1f2e3d4c"
DIGEST, OTHER_DIGEST = "ab" * 32, "cd" * 32
UNTIL = datetime(2026, 12, 31, tzinfo=UTC)

INVITATION: dict[str, Any] = {
    "fedsm": "0.1.0",
    "federation": "heart",
    "site": "north",
    "launch": "pipeline",
    "server_account": SERVER,
    "server_role_arn": COORDINATOR,
    "external_id": "agreed",
    "addresses": ["10.0.0.0/16"],
    "port": 8443,
    "sts_region": REGION,
    "rounds": 100,
    "max_wait": 600,
}
PLAIN: dict[str, Any] = {
    "account_id": OWNER,
    "region": REGION,
    "channels": {"train": "s3://north-data/train/"},
    "output": "s3://north-models/output",
    "code": "s3://north-code/fedsm",
    "image": "fedsm/local",
    "max_runtime": 600,
}
FULL: dict[str, Any] = {
    **PLAIN,
    "channels": {"train": "s3://north-data/train/", "more": "s3://north-all"},
    "image": f"{OWNER}.dkr.ecr.{REGION}.amazonaws.com/hospital/fedsm:1",
    "subnets": ["subnet-0a", "subnet-0b"],
    "security_groups": ["sg-0a", "sg-0b"],
    "vpc_id": "vpc-0a",
    "kms_key_arn": KEY,
    "tags": {"cost": "42"},
    "server_reads_logs": True,
    "publisher": PUBLISHING_PERSON,
    "approver": APPROVING_PERSON,
}


def agreement(terms: dict[str, Any] | None = None, **invitation: Any) -> tuple[Invitation, Terms]:
    """An invitation and terms, some of their fields changed."""
    return (
        Invitation.model_validate({**INVITATION, **invitation}),
        Terms.model_validate({**PLAIN, **(terms or {})}),
    )


@dataclass(frozen=True)
class World:
    """One agreement, and its documents by file."""

    name: str
    account: Account
    documents: dict[str, Document]

    @property
    def full(self) -> bool:
        return self.account.endpoint_policy is not None

    def role(self, kind: Any) -> str:
        return f"arn:aws:iam::{OWNER}:role/fedsm-heart--north-{kind}"

    def pipeline(self, digest: str) -> str:
        return arn("sagemaker", f"pipeline/{pipeline_name('heart', 'north', digest)}")


def arn(service: str, rest: str, account: str = OWNER) -> str:
    return f"arn:aws:{service}:{REGION}:{account}:{rest}"


def make_world(name: str, terms: dict[str, Any], launch: str) -> World:
    invitation, given = agreement(terms, launch=launch)
    account = onboarding.account(invitation, given)
    found = {held.file: held.document for held in documents(account)}
    if launch == "pipeline":
        for until, suffix in ((None, ""), (UNTIL, "-until")):
            approval = onboarding.approval(invitation, given, DIGEST, until)
            for kind, (_, document) in approval.items():
                found[f"{kind}-approval{suffix}.json"] = document
    return World(name, account, found)


WORLDS = [
    make_world(f"{launch}{suffix}", terms, launch)
    for launch in ("pipeline", "direct")
    for suffix, terms in (("", FULL), ("-plain", PLAIN))
]
SERVER_DOCUMENTS = {
    "coordinator-trust.json": policies.coordinator_trust(SERVER),
    "coordinator-policy.json": policies.coordinator_policy(
        SERVER, REGION, [WORLDS[0].role("kickoff")], "Fed--X"
    ),
    "caller-policy.json": policies.caller_policy(COORDINATOR),
}
DOCUMENTS: dict[str, Document] = {
    **{
        f"{world.name}/{file}": document
        for world in WORLDS
        for file, document in world.documents.items()
    },
    **{f"server/{file}": document for file, document in SERVER_DOCUMENTS.items()},
}
