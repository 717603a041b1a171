"""Write the reviewable files of an example: ``python -m fedsm.onboarding iam``.

The folder's ``example/`` holds an invitation and the owner's terms. From them come ``pipeline/``
and ``direct/``, the owner's account in each launch, and ``server/``, the server's.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from fedsm import policies
from fedsm.agreement import Invitation, Terms, partition_of, read
from fedsm.onboarding.account import account, approval
from fedsm.onboarding.review import Held, files, json_files, readme

FOLDERS = ("pipeline", "direct", "server")
PREFIX = "fedsm"
"""``tracking.prefix`` where none is given."""

DIGEST, UNTIL = "0123456789abcdef" * 4, datetime(2027, 1, 31, tzinfo=UTC)
"""The bundle that the example approves, and until when."""


def render(example: Path) -> dict[str, str]:
    """The files of an example by path, relative to the folder around it."""
    invitation = read(Invitation, example / "invitation.json")
    terms = read(Terms, example / "terms.yaml")
    found: dict[str, str] = {}
    piped = invitation.model_copy(update={"launch": "pipeline"})
    direct = invitation.model_copy(update={"launch": "direct"})
    approved = [
        Held(f"{kind}-approval.json", f"approval {name} in the {kind} role", rights)
        for kind, (name, rights) in approval(piped, terms, DIGEST, UNTIL).items()
    ]
    found |= _in("pipeline", files(account(piped, terms), approved))
    found |= _in("direct", files(account(direct, terms)))
    server = list(_server(piped, account(piped, terms).role("kickoff").arn))
    title = f"The server in account {invitation.server_account}"
    return found | _in("server", {"README.md": readme(title, server), **json_files(server)})


def _in(folder: str, texts: dict[str, str]) -> dict[str, str]:
    return {f"{folder}/{name}": text for name, text in texts.items()}


def _server(invitation: Invitation, kickoff: str) -> Iterator[Held]:
    account_id, role = invitation.server_account, invitation.server_role_arn
    rights = policies.coordinator_policy(
        account_id, invitation.sts_region, [kickoff], PREFIX, aws=partition_of(role)
    )
    trust = policies.coordinator_trust(account_id)
    name = role.rpartition("/")[2]
    yield Held("coordinator-trust.json", f"trust of role {name}", trust)
    yield Held("coordinator-policy.json", f"rights of role {name}", rights)
    caller = policies.caller_policy(role)
    yield Held("caller-policy.json", "rights of those who start runs", caller)


def main(folder: Path) -> None:
    """Write the files below ``folder`` anew."""
    texts = render(folder / "example")
    for name in FOLDERS:
        shutil.rmtree(folder / name, ignore_errors=True)
    for path, text in texts.items():
        (folder / path).parent.mkdir(exist_ok=True)
        (folder / path).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
