"""A document with one part less, or with one that is wider."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from typing import Any

from fedsm.policies import Document


def changed(document: Document, path: Sequence[Any], to: Any = None) -> Document:
    """A copy of the document without what is at a path of its statements, or with ``to`` there."""
    mutant = copy.deepcopy(document)
    at = mutant["Statement"]
    for step in path[:-1]:
        at = at[step]
    if to is None:
        del at[path[-1]]
    else:
        at[path[-1]] = to
    return mutant


def mutants(document: Document) -> Iterator[tuple[str, Document]]:
    """Every mutant, with a name: no statement, condition or value of a list is left out."""
    for i, statement in enumerate(document["Statement"]):
        paths: list[tuple[Any, ...]] = [(i,)]
        conditions = statement.get("Condition", {})
        lists = [(i, "Action"), (i, "Resource")]
        for operator, key in ((o, k) for o, keys in conditions.items() for k in keys):
            paths.append((i, "Condition", operator, key))
            lists.append(paths[-1])
        for path in lists:
            values = statement
            for step in path[1:]:
                values = values.get(step, ())
            if isinstance(values, list) and len(values) > 1:
                paths += [(*path, j) for j in range(len(values))]
        for path in paths:
            yield f"{statement['Sid']} without {path[1:]}", changed(document, path)
        wider = {"Resource", "Principal"} | (
            {"Action"} if statement["Effect"] == "Allow" else set()
        )
        for element in sorted(wider & set(statement)):
            if statement[element] not in ("*", ["*"]):
                yield f"{statement['Sid']} with any {element}", changed(document, (i, element), "*")
