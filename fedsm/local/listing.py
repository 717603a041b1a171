"""Pages of SageMaker's List actions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

Item = TypeVar("Item")

PAGE = 10
"""Entries of a page where the request names no number."""


def page(
    found: Sequence[Item], body: Mapping[str, Any], size: int = PAGE
) -> tuple[list[Item], dict[str, str]]:
    """The entries that the request's ``NextToken`` and ``MaxResults`` ask for, and the next token.

    The second is what the answer holds beside the entries: nothing after the last page.
    """
    token = body.get("NextToken", "")
    start = int(token) if token.isdecimal() else 0
    end = start + int(body.get("MaxResults", size))
    return list(found[start:end]), {} if end >= len(found) else {"NextToken": str(end)}


def ordered(
    found: Sequence[Item], body: Mapping[str, Any], keys: Mapping[str, Callable[[Item], Any]]
) -> list[Item]:
    """The entries in the request's ``SortBy`` and ``SortOrder``.

    The first of ``keys`` is what they are sorted by where the request does not say; then the last
    comes first.
    """
    key = keys.get(body.get("SortBy", ""), next(iter(keys.values())))
    return sorted(found, key=key, reverse=body.get("SortOrder", "Descending") == "Descending")
