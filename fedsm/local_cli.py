"""``fedsm local``: the local cloud of a project's directory."""

from __future__ import annotations

import shlex
from typing import Annotated

import typer

from fedsm.cli_options import HERE, Directory, load_federation

app = typer.Typer(help="The local cloud of a project's directory.", no_args_is_help=True)


@app.command()
def up(directory: Directory = HERE) -> None:
    """Start the local cloud, and set up accounts, roles, data and code as federation.yaml says."""
    endpoint = load_federation(directory).set_up().endpoint
    print(f"{endpoint.url}, {endpoint.isolation}, accounts {', '.join(endpoint.accounts)}")


@app.command()
def status(directory: Directory = HERE) -> None:
    """Say whether the local cloud is up, and where."""
    from fedsm import local

    endpoint = local.status(directory)
    if endpoint is None:
        print("down")
    else:
        print(f"up: {endpoint.url}, process {endpoint.pid}, {endpoint.isolation}")


@app.command()
def down(directory: Directory = HERE) -> None:
    """Stop the local cloud and its jobs."""
    from fedsm import local

    local.down(directory)
    print("down")


@app.command()
def env(
    account: Annotated[str, typer.Argument(help="Account id; made where there is none.")],
    directory: Directory = HERE,
) -> None:
    """Print what makes a shell the administrator of an account: eval "$(fedsm local env ID)"."""
    from fedsm import local
    from fedsm.local.accounts import read_keys

    federation = load_federation(directory)
    # Brings the cloud up, with the server's role that an owner's roles will trust.
    federation.cloud  # noqa: B018
    endpoint = local.up(federation.directory, accounts=[account])
    regions = {site.account_id: site.region for site in federation.config.sites}
    region = regions.get(account, federation.config.coordinator.region)
    key, secret = read_keys(endpoint.directory)[account]
    print("unset AWS_PROFILE AWS_SESSION_TOKEN")
    for name, value in (
        ("AWS_ENDPOINT_URL", endpoint.url),
        ("AWS_ACCESS_KEY_ID", key),
        ("AWS_SECRET_ACCESS_KEY", secret),
        ("AWS_DEFAULT_REGION", region),
        ("AWS_REGION", region),
    ):
        print(f"export {name}={shlex.quote(value)}")
