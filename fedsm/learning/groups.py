"""Counts by group, such as sex or age band, without groups of few rows. Pure.

A group is a band of a column's values or one value. Which groups there are is agreed beforehand
(bands) or told as numbers (values), so that no text leaves a site. Withheld is not only what counts
few rows: where what is left over of the whole would, another group is withheld with it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice, pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedsm.errors import ConfigError
from fedsm.learning.checks import MAX_LIST
from fedsm.metric_names import GROUPS

Counts = NDArray[np.int64]

MAX_VALUES = 20
"""A column of more values has no groups: it needs bands."""

TOO_MANY, NO_COLUMN = -1.0, -2.0
"""Instead of the number of withheld groups, where a column gives none."""


@dataclass(frozen=True, slots=True)
class Groups:
    """By which columns, and the ascending edges of each one's bands; none where its values are.

    A band holds its lower edge: ``(40, 65)`` gives under 40, 40 to under 65, 65 and over.
    """

    columns: tuple[str, ...] = ()
    edges: tuple[tuple[float, ...], ...] = ()

    @classmethod
    def of(cls, given: Mapping[str, tuple[float, ...]]) -> Groups:
        """From ``report.groups``."""
        return cls(tuple(given), tuple(tuple(edges) for edges in given.values()))

    def to_config(self) -> dict[str, Any]:
        """Flat values for a ``ConfigRecord``."""
        return {
            "report-groups": list(self.columns),
            "report-bands": [len(edges) for edges in self.edges],
            "report-edges": [float(edge) for edges in self.edges for edge in edges],
        }

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Groups:
        """Read back what :meth:`to_config` wrote.

        Raises
        ------
        ConfigError
            A column is named twice, for the difference of two bands can be of few rows; or edges
            do not ascend.
        """
        rest = iter(config.get("report-edges", ()))
        bands = config.get("report-bands", ())
        edges = tuple(tuple(islice(rest, n)) for n in bands)
        columns = tuple(config.get("report-groups", ()))
        if len(set(columns)) != len(columns) or len(edges) != len(columns):
            raise ConfigError("groups are of one column each", where="training.report.groups")
        if not all(a < b for own in edges for a, b in pairwise((-math.inf, *own, math.inf))):
            raise ConfigError("edges of bands do not ascend", where="training.report.groups")
        return cls(columns, edges)

    def has(self, column: int, value: float, texts: Sequence[str] | None = None) -> bool:
        """Whether it is a band, a category of ``texts``, or a value where there is neither."""
        edges = self.edges[column]
        if not edges and texts is None:
            return True
        groups = len(edges) + 1 if edges else len(texts or ())
        return value.is_integer() and 0 <= value < groups

    def label(self, column: int, value: float, texts: tuple[str, ...] = ()) -> str:
        """A group in words; ``texts`` are the column's categories, if it has any."""
        edges = self.edges[column]
        if not edges:
            return texts[int(value)] if texts else _text(value)
        at = int(value)
        if at == 0:
            return f"under {_text(edges[0])}"
        low = _text(edges[at - 1])
        return f"{low} and over" if at == len(edges) else f"{low} to under {_text(edges[at])}"


def withheld(counts: Counts, missing: Counts, smallest: int) -> NDArray[np.bool_]:
    """Groups whose counts stay.

    Parameters
    ----------
    counts : ndarray of int, shape (groups, cells)
    missing : ndarray of int, shape (cells,)
        Rows of no group, which with the whole and the groups would be known.
    smallest : int

    Returns
    -------
    ndarray of bool, shape (groups,)
        Those with a cell from 1 to ``smallest - 1``, and as many of the others, the smallest
        first, as it takes for no cell of all that stays to add up to so few.
    """
    out: NDArray[np.bool_] = np.asarray(_few(counts, smallest).any(axis=1))
    for group in np.argsort(counts.sum(axis=1), kind="stable"):
        if not _few(counts[out].sum(axis=0) + missing, smallest).any():
            break
        out[group] = True
    return out


def counted(
    groups: Groups,
    columns: Mapping[str, NDArray[np.float64]],
    y: NDArray[np.intp],
    predicted: NDArray[np.intp],
    classes: int,
    smallest: int,
) -> dict[str, list[int] | list[float]]:
    """A site's counts by group.

    Parameters
    ----------
    groups : Groups
    columns : mapping of str to ndarray, shape (rows,)
        Values before any preparation, NaN where missing; of categories their indices.
    y, predicted : ndarray of int, shape (rows,)
        Class indices.
    classes, smallest : int

    Returns
    -------
    dict
        ``group-column`` and ``group-value`` (index of the band, or the value) say which groups
        follow; ``num-group-rows``; ``num-group-classes``, per group the rows of each class, and
        ``num-group-confusion``, per group those of each class by predicted class; zeros where these
        are withheld; ``groups-withheld``, per column how many groups are not told.
    """
    out: dict[str, list[Any]] = {name: [] for name in GROUPS}
    for column, (name, edges) in enumerate(zip(groups.columns, groups.edges, strict=True)):
        if name not in columns:
            out["groups-withheld"].append(NO_COLUMN)
            continue
        raw = columns[name]
        here = ~np.isnan(raw)
        values = np.digitize(raw, edges).astype(np.float64) if edges else raw
        known, at = np.unique(values[here], return_inverse=True)
        if len(known) > max(MAX_VALUES, len(edges) + 1):
            out["groups-withheld"].append(TOO_MANY)
            continue
        cells = np.zeros((len(known) + 1, classes, classes), dtype=np.int64)
        np.add.at(cells, (at, y[here], predicted[here]), 1)
        np.add.at(cells[-1], (y[~here], predicted[~here]), 1)
        told = np.ones(len(known), dtype=bool)
        for summed, key in (
            (cells.sum(axis=(1, 2))[:, np.newaxis], "num-group-rows"),
            (cells.sum(axis=2), "num-group-classes"),
            (cells.reshape(len(cells), -1), "num-group-confusion"),
        ):
            few = withheld(summed[:-1], summed[-1], smallest)
            if key == "num-group-rows":
                told = ~few
                out["groups-withheld"].append(float(few.sum()))
                out["group-column"] += [float(column)] * int(told.sum())
                out["group-value"] += known[told].tolist()
            shown = np.where(few[:, np.newaxis], 0, summed[:-1])[told]
            out[key] += shown.ravel().tolist()
    return {name: values for name, values in out.items() if len(values) <= MAX_LIST}


def _text(value: float) -> str:
    """The shortest text of no other number, for groups are told apart by it."""
    return repr(float(value) + 0.0).removesuffix(".0")  # -0.0 is 0.0


def _few(counts: Counts, smallest: int) -> NDArray[np.bool_]:
    return np.asarray((counts > 0) & (counts < smallest))
