"""``fedsm data NAME``: a data set, split into sites, as the channels that a site uploads."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from fedsm.errors import ConfigError


def data(
    name: Annotated[
        str,
        typer.Argument(
            help="breast-cancer, heart-disease, heart-disease-flamby, cms-fraud or eicu."
        ),
    ],
    source: Annotated[
        Path | None,
        typer.Option("--from", help="Folder of its files; without it they are fetched."),
    ] = None,
    to: Annotated[Path | None, typer.Option(help="Where to write; data/NAME without it.")] = None,
    seed: Annotated[int, typer.Option(help="Of the splits.")] = 0,
    sites: Annotated[Literal["iid", "skewed"], typer.Option(help="Of cms-fraud.")] = "iid",
    made_up: Annotated[
        int | None, typer.Option(help="Of eicu: make look-alike tables of this many stays.")
    ] = None,
) -> None:
    """Get a data set, split it into sites, and write the sites' channels."""
    from fedsm.datasets.fetch import prepare_data

    if sites != "iid" and name != "cms-fraud":
        raise ConfigError(
            f"{name} comes with sites of its own", where="--sites", action="leave it out"
        )
    place = to or Path("data") / name
    dataset = prepare_data(name, place, source=source, made_up=made_up, seed=seed, sites=sites)
    for site, tables in dataset.sites.items():
        rows = f"{len(tables.train)} training rows, {len(tables.validation)} to validate on"
        print(f"{site}: {rows}: {place / site}")
    print(f"{len(dataset.test)} rows to test on: {place}")
