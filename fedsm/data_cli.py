"""``fedsm data NAME``: a data set, split into sites, as the channels that a site uploads."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from fedsm.cli_options import DATASETS, MadeUp
from fedsm.errors import ConfigError


def data(
    name: Annotated[str, typer.Argument(help=DATASETS)],
    source: Annotated[
        Path | None,
        typer.Option("--from", help="Folder of its files; without it they are fetched."),
    ] = None,
    to: Annotated[Path | None, typer.Option(help="Where to write; data/NAME without it.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the splits.")] = 0,
    sites: Annotated[Literal["iid", "skewed"], typer.Option(help="Of cms-fraud.")] = "iid",
    made_up: MadeUp = None,
) -> None:
    """Get a data set, split it into sites, and write the sites' channels."""
    from fedsm.datasets import sizes
    from fedsm.datasets.fetch import prepare_data

    if sites != "iid" and name != "cms-fraud":
        raise ConfigError(
            f"{name} comes with sites of its own", where="--sites", action="leave it out"
        )
    place = to or Path("data") / name
    dataset = prepare_data(name, place, source=source, made_up=made_up, seed=seed, sites=sites)
    for line in sizes(dataset):
        print(line)
    print(f"written to {place}")
