"""Means, variances and class counts of all sites from one query.

Each site answers with, per numeric feature, the count of values that are not missing, their sum and
the sum of their squared deviations from the site's own mean, beside its label classes with their
counts, which a site may withhold. Sums of squares about the site's mean rather than about zero,
because they combine without cancellation (Chan, Golub and LeVeque 1983, "Algorithms for computing
the sample variance"):

    mean = sum_k s_k / sum_k n_k
    squares = sum_k [ q_k + n_k (s_k / n_k - mean)^2 ]
    scale = sqrt(squares / sum_k n_k)

Sparse rows are summed over what is stored; the rest is zero, and nothing of it is written out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, MetricRecord, RecordDict
from numpy.typing import NDArray

from fedsm.errors import DataError
from fedsm.learning.checks import MAX_NAME, MAX_WEIGHT
from fedsm.learning.preparation.summary import Summary, other_columns
from fedsm.learning.sparse_tables import SparseTable
from fedsm.learning.tables import MAX_CLASSES, MAX_LABEL, Table, are_classes

Vector = NDArray[np.float64]

STATISTICS = ("count", "sum", "squares")
"""Names of the per-feature vectors that leave a site."""

STORED = "stored"
"""Of sparse rows: values stored per feature. By it small counts are told; it does not leave."""

APART = "apart"
"""Of dense rows: values per feature that are not its commonest one; it does not leave either. Where
all rows but one are alike, sums give that one's value away."""


def statistics(table: Table | SparseTable) -> RecordDict:
    """A site's answer to ``query.statistics``.

    Returns
    -------
    RecordDict
        ``statistics`` (:data:`STATISTICS`, float64 vectors of one entry per numeric feature),
        ``metrics`` (``num-examples``) and ``schema`` (names of the features and of those that are
        categories; whether rows are sparse; classes present, with their counts).

    Raises
    ------
    DataError
        There is no row.
    """
    if len(table) == 0:
        raise DataError(
            "there is no training row", action="put rows into the train channel, or leave the site"
        )
    sparse = isinstance(table, SparseTable)
    vectors = _of_sparse(table) if isinstance(table, SparseTable) else _of_dense(table)
    classes, counts = np.unique(table.labels, return_counts=True)
    if not are_classes(classes.tolist()):
        raise DataError(
            f"more than {MAX_CLASSES} classes, or one that is no text of {MAX_LABEL} characters",
            where="label",
            action="name a column of few classes in the hyperparameter `label`",
        )
    return RecordDict(
        {
            "statistics": ArrayRecord({name: Array(vector) for name, vector in vectors.items()}),
            "metrics": MetricRecord({"num-examples": len(table)}),
            "schema": ConfigRecord(
                {
                    "features": list(table.columns),
                    "categories": [] if isinstance(table, SparseTable) else list(table.categories),
                    "sparse": sparse,
                    "classes": classes.tolist(),
                    "class-counts": counts.tolist(),
                }
            ),
        }
    )


def _of_dense(table: Table) -> dict[str, Vector]:
    x = table.features
    present = ~np.isnan(x)
    count = present.sum(axis=0).astype(np.float64)
    total = np.where(present, x, 0.0).sum(axis=0)
    mean = np.divide(total, count, out=np.zeros_like(total), where=count > 0)
    squares = np.square(np.where(present, x - mean, 0.0)).sum(axis=0)
    return {"count": count, "sum": total, "squares": squares, APART: _apart(x)}


def _apart(x: NDArray[np.float64]) -> Vector:
    found = np.zeros(x.shape[1])
    for at, column in enumerate(x.T):
        _, counts = np.unique(column[~np.isnan(column)], return_counts=True)
        found[at] = counts.sum() - counts.max(initial=0)
    return found


def _of_sparse(table: SparseTable) -> dict[str, Vector]:
    x = table.features
    if not x.has_canonical_format:
        x = x.copy()
        x.sum_duplicates()
    rows, width = x.shape
    data = x.data.astype(np.float64)

    def summed(weights: Vector) -> Vector:
        found: Vector = np.bincount(x.indices, weights=weights, minlength=width).astype(np.float64)
        return found

    stored, total = summed((data != 0).astype(np.float64)), summed(data)
    mean = total / rows
    squares = summed(np.where(data != 0, np.square(data - mean[x.indices]), 0.0))
    return {
        "count": np.full(width, float(rows)),
        "sum": total,
        "squares": squares + (rows - stored) * np.square(mean),
        STORED: stored,
    }


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
    usual = Counter(site.kind for site in sites.values()).most_common(1)
    for name, site in sites.items():
        if fault := site.differs(usual[0][0]):
            faults[name] = fault
    return {name: replies[name] for name in sites if name not in faults}, faults


def present(reply: RecordDict) -> Vector:
    """Of a usable answer: values per numeric feature that are not missing, 0 where withheld."""
    return reply.array_records["statistics"]["count"].numpy()


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
        if fault := site.differs(first.kind):
            raise DataError(
                f"{fault} (site {reference})",
                where=name,
                action="give every site the same columns in the same order, and labels of one type",
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
        features=first.kind.features,
        mean=mean,
        scale=np.where(constant, 1.0, np.sqrt(variance)),
        rows=sum(s.rows for s in sites.values()),
        classes=classes,
        class_counts=tuple(tally[label] for label in classes),
        categories=first.kind.categories,
        vocabulary=((),) * len(first.kind.categories),
        sparse=first.kind.sparse,
    )


_LARGEST = 1e60
"""Bound of a sum of squares, whose root is the largest magnitude that a reply may have."""


@dataclass(frozen=True)
class _Kind:
    """What must be alike at all sites."""

    features: tuple[str, ...]
    categories: tuple[str, ...]
    sparse: bool
    label: type


@dataclass(frozen=True)
class _Site:
    kind: _Kind
    count: Vector
    total: Vector
    squares: Vector
    rows: int
    classes: tuple[Any, ...]
    class_counts: tuple[int, ...]

    def differs(self, usual: _Kind) -> str | None:
        """How its rows differ from those of the usual kind."""
        kind = self.kind
        if kind.sparse != usual.sparse:
            return "its rows are sparse, or others' are, but not both"
        if (kind.features, kind.categories) != (usual.features, usual.categories):
            return other_columns(
                (*kind.features, *kind.categories), (*usual.features, *usual.categories)
            )
        if kind.label is not usual.label:
            return "its labels are not of the type that the other sites have"
        return None


def _read(site: str, reply: RecordDict) -> _Site:
    """One site's answer, checked: it comes over the network."""
    try:
        arrays, schema, metrics = reply["statistics"], reply["schema"], reply["metrics"]
        assert isinstance(arrays, ArrayRecord)  # noqa: S101
        assert isinstance(schema, ConfigRecord)  # noqa: S101
        assert isinstance(metrics, MetricRecord)  # noqa: S101
        vectors = [arrays[name].numpy() for name in STATISTICS]
        features, categories, classes, counts = (
            tuple(_listed(schema[key]))
            for key in ("features", "categories", "classes", "class-counts")
        )
        sparse, rows = schema["sparse"], metrics["num-examples"]
    except (KeyError, AssertionError, TypeError, ValueError, EOFError) as error:
        raise _malformed(site, "it lacks a part or has one of another kind") from error
    width = len(features)
    if (
        type(sparse) is not bool
        or (sparse and categories)
        or not all(isinstance(n, str) and n.isprintable() for n in (*features, *categories))
        or len({*features, *categories}) != width + len(categories)
    ):
        raise _malformed(site, "its columns are not named")
    if any(len(name) > MAX_NAME for name in (*features, *categories)):
        raise _malformed(site, f"a column's name is longer than {MAX_NAME} characters")
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
        or not (are_classes(classes) and all(type(c) is type(classes[0]) for c in classes))
    ):
        raise _malformed(site, "its classes and counts do not fit its number of rows")
    count, total, squares = vectors
    if (
        (count < 0).any()
        or (count > rows).any()
        or (count != np.rint(count)).any()
        or (squares < 0).any()
    ):
        raise _malformed(site, "a count or a sum of squares is out of its range")
    kind = _Kind(features, categories, sparse, type(classes[0]))
    return _Site(kind, count, total, squares, rows, classes, counts)


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
