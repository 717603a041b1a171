"""Hospitals over sites, and over training, validation and test: no hospital in two of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedsm.errors import DataError

Hospitals = frozenset[int]

TEST, VALIDATION = 0.1, 0.1
"""Shares of the stays, as nearly as whole hospitals give them."""


@dataclass(frozen=True)
class SiteHospitals:
    """One site's hospitals, by ``hospitalid``."""

    train: Hospitals
    validation: Hospitals


@dataclass(frozen=True)
class HospitalSplit:
    """Who has which hospital.

    Attributes
    ----------
    sites : mapping of str to SiteHospitals
    test : frozenset of int
        The coordinator's.

    Raises
    ------
    DataError
        A hospital stands in two places, or a site has none to train on.
    """

    sites: Mapping[str, SiteHospitals]
    test: Hospitals

    def __post_init__(self) -> None:
        places: list[tuple[str, Hospitals]] = [("the test", self.test)]
        for site, hospitals in self.sites.items():
            if not hospitals.train:
                raise DataError(
                    "has no hospital to train on",
                    where=site,
                    action="give the site a hospital, or leave it out",
                )
            places += [(f"{site}'s train", hospitals.train)]
            places += [(f"{site}'s validation", hospitals.validation)]
        owner: dict[int, str] = {}
        for place, members in places:
            for hospital in sorted(members):
                if hospital in owner:
                    raise DataError(
                        f"hospital {hospital} is in {owner[hospital]} and in {place}",
                        where="hospitalid",
                        action="give each hospital to one site, and to one split of it",
                    )
                owner[hospital] = place


def split_hospitals(
    hospitals: NDArray[np.int64], sites: Sequence[str], seed: int = 0
) -> HospitalSplit:
    """Draw hospitals for the test, give the rest to sites of about equal size, and part each.

    Parameters
    ----------
    hospitals : ndarray of int64, shape (stays,)
        The hospital of each stay.
    sites : sequence of str
        Names.
    seed : int

    Raises
    ------
    DataError
        There are too few hospitals: each site needs two and the test one.
    """
    names, counts = np.unique(hospitals, return_counts=True)
    if len(names) < 2 * len(sites) + 1:
        raise DataError(
            f"the stays are of {len(names)} hospitals; {len(sites)} sites need "
            f"{2 * len(sites) + 1}: two each, and one to test on",
            where="hospitalid",
            action="name fewer sites, or give the tables of more hospitals",
        )
    random = np.random.default_rng(seed)
    size = dict(zip(names.tolist(), counts.tolist(), strict=True))
    order = random.permutation(names).tolist()
    test = _about(order, size, TEST, most=len(order) - 2 * len(sites))
    shares: dict[str, list[int]] = {site: [] for site in sites}
    # The largest first, each to the site that has least, keeps sizes close; two each come first.
    for hospital in sorted(set(order) - test, key=lambda h: -size[h]):
        poorest = min(
            shares, key=lambda s: (min(len(shares[s]), 2), sum(size[h] for h in shares[s]))
        )
        shares[poorest].append(hospital)
    split = {}
    for site, mine in shares.items():
        order = random.permutation(mine).tolist()
        validation = _about(order, size, VALIDATION, most=len(order) - 1)
        split[site] = SiteHospitals(frozenset(order) - validation, validation)
    return HospitalSplit(split, test)


def hold_out(hospitals: NDArray[np.int64], seed: int = 0) -> NDArray[np.intp]:
    """Row numbers of a site's own validation split.

    Parameters
    ----------
    hospitals : ndarray of int64, shape (stays,)
    seed : int

    Returns
    -------
    ndarray of int
        The stays of whole hospitals; of a site that is one hospital, a tenth of its stays.
    """
    random = np.random.default_rng(seed)
    names, counts = np.unique(hospitals, return_counts=True)
    if len(names) == 1:
        return np.sort(random.permutation(len(hospitals))[: round(VALIDATION * len(hospitals))])
    size = dict(zip(names.tolist(), counts.tolist(), strict=True))
    mine = _about(random.permutation(names).tolist(), size, VALIDATION, most=len(names) - 1)
    return np.flatnonzero(np.isin(hospitals, list(mine)))


def _about(order: Sequence[int], size: Mapping[int, int], share: float, most: int) -> Hospitals:
    """Hospitals, taken in order where they fit, that have about a share of the stays."""
    wanted = share * sum(size[hospital] for hospital in order)
    taken: list[int] = []
    for hospital in order:
        if len(taken) < most and sum(size[h] for h in taken) + size[hospital] <= wanted:
            taken.append(hospital)
    return frozenset(taken or [min(order, key=lambda h: size[h])])
