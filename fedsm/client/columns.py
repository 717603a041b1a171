"""The answer to ``query.statistics`` without small counts. Pure."""

from __future__ import annotations

from typing import Any

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, RecordDict
from numpy.typing import NDArray

from fedsm.learning.preparation import STATISTICS

Vector = NDArray[np.float64]


def released(content: RecordDict, smallest: int) -> tuple[RecordDict, list[str]]:
    """What may leave of a site's statistics.

    Parameters
    ----------
    content : RecordDict
        As of :func:`fedsm.learning.preparation.statistics`; what has another form stays.
    smallest : int
        The smallest count that may leave.

    Returns
    -------
    tuple of RecordDict, list of str
        The records ``statistics`` and ``schema``, and what was left out of them.
    """
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
    classes: list[Any] = [v for v in _listed(schema.get("classes")) if isinstance(v, int | str)]
    out["schema"] = ConfigRecord({"features": features, "classes": classes, "class-counts": counts})
    given = [_vector(arrays.get(name), len(features)) for name in STATISTICS]
    vectors = [vector for vector in given if vector is not None]
    if len(vectors) == len(given):
        small = small_columns(*vectors, smallest=smallest)
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

    def few(n: Vector) -> NDArray[np.bool_]:
        return (n > 0) & (n < smallest)

    own = np.divide(np.square(total), count, out=np.zeros_like(total), where=count > 0)
    binary = np.isclose(squares, total - own, rtol=1e-6, atol=1e-6) & (total == np.rint(total))
    small: NDArray[np.bool_] = few(count) | (binary & (few(total) | few(count - total)))
    return small


def _vector(array: Array | None, width: int) -> Vector | None:
    if array is None or array.dtype != "float64" or tuple(array.shape) != (width,):
        return None
    values: Vector = array.numpy()
    return values if values.shape == (width,) and np.isfinite(values).all() else None


def _listed(value: object) -> list[Any]:
    return value if isinstance(value, list) else []
