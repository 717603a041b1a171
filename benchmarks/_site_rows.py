"""Rows of simulated sites: 60 patients each, drawn with replacement from breast cancer's 569."""

from __future__ import annotations

from functools import cache

import numpy as np

from fedsm.datasets import SiteTables, breast_cancer
from fedsm.learning.tables import Table, concatenate

TRAIN, VALIDATION = 45, 15


@cache
def _patients() -> Table:
    dataset = breast_cancer()
    parts = [t for tables in dataset.sites.values() for t in (tables.train, tables.validation)]
    return concatenate([*parts, dataset.test])


@cache
def rows_of_site(number: int) -> SiteTables:
    """A site's rows; the same number gives the same."""
    patients = _patients()
    drawn = np.random.default_rng([number, 0]).integers(len(patients), size=TRAIN + VALIDATION)
    return SiteTables(patients.take(drawn[:TRAIN]), patients.take(drawn[TRAIN:]))
