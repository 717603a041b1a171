"""Medicare fraud: 5,500 providers, 49 features of their claims, 500 of them excluded for fraud.

CMS Part B, Part D and DMEPOS providers joined with the OIG's List of Excluded Individuals, as
prepared by ``aws-samples/wwps-payment-integrity-solutions``, MIT-0. No value is missing. 38 rows,
all of them fraud, repeat an earlier row: left in, some would stand on both sides of any split and
be recognised rather than predicted, so they are removed: 5,462 rows remain, 462 of them fraud.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from fedsm.datasets.base import Dataset
from fedsm.datasets.splits import (
    COMPASS,
    check_dataset,
    deal,
    require_binary,
    split_site,
    stratified,
    without_duplicates,
)
from fedsm.errors import DataError
from fedsm.learning.tables import Table, read_csv

LABEL = "fraudulent_provider"

FILE = "processed_data_classification_v2.csv"

SHA256 = "d33f11f0237f2024cd326ca6a8b4ed1630fb7dcc22d79dd04a298ea270995525"

SOURCE = "https://github.com/aws-samples/wwps-payment-integrity-solutions"

_SUPPLIES = (
    "tot_suplrs",
    "tot_suplr_benes",
    "tot_suplr_clms",
    "tot_suplr_srvcs",
    "avg_suplr_sbmtd_chrg",
    "avg_suplr_mdcr_pymt_amt",
)
_SERVICES_AND_DRUGS = (
    "bene_unique_cnt",
    "line_svc_cnt",
    "bene_day_srvc_cnt",
    "average_submitted_chrg_amt",
    "average_medicare_payment_amt",
    "total_claim_count",
    "total_30_day_fill_count",
    "total_day_supply",
    "total_drug_cost",
    "bene_count",
)

FEATURES = (
    "female",
    *(f"{name}_{s}" for name in _SUPPLIES for s in ("standard_deviation", "mean", "sum")),
    *(f"{name}_{s}" for name in _SERVICES_AND_DRUGS for s in ("mean", "sum", "standard_deviation")),
)
"""In the file's order. Counts and US dollars, never negative; ``female`` is 0 or 1."""

TEST, VALIDATION = 0.2, 0.2

SKEWED = {
    "north": (0.15, 0.45),
    "east": (0.20, 0.30),
    "south": (0.35, 0.15),
    "west": (0.30, 0.10),
}
"""Share of the honest and of the fraudulent training providers that each site has.

Prevalence from 3 % to 21 % in sites of unequal size.
"""

Sites = Literal["iid", "skewed"]


def cms_fraud(directory: Path, seed: int = 0, *, sites: Sites = "iid") -> Dataset:
    """Four sites; label 1 is fraud.

    A fifth of the providers, of either class, is held out for the coordinator; a fifth of each
    site's is its validation split.

    Parameters
    ----------
    directory : Path
        Holds ``processed_data_classification_v2.csv``.
    seed : int
        Of the splits.
    sites : {"iid", "skewed"}
        ``iid`` deals every class out evenly; ``skewed`` by :data:`SKEWED`.

    Raises
    ------
    DataError
        The file is missing, lacks a column, has a value that cannot be, or is not the one
        published.
    """
    table = read_cms(directory)
    train, test = stratified(table.labels, TEST, np.random.default_rng([seed, 0]))
    dataset = federate(table.take(train), table.take(test), seed, sites=sites)
    check_dataset(dataset)
    return dataset


def federate(train: Table, test: Table, seed: int = 0, *, sites: Sites = "iid") -> Dataset:
    """Deal training rows out to the four sites, as :func:`cms_fraud` does, beside a given test."""
    random = np.random.default_rng([seed, 1])
    parts = deal(train.labels, _shares(sites), random)
    return Dataset(
        "cms-fraud",
        train.columns,
        LABEL,
        {site: split_site(train.take(rows), VALIDATION, random) for site, rows in parts.items()},
        test,
    )


def _shares(sites: Sites) -> Mapping[str, Sequence[float]]:
    if sites == "skewed":
        return SKEWED
    return {site: (1 / len(COMPASS),) * 2 for site in COMPASS}


def read_cms(directory: Path) -> Table:
    """The published file without its duplicates: 5,462 rows, 49 features.

    Raises
    ------
    DataError
        As :func:`cms_fraud`.
    """
    path = directory / FILE
    action = f"fetch {FILE} from {SOURCE} and give the folder that holds it"
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise DataError(
            f"cannot be read: {error.strerror}", where=str(path), action=action
        ) from error
    table = read_csv([path], label=LABEL)
    _check(table, str(path), action)
    # Last, so that a file that was edited is refused for what is wrong with it, where that shows.
    if hashlib.sha256(raw).hexdigest() != SHA256:
        raise DataError("is not the published file", where=str(path), action=action)
    return without_duplicates(table, str(path))


def _check(table: Table, where: str, action: str) -> None:
    if table.columns != FEATURES:
        lacking = sorted(set(FEATURES) - set(table.columns))
        fault = f"lacks column {lacking[0]!r}" if lacking else "has columns that it should not have"
        raise DataError(fault, where=where, action=action)
    require_binary(table.labels, f"{where}, column {LABEL!r}")
    faults = (
        ("has a missing value", np.isnan(table.features).any(axis=0)),
        ("has a negative value", (table.features < 0).any(axis=0)),
        ("has a value over 1", (table.features > 1).any(axis=0) & (np.array(FEATURES) == "female")),
    )
    for fault, wrong in faults:
        if wrong.any():
            name = FEATURES[int(wrong.argmax())]
            raise DataError(f"column {name!r} {fault}", where=where, action=action)
