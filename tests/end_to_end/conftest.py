"""One project with a local cloud, shared by the tests of this folder; each test trains in it."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from fedsm import Federation, local
from fedsm.assets import asset
from fedsm.run import Run
from fedsm.scaffold import write

FAST = {
    "training.rounds": 3,
    "training.join_deadline": 60,
    "training.round_deadline": 30,
    "training.max_wait": 5,
    "tracking.experiments": False,
}


class Project:
    """A federation's directory whose client code and data a test may spoil."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def code(self, **files: str) -> None:
        """Put the shipped client code back, with some files replaced (``app`` for ``app.py``)."""
        place = self.directory / "client_code"
        shutil.rmtree(place, ignore_errors=True)
        shutil.copytree(asset("client_code"), place, ignore=shutil.ignore_patterns("__pycache__"))
        for name, text in files.items():
            (place / f"{name}.py").write_text(text, encoding="utf-8")

    def federation(self, overrides: dict[str, Any] | None = None) -> Federation:
        """The federation, its bundle published at every site."""
        federation = Federation.load(self.directory, {**FAST, **(overrides or {})})
        for site in federation.config.sites:
            federation.publish(site.name)
        return federation

    def train(self, overrides: dict[str, Any] | None = None, **options: Any) -> Run:
        """Publish and train."""
        return self.federation(overrides).train(**options)


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    place = tmp_path_factory.mktemp("federation")
    write(place, "breast-cancer", None)
    # Up with the federation as it was agreed: what a test spoils is not set up to match.
    assert Federation.load(place).cloud.isolation
    yield place
    local.down(place)


@pytest.fixture
def project(directory: Path) -> Iterator[Project]:
    made = Project(directory)
    made.code()
    before = (directory / "federation.yaml").read_text()
    yield made
    (directory / "federation.yaml").write_text(before)


@pytest.fixture
def edit(project: Project) -> Callable[[Callable[[dict[str, Any]], None]], None]:
    """Change ``federation.yaml`` for one test."""

    def change(how: Callable[[dict[str, Any]], None]) -> None:
        file = project.directory / "federation.yaml"
        values = yaml.safe_load(file.read_text())
        how(values)
        file.write_text(yaml.safe_dump(values))

    return change
