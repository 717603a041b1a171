"""Federated standardisation and mean imputation from one query before round 1.

Each site answers with, per feature, the count of values that are not missing, their sum and the sum
of their squared deviations from the site's own mean, beside its label classes with their counts,
which a site may withhold.
Sums of squares about the site's mean rather than about zero, because they combine without
cancellation (Chan, Golub and LeVeque 1983, "Algorithms for computing the sample variance"):

    mean = sum_k s_k / sum_k n_k
    squares = sum_k [ q_k + n_k (s_k / n_k - mean)^2 ]
    scale = sqrt(squares / sum_k n_k)

A missing value is imputed with the federated mean, so it is 0 once standardised. The scale is that
of the values present.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, MetricRecord, RecordDict
from numpy.typing import NDArray

from fedsm.errors import ConfigError, DataError
from fedsm.learning.checks import MAX_WEIGHT
from fedsm.learning.tables import Labels, Table

Vector = NDArray[np.float64]

STATISTICS = ("count", "sum", "squares")
"""Names of the per-feature vectors that leave a site."""


def statistics(table: Table) -> RecordDict:
    """A site's answer to ``query.statistics``.

    Returns
    -------
    RecordDict
        ``statistics`` (:data:`STATISTICS`, float64 vectors of one entry per feature), ``metrics``
        (``num-examples``) and ``schema`` (features; classes present, with their counts).

    Raises
    ------
    DataError
        There is no row.
    """
    if len(table) == 0:
        raise DataError(
            "there is no training row", action="put rows into the train channel, or leave the site"
        )
    x = table.features
    present = ~np.isnan(x)
    count = present.sum(axis=0).astype(np.float64)
    total = np.where(present, x, 0.0).sum(axis=0)
    mean = np.divide(total, count, out=np.zeros_like(total), where=count > 0)
    squares = np.square(np.where(present, x - mean, 0.0)).sum(axis=0)
    classes, counts = np.unique(table.labels, return_counts=True)
    vectors = zip(STATISTICS, (count, total, squares), strict=True)
    return RecordDict(
        {
            "statistics": ArrayRecord({name: Array(vector) for name, vector in vectors}),
            "metrics": MetricRecord({"num-examples": len(table)}),
            "schema": ConfigRecord(
                {
                    "features": list(table.columns),
                    "classes": classes.tolist(),
                    "class-counts": counts.tolist(),
                }
            ),
        }
    )


@dataclass(frozen=True)
class Summary:
    """What the federation knows of its training rows.

    Attributes
    ----------
    features : tuple of str
    mean, scale : ndarray of float64, one entry per feature
        Of the values that are not missing. A constant feature has scale 1; one without any value
        has mean 0 and scale 1.
    rows : int
        Training rows of all sites.
    classes : tuple of int or tuple of str
        Labels in sorted order; a label's index is its class.
    class_counts : tuple of int
        Rows per class of the sites that told.
    """

    features: tuple[str, ...]
    mean: Vector
    scale: Vector
    rows: int
    classes: tuple[int, ...] | tuple[str, ...]
    class_counts: tuple[int, ...]

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of the model's inputs, in the order of the columns that :meth:`transform` gives."""
        return self.features

    def steps(self) -> list[tuple[str, Any]]:
        """Fitted scikit-learn steps that do to raw rows what :meth:`transform` does."""
        from sklearn.impute import SimpleImputer
        from sklearn.preprocessing import StandardScaler

        mean, scale = (np.array(v, dtype=np.float64) for v in (self.mean, self.scale))
        # A row that holds the means teaches the imputer the means.
        imputer = SimpleImputer(keep_empty_features=True).fit(mean[np.newaxis])
        scaler = StandardScaler().fit(mean[np.newaxis])
        scaler.mean_, scaler.scale_, scaler.var_ = mean, scale, scale**2
        scaler.n_samples_seen_ = self.rows
        return [("impute", imputer), ("scale", scaler)]

    def to_config(self) -> dict[str, Any]:
        """Flat values for a ``ConfigRecord``; every key starts with ``prepare-``."""
        return {
            "prepare-features": list(self.features),
            "prepare-mean": self.mean.tolist(),
            "prepare-scale": self.scale.tolist(),
            "prepare-rows": self.rows,
            "prepare-classes": list(self.classes),
            "prepare-class-counts": list(self.class_counts),
        }

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Summary:
        """Read back what :meth:`to_config` wrote, whatever else ``config`` holds.

        Raises
        ------
        ConfigError
            The federation was not prepared.
        """
        try:
            return cls(
                features=tuple(config["prepare-features"]),
                mean=np.array(config["prepare-mean"], dtype=np.float64),
                scale=np.array(config["prepare-scale"], dtype=np.float64),
                rows=int(config["prepare-rows"]),
                classes=tuple(config["prepare-classes"]),
                class_counts=tuple(config["prepare-class-counts"]),
            )
        except KeyError as error:
            raise ConfigError(
                f"the message holds no {error.args[0]}: the federation's statistics are unknown",
                where="training.prepare",
                action="set training.prepare to standardize",
            ) from None

    def transform(self, table: Table) -> Vector:
        """Standardise and impute; shape (rows, features).

        Raises
        ------
        DataError
            The table has other columns than the federation.
        """
        if table.columns != self.features:
            raise DataError(
                _other_columns(table.columns, self.features),
                action="give every site and split the same columns in the same order",
            )
        return np.nan_to_num((table.features - self.mean) / self.scale, nan=0.0)

    def encode(self, labels: Labels) -> NDArray[np.intp]:
        """Class indices of labels.

        Raises
        ------
        DataError
            A label is not among the federation's classes.
        """
        known = np.array(self.classes)
        if len(labels) and not np.isin(labels, known).all():
            raise DataError(
                "a label is not among the classes that the training rows of the federation had",
                action="leave such rows out, or give them to a training channel",
            )
        return np.searchsorted(known, labels) if len(labels) else np.zeros(0, dtype=np.intp)


def usable(
    replies: Mapping[str, RecordDict],
) -> tuple[dict[str, RecordDict], dict[str, str]]:
    """Part the answers that can be combined from those that cannot.

    Answers must agree on features and on the type of labels; where they differ, most decide.

    Returns
    -------
    tuple of dict of str to RecordDict, dict of str to str
        Site to answer, and site to what is wrong with its answer.
    """
    sites: dict[str, _Site] = {}
    faults: dict[str, str] = {}
    for name, reply in replies.items():
        try:
            sites[name] = _read(name, reply)
        except DataError as error:
            faults[name] = error.what
    schemas = Counter((s.features, type(s.classes[0])) for s in sites.values())
    for name, site in sites.items():
        (features, kind), _ = schemas.most_common(1)[0]
        if site.features != features:
            faults[name] = _other_columns(site.features, features)
        elif type(site.classes[0]) is not kind:
            faults[name] = "its labels are not of the type that the other sites have"
    return {name: replies[name] for name in sites if name not in faults}, faults


def combine(replies: Mapping[str, RecordDict]) -> Summary:
    """Combine the sites' statistics.

    Parameters
    ----------
    replies : mapping of str to RecordDict
        Site name to what :func:`statistics` gave there.

    Raises
    ------
    DataError
        A site's answer is malformed or disagrees with the others; names the site. Or the whole
        federation has one class.
    """
    if not replies:
        raise DataError("no site answered", action="see why the sites' jobs ended")
    sites = {name: _read(name, replies[name]) for name in sorted(replies)}
    reference, first = next(iter(sites.items()))
    for name, site in sites.items():
        if site.features != first.features:
            raise DataError(
                f"{_other_columns(site.features, first.features)} (site {reference})",
                where=name,
                action="give every site the same columns in the same order",
            )
        if {type(c) for c in site.classes} != {type(c) for c in first.classes}:
            raise DataError(
                f"its labels are not of the type that site {reference} has",
                where=name,
                action="encode the labels alike at every site: whole numbers or text",
            )
    count = np.sum([s.count for s in sites.values()], axis=0)
    total = np.sum([s.total for s in sites.values()], axis=0)
    mean = np.divide(total, count, out=np.zeros_like(total), where=count > 0)
    squares = np.zeros_like(total)
    for s in sites.values():
        own = np.divide(s.total, s.count, out=mean.copy(), where=s.count > 0)
        squares += s.squares + s.count * np.square(own - mean)
    variance = np.divide(squares, count, out=np.zeros_like(total), where=count > 0)
    # The bound under which a variance is rounding error, as in scikit-learn's StandardScaler.
    eps = np.finfo(np.float64).eps
    constant = variance <= count * eps * variance + np.square(count * mean * eps)
    tally: dict[Any, int] = {}
    for s in sites.values():
        for label, n in zip(s.classes, s.class_counts or [0] * len(s.classes), strict=True):
            tally[label] = tally.get(label, 0) + n
    if len(tally) < 2:
        raise DataError(
            "the training rows of all sites have one class",
            where="label",
            action="name the label column in the hyperparameter `label`",
        )
    classes = tuple(sorted(tally))
    return Summary(
        features=first.features,
        mean=mean,
        scale=np.where(constant, 1.0, np.sqrt(variance)),
        rows=sum(s.rows for s in sites.values()),
        classes=classes,
        class_counts=tuple(tally[label] for label in classes),
    )


_LARGEST = 1e60
"""Bound of a sum of squares, whose root is the largest magnitude that a reply may have."""


@dataclass(frozen=True)
class _Site:
    features: tuple[str, ...]
    count: Vector
    total: Vector
    squares: Vector
    rows: int
    classes: tuple[Any, ...]
    class_counts: tuple[int, ...]


def _read(site: str, reply: RecordDict) -> _Site:
    """One site's answer, checked: it comes over the network."""
    try:
        arrays, schema, metrics = reply["statistics"], reply["schema"], reply["metrics"]
        assert isinstance(arrays, ArrayRecord)  # noqa: S101
        assert isinstance(schema, ConfigRecord)  # noqa: S101
        assert isinstance(metrics, MetricRecord)  # noqa: S101
        vectors = [arrays[name].numpy() for name in STATISTICS]
        features, classes = tuple(_listed(schema["features"])), tuple(_listed(schema["classes"]))
        counts, rows = tuple(_listed(schema["class-counts"])), metrics["num-examples"]
    except (KeyError, AssertionError, TypeError, ValueError) as error:
        raise _malformed(site, "it lacks a part or has one of another kind") from error
    width = len(features)
    if any(v.shape != (width,) or v.dtype != np.float64 for v in vectors):
        raise _malformed(site, f"its vectors are not float64 of the {width} features named")
    if not all((np.abs(v) <= _LARGEST).all() for v in vectors):
        raise _malformed(site, "a sum is not finite or absurdly large")
    if (
        not isinstance(rows, int)
        or not 0 < rows <= MAX_WEIGHT
        or not all(isinstance(n, int) and n > 0 for n in counts)
        or len(set(classes)) != len(classes)
        or not classes
        or (counts and (len(counts) != len(classes) or sum(counts) != rows))
        or not all(type(c) is type(classes[0]) and isinstance(c, int | str) for c in classes)
    ):
        raise _malformed(site, "its classes and counts do not fit its number of rows")
    count, total, squares = vectors
    if (count < 0).any() or (count > rows).any() or (squares < 0).any():
        raise _malformed(site, "a count or a sum of squares is out of its range")
    return _Site(features, count, total, squares, rows, classes, counts)


def _listed(value: object) -> list[Any]:
    if not isinstance(value, list):
        raise TypeError
    return value


def _malformed(site: str, fault: str) -> DataError:
    return DataError(
        f"its statistics cannot be used: {fault}",
        where=site,
        action="let query.statistics answer with fedsm.learning.preparation.statistics",
    )


def _other_columns(have: tuple[str, ...], want: tuple[str, ...]) -> str:
    lacking, extra = sorted(set(want) - set(have)), sorted(set(have) - set(want))
    if lacking:
        return f"column {lacking[0]!r} is missing here and present elsewhere"
    if extra:
        return f"column {extra[0]!r} is present here and missing elsewhere"
    return "the columns are in another order than elsewhere"
