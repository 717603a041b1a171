"""The job's log: one line per event, for people and for SageMaker's metric regexes.

A line is ``fedsm <event> <name>=<value>; ...``. Metrics carry the phase in their name, as in
``train-loss=0.31;`` and ``evaluate-auc=0.93;``. A regex for one: ``evaluate-auc=([0-9.eE+-]+);``.
"""

from __future__ import annotations

from collections.abc import Mapping

from fedsm.transport.text import clean

MOST_TEXT = 2000
"""Characters of a value that are printed: some come from the coordinator."""


def line(event: str, **fields: object) -> None:
    """Print one event; underscores in names become hyphens."""
    named = {name.replace("_", "-"): value for name, value in fields.items()}
    print(_format(event, named), flush=True)


def metrics(event: str, phase: str, values: Mapping[str, object], **fields: object) -> None:
    """Print one event with the numbers among ``values``; lists are left out."""
    numbers = {f"{phase}-{name}": v for name, v in values.items() if isinstance(v, int | float)}
    print(_format(event, {**fields, **numbers}), flush=True)


def _format(event: str, fields: Mapping[str, object]) -> str:
    parts = (f"{name}={_text(value)};" for name, value in fields.items())
    return " ".join(["fedsm", event, *parts])


def _text(value: object) -> str:
    return f"{value:.9g}" if isinstance(value, float) else clean(_one_line(str(value)), MOST_TEXT)


def _one_line(text: str) -> str:
    return " ".join(text[: MOST_TEXT + 1].split())
