"""The answers to the queries of preparation without small counts. Pure."""

from __future__ import annotations

from typing import Any

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, RecordDict
from numpy.typing import NDArray

from fedsm.learning.preparation import STATISTICS, categories, histograms
from fedsm.learning.preparation.moments import APART, STORED
from fedsm.learning.tables import are_classes

Vector = NDArray[np.float64]

RECORDS = {
    "query.statistics": ("statistics", "schema"),
    "query.categories": ("categories",),
    "query.histograms": ("histograms",),
}
"""To each query the records that its answer has beside its metrics."""


def released(kind: str, content: RecordDict, smallest: int) -> tuple[RecordDict, list[str]]:
    """What may leave of a site's answer.

    Parameters
    ----------
    kind : str
        Of :data:`RECORDS`.
    content : RecordDict
        As of :mod:`fedsm.learning.preparation`; what has another form stays.
    smallest : int
        The smallest count that may leave.

    Returns
    -------
    tuple of RecordDict, list of str
        The query's :data:`RECORDS`, and what was left out of them.
    """
    if kind == "query.statistics":
        return _statistics(content, smallest)
    return (_categories if kind == "query.categories" else _histograms)(content, smallest)


def _categories(content: RecordDict, smallest: int) -> tuple[RecordDict, list[str]]:
    found = categories.read(content)
    if found is None:
        return RecordDict(), []
    enough = max(smallest, 1)
    kept = {
        name: {value: n for value, n in counts.items() if n >= enough}
        for name, counts in found.items()
    }
    out = RecordDict({"categories": categories.answer(kept, 0, counted=False)["categories"]})
    return out, [f"categories of {name}" for name in found if found[name] != kept[name]]


def _histograms(content: RecordDict, smallest: int) -> tuple[RecordDict, list[str]]:
    counts = histograms.read(content)
    if counts is None:
        return RecordDict(), []
    kept = histograms.withheld(counts, smallest)
    out = RecordDict({"histograms": histograms.answer(kept, 0)["histograms"]})
    return out, [] if np.array_equal(kept, counts) else ["small counts in histograms"]


def _statistics(content: RecordDict, smallest: int) -> tuple[RecordDict, list[str]]:
    out, withheld = RecordDict(), []
    arrays, schema = content.get("statistics"), content.get("schema")
    if not isinstance(arrays, ArrayRecord) or not isinstance(schema, ConfigRecord):
        return out, []
    features = [v for v in _listed(schema.get("features")) if isinstance(v, str)]
    counts = [n for n in _listed(schema.get("class-counts")) if isinstance(n, int)]
    if any(0 < n < smallest for n in counts):
        # All of them: with the number of rows, the others would give it away.
        withheld.append("rows per class")
        counts = []
    classes: list[Any] = _listed(schema.get("classes"))
    if not are_classes(classes):
        return out, ["classes"]
    out["schema"] = ConfigRecord(
        {
            "features": features,
            "categories": [v for v in _listed(schema.get("categories")) if isinstance(v, str)],
            "sparse": schema.get("sparse") is True,
            "classes": classes,
            "class-counts": counts,
        }
    )
    given = [_vector(arrays.get(name), len(features)) for name in STATISTICS]
    vectors = [vector for vector in given if vector is not None]
    if len(vectors) == len(given):
        small = small_columns(*vectors, smallest=smallest)
        apart = _vector(arrays.get(APART), len(features))
        if apart is not None:
            small = small | _few(apart, smallest)
        if schema.get("sparse") is True:
            stored = _vector(arrays.get(STORED), len(features))
            # Sums of few stored values tell as much as of few values that are not missing.
            small = small | (_few(stored, smallest) if stored is not None else smallest > 1)
        withheld += [f"statistics of {features[at]}" for at in np.flatnonzero(small)]
        out["statistics"] = ArrayRecord(
            {
                name: Array(np.where(small, 0.0, vector))
                for name, vector in zip(STATISTICS, vectors, strict=True)
            }
        )
    return out, withheld


def small_columns(
    count: Vector, total: Vector, squares: Vector, *, smallest: int
) -> NDArray[np.bool_]:
    """Columns with few values, or of zeros and ones with few of either.

    Of zeros and ones the sum ``s`` is a count, and that of squares about the mean ``s - s²/n``.
    """
    own = np.divide(np.square(total), count, out=np.zeros_like(total), where=count > 0)
    binary = np.isclose(squares, total - own, rtol=1e-6, atol=1e-6) & (total == np.rint(total))
    small: NDArray[np.bool_] = _few(count, smallest) | (
        binary & (_few(total, smallest) | _few(count - total, smallest))
    )
    return small


def _few(n: Vector, smallest: int) -> NDArray[np.bool_]:
    few: NDArray[np.bool_] = (n > 0) & (n < smallest)
    return few


def _vector(array: Array | None, width: int) -> Vector | None:
    if array is None or array.dtype != "float64" or tuple(array.shape) != (width,):
        return None
    values: Vector = array.numpy()
    return values if values.shape == (width,) and np.isfinite(values).all() else None


def _listed(value: object) -> list[Any]:
    return value if isinstance(value, list) else []
