"""A summary as fitted scikit-learn transformers, for the final model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from fedsm.learning.preparation.summary import Summary


def steps(summary: Summary) -> list[tuple[str, Any]]:
    """Steps of a Pipeline that takes raw rows.

    ``impute`` and ``scale`` where all features are numbers, ``scale`` alone for sparse rows; a
    ColumnTransformer ``prepare`` where some are categories: of rows of objects, the numbers before
    the categories.
    """
    if summary.sparse:
        return [] if summary.scaling == "none" else [("scale", standard(summary, centred=False))]
    numeric = [("impute", imputer(summary)), *_scaler(summary)] if summary.features else []
    return [("prepare", _columns(summary, numeric))] if summary.categories else numeric


def imputer(summary: Summary) -> Any:
    """A SimpleImputer that knows what stands for a missing value."""
    from sklearn.impute import SimpleImputer

    # A row that holds them teaches the imputer the values.
    fill = np.array(summary.imputed, dtype=np.float64)[np.newaxis]
    strategy = "mean" if summary.fill is None else "median"
    return SimpleImputer(strategy=strategy, keep_empty_features=True).fit(fill)


def standard(summary: Summary, *, centred: bool = True) -> Any:
    """A StandardScaler with the federation's mean and scale."""
    from sklearn.preprocessing import StandardScaler

    mean, scale = (np.array(v, dtype=np.float64) for v in (summary.mean, summary.scale))
    scaler = StandardScaler(with_mean=centred).fit(mean[np.newaxis])
    scaler.mean_, scaler.scale_, scaler.var_ = mean, scale, scale**2
    scaler.n_samples_seen_ = summary.rows
    return scaler


def ranks(summary: Summary) -> Any:
    """A QuantileTransformer with the federation's quantiles."""
    from sklearn.preprocessing import QuantileTransformer

    assert summary.quantiles is not None  # noqa: S101
    count, width = summary.quantiles.shape
    made = QuantileTransformer(n_quantiles=count, output_distribution="uniform")
    made.n_quantiles_, made.n_features_in_ = count, width
    made.references_ = np.linspace(0, 1, count)
    made.quantiles_ = np.array(summary.quantiles)
    return made


def _scaler(summary: Summary) -> list[tuple[str, Any]]:
    if summary.scaling == "none":
        return []
    return [("scale", ranks(summary) if summary.scaling == "quantile" else standard(summary))]


def _columns(summary: Summary, numeric: list[tuple[str, Any]]) -> Any:
    from sklearn.compose import ColumnTransformer
    from sklearn.pipeline import Pipeline
    from sklearn.preprocessing import OneHotEncoder

    width, texts = len(summary.features), len(summary.categories)
    # A column without a category has none to be taught: it is left out.
    known = [i for i, values in enumerate(summary.vocabulary) if values]
    encoder = OneHotEncoder(
        categories=[np.array(summary.vocabulary[i], dtype=object) for i in known],
        handle_unknown="ignore",
        sparse_output=False,
    )
    parts: list[tuple[str, Any, list[int]]] = []
    if width:
        parts.append(("numbers", "passthrough", list(range(width))))
    if known:
        parts.append(("categories", encoder, [width + i for i in known]))
    made = ColumnTransformer(parts, sparse_threshold=0)
    row = np.empty((1, width + texts), dtype=object)
    row[0, :width] = summary.imputed
    row[0, width:] = [(*values, "")[0] for values in summary.vocabulary]
    # One row of the right shape teaches the encoder its fixed categories, and the whole its widths.
    made.fit(row)
    if width:
        # The fitted steps take the place of what would have been fitted to that row.
        fitted = Pipeline(numeric)
        made.set_params(numbers=fitted)
        made.transformers_ = [
            (name, fitted if name == "numbers" else part, at)
            for name, part, at in made.transformers_
        ]
    return made
