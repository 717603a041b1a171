"""Policy documents as AWS keeps them: compare two, and merge statements into one by Sid."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

EMPTY: dict[str, Any] = {"Version": "2012-10-17", "Statement": []}


def merged(
    document: Mapping[str, Any], statements: Sequence[Mapping[str, Any]], mine: str
) -> dict[str, Any]:
    """A policy with these statements, and without others whose Sid begins with ``mine``.

    What is not ours stays as it is, in its order.
    """
    kept = [
        each
        for each in _listed(document.get("Statement", []))
        if not str(each.get("Sid", "")).startswith(mine)
    ]
    return {**document, "Statement": [*kept, *(dict(each) for each in statements)]}


def same(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether two policies say the same.

    AWS may write a list of one as its element, and reorder a list; the order of statements counts
    for nothing either.
    """
    return _canonical(one) == _canonical(other)


def _canonical(value: Any) -> str:
    """A text that is the same for what says the same; a single value is a list of one."""
    texts = [
        json.dumps({key: _canonical(inner) for key, inner in each.items()}, sort_keys=True)
        if isinstance(each, Mapping)
        else str(each)
        for each in _listed(value)
    ]
    return json.dumps(sorted(texts))


def _listed(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else [value]
