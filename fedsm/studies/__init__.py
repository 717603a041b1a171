"""The studies, each a folder of its own here; ``README.md`` beside this file says of what."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from fedsm.errors import ConfigError

_HERE = Path(__file__).resolve().parent

TRAINING, ABOUT, CODE = "training.yaml", "README.md", "client_code"

STUDIES = tuple(sorted(path.parent.name for path in _HERE.glob(f"*/{TRAINING}")))


@dataclass(frozen=True)
class Study:
    """What a folder holds.

    Attributes
    ----------
    name : str
    title : str
        The first line of ``README.md``.
    training : dict
        Section ``training`` of ``federation.yaml``.
    code : Path
        Files that lie over ``client_code/``; the folder may be missing.
    """

    name: str
    title: str
    training: dict[str, Any]
    code: Path


def study(name: str) -> Study:
    """Read a study's folder.

    Raises
    ------
    ConfigError
        There is none of that name.
    """
    if name not in STUDIES:
        raise ConfigError(
            f"there is no dataset {name!r}",
            where="--dataset",
            action=f"choose from {', '.join(STUDIES)}",
        )
    folder = _HERE / name
    title = (folder / ABOUT).read_text(encoding="utf-8").partition("\n")[0]
    return Study(
        name,
        title.lstrip("# "),
        yaml.safe_load((folder / TRAINING).read_text(encoding="utf-8")),
        folder / CODE,
    )
