"""UCI Heart Disease: 920 patients of four hospitals, 13 features, many missing.

Janosi, Steinbrunn, Pfisterer and Detrano 1988, CC BY 4.0; the four ``processed.*.data`` files that
FLamby's Fed-Heart-Disease uses. The label is ``num > 0``.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np

from fedsm.datasets.base import Dataset, SiteTables
from fedsm.errors import DataError
from fedsm.learning.tables import Table, concatenate

LABEL = "target"

FEATURES = (
    "age",
    "sex",
    "cp",
    "trestbps",
    "chol",
    "fbs",
    "restecg",
    "thalach",
    "exang",
    "oldpeak",
    "slope",
    "ca",
    "thal",
)

SHA256 = {
    "cleveland": "a74b7efa387bc9d108d7d0115d831fe9b414b29ae7124f331b622b4efa0427c8",
    "hungarian": "d1ad108f785768cd3d7e82dc522e6f5a61eea93cccfb3a46ee8076f73fc3d796",
    "switzerland": "834a405ccf5b66ab4056bb77794adc8df0b7125186454c0a1d002d33c6c3b314",
    "va": "e7c93d8d0d2acdadfa4c5e8de768e2191e7f618b952e29623f1f0d5949ff6b8f",
}
"""Hospital to the digest of its file."""

SOURCE = "https://archive.ics.uci.edu/dataset/45/heart+disease"

TRAIN_SHARE = 0.66


def heart_disease(directory: Path, seed: int = 0) -> Dataset:
    """One site a hospital, split 66/34 at random.

    Parameters
    ----------
    directory : Path
        Holds ``processed.{cleveland,hungarian,switzerland,va}.data``.
    seed : int
        Of the split.

    Returns
    -------
    Dataset
        A hospital's 34 % is its validation split; those of all hospitals together are the
        coordinator's held-out rows.

    Raises
    ------
    DataError
        A file is missing or is not the one published.
    """
    sites = {}
    for index, hospital in enumerate(SHA256):
        table = read_hospital(directory / f"processed.{hospital}.data", SHA256[hospital])
        rows = np.random.default_rng([seed, index]).permutation(len(table))
        cut = round(TRAIN_SHARE * len(table))
        sites[hospital] = SiteTables(table.take(rows[:cut]), table.take(rows[cut:]))
    test = concatenate([tables.validation for tables in sites.values()])
    return Dataset("heart-disease", FEATURES, LABEL, sites, test)


def read_hospital(path: Path, sha256: str) -> Table:
    """All rows of a hospital's file, in its order; the file must have the given digest."""
    action = f"fetch {path.name} from {SOURCE} and give the folder that holds it"
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise DataError(
            f"cannot be read: {error.strerror}", where=str(path), action=action
        ) from error
    if hashlib.sha256(raw).hexdigest() != sha256:
        raise DataError("is not the published file", where=str(path), action=action)
    values = np.array(
        [
            [np.nan if field == "?" else float(field) for field in line.split(",")]
            for line in raw.decode("ascii").split()
        ]
    )
    return Table(FEATURES, values[:, :-1], (values[:, -1] > 0).astype(np.int64))
