"""Vocabularies of the columns that hold categories.

A site answers with its categories of enough rows. How many rows each has is told to the job, which
holds the answer against its owner's terms, and does not leave it: nobody needs to know. The
federation's vocabulary is the union. A category that few rows of a site have is known all the same
where another site has it often enough. One that a single site has gets an input of its own, which
only that site's rows move.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from flwr.app import ConfigRecord, MetricRecord, RecordDict

from fedsm.errors import DataError
from fedsm.learning.preparation.summary import MAX_CATEGORIES, Summary
from fedsm.learning.tables import Table

MAX_TEXT = 64
"""Most characters of a category."""

Vocabulary = dict[str, dict[str, int]]
"""Column to category to rows, 0 where these are not told."""


def categories(table: Table, smallest: int) -> RecordDict:
    """A site's answer to ``query.categories``.

    Parameters
    ----------
    table : Table
    smallest : int
        Categories of fewer rows do not leave.

    Returns
    -------
    RecordDict
        ``categories`` (lists of one entry per category: ``column``, ``category`` and, for the job
        alone, ``rows``) and ``metrics`` (``num-examples``).

    Raises
    ------
    DataError
        A column has too many categories, or a too long one; names the column.
    """
    found: Vocabulary = {}
    for name, column in zip(table.categories, table.texts.T, strict=True):
        values, counts = np.unique(column[column != ""], return_counts=True)
        enough = counts >= smallest
        values, counts = values[enough], counts[enough]
        if len(values) > MAX_CATEGORIES or any(
            len(v) > MAX_TEXT or not v.isprintable() for v in values.tolist()
        ):
            raise DataError(
                f"column {name!r} has more than {MAX_CATEGORIES} categories, or one that is not "
                f"printable text of at most {MAX_TEXT} characters",
                where="categories",
                action="leave it out of the hyperparameter `categories`, or group its categories",
            )
        found[name] = dict(zip(values.tolist(), counts.tolist(), strict=True))
    return answer(found, len(table), counted=True)


def answer(found: Vocabulary, rows: int, *, counted: bool) -> RecordDict:
    """The records of an answer, with or without how many rows a category has."""
    flat = [(name, value, n) for name in found for value, n in found[name].items()]
    record = ConfigRecord(
        {"column": [name for name, _, _ in flat], "category": [value for _, value, _ in flat]}
    )
    if counted:
        record["rows"] = [n for _, _, n in flat]
    return RecordDict({"categories": record, "metrics": MetricRecord({"num-examples": rows})})


def read(reply: RecordDict, columns: tuple[str, ...] | None = None) -> Vocabulary | None:
    """A site's answer, or None where it is not of its form, too long, or of other columns."""
    try:
        record: Mapping[str, Any] = reply.config_records["categories"]
        lists: list[Any] = [record[key] for key in ("column", "category")]
    except KeyError:
        return None
    lists.append(record.get("rows", [0] * len(lists[0]) if isinstance(lists[0], list) else None))
    if not all(isinstance(v, list) for v in lists) or len({len(v) for v in lists}) != 1:
        return None
    found: Vocabulary = {name: {} for name in columns or ()}
    for name, value, n in zip(*lists, strict=True):
        if (
            not isinstance(name, str)
            or not isinstance(value, str)
            or not 0 < len(value) <= MAX_TEXT
            or not value.isprintable()
            or type(n) is not int
            or n < 0
            or (columns is not None and name not in found)
        ):
            return None
        known = found.setdefault(name, {})
        if value in known or len(known) >= MAX_CATEGORIES:
            return None
        known[value] = n
    return found


def excess(sites: Mapping[str, Vocabulary], enough: int) -> dict[str, str]:
    """Sites without which no column has too many categories, to what is wrong with their answers.

    Of a column with too many, the site goes that has the most that no other has. Nobody does where
    fewer than ``enough`` would be left: :func:`merge` then tells of the column.
    """
    kept, faults = dict(sites), {}
    for name in sorted({name for found in sites.values() for name in found}):
        while True:
            told = Counter(value for found in kept.values() for value in found.get(name, ()))
            if len(told) <= MAX_CATEGORIES:
                break
            if len(kept) <= enough:
                return {}
            own = {s: sum(told[v] == 1 for v in f.get(name, ())) for s, f in kept.items()}
            odd = max(kept, key=lambda s: (own[s], len(kept[s].get(name, ()))))
            del kept[odd]
            faults[odd] = (
                f"{own[odd]} categories of column {name!r} are its own alone: over all sites "
                f"there are more than {MAX_CATEGORIES}"
            )
    return faults


def merge(summary: Summary, sites: Mapping[str, Vocabulary]) -> Summary:
    """The summary with the union of the sites' categories.

    Raises
    ------
    DataError
        A column has too many.
    """
    union: dict[str, set[str]] = {name: set() for name in summary.categories}
    for found in sites.values():
        for name, counts in found.items():
            union[name].update(counts)
    for name, values in union.items():
        if len(values) > MAX_CATEGORIES:
            most = max(sites, key=lambda site: len(sites[site].get(name, ())))
            raise DataError(
                f"column {name!r} has {len(values)} categories over all sites, "
                f"{len(sites[most][name])} at {most} alone; {MAX_CATEGORIES} at most are taken",
                where="categories",
                action="group its categories alike at all sites, leave it out of the "
                f"hyperparameter `categories`, or run without {most}",
            )
    return replace(summary, vocabulary=tuple(tuple(sorted(v)) for v in union.values()))
