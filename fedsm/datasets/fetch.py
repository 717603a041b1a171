"""``fedsm data NAME``: get a data set's files, split them into sites, write the sites' channels."""

from __future__ import annotations

import hashlib
import os
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from fedsm.datasets.base import Dataset, write_channels
from fedsm.datasets.breast_cancer import breast_cancer
from fedsm.datasets.cms_fraud import FILE as CMS_FILE
from fedsm.datasets.cms_fraud import SHA256 as CMS_SHA256
from fedsm.datasets.cms_fraud import Sites, cms_fraud
from fedsm.datasets.heart_disease import SHA256 as HEART_SHA256
from fedsm.datasets.heart_disease import heart_disease
from fedsm.datasets.heart_flamby import heart_flamby
from fedsm.datasets.splits import check_dataset
from fedsm.errors import ConfigError, DataError

if TYPE_CHECKING:
    from fedsm.datasets.eicu import SparseDataset

NAMES = ("breast-cancer", "heart-disease", "heart-disease-flamby", "cms-fraud", "eicu")

SOURCE = "source"
"""Folder, beside the sites', of the files that the data set is made from."""

TIMEOUT = 60.0
MOST_BYTES = 64 * 2**20

_UCI = "https://archive.ics.uci.edu/ml/machine-learning-databases/heart-disease/"
_CMS = (
    "https://raw.githubusercontent.com/aws-samples/wwps-payment-integrity-solutions/"
    "ee1b00d85aa8ba775d8eafd68173391c1dd6f613/Federated-Learning/data_prep/"
)
_AGREEMENT = "https://physionet.org/content/eicu-crd/2.0/"


@dataclass(frozen=True)
class Download:
    """A published file.

    Attributes
    ----------
    name, url : str
    sha256 : str
        Hex digest of its content.
    """

    name: str
    url: str
    sha256: str


_HEART_FILES = {f"processed.{hospital}.data": digest for hospital, digest in HEART_SHA256.items()}
_HEART = tuple(Download(name, _UCI + name, digest) for name, digest in _HEART_FILES.items())

DOWNLOADS: dict[str, tuple[Download, ...]] = {
    "breast-cancer": (),
    "heart-disease": _HEART,
    "heart-disease-flamby": _HEART,
    "cms-fraud": (Download(CMS_FILE, _CMS + CMS_FILE, CMS_SHA256),),
}


def read_url(url: str) -> bytes:
    """A published file's content; HTTPS only, 64 MiB at most.

    Raises
    ------
    OSError
        It cannot be had.
    """
    if not url.startswith("https://"):
        raise OSError("only https is read")
    with urllib.request.urlopen(url, timeout=TIMEOUT) as response:  # noqa: S310, https above
        content: bytes = response.read(MOST_BYTES + 1)
    if len(content) > MOST_BYTES:
        raise OSError("it is larger than it should be")
    return content


def fetch(
    name: str, directory: Path, read: Callable[[str], bytes] = read_url, option: str = "--from"
) -> None:
    """Put a data set's published files into a directory; those that are there already stay.

    Parameters
    ----------
    name : str
        One of :data:`NAMES`.
    directory : Path
    read : callable, optional
        URL to content; raises ``OSError``.
    option : str
        Of the command line, that takes a folder of files had otherwise.

    Raises
    ------
    DataError
        A file cannot be had or is not the one published; or the data set is not anyone's to fetch.
    """
    if name not in DOWNLOADS:
        raise DataError(
            "is given by PhysioNet to those who sign its data-use agreement, and cannot be fetched",
            where=name,
            action=f"get access at {_AGREEMENT} and give the folder of the tables with {option}, "
            "or make tables that look like them with --made-up",
        )
    names = ", ".join(file.name for file in DOWNLOADS[name])
    action = f"fetch {names} elsewhere and give the folder with {option}"
    for file in DOWNLOADS[name]:
        path = directory / file.name
        if path.is_file() and _digest(path.read_bytes()) == file.sha256:
            continue
        try:
            content = read(file.url)
        except (OSError, urllib.error.URLError) as error:
            reason = getattr(error, "reason", None) or error
            raise DataError(
                f"cannot be fetched: {reason}", where=file.url, action=action
            ) from error
        if _digest(content) != file.sha256:
            raise DataError("is not the published file", where=file.url, action=action)
        directory.mkdir(parents=True, exist_ok=True)
        # Whole or not at all, should two fetch at once or one be broken off.
        partial = path.with_name(f".{path.name}.{os.getpid()}")
        partial.write_bytes(content)
        partial.replace(path)


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def load(
    name: str, directory: Path, seed: int = 0, *, sites: Sites = "iid"
) -> Dataset | SparseDataset:
    """A data set over sites, from the files in a directory, checked.

    Parameters
    ----------
    name : str
        One of :data:`NAMES`.
    directory : Path
        Holds the files; breast-cancer needs none.
    seed : int
        Of the splits.
    sites : {"iid", "skewed"}
        Of cms-fraud; the other data sets come with sites of their own.

    Raises
    ------
    ConfigError
        There is no such data set, or polars is not installed, which eicu needs.
    DataError
        The files are missing or cannot be used.
    """
    match name:
        case "breast-cancer":
            dataset, repeats = breast_cancer(seed), 0
        case "heart-disease":
            # Two of the published hospitals list a patient twice; the published counts hold both.
            dataset, repeats = heart_disease(directory, seed), 1
        case "heart-disease-flamby":
            dataset, repeats = heart_flamby(directory, seed), 1
        case "cms-fraud":
            dataset, repeats = cms_fraud(directory, seed, sites=sites), 0
        case "eicu":
            return _eicu(directory, seed)
        case _:
            raise ConfigError(
                f"there is no dataset {name!r}",
                where="dataset",
                action=f"choose from {', '.join(NAMES)}",
            )
    check_dataset(dataset, repeats=repeats)
    return dataset


def _eicu(directory: Path, seed: int) -> SparseDataset:
    try:
        from fedsm.datasets.eicu import eicu
    except ImportError as error:
        raise _not_installed(error) from error
    return eicu(directory, seed)


def prepare_data(
    name: str,
    directory: Path,
    *,
    source: Path | None = None,
    made_up: int | None = None,
    seed: int = 0,
    sites: Sites = "iid",
    read: Callable[[str], bytes] = read_url,
) -> Dataset | SparseDataset:
    """Get, split and write a data set: the whole of ``fedsm data NAME``.

    Parameters
    ----------
    name : str
        One of :data:`NAMES`.
    directory : Path
        Where to write; new, or empty but for an earlier call's :data:`SOURCE`.
    source : Path, optional
        Holds the files; without it they are fetched.
    made_up : int, optional
        Of eicu: make look-alike tables with this many stays instead.
    seed, sites
        As in :func:`load`.
    read : callable, optional
        As in :func:`fetch`.

    Raises
    ------
    ConfigError, DataError
        As :func:`load` and :func:`fetch`; or the directory holds something.
    """
    held = [path.name for path in directory.iterdir()] if directory.is_dir() else []
    if set(held) - {SOURCE}:
        raise ConfigError(
            "is not empty", where=str(directory), action="choose another directory, or empty it"
        )
    if made_up is not None and (name != "eicu" or source is not None or made_up < 1):
        raise ConfigError(
            "tables can be made up for eicu only, of one stay at least, and not beside given ones",
            where="--made-up",
            action="leave it out, or give a number of stays and no --from",
        )
    if source is None and name in NAMES:
        source = directory / SOURCE
        if made_up is None:
            fetch(name, source, read)
        else:
            _make_up(source, made_up, seed)
    dataset = load(name, source or directory, seed, sites=sites)
    write_channels(dataset, directory)
    return dataset


def made_up_eicu(stays: int, seed: int = 0) -> SparseDataset:
    """Look-alike rows at the published study's 22,100 inputs.

    Its diagnoses have a column each, whether or not so many stays would name them often enough.

    Raises
    ------
    ConfigError
        polars is not installed.
    """
    with TemporaryDirectory() as folder:
        _make_up(Path(folder), stays, seed)
        from fedsm.datasets.eicu import eicu
        from fedsm.datasets.eicu_lookalike import VOCABULARY

        return eicu(Path(folder), seed, vocabulary=VOCABULARY)


def _make_up(directory: Path, stays: int, seed: int) -> None:
    try:
        from fedsm.datasets.eicu_lookalike import write_lookalike
    except ImportError as error:
        raise _not_installed(error) from error
    write_lookalike(directory, stays, seed)


def _not_installed(error: ImportError) -> ConfigError:
    return ConfigError(f"{error.name} is not installed", where="eicu", action="install fedsm[eicu]")
