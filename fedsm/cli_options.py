"""What the parts of the command line share: options, and ways to print."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

Config = Annotated[
    Path, typer.Option("--config", "-c", help="federation.yaml, or the directory it lies in.")
]
Overrides = Annotated[
    list[str] | None, typer.Option("--set", help="Override a field: training.rounds=5.")
]
Sites = Annotated[list[str] | None, typer.Option("--site", help="Only this site; repeatable.")]
Json = Annotated[bool, typer.Option("--json", help="One JSON document on standard output.")]
RunId = Annotated[str | None, typer.Argument(help="Run id; the latest without it.")]
Directory = Annotated[Path, typer.Argument(help="The project's directory.")]
Launch = Annotated[
    str | None,
    typer.Option(
        help="pipeline: the server starts what the owners approved; direct: it creates the jobs."
    ),
]

DATASETS = "breast-cancer, heart-disease, heart-disease-flamby, cms-fraud or eicu."
Dataset = Annotated[str, typer.Option(help=DATASETS)]
Data = Annotated[
    Path | None,
    typer.Option(help="Directory of the dataset's files; fetched without it, or (eicu) made up."),
]
MadeUp = Annotated[
    int | None, typer.Option(help="Of eicu: make look-alike tables of this many stays.")
]

HERE = Path()


def load_federation(config: Path, overrides: list[str] | None = None) -> Any:
    """The federation of a file or directory."""
    from fedsm.config import parse_override
    from fedsm.federation import Federation

    return Federation.load(config, dict(parse_override(text) for text in overrides or []))


def federation_file(config: Path) -> Path:
    """The file that ``--config`` means."""
    return config / "federation.yaml" if config.is_dir() else config


def print_json(data: Any) -> None:
    """One JSON document on standard output."""
    json.dump(data, sys.stdout, indent=1, allow_nan=False)
    sys.stdout.write("\n")


def print_lines(out: Console, lines: Iterable[str]) -> None:
    """Print lines unbroken, so that a path can be copied from them."""
    for line in lines:
        out.print(line, highlight=False, markup=False, soft_wrap=True)
