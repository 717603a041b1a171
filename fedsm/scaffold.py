"""Write a federation that runs at once on the local cloud: configuration, data, client code."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import yaml

from fedsm.assets import asset
from fedsm.config import FederationConfig
from fedsm.datasets import Dataset, breast_cancer, heart_disease, write_channels
from fedsm.errors import ConfigError

SERVER_ACCOUNT = "111111111111"
REGION = "us-east-1"
DATASETS = ("breast-cancer", "heart-disease")

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
    if name == "breast-cancer":
        return breast_cancer(seed)
    if name == "heart-disease":
        if data is None:
            raise ConfigError(
                "heart-disease is read from UCI's four files",
                where="--data",
                action="give the directory that holds processed.cleveland.data and its siblings",
            )
        return heart_disease(data, seed)
    raise ConfigError(
        f"there is no dataset {name!r}",
        where="--dataset",
        action=f"choose from {', '.join(DATASETS)}",
    )


def write(directory: Path, dataset: str, data: Path | None, *, replace: bool = False) -> None:
    """Write ``federation.yaml``, ``data/`` and ``client_code/`` into ``directory``.

    Parameters
    ----------
    replace : bool
        Overwrite what an earlier call wrote; runs are kept.

    Raises
    ------
    ConfigError
        The directory holds a federation already.
    """
    file = directory / "federation.yaml"
    if file.exists() and not replace:
        raise ConfigError(
            "holds a federation already",
            where=str(directory),
            action="choose another directory, or edit the federation.yaml there",
        )
    rows = load_dataset(dataset, data)
    directory.mkdir(parents=True, exist_ok=True)
    for folder in ("data", "client_code"):
        shutil.rmtree(directory / folder, ignore_errors=True)
    write_channels(rows, directory / "data")
    shutil.copytree(
        asset("client_code"),
        directory / "client_code",
        ignore=shutil.ignore_patterns("__pycache__"),
    )
    values = local_federation(rows)
    FederationConfig.model_validate(values)
    file.write_text(_HEAD + yaml.safe_dump(values, sort_keys=False), encoding="utf-8")


def local_federation(dataset: Dataset) -> dict[str, Any]:
    """``federation.yaml`` of a dataset: one account a site, a server account, local cloud."""
    return {
        "cloud": "local",
        "name": dataset.name,
        "coordinator": {
            "account_id": SERVER_ACCOUNT,
            "region": REGION,
            "role_arn": f"arn:aws:iam::{SERVER_ACCOUNT}:role/fedsm-coordinator",
            "port": 0,
        },
        "sites": [_site(name, i) for i, name in enumerate(dataset.sites)],
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
            "test": "data/test.csv",
            "join_deadline": 120,
            "round_deadline": 60,
            "max_wait": 60,
        },
    }


def _site(name: str, index: int) -> dict[str, Any]:
    account = f"{222222222222 + index * 111111111111:012d}"
    bucket = f"{name}-{account}"
    return {
        "name": name,
        "account_id": account,
        "region": REGION,
        "role_arn": f"arn:aws:iam::{account}:role/fedsm-kickoff",
        "external_id": f"{name}-fedsm",
        "execution_role_arn": f"arn:aws:iam::{account}:role/fedsm-execution",
        "channels": {
            channel: f"s3://{bucket}-data/{channel}/" for channel in ("train", "validation")
        },
        "output": f"s3://{bucket}-models/output",
        "code": f"s3://{bucket}-code/fedsm",
        "image": "fedsm/local",
        "max_runtime": 3600,
    }
