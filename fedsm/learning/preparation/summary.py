"""What the federation knows of its rows, and what it makes of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate, pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from fedsm.errors import ConfigError, DataError
from fedsm.learning.exact_weights import class_weights, parse_class_weights
from fedsm.learning.preparation import transformers
from fedsm.learning.sparse_tables import SparseTable
from fedsm.learning.tables import MAX_CLASSES, Labels, Table

Vector = NDArray[np.float64]

MAX_CATEGORIES = 1000
"""Of a column."""


@dataclass(frozen=True)
class Summary:
    """What the federation knows of its training rows, and how rows are prepared by it.

    Numeric features are imputed, then scaled; after them come the categories, one input a category,
    1 where a row has it. A category that is missing or not in the vocabulary is zero in all of its
    column's inputs.

    Attributes
    ----------
    features : tuple of str
        Numeric features.
    mean, scale : ndarray of float64, one entry per numeric feature
        Of the values that are not missing. A constant feature has scale 1; one without any value
        has mean 0 and scale 1.
    rows : int
        Training rows of all sites.
    classes : tuple of int or tuple of str
        Labels in sorted order; a label's index is its class.
    class_counts : tuple of int
        Rows per class of the sites that told.
    scaling : str
        ``standardize``: less mean, by scale; sparse rows, which are not centred, by scale alone.
        ``quantile``: the value's rank, from 0 to 1. ``none``.
    fill : ndarray of float64, one entry per numeric feature, optional
        What stands for a missing value; without it the mean.
    quantiles : ndarray of float64, shape (quantiles, numeric features), optional
        From the least to the largest, for ``quantile``.
    categories : tuple of str
        Features that are categories.
    vocabulary : tuple of tuple of str
        To each its categories, in sorted order.
    sparse : bool
        Whether rows are sparse.
    """

    features: tuple[str, ...]
    mean: Vector
    scale: Vector
    rows: int
    classes: tuple[int, ...] | tuple[str, ...]
    class_counts: tuple[int, ...]
    scaling: str = "standardize"
    fill: Vector | None = None
    quantiles: NDArray[np.float64] | None = None
    categories: tuple[str, ...] = ()
    vocabulary: tuple[tuple[str, ...], ...] = ()
    sparse: bool = False

    @cached_property
    def inputs(self) -> tuple[str, ...]:
        """Names of the model's inputs, in the order of the columns that :meth:`transform` gives.

        A category's is ``column_category``, as scikit-learn's.
        """
        named = (
            f"{name}_{value}"
            for name, values in zip(self.categories, self.vocabulary, strict=True)
            for value in values
        )
        return (*self.features, *named)

    @property
    def imputed(self) -> Vector:
        """What stands for a missing value of each numeric feature."""
        return self.mean if self.fill is None else self.fill

    @property
    def centre(self) -> Vector | None:
        """Mean of each input where :meth:`transform` scales and does not centre: of sparse rows."""
        return self.mean / self.scale if self.sparse and self.scaling == "standardize" else None

    def steps(self) -> list[tuple[str, Any]]:
        """Fitted scikit-learn steps that do to raw rows what :meth:`transform` does."""
        return transformers.steps(self)

    def transform(self, table: Table | SparseTable) -> Any:
        """Prepare rows.

        Returns
        -------
        ndarray of float64 or csr_array of float64, shape (rows, inputs)
            Sparse for sparse rows. Nothing is missing.

        Raises
        ------
        DataError
            The table has other columns than the federation.
        """
        names = () if isinstance(table, SparseTable) else table.categories
        if self.sparse != isinstance(table, SparseTable):
            raise DataError(
                "the rows are sparse here or elsewhere, but not both",
                action="give every site and split rows of one form",
            )
        if (table.columns, names) != (self.features, self.categories):
            raise DataError(
                other_columns((*table.columns, *names), (*self.features, *self.categories)),
                action="give every site and split the same columns in the same order",
            )
        if isinstance(table, SparseTable):
            return self._sparse(table.features)
        x = self._numbers(table.features)
        if not self.categories:
            return x
        hot = [
            (column[:, np.newaxis] == np.array(values, dtype=np.str_)).astype(np.float64)
            for column, values in zip(table.texts.T, self.vocabulary, strict=True)
        ]
        return np.hstack([x, *hot])

    def _numbers(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        filled = np.where(np.isnan(x), self.imputed, x)
        if self.scaling == "quantile":
            return self._ranks.transform(filled) if filled.size else filled
        return filled if self.scaling == "none" else (filled - self.mean) / self.scale

    def _sparse(self, x: csr_array) -> csr_array:
        data = x.data.astype(np.float64)
        if self.scaling != "none":
            data /= self.scale[x.indices]
        return csr_array((data, x.indices, x.indptr), shape=x.shape)

    @cached_property
    def _ranks(self) -> Any:
        return transformers.ranks(self)

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

    def class_weights(self, given: object = "none") -> Vector:
        """Weight of each class by the hyperparameter ``class-weights``; shape (classes,).

        Parameters
        ----------
        given : str
            ``balanced``: ``rows / (classes * count)``, of the whole federation. ``none``: 1 each.
            ``label:weight,...``: 1 for a label that is not named.

        Raises
        ------
        ConfigError
            It is none of these, names an unknown label, or is ``balanced`` while an owner withholds
            the rows per class.
        """
        return class_weights(
            parse_class_weights(given),
            len(self.classes),
            self.classes,
            np.array(self.class_counts, dtype=np.float64),
            where="training.hyperparameters.class-weights",
        )

    def to_config(self) -> dict[str, Any]:
        """Flat values for a ``ConfigRecord``; every key starts with ``prepare-``."""
        values = {
            "prepare-features": list(self.features),
            "prepare-mean": _packed(self.mean),
            "prepare-scale": _packed(self.scale),
            "prepare-rows": self.rows,
            "prepare-classes": list(self.classes),
            "prepare-class-counts": list(self.class_counts),
            "prepare-scaling": self.scaling,
            "prepare-categories": list(self.categories),
            "prepare-vocabulary": [value for values in self.vocabulary for value in values],
            "prepare-vocabulary-sizes": [len(values) for values in self.vocabulary],
            "prepare-sparse": self.sparse,
        }
        if self.fill is not None:
            values["prepare-fill"] = _packed(self.fill)
        if self.quantiles is not None:
            values["prepare-quantiles"] = _packed(self.quantiles)
        return values

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Summary:
        """Read back what :meth:`to_config` wrote, whatever else ``config`` holds.

        Raises
        ------
        ConfigError
            The federation was not prepared, or has more classes or categories than are taken.
        """
        try:
            features = tuple(config["prepare-features"])
            sizes = config["prepare-vocabulary-sizes"]
            ends = list(accumulate(sizes, initial=0))
            # Each is a column of the rows as they are prepared: the message is small, they are not.
            classes = len(config["prepare-classes"])
            if classes > MAX_CLASSES or max(sizes, default=0) > MAX_CATEGORIES:
                raise ConfigError(
                    f"the message has more than {MAX_CLASSES} classes, or more than "
                    f"{MAX_CATEGORIES} categories of a column",
                    where="training.prepare",
                    action="ask whoever runs the coordinator",
                )
            words = config["prepare-vocabulary"]
            fill, quantiles = config.get("prepare-fill"), config.get("prepare-quantiles")
            return cls(
                features=features,
                mean=_unpacked(config["prepare-mean"]),
                scale=_unpacked(config["prepare-scale"]),
                rows=int(config["prepare-rows"]),
                classes=tuple(config["prepare-classes"]),
                class_counts=tuple(config["prepare-class-counts"]),
                scaling=config["prepare-scaling"],
                fill=None if fill is None else _unpacked(fill),
                quantiles=None
                if quantiles is None
                else _unpacked(quantiles).reshape(-1, len(features)),
                categories=tuple(config["prepare-categories"]),
                vocabulary=tuple(tuple(words[a:b]) for a, b in pairwise(ends)),
                sparse=config["prepare-sparse"],
            )
        except KeyError as error:
            raise ConfigError(
                f"the message holds no {error.args[0]}: the federation's statistics are unknown",
                where="training.prepare",
                action="set training.prepare to standardize",
            ) from None


def other_columns(have: tuple[str, ...], want: tuple[str, ...]) -> str:
    """How columns differ from those of the federation."""
    lacking, extra = sorted(set(want) - set(have)), sorted(set(have) - set(want))
    if lacking:
        return f"column {lacking[0]!r} is missing here and present elsewhere"
    if extra:
        return f"column {extra[0]!r} is present here and missing elsewhere"
    return "the columns are in another order than elsewhere, or other ones hold categories"


def _packed(values: NDArray[np.float64]) -> bytes:
    return np.ascontiguousarray(values, dtype="<f8").tobytes()


def _unpacked(values: bytes) -> Vector:
    return np.frombuffer(values, dtype="<f8").astype(np.float64)
