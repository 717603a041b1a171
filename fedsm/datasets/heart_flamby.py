"""UCI Heart Disease as FLamby prepares it: 740 patients of four hospitals, 13 features, complete.

Ogier du Terrail et al. 2022, "FLamby: Datasets and Benchmarks for Cross-Silo Federated Learning in
Realistic Healthcare Settings", NeurIPS. ``slope``, ``ca`` and ``thal`` are dropped, which are
missing nearly everywhere outside Cleveland; then every patient with a missing value; ``cp`` and
``restecg`` become one column per value but the first. :mod:`fedsm.datasets.heart_disease` keeps
all 920 patients instead.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from fedsm.datasets.base import Dataset, SiteTables
from fedsm.datasets.heart_disease import FEATURES as RAW
from fedsm.datasets.heart_disease import LABEL, SHA256, TRAIN_SHARE, read_hospital
from fedsm.learning.tables import Table, concatenate

DROPPED = ("slope", "ca", "thal")

CATEGORIES = {"cp": (1, 2, 3, 4), "restecg": (0, 1, 2)}
"""Column to its values; the first is the reference, which has no column of its own."""

KEPT = tuple(name for name in RAW if name not in DROPPED and name not in CATEGORIES)

FEATURES = (*KEPT, *(f"{name}_{v}" for name, values in CATEGORIES.items() for v in values[1:]))

FLAMBY_SEED = 43
"""The seed that gives FLamby's own split."""


def heart_flamby(directory: Path, seed: int = FLAMBY_SEED) -> Dataset:
    """One site a hospital, split 66/34 as FLamby does.

    Parameters
    ----------
    directory : Path
        Holds ``processed.{cleveland,hungarian,switzerland,va}.data``.
    seed : int
        Of the split, which is stratified where a hospital has three patients of each class.

    Returns
    -------
    Dataset
        303, 261, 46 and 130 patients. A hospital's 34 % is its validation split; those of all
        hospitals together are the coordinator's held-out rows.

    Raises
    ------
    DataError
        A file is missing or is not the one published.
    """
    from sklearn.model_selection import train_test_split

    sites = {}
    for hospital, sha256 in SHA256.items():
        table = _prepare(read_hospital(directory / f"processed.{hospital}.data", sha256))
        _, counts = np.unique(table.labels, return_counts=True)
        train, validation = train_test_split(
            np.arange(len(table)),
            test_size=1 - TRAIN_SHARE,
            train_size=TRAIN_SHARE,
            random_state=seed,
            stratify=table.labels if len(counts) > 1 and counts.min() > 2 else None,
        )
        sites[hospital] = SiteTables(table.take(train), table.take(validation))
    test = concatenate([tables.validation for tables in sites.values()])
    return Dataset("heart-disease-flamby", FEATURES, LABEL, sites, test)


def _prepare(table: Table) -> Table:
    values = dict(zip(table.columns, table.features.T, strict=True))
    columns = [values[name] for name in KEPT]
    for name, categories in CATEGORIES.items():
        columns += [(values[name] == value).astype(np.float64) for value in categories[1:]]
    used = np.column_stack([values[name] for name in RAW if name not in DROPPED])
    complete = np.flatnonzero(~np.isnan(used).any(axis=1))
    return Table(FEATURES, np.column_stack(columns), table.labels).take(complete)
