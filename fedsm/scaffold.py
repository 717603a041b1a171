"""Write a federation that runs at once on the local cloud: configuration, data, client code."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import yaml

from fedsm.agreement import Terms
from fedsm.agreements import AGREEMENTS
from fedsm.assets import asset
from fedsm.config import FederationConfig
from fedsm.datasets import Dataset, fetch, write_channels
from fedsm.errors import ConfigError
from fedsm.names import role_arn

SERVER_ACCOUNT = "111111111111"
REGION = "us-east-1"
DATASETS = ("breast-cancer", "heart-disease", "heart-disease-flamby", "cms-fraud")
LAUNCHES = ("pipeline", "direct")
WRITTEN = ("federation.yaml", "data", "client_code", AGREEMENTS)
REPLACEABLE = Path(".fedsm") / "demo"
"""Marks a directory whose content is fedsm's own, to be written again at will."""

_LIMITS = {
    "local-steps": {"low": 1, "high": 100},
    "learning-rate": {"low": 0.001, "high": 10.0},
    "c": {"low": 0.0001, "high": 10000.0},
}
"""What the owners allow beyond the values of the hyperparameters."""

_HEAD = """\
# A federation on the local cloud. Every field: docs/federation.md.
# Run it: fedsm train. Its data lie in data/<site>/<channel>/, the code of its jobs in client_code/.
"""


def load_dataset(name: str, data: Path | None, seed: int = 0) -> Dataset:
    """A dataset by name.

    Raises
    ------
    ConfigError
        There is none of that name, or it needs files and no directory is given.
    """
    if name not in DATASETS:
        raise ConfigError(
            f"there is no dataset {name!r}",
            where="--dataset",
            action=f"choose from {', '.join(DATASETS)}",
        )
    if data is None and fetch.DOWNLOADS[name]:
        raise ConfigError(
            f"{name} is read from {', '.join(file.name for file in fetch.DOWNLOADS[name])}",
            where="--data",
            action="give the directory that holds them; fedsm data can fetch them",
        )
    dataset = fetch.load(name, data or Path(), seed)
    assert isinstance(dataset, Dataset)  # noqa: S101, of those named above
    return dataset


def write(
    directory: Path,
    dataset: str,
    data: Path | None,
    *,
    launch: str | None = None,
    invited: bool = False,
    replace: bool = False,
) -> list[str]:
    """Write ``federation.yaml``, ``data/`` and ``client_code/`` into ``directory``.

    Parameters
    ----------
    launch : {"pipeline", "direct"}, optional
        How jobs are started; without it, as the configuration's default says.
    invited : bool
        Leave the sites to onboarding: instead of them their owners' terms are written.
    replace : bool
        Overwrite what an earlier call with ``replace`` wrote, and nothing else; runs are kept.

    Returns
    -------
    list of str
        The sites' names.

    Raises
    ------
    ConfigError
        One of them is there already and is not such a call's, or ``directory`` is a file.
    """
    if launch not in (None, *LAUNCHES):
        raise ConfigError(
            f"there is no launch {launch!r}",
            where="--launch",
            action=f"choose from {', '.join(LAUNCHES)}",
        )
    marker = directory / REPLACEABLE
    _refuse_to_overwrite(directory, replaceable=replace and marker.is_file())
    rows = load_dataset(dataset, data)
    directory.mkdir(parents=True, exist_ok=True)
    if replace:
        # First, so that a call that is broken off half-way can be made again.
        marker.parent.mkdir(exist_ok=True)
        marker.write_text("Written by fedsm demo, which may overwrite it.\n", encoding="utf-8")
    else:
        marker.unlink(missing_ok=True)
    for name in WRITTEN:
        _remove(directory / name)
    write_channels(rows, directory / "data")
    shutil.copytree(
        asset("client_code"),
        directory / "client_code",
        ignore=shutil.ignore_patterns("__pycache__"),
    )
    values = local_federation(rows, launch)
    if invited:
        for site in values["sites"]:
            file = directory / AGREEMENTS / site["name"] / "terms.yaml"
            file.parent.mkdir(parents=True)
            terms = {key: value for key, value in site.items() if key in Terms.model_fields}
            file.write_text(yaml.safe_dump(terms, sort_keys=False), encoding="utf-8")
        values["sites"] = []
    FederationConfig.model_validate(values)
    text = _HEAD + yaml.safe_dump(values, sort_keys=False)
    (directory / "federation.yaml").write_text(text, encoding="utf-8")
    return list(rows.sites)


def _refuse_to_overwrite(directory: Path, *, replaceable: bool) -> None:
    if os.path.lexists(directory) and not directory.is_dir():
        raise ConfigError(
            "is not a directory", where=str(directory), action="choose another directory"
        )
    found = [name for name in WRITTEN if os.path.lexists(directory / name)]
    if found and not replaceable:
        raise ConfigError(
            f"holds a federation already, or a part of one: {', '.join(found)}",
            where=str(directory),
            action="choose another directory, or edit the files there",
        )


def _remove(path: Path) -> None:
    # What a symbolic link leads to is not fedsm's.
    if path.is_symlink() or path.is_file():
        path.unlink()
    elif path.is_dir():
        shutil.rmtree(path)


def local_federation(dataset: Dataset, launch: str | None = None) -> dict[str, Any]:
    """``federation.yaml`` of a dataset: one account a site, a server account, local cloud."""
    limits = {"limits": _LIMITS} if launch == "pipeline" else {}
    return {
        "cloud": "local",
        "name": dataset.name,
        **({"launch": launch} if launch else {}),
        "coordinator": {
            "account_id": SERVER_ACCOUNT,
            "region": REGION,
            "role_arn": f"arn:aws:iam::{SERVER_ACCOUNT}:role/fedsm-coordinator",
            "port": 0,
        },
        "sites": [_site(dataset.name, name, i) for i, name in enumerate(dataset.sites)],
        "training": {
            "rounds": 10,
            "strategy": "fedavg",
            "model": "logistic-regression",
            "prepare": "standardize",
            "hyperparameters": {
                "label": dataset.label,
                "local-steps": 5,
                "learning-rate": 0.5,
                "c": 1.0,
            },
            **limits,
            "test": "data/test.csv",
            "join_deadline": 120,
            "round_deadline": 60,
            "max_wait": 60,
        },
    }


def _site(federation: str, name: str, index: int) -> dict[str, Any]:
    account = f"{222222222222 + index * 111111111111:012d}"
    bucket = f"{name}-{account}"
    return {
        "name": name,
        "account_id": account,
        "region": REGION,
        "role_arn": role_arn(account, federation, name, "kickoff"),
        "external_id": f"{name}-fedsm",
        "execution_role_arn": role_arn(account, federation, name, "execution"),
        "channels": {
            channel: f"s3://{bucket}-data/{channel}/" for channel in ("train", "validation")
        },
        "output": f"s3://{bucket}-models/output",
        "code": f"s3://{bucket}-code/fedsm",
        "image": "fedsm/local",
        "max_runtime": 3600,
    }
