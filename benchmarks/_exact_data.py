"""Rows for :mod:`benchmarks.exact`: hourly stays of the eICU study's size; small public sets."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from fedsm.datasets import breast_cancer, heart_disease
from fedsm.datasets.cms_fraud import read_cms
from fedsm.learning.tables import concatenate

HOURS = 50
NUMBERS = 13
CATEGORIES = (391, 7, 3, 13, 4, 6, 5)
"""Admission diagnosis, ethnicity, gender; total, eyes, motor and verbal Glasgow scores: 429."""
CONSTANT = 3
"""The first numbers and the first categories do not change during a stay."""
PREVALENCE = 0.1
SHARES = (0.4, 0.3, 0.2, 0.1)
"""Of the rows, by site."""

Labels = NDArray[np.intp]


@dataclass(frozen=True)
class Rows:
    """Prepared rows of all sites; ``site`` is each row's."""

    x: Any
    y: Labels
    site: Labels

    def of(self, site: int) -> tuple[Any, Labels]:
        """One site's rows."""
        at = np.flatnonzero(self.site == site)
        return self.x[at], self.y[at]


def stays(rows: int, seed: int = 0) -> Rows:
    """Autocorrelated hours of four unlike sites: 22,100 features, 1,000 non-zeros a row.

    Numbers follow an autoregression of the patient's own level, which the numbers share in part;
    categories change in one hour of twenty, by frequencies that differ between sites. Columns are
    scaled to unit variance and, being sparse, not centred. With the intercept a row has 1,001
    non-zeros.
    """
    random = np.random.default_rng(seed)
    ends = np.round(np.cumsum(SHARES) * rows).astype(int)
    site = np.searchsorted(ends, np.arange(rows), side="right")
    width = NUMBERS + sum(CATEGORIES)
    numbers = _numbers(random, site)
    columns = np.empty((rows, HOURS, NUMBERS + len(CATEGORIES)), dtype=np.int32)
    columns[:, :, :NUMBERS] = np.arange(NUMBERS)
    first = NUMBERS
    for i, levels in enumerate(CATEGORIES):
        changes = 0.0 if i < CONSTANT else 0.05
        columns[:, :, NUMBERS + i] = first + _categories(random, site, levels, changes)
        first += levels
    values = np.concatenate([numbers, np.ones((rows, HOURS, len(CATEGORIES)))], axis=2)
    columns += np.arange(HOURS, dtype=np.int32)[:, np.newaxis] * width
    starts = np.arange(rows + 1, dtype=np.int32) * columns[0].size
    raw = sparse.csr_array(
        (values.ravel(), columns.ravel(), starts), shape=(rows, HOURS * width), copy=False
    )
    mean = np.asarray(raw.mean(axis=0)).ravel()
    scale = np.sqrt(np.asarray(raw.power(2).mean(axis=0)).ravel() - mean**2)
    scale[scale < 1e-9 * np.abs(mean).max()] = 1.0
    x = sparse.csr_array(raw @ sparse.diags_array(1 / scale))
    late = np.repeat(np.linspace(0.3, 1.0, HOURS) / HOURS, width)
    effect = random.normal(size=HOURS * width) * late
    effect[np.arange(len(effect)) % width >= NUMBERS] *= 0.3
    score = x @ effect
    score = 2.0 * (score - score.mean()) / score.std() + random.logistic(size=rows)
    return Rows(x, (score > np.quantile(score, 1 - PREVALENCE)).astype(np.intp), site)


def _numbers(random: np.random.Generator, site: Labels) -> NDArray[np.float64]:
    rows, correlation = len(site), 0.95
    mix = np.eye(NUMBERS) + 0.3 * random.normal(size=(NUMBERS, NUMBERS))
    level = random.normal(size=(rows, NUMBERS)) @ mix + random.normal(size=(4, NUMBERS))[site] / 2
    drift = random.normal(size=(rows, NUMBERS)) @ mix
    out = np.empty((rows, HOURS, NUMBERS))
    for hour in range(HOURS):
        out[:, hour] = level + 0.7 * drift
        shock = random.normal(size=(rows, NUMBERS)) @ mix
        drift = correlation * drift + np.sqrt(1 - correlation**2) * shock
    out[:, :, :CONSTANT] = level[:, np.newaxis, :CONSTANT]
    centred: NDArray[np.float64] = out + random.uniform(0, 10, NUMBERS)
    return centred


def _categories(
    random: np.random.Generator, site: Labels, levels: int, changes: float
) -> NDArray[np.int32]:
    common = 1.0 / np.arange(1, levels + 1)
    shares = np.cumsum(common * random.gamma(2.0, size=(4, levels)), axis=1)
    shares /= shares[:, -1:]
    out = np.empty((len(site), HOURS), dtype=np.int32)
    for hour in range(HOURS):
        drawn = (random.random(len(site))[:, np.newaxis] > shares[site]).sum(axis=1)
        stay = random.random(len(site)) >= changes if hour else np.zeros(len(site), dtype=bool)
        out[:, hour] = np.where(stay, out[:, hour - 1], drawn)
        if not changes:
            out[:] = drawn[:, np.newaxis]
            break
    return out


def public(name: str, data: Path) -> Rows | None:
    """A small set, standardised, over four sites that differ in their classes; None if not here.

    ``breast-cancer``, ``heart-disease`` and ``cms-fraud`` as fedsm has them, ``wine`` and
    ``digits`` as scikit-learn ships them.
    """
    import sklearn.datasets as shipped

    if name in ("wine", "digits"):
        x, y = getattr(shipped, f"load_{name}")(return_X_y=True)
    else:
        folder = {"heart-disease": data / "heart", "cms-fraud": data / "cms"}.get(name)
        if folder is not None and not folder.is_dir():
            return None
        if folder is None or name == "heart-disease":
            sites = (breast_cancer() if folder is None else heart_disease(folder)).sites
            table = concatenate([tables.train for tables in sites.values()])
        else:
            table = read_cms(folder)
        x, y = table.features, table.labels
    deviation = np.nanstd(x, axis=0)
    x = np.nan_to_num((x - np.nanmean(x, axis=0)) / np.where(deviation > 0, deviation, 1.0))
    order = np.argsort(y + np.random.default_rng(0).normal(size=len(y)))
    site = np.empty(len(y), dtype=np.intp)
    site[order] = np.arange(len(y)) * len(SHARES) // len(y)
    return Rows(x, y.astype(np.intp), site)
