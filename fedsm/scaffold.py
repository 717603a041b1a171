"""Write a federation that runs at once on the local cloud: configuration, data, client code."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from fedsm.agreement import METRICS, Terms, asked_of_sites
from fedsm.agreements import AGREEMENTS
from fedsm.assets import asset
from fedsm.config import FederationConfig
from fedsm.datasets import Federated, fetch, sizes, write_channels
from fedsm.errors import ConfigError
from fedsm.names import role_arn
from fedsm.studies import Study, study
from fedsm.training_config import Training

SERVER_ACCOUNT = "111111111111"
REGION = "us-east-1"
LAUNCHES = ("pipeline", "direct")
WRITTEN = ("federation.yaml", "data", "client_code", AGREEMENTS)
REPLACEABLE = Path(".fedsm") / "demo"
"""Marks a directory whose content is fedsm's own, to be written again at will."""

MADE_UP = 3000
"""Stays of eICU's look-alike tables, where no tables are given."""

_SECONDS = {"join_deadline": 120, "round_deadline": 60, "max_wait": 60}
"""Short, for jobs of one's own machine."""

_HEAD = """\
# A federation on the local cloud. Every field: docs/federation.md.
# Run it: fedsm train. Its data lie in data/<site>/<channel>/, the code of its jobs in client_code/.
"""


def load_dataset(
    name: str, data: Path | None, seed: int = 0, *, made_up: int | None = None
) -> Federated[Any]:
    """A study's rows.

    Parameters
    ----------
    name : str
    data : Path, optional
        Directory of its files; without it they are fetched, and eICU's tables made up.
    seed : int
        Of the split.
    made_up : int, optional
        Stays of the made-up tables; :data:`MADE_UP` without it.

    Raises
    ------
    ConfigError
        It needs a library that is not installed, or there is no such study.
    DataError
        The files cannot be had, or cannot be used.
    """
    if made_up is not None and (name != "eicu" or data is not None or made_up < 1):
        raise ConfigError(
            "tables can be made up for eicu only, of one stay at least, and not beside given ones",
            where="--made-up",
            action="leave it out, or give a number of stays and no --data",
        )
    if data is None and name == "eicu":
        return fetch.made_up_eicu(made_up or MADE_UP, seed)
    if data is not None or name not in fetch.DOWNLOADS:
        return fetch.load(name, data or Path(), seed)
    with tempfile.TemporaryDirectory() as files:
        fetch.fetch(name, Path(files), option="--data")
        return fetch.load(name, Path(files), seed)


def write(
    directory: Path,
    dataset: str,
    data: Path | None,
    *,
    launch: str | None = None,
    invited: bool = False,
    replace: bool = False,
    made_up: int | None = None,
) -> Federated[Any]:
    """Write ``federation.yaml``, ``data/`` and ``client_code/`` into ``directory``.

    Parameters
    ----------
    dataset, data, made_up
        Name of the study, and its rows as :func:`load_dataset` takes them.
    launch : {"pipeline", "direct"}, optional
        How jobs are started; without it, as the configuration's default says.
    invited : bool
        Leave the sites to onboarding: instead of them their owners' terms are written.
    replace : bool
        Overwrite what an earlier call with ``replace`` wrote, and nothing else; runs are kept.

    Returns
    -------
    Federated
        The rows, by site.

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
    about = study(dataset)
    rows = load_dataset(dataset, data, made_up=made_up)
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
    for code in (asset("client_code"), about.code):
        shutil.copytree(
            code,
            directory / "client_code",
            ignore=shutil.ignore_patterns("__pycache__"),
            dirs_exist_ok=True,
        )
    values = local_federation(about, list(rows.sites), launch)
    if invited:
        asked = asked_of_sites(Training.model_validate(values["training"]))
        for site in values["sites"]:
            file = directory / AGREEMENTS / site["name"] / "terms.yaml"
            file.parent.mkdir(parents=True)
            terms = {key: value for key, value in site.items() if key in Terms.model_fields}
            if asked:
                terms["metrics"] = [*METRICS, *asked]
            file.write_text(yaml.safe_dump(terms, sort_keys=False), encoding="utf-8")
        values["sites"] = []
    FederationConfig.model_validate(values)
    text = _HEAD + yaml.safe_dump(values, sort_keys=False)
    (directory / "federation.yaml").write_text(text, encoding="utf-8")
    return rows


def told(dataset: str, rows: Federated[Any], *, made_up: bool) -> list[str]:
    """What was written, for people to read."""
    about = study(dataset)
    made = ["Its tables are made up to look like eICU's: no row is of a person."]
    return [about.title, *(made if made_up and dataset == "eicu" else []), *sizes(rows)]


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


def local_federation(
    about: Study, sites: Sequence[str], launch: str | None = None
) -> dict[str, Any]:
    """``federation.yaml`` of a study: one account a site, a server account, local cloud."""
    training = {**about.training, **_SECONDS}
    if launch != "pipeline":
        # Nobody is invited, so that nobody is asked for anything.
        training.pop("limits", None)
    return {
        "cloud": "local",
        "name": about.name,
        **({"launch": launch} if launch else {}),
        "coordinator": {
            "account_id": SERVER_ACCOUNT,
            "region": REGION,
            "role_arn": f"arn:aws:iam::{SERVER_ACCOUNT}:role/fedsm-coordinator",
            "port": 0,
        },
        "sites": [_site(about.name, name, i) for i, name in enumerate(sites)],
        "training": training,
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
