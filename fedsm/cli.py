"""The command line.

Exit codes: 0 done, even where a site did not end well, which a line on standard error says;
1 unexpected; 2 configuration, data or code bundle; 3 refused by AWS; 4 a job could not be created
or ended early; 5 training or transport; 6 the local cloud; 7 evidence that does not verify;
130 interrupted.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from fedsm import __version__, data_cli, evidence_cli, local_cli, site_cli
from fedsm.cli_options import (
    HERE,
    Config,
    Data,
    Dataset,
    Json,
    Launch,
    MadeUp,
    Overrides,
    RunId,
    Sites,
    load_federation,
    print_json,
    print_lines,
)
from fedsm.errors import FedsmError

app = typer.Typer(
    name="fedsm",
    help="Train one model over data that lives in many AWS accounts and never leaves them.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
app.command()(data_cli.data)
app.add_typer(evidence_cli.app, name="evidence")
app.add_typer(local_cli.app, name="local")
app.add_typer(site_cli.app, name="site")


def _run(config: Path, run: str | None) -> Any:
    """A run by its journal alone: ``federation.yaml`` need not be there."""
    from fedsm.run import Run

    is_file = config.is_file() or config.suffix in (".yaml", ".yml")
    place = config.parent if is_file else config
    return Run.open(place.resolve(), run)


@app.command()
def init(
    directory: Annotated[Path, typer.Argument(help="A new directory.")],
    dataset: Dataset = "breast-cancer",
    data: Data = None,
    launch: Launch = None,
    made_up: MadeUp = None,
) -> None:
    """Write a federation that runs at once on the local cloud."""
    from fedsm.scaffold import told, write

    rows = write(directory, dataset, data, launch=launch, made_up=made_up)
    for line in told(dataset, rows, made_up=data is None):
        print(line)
    print(f"wrote {directory / 'federation.yaml'}; run it: fedsm train --config {directory}")


@app.command()
def demo(
    dataset: Dataset = "breast-cancer",
    data: Data = None,
    directory: Annotated[
        Path | None, typer.Option(help="Where to put it; fedsm-demo/DATASET without it.")
    ] = None,
    launch: Launch = "pipeline",
    made_up: MadeUp = None,
    overrides: Overrides = None,
    as_json: Json = False,
) -> None:
    """Run a whole federation on a local cloud of its own: onboarding, jobs, rounds, models."""
    from fedsm import local
    from fedsm.report import console
    from fedsm.scaffold import told, write

    place = directory or Path("fedsm-demo") / dataset
    rows = write(place, dataset, data, launch=launch, invited=True, replace=True, made_up=made_up)
    print_lines(console(stderr=as_json), told(dataset, rows, made_up=data is None))
    local.down(place)
    try:
        for line in load_federation(place, overrides).onboard(list(rows.sites)):
            print_lines(console(stderr=as_json), [line])
        run = _train(place, overrides, None, as_json)
        done = [s.name for s in run.status().sites.values() if s.status == "Completed"]
        kept = [f"{site}: {run.fetch(site, place / 'models')}" for site in done]
        print_lines(
            console(stderr=as_json),
            ["Copies of the sites' models, fetched with each owner's credentials:", *kept],
        )
        _print_shortfall(run)
    finally:
        local.down(place)


@app.command()
def publish(
    config: Config = HERE,
    sites: Sites = None,
    overrides: Overrides = None,
) -> None:
    """Put the code bundle into the owners' buckets, with the owners' credentials."""
    from fedsm.report import console

    federation = load_federation(config, overrides)
    for site in sites or [site.name for site in federation.config.sites]:
        print(f"{site}: {federation.publish(site)}")
        if federation.config.mode == "pipeline":
            print_lines(console(), federation.how_to_approve(site))


@app.command()
def plan(
    config: Config = HERE,
    sites: Sites = None,
    overrides: Overrides = None,
    as_json: Json = False,
) -> None:
    """Show the whole launch as data. Calls nothing."""
    planned = load_federation(config, overrides).plan(sites=sites)
    if as_json:
        print_json(planned.as_data())
        return
    from fedsm.report import console

    out = console()
    out.print(f"run {planned.run} on {planned.cloud}, dialled at {planned.address}")
    out.print(f"mode {planned.mode}", highlight=False)
    for launch in planned.launches:
        out.rule(f"{launch.site}, account {launch.account_id}, {launch.region}")
        out.print(f"assume {launch.role_arn}", highlight=False, soft_wrap=True)
        out.print(launch.call)
        out.print_json(data=dict(launch.request))


@app.command()
def train(
    config: Config = HERE,
    sites: Sites = None,
    overrides: Overrides = None,
    as_json: Json = False,
) -> None:
    """Train over the sites, and show how it goes."""
    _print_shortfall(_train(config, overrides, sites, as_json))


def _train(
    config: Path, overrides: list[str] | None, sites: list[str] | None, as_json: bool
) -> Any:
    from fedsm import report_tables
    from fedsm.progress import Progress
    from fedsm.report import console, summary, whereabouts

    federation = load_federation(config, overrides)
    out = console(stderr=as_json)
    run_id = federation.new_run_id()
    try:
        with Progress(out) as progress:
            return federation.train(sites=sites, run=run_id, on_event=progress.handle)
    finally:
        if run_id in federation.runs():
            run = federation.attach(run_id)
            state = run.status()
            if as_json:
                print_json({**state.as_data(), "journal": str(run.journal)})
            else:
                out.print(summary(state))
                if state.report:
                    out.print(report_tables.summary(state.report))
                print_lines(out, [*whereabouts(state), f"Journal: {run.journal}"])


def _print_shortfall(run: Any) -> None:
    from fedsm.report import console, shortfall

    print_lines(console(stderr=True), [line] if (line := shortfall(run.status())) else [])


@app.command()
def status(run: RunId = None, config: Config = HERE, as_json: Json = False) -> None:
    """Show a run: its sites, rounds and models."""
    from fedsm.report import console, summary, whereabouts

    handle = _run(config, run)
    state = handle.status()
    if as_json:
        print_json({**state.as_data(), "journal": str(handle.journal)})
        return
    gone = "" if state.ended or handle.alive else " (its coordinator is gone)"
    out = console()
    why = f": {state.reason}" if state.reason else ""
    out.print(f"{state.run} {state.status}{gone}{why}", highlight=False, markup=False)
    out.print(summary(state))
    print_lines(out, [*whereabouts(state), f"Journal: {handle.journal}"])


@app.command()
def history(run: RunId = None, config: Config = HERE, as_json: Json = False) -> None:
    """Show every round of a run."""
    from fedsm.report import console, rounds_table

    handle = _run(config, run)
    if as_json:
        print_json(handle.history())
        return
    state = handle.status()
    out = console()
    out.print(rounds_table(state, last=max(1, len(state.rounds))))
    for site in state.sites.values():
        withheld = [f"withheld: {', '.join(site.withheld)}"] if site.withheld else []
        for line in (*withheld, *site.errors):
            out.print(f"{site.name}: {line}", highlight=False, markup=False)


@app.command()
def report(run: RunId = None, config: Config = HERE, as_json: Json = False) -> None:
    """Show a run's final evaluation: per site and pooled, by group, and what the model uses."""
    from fedsm.report import console
    from fedsm.report_tables import full

    found = _run(config, run).report()
    if as_json:
        print_json(found)
        return
    console().print(full(found))


@app.command()
def logs(
    site: Annotated[str, typer.Option("--site", help="The site.")],
    run: RunId = None,
    config: Config = HERE,
    owner: Annotated[
        bool, typer.Option("--owner", help="Read with the owner's own credentials.")
    ] = False,
) -> None:
    """Print a site's job log. Logs are the owner's; the server reads them only if granted."""
    for moment, line in _run(config, run).logs(site, owner=owner):
        stamp = datetime.fromtimestamp(moment / 1000, UTC).isoformat(timespec="milliseconds")
        print(f"{stamp} {line}")


@app.command()
def stop(run: RunId = None, config: Config = HERE) -> None:
    """End a run after the round under way; without a coordinator, stop its jobs."""
    handle = _run(config, run)
    handle.stop()
    print(f"{handle.id}: asked to stop")


def _version(show: bool) -> None:
    if show:
        print(__version__)
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Train one model over data that lives in many AWS accounts and never leaves them."""


def main(run: Callable[[], Any] = app) -> None:
    """Entry point: an error of fedsm or of the system is one message, never a traceback."""
    # A scheduler ends a process by SIGTERM; jobs must be stopped then as at Ctrl-C.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        run()
    except FedsmError as error:
        Console(stderr=True).print(f"fedsm: {error}", highlight=False, markup=False, soft_wrap=True)
        sys.exit(error.exit_code)
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        Console(stderr=True).print(
            f"fedsm: {where}{error.strerror or error}",
            highlight=False,
            markup=False,
            soft_wrap=True,
        )
        sys.exit(1)
    except KeyboardInterrupt:
        Console(stderr=True).print("fedsm: interrupted")
        sys.exit(130)
