"""Sets up both parties' accounts for a world of attacks, as their people do."""

from __future__ import annotations

import json
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from fedsm import policies
from fedsm.agreement import Invitation, Terms, write
from fedsm.assets import asset
from fedsm.bundle import Bundle, build
from fedsm.site_folder import SiteFolder
from tests.attacks.agreed import (
    APPROVED_FOR,
    OTHERS,
    OWNER,
    PEOPLE,
    REGION,
    SERVER,
    SITES,
    role,
)

if TYPE_CHECKING:
    from tests.attacks.world import World

EVERYTHING = policies.document({"Effect": "Allow", "Action": "*", "Resource": "*"})


def server(world: World) -> None:
    """The server account: the coordinator's role, and one that nobody trusts."""
    iam = world.admin(SERVER).client("iam")
    kickoffs = [role("kickoff", federation, site) for federation, site in SITES]
    rights = policies.coordinator_policy(SERVER, REGION, kickoffs, "fedsm")
    for name in ("fedsm-coordinator", "other-coordinator"):
        trust = json.dumps(policies.coordinator_trust(SERVER))
        iam.create_role(RoleName=name, AssumeRolePolicyDocument=trust)
        # What the attacker gives itself in its own account counts for nothing in another.
        for policy, document in (("fedsm", rights), ("all", EVERYTHING)):
            iam.put_role_policy(
                RoleName=name, PolicyName=policy, PolicyDocument=json.dumps(document)
            )
    world.admin(SERVER).client("s3").create_bucket(
        Bucket="attackers", CreateBucketConfiguration={"LocationConstraint": REGION}
    )


def people(world: World) -> None:
    """The owner's publisher and approver, who may take their roles and nothing else."""
    iam = world.admin(OWNER).client("iam")
    for kind, name in PEOPLE.items():
        trust = policies.person_trust("Owner", OWNER)
        iam.create_role(RoleName=name, AssumeRolePolicyDocument=json.dumps(trust))
        roles = [role(kind, federation, site) for federation, site in SITES]
        allow = {"Effect": "Allow", "Action": "sts:AssumeRole", "Resource": roles}
        iam.put_role_policy(
            RoleName=name,
            PolicyName="take",
            PolicyDocument=json.dumps(policies.document(allow)),
        )


def accept(world: World, asked: Invitation, answered: Terms) -> SiteFolder:
    """Set up the owner's account; returns his folder."""
    path = world.place / f"{asked.federation}-{asked.site}"
    path.mkdir()
    write(asked, path / "invitation.json")
    write(answered, path / "terms.yaml")
    folder = SiteFolder(path, world.admin(OWNER))
    folder.apply()
    return folder


def approve(world: World) -> None:
    """Approve as the approver; take one approval away again."""
    folder = world.folder("approver")
    for name in ("approved", "disapproved", "swapped"):
        folder.approve(world.bundles[name].sha256)
    folder.disapprove(world.bundles["disapproved"].sha256)
    until = datetime.now(UTC) + timedelta(seconds=APPROVED_FOR)
    folder.approve(world.bundles["expired"].sha256, until)


def swap(world: World) -> None:
    """Put other bytes in a bundle's place, as an administrator who lifts every rule can."""
    s3 = world.admin(OWNER).client("s3")
    bucket, key = "heart-north-code", f"fedsm/{world.bundles['swapped'].key}"
    rules = s3.get_bucket_policy(Bucket=bucket)["Policy"]
    s3.delete_bucket_policy(Bucket=bucket)
    s3.put_object(Bucket=bucket, Key=key, Body=world.bundles["unapproved"].data)
    s3.put_bucket_policy(Bucket=bucket, Policy=rules)


def rows(world: World) -> None:
    """What the attacker is after."""
    s3 = world.admin(OWNER).client("s3")
    for federation, site in SITES:
        bucket = f"{federation}-{site}-data"
        s3.put_object(Bucket=bucket, Key="train/rows.csv", Body=b"age,target\n77,1\n")
    s3.put_object(Bucket="heart-north-data", Key="other/rows.csv", Body=b"secret,1\n")
    s3.put_object(Bucket="heart-north-models", Key="output/old/model.tar.gz", Body=b"model")


def bundle(place: Path, name: str) -> Bundle:
    """The shipped code, or code that ends at once."""
    code = place / name
    shutil.copytree(asset("client_code"), code, ignore=shutil.ignore_patterns("__pycache__"))
    if name == "approved":
        return build(code)
    (code / "train.py").write_text(f"raise SystemExit({OTHERS})  # {name}", encoding="utf-8")
    return build(code)
