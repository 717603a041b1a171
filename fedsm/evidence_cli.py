"""``fedsm evidence``: write the pack of a run for an auditor, and check one offline."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from typer.core import TyperGroup

from fedsm.cli_options import HERE, Config, Json, RunId, print_json
from fedsm.errors import ConfigError, EvidenceError


class _WriteUnlessNamed(TyperGroup):
    """``fedsm evidence RUN`` is ``fedsm evidence write RUN``."""

    def parse_args(self, ctx: typer.Context, args: list[str]) -> list[str]:  # type: ignore[override]
        if not args or (args[0] not in self.commands and args[0] != "--help"):
            args = ["write", *args]
        return super().parse_args(ctx, args)


app = typer.Typer(
    cls=_WriteUnlessNamed,
    help="Write the evidence of a run (fedsm evidence RUN), and check it.",
)


@app.command()
def write(
    run: RunId = None,
    config: Config = HERE,
    out: Annotated[Path | None, typer.Option(help="The pack; RUN-evidence.zip without it.")] = None,
) -> None:
    """Write the journal, the plan and a summary as one file for an auditor."""
    from fedsm import evidence
    from fedsm.run import Run

    is_file = config.is_file() or config.suffix in (".yaml", ".yml")
    handle = Run.open((config.parent if is_file else config).resolve(), run)
    path = out or Path(f"{handle.id}-evidence.zip")
    manifest = evidence.write(handle.directory, path)
    print(f"{path}: {manifest['head']['seq'] + 1} lines up to {manifest['head']['hash']}")


@app.command()
def verify(
    pack: Annotated[Path, typer.Argument(help="The pack.")],
    heads: Annotated[
        list[str] | None,
        typer.Option(
            "--head", help="SITE=FILE, heads.jsonl or model.tar.gz of a site; repeatable."
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Check a pack against itself and against what the sites kept; 7 if it does not verify."""
    from fedsm import evidence

    verdict = evidence.verify(pack, [evidence.read_heads(*_named(text)) for text in heads or ()])
    if as_json:
        print_json(
            {
                "run": verdict.run,
                "lines": verdict.lines,
                "verified": not verdict.faults,
                "faults": verdict.faults,
                "notes": verdict.notes,
            }
        )
    else:
        for line in (*verdict.faults, *verdict.notes):
            print(line)
        count = len(verdict.faults)
        said = f"not verified, {count} fault{'s' if count > 1 else ''}" if count else "verified"
        print(f"{verdict.run}: {verdict.lines} lines, {said}")
    if verdict.faults:
        raise typer.Exit(EvidenceError.exit_code)


def _named(text: str) -> tuple[str, Path]:
    site, equals, path = text.partition("=")
    if not (site and equals and path):
        raise ConfigError(f"cannot read {text!r}", where="--head", action="write it as SITE=FILE")
    return site, Path(path)
