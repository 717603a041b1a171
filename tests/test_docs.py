"""README and docs: every command runs, every field is described, every link leads somewhere."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import nbclient
import nbformat
import pytest
from pydantic import BaseModel

from fedsm import config, local, training_config

ROOT = Path(__file__).resolve().parent.parent
DOCS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


def blocks(path: Path, language: str) -> Iterator[str]:
    pattern = rf"^```{language}\n(.*?)^```"
    yield from re.findall(pattern, path.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def commands(path: Path) -> list[str]:
    lines = (line for block in blocks(path, "console") for line in block.splitlines())
    return [command for line in lines if (command := line.split("#")[0].strip())]


def test_every_make_target_exists() -> None:
    found = [c for path in DOCS for c in commands(path) if c.startswith("make ")]
    assert found
    for command in found:
        subprocess.run(["make", "-n", *command.split()[1:]], cwd=ROOT, check=True, timeout=30)


@pytest.fixture
def study(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path
    for name in ("study", "both"):
        local.down(tmp_path / name)


def test_every_command_of_the_readme_runs_in_order(study: Path) -> None:
    found = [c for c in commands(ROOT / "README.md") if c.startswith("fedsm ")]
    assert {c.split()[1] for c in found} >= {"init", "plan", "train", "history", "publish"}
    assert {c.split()[2] for c in found if c.startswith("fedsm site ")}
    # `local down` would leave nothing for the commands after it.
    down = [c for c in found if c.startswith("fedsm local down")]
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    for command in (c for c in found if c not in down):
        run(command.split(), study, environment)
    for code in blocks(ROOT / "README.md", "python"):
        run([sys.executable, "-c", code], study, environment)
    for command in down:
        run(command.split(), study, environment)


def run(command: list[str], place: Path, environment: dict[str, str]) -> None:
    done = subprocess.run(
        command,
        cwd=place,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, f"{command}: {done.stderr}"


@pytest.mark.parametrize("path", sorted((ROOT / "notebooks").glob("*.ipynb")), ids=lambda p: p.stem)
def test_every_notebook_runs(path: Path, study: Path) -> None:
    # A kernel is a process of its own: what it warns about is not pytest's.
    notebook = nbformat.read(path, as_version=4)
    assert not any(cell.get("outputs") for cell in notebook.cells), "commit it without outputs"
    client = nbclient.NotebookClient(
        notebook, timeout=150, resources={"metadata": {"path": str(study)}}
    )
    client.execute()


def test_every_field_is_described() -> None:
    text = (ROOT / "docs" / "federation.md").read_text(encoding="utf-8")
    models = [
        config.FederationConfig,
        config.Coordinator,
        config.Site,
        config.Tracking,
        training_config.Training,
        training_config.Prepare,
        training_config.Best,
        training_config.Report,
    ]
    fields = {name for model in models for name in fields_of(model)}
    assert not sorted(name for name in fields if f"`{name}`" not in text)


def fields_of(model: type[BaseModel]) -> Iterator[str]:
    yield from model.model_fields


def test_every_relative_link_leads_somewhere() -> None:
    for path in DOCS:
        for target in re.findall(r"\]\((?!https?:)([^)#]+)", path.read_text(encoding="utf-8")):
            assert (path.parent / target).exists(), f"{path.name}: {target}"
