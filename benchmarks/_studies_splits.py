"""The studies' splits: the same rows for every variant, from fixed seeds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from sklearn.model_selection import StratifiedKFold

from fedsm.datasets import SiteTables, heart_disease, heart_flamby
from fedsm.datasets.cms_fraud import SKEWED, read_cms
from fedsm.datasets.splits import COMPASS, deal
from fedsm.learning.tables import Table, concatenate

FOLDS = 5
HEART = {"heart-disease": heart_disease, "heart-disease-flamby": heart_flamby}
CMS = "cms-fraud"

Sites = Mapping[str, SiteTables]


@dataclass(frozen=True)
class Split:
    """Training rows over sites, one or more ways, and test rows that are none of them.

    Attributes
    ----------
    study : str
    number : int
    sites : mapping of str to mapping of str to SiteTables
        How the rows lie over sites (``hospitals``, ``iid``, ``skewed``), to each site's tables. The
        training rows are the same in all.
    test : Table
    class_weights : str
        As the hyperparameter.
    """

    study: str
    number: int
    sites: Mapping[str, Sites]
    test: Table
    class_weights: str = "none"

    @property
    def pooled(self) -> Table:
        """All training rows."""
        return concatenate([tables.train for tables in next(iter(self.sites.values())).values()])


def heart_splits(study: str, data: Path, seeds: int) -> Iterator[Split]:
    """One split a seed: a third of each hospital's patients are the test."""
    for seed in range(seeds):
        dataset = HEART[study](data / "heart", seed)
        yield Split(study, seed, {"hospitals": dataset.sites}, dataset.test)


def cms_splits(data: Path, repeats: int) -> Iterator[Split]:
    """Stratified five-fold, repeated; each fold's training rows over IID and over skewed sites."""
    table = read_cms(data / "cms")
    even = {site: (1 / len(COMPASS),) * 2 for site in COMPASS}
    for repeat in range(repeats):
        folds = StratifiedKFold(FOLDS, shuffle=True, random_state=repeat)
        for fold, (train, test) in enumerate(folds.split(table.features, table.labels)):
            number, rows = repeat * FOLDS + fold, table.take(train)
            sites = {
                name: _deal(rows, shares, np.random.default_rng([number, way]))
                for way, (name, shares) in enumerate((("iid", even), ("skewed", SKEWED)))
            }
            yield Split(CMS, number, sites, table.take(test), class_weights="balanced")


def _deal(rows: Table, shares: Mapping[str, tuple[float, float]], random: object) -> Sites:
    assert isinstance(random, np.random.Generator)
    none = rows.take(np.zeros(0, dtype=np.intp))
    return {
        site: SiteTables(rows.take(part), none)
        for site, part in deal(rows.labels, shares, random).items()
    }
