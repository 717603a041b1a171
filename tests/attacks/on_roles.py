"""Attacks on the owner's roles and policies."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from fedsm import policies
from fedsm.names import boundary_arn
from tests.attacks.agreed import OWNER, RUN, SERVER, person, role
from tests.attacks.tries import Try, api, attack
from tests.attacks.world import World

ALL = json.dumps(policies.document({"Effect": "Allow", "Action": "*", "Resource": "*"}))
OPEN = json.dumps(policies.document({"Effect": "Allow", "Principal": "*", "Action": "sts:*"}))


def _assume(session: Any, arn: str, **more: Any) -> Try:
    return api(session, "sts", "assume_role", RoleArn=arn, RoleSessionName="attack", **more)


@attack("take-another-role")
def take(world: World) -> Iterator[Try]:
    """Publisher, approver, pipeline and execution role, the owner's people, other sites' roles."""
    own = ["publisher", "execution"] + (["approver", "pipeline"] if _pipelines(world) else [])
    known = world.north.site.external_id
    for session in world.attackers.values():
        for arn in [*map(role, own), person("reviewer")]:
            yield _assume(session, arn)
            yield _assume(session, arn, ExternalId=known)
    for which in (("north-2", "heart"), ("north", "heart-2")):
        yield _assume(world.kickoff, role("kickoff", which[1], which[0]), ExternalId=known)


@attack("take-the-kickoff-role-otherwise")
def otherwise(world: World) -> Iterator[Try]:
    """From another role, without the external id or with another site's, or unnamed."""
    site, arn = world.north.site, role("kickoff")
    named = {"SourceIdentity": f"fedsm-{RUN}"}
    good = {"ExternalId": site.external_id, **named}
    other = world.role_of(world.admin(SERVER), f"arn:aws:iam::{SERVER}:role/other-coordinator")
    yield _assume(other, arn, **good)
    yield _assume(world.admin(SERVER), arn, **good)
    yield _assume(world.coordinator, arn, **named)
    yield _assume(world.coordinator, arn, **good | {"ExternalId": "agreed-heart-north-2"})
    yield _assume(world.coordinator, arn, ExternalId=site.external_id)
    tagged = _assume(world.coordinator, arn, **good, Tags=[{"Key": "fedsm:site", "Value": "x"}])
    yield Try(tagged.call, "is not authorized to perform: sts:TagSession ")


@attack("change-rights")
def change(world: World) -> Iterator[Try]:
    """Of any role of the site, its trust, its boundary; or make a role or a user."""
    boundary = boundary_arn(OWNER, "heart", "north", "kickoff")
    digest = world.bundles["unapproved"].sha256[:16]
    for kind in ("kickoff", "execution", "publisher"):
        of = {"RoleName": role(kind).rpartition("/")[2]}
        for name in ("fedsm", f"fedsm-approved-{digest}"):
            yield api(
                world.kickoff, "iam", "put_role_policy", **of, PolicyName=name, PolicyDocument=ALL
            )
            yield api(world.kickoff, "iam", "delete_role_policy", **of, PolicyName=name)
        yield api(world.kickoff, "iam", "update_assume_role_policy", **of, PolicyDocument=OPEN)
        admin = "arn:aws:iam::aws:policy/AdministratorAccess"
        yield api(world.kickoff, "iam", "attach_role_policy", **of, PolicyArn=admin)
        yield api(world.kickoff, "iam", "delete_role_permissions_boundary", **of)
    made = {"PolicyArn": boundary, "PolicyDocument": ALL, "SetAsDefault": True}
    yield api(world.kickoff, "iam", "create_policy_version", **made)
    yield api(world.kickoff, "iam", "create_role", RoleName="new", AssumeRolePolicyDocument=OPEN)
    yield api(world.kickoff, "iam", "create_user", UserName="new")


def _pipelines(world: World) -> bool:
    return world.launch == "pipeline"
