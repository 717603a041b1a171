"""Balancing the classes of training rows by resampling, with imbalanced-learn.

Made rows look like their parents, so resampling before a split puts copies of a row on both sides
of it. Nothing here takes rows that are judged on: give it the training part of a fold, after the
split. :func:`class_weights` is the alternative that makes and loses no row; on the Medicare data
it does as well or better.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import numpy as np

from fedsm.datasets.base import Dataset, SiteTables
from fedsm.datasets.splits import require_binary
from fedsm.errors import ConfigError, DataError
from fedsm.learning.tables import Labels, Table

Method = Literal["smote", "undersample", "smote+undersample"]

NEIGHBOURS = 5
"""SMOTE interpolates between a row and one of its this many nearest of the same class."""

HALFWAY = 0.5
"""Rows of the rarer class per row of the other after the SMOTE half of ``smote+undersample``."""


def class_weights(labels: Labels) -> dict[int | str, float]:
    """Weights under which the classes count alike: rows / (classes x rows of the class).

    King and Zeng 2001; scikit-learn's ``class_weight="balanced"``.
    """
    classes, counts = np.unique(labels, return_counts=True)
    return dict(
        zip(classes.tolist(), (len(labels) / (len(classes) * counts)).tolist(), strict=True)
    )


def resample(train: Table, method: Method, seed: int = 0) -> Table:
    """Training rows with as many of either class.

    Parameters
    ----------
    train : Table
        Two classes, no missing value.
    method : {"smote", "undersample", "smote+undersample"}
        Make rows of the rarer class (Chawla et al. 2002, "SMOTE"), leave out rows of the other, or
        make half as many as the other has, and then leave out the rest.
    seed : int

    Raises
    ------
    ConfigError
        imbalanced-learn is not installed.
    DataError
        There are not two classes, a value is missing, or the rarer class has too few rows.
    """
    try:
        from imblearn.over_sampling import SMOTE
        from imblearn.under_sampling import RandomUnderSampler
    except ImportError as error:
        raise ConfigError(
            "imbalanced-learn is not installed",
            where="resampling",
            action="install fedsm[imbalanced-learn], or use class weights",
        ) from error
    require_binary(train.labels, "train")
    rarer = int(np.unique(train.labels, return_counts=True)[1].min())
    if method != "undersample":
        if (missing := np.isnan(train.features).any(axis=0)).any():
            raise DataError(
                f"column {train.columns[int(missing.argmax())]!r} has missing values, between "
                "which SMOTE cannot interpolate",
                where="train",
                action="impute it before, or use undersample or class weights",
            )
        if rarer <= NEIGHBOURS:
            raise DataError(
                f"the rarer class has {rarer} rows, SMOTE needs {NEIGHBOURS + 1}",
                where="train",
                action="use undersample or class weights here",
            )
    steps = []
    if method == "smote":
        steps.append(SMOTE(k_neighbors=NEIGHBOURS, random_state=seed))
    elif method == "smote+undersample" and rarer < HALFWAY * (len(train) - rarer):
        half = SMOTE(sampling_strategy=HALFWAY, k_neighbors=NEIGHBOURS, random_state=seed)
        steps.append(half)
    if method != "smote":
        steps.append(RandomUnderSampler(random_state=seed))
    features, labels = train.features, train.labels
    for step in steps:
        features, labels = step.fit_resample(features, labels)
    return Table(train.columns, features, labels)


def resample_training(dataset: Dataset, method: Method, seed: int = 0) -> Dataset:
    """The data set with each site's training rows resampled, and nothing else touched.

    Raises
    ------
    ConfigError, DataError
        As :func:`resample`; a ``DataError`` names the site.
    """
    sites = {}
    for site, tables in dataset.sites.items():
        try:
            sites[site] = SiteTables(resample(tables.train, method, seed), tables.validation)
        except DataError as error:
            raise DataError(error.what, where=f"{site}, train", action=error.action) from error
    return replace(dataset, sites=sites)
