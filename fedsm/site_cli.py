"""``fedsm site``: what the server does with its sites. The owner's commands: ``owner_cli``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fedsm import owner_cli
from fedsm.cli_options import HERE, Config, federation_file

app = typer.Typer(
    help="Two parties: the server invites and adds; the data owner accepts, publishes, approves.",
    no_args_is_help=True,
)
SITE_HELP = "The site's name."


@app.command()
def invite(
    site: Annotated[str, typer.Argument(help=SITE_HELP)],
    config: Config = HERE,
    out: Annotated[
        Path | None, typer.Option(help="Its file; agreements/SITE/invitation.json without it.")
    ] = None,
) -> None:
    """Server: write the invitation that a site's owner answers."""
    from fedsm import config as configuration
    from fedsm.agreements import AGREEMENTS, INVITATION, invite

    path = federation_file(config)
    file = out or path.parent / AGREEMENTS / site / INVITATION
    made = invite(configuration.load(path), site, file)
    print(f"wrote {file} (launch: {made.launch}, at most {made.rounds} rounds)")
    print("send it to the site's owner, who runs: fedsm site accept invitation.json")


@app.command()
def add(
    documents: Annotated[
        list[Path], typer.Argument(help="Acceptances and approvals that owners sent.")
    ],
    config: Config = HERE,
) -> None:
    """Server: put accepted sites and approved bundles into federation.yaml."""
    from fedsm import config as configuration
    from fedsm import federation_file as editor
    from fedsm.agreement import Acceptance
    from fedsm.agreements import document_of, record, shortfalls

    path = federation_file(config)
    found = sorted((document_of(file) for file in documents), key=lambda each: each.kind)
    for document in found:
        # First, since it sees whether the document answers what was asked.
        record(path.parent, document)
        editor.add(path, document)
        loaded = configuration.load(path)
        if isinstance(document, Acceptance):
            print(f"{document.site.name}: added to {path}")
            for line in shortfalls(loaded, document):
                print(f"{document.site.name}: {line}; ask for more with fedsm site invite")
        else:
            until = f" until {document.until.isoformat()}" if document.until else ""
            print(f"{document.site}: bundle {document.bundle[:12]} is approved{until}")
    _say_coordinator(path)


@app.command()
def remove(
    site: Annotated[str, typer.Argument(help=SITE_HELP)],
    config: Config = HERE,
) -> None:
    """Server: take a site out of federation.yaml."""
    from fedsm import federation_file as editor

    path = federation_file(config)
    editor.remove(path, site)
    print(f"{site}: removed from {path}; its owner takes the roles away with fedsm site revoke")
    _say_coordinator(path)


def _say_coordinator(path: Path) -> None:
    from fedsm import config as configuration
    from fedsm.agreements import write_coordinator_policy

    config = configuration.load(path)
    file = write_coordinator_policy(path.parent, config)
    if file is not None and config.cloud == "aws":
        print(f"give {config.coordinator.role_arn} the policy in {file}")


app.add_typer(owner_cli.app)
