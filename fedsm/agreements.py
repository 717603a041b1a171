"""The server's record of what it agreed with each owner: ``agreements/<site>/``.

``invitation.json`` is what it asked; ``acceptance.json`` and ``approval-<digest>.json`` are what it
got. What counts for a run stands in ``federation.yaml``; these are the papers behind it.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator
from pathlib import Path

from fedsm import __version__, policies
from fedsm.agreement import (
    Acceptance,
    Approval,
    Invitation,
    invitation_of,
    partition_of,
    read,
    write,
)
from fedsm.config import FederationConfig
from fedsm.errors import ConfigError

AGREEMENTS = "agreements"
INVITATION, ACCEPTANCE = "invitation.json", "acceptance.json"
COORDINATOR_POLICY = "coordinator-policy.json"


def approval_name(digest: str) -> str:
    """File name of an approval."""
    return f"approval-{digest[:12]}.json"


def invite(config: FederationConfig, site: str, file: Path) -> Invitation:
    """Write the invitation of a site's owner.

    The external id is made once: a site that is invited again keeps the one that its owner's role
    asks for.

    Raises
    ------
    ConfigError
        The coordinator lacks what an owner must know, or the file is another site's.
    """
    known = {each.name: each.external_id for each in config.sites}.get(site)
    if known is None and file.exists():
        before = read(Invitation, file)
        if (before.federation, before.site) != (config.name, site):
            raise ConfigError(
                f"is the invitation of {before.site} to {before.federation}",
                where=str(file),
                action="choose another file: --out",
            )
        known = before.external_id
    made = invitation_of(config, site, known or f"fedsm-{secrets.token_urlsafe(24)}", __version__)
    write(made, file)
    return made


def record(project: Path, document: Acceptance | Approval) -> Path:
    """Keep what an owner sent.

    Raises
    ------
    ConfigError
        An acceptance does not answer the invitation that was written.
    """
    if isinstance(document, Approval):
        file = project / AGREEMENTS / document.site / approval_name(document.bundle)
        write(document, file)
        return file
    folder = project / AGREEMENTS / document.site.name
    asked = folder / INVITATION
    if asked.exists() and read(Invitation, asked).external_id != document.site.external_id:
        raise ConfigError(
            f"the acceptance answers another invitation than {asked}: its external id differs",
            where=document.site.name,
            action="send the owner that invitation, and ask him to accept it",
        )
    write(document, folder / ACCEPTANCE)
    return folder / ACCEPTANCE


def document_of(file: Path) -> Acceptance | Approval:
    """An acceptance or an approval from its file.

    Raises
    ------
    ConfigError
        It is neither.
    """
    try:
        kind = json.loads(file.read_text(encoding="utf-8")).get("kind")
    except (ValueError, AttributeError):
        kind = None
    except OSError as error:
        raise ConfigError(
            f"cannot be read: {error.strerror}", where=str(file), action="check the path"
        ) from error
    if kind == "acceptance":
        return read(Acceptance, file)
    if kind == "approval":
        return read(Approval, file)
    raise ConfigError(
        "is neither an acceptance nor an approval",
        where=str(file),
        action="give the files that `fedsm site accept --apply` and `fedsm site approve` wrote",
    )


def shortfalls(config: FederationConfig, acceptance: Acceptance) -> Iterator[str]:
    """What this federation's training would do that the owner has not allowed."""
    if acceptance.launch == "direct":
        return
    if config.training.rounds > acceptance.rounds:
        yield f"allows {acceptance.rounds} rounds, training.rounds is {config.training.rounds}"
    for name, value in config.training.hyperparameters.items():
        limit = acceptance.hyperparameters.get(name)
        if limit is None or not limit.allows(value):
            yield f"does not allow {name}: {json.dumps(value)}"
    for name in sorted(set(acceptance.hyperparameters) - set(config.training.hyperparameters)):
        yield f"expects a hyperparameter {name}"


def write_coordinator_policy(project: Path, config: FederationConfig) -> Path | None:
    """Write what the coordinator's role needs for these sites; None without such a role."""
    server = config.coordinator
    if server.role_arn is None:
        return None
    document = policies.coordinator_policy(
        server.account_id,
        server.region,
        [site.role_arn for site in config.sites],
        config.tracking.prefix,
        aws=partition_of(server.role_arn),
    )
    file = project / AGREEMENTS / COORDINATOR_POLICY
    file.parent.mkdir(exist_ok=True)
    file.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    return file
