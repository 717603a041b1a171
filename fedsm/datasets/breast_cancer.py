"""Breast Cancer Wisconsin (Diagnostic), as scikit-learn ships it: 569 patients, 30 features.

Wolberg, Mangasarian, Street and Street 1993, UCI Machine Learning Repository, CC BY 4.0.
"""

from __future__ import annotations

import numpy as np

from fedsm.datasets.base import Dataset, SiteTables
from fedsm.learning.tables import Table

LABEL = "target"

HELD_OUT = 0.25
VALIDATION = 0.25

SHARES = {
    "north": (0.25, 0.45),
    "east": (0.40, 0.20),
    "south": (0.25, 0.25),
    "west": (0.10, 0.10),
}
"""Share of the malignant and of the benign training patients that each site has."""


def breast_cancer(seed: int = 0) -> Dataset:
    """Four sites of unequal size and class balance; label 1 is malignant.

    A quarter of the patients, of either class, is held out for the coordinator; a quarter of each
    site's is its validation split.
    """
    from sklearn.datasets import load_breast_cancer

    bunch = load_breast_cancer()
    # scikit-learn codes benign as 1.
    table = Table(
        tuple(str(name).replace(" ", "_") for name in bunch.feature_names),
        np.asarray(bunch.data, dtype=np.float64),
        1 - np.asarray(bunch.target, dtype=np.int64),
    )
    random = np.random.default_rng(seed)
    held_out: list[np.ndarray] = []
    per_site: dict[str, list[np.ndarray]] = {site: [] for site in SHARES}
    for label in (1, 0):
        rows = random.permutation(np.flatnonzero(table.labels == label))
        cut = round(HELD_OUT * len(rows))
        held_out.append(rows[:cut])
        share = np.array([shares[1 - label] for shares in SHARES.values()])
        ends = np.round(np.cumsum(share) * (len(rows) - cut)).astype(int)
        for site, part in zip(SHARES, np.split(rows[cut:], ends[:-1]), strict=True):
            per_site[site].append(part)
    sites = {}
    for site, parts in per_site.items():
        rows = random.permutation(np.concatenate(parts))
        cut = round(VALIDATION * len(rows))
        sites[site] = SiteTables(train=table.take(rows[cut:]), validation=table.take(rows[:cut]))
    test = table.take(np.sort(np.concatenate(held_out)))
    return Dataset("breast-cancer", table.columns, LABEL, sites, test)
