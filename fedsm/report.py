"""A run's state as tables and lines for people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from fedsm.state import RunState

_COLOURS = {"Completed": "green", "Failed": "red", "Stopped": "yellow"}


def number(value: Any, digits: int = 4) -> str:
    """A metric for a table; what is undefined is a dash."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return "-"
    return str(value) if isinstance(value, int) else f"{value:.{digits}f}"


def sites_table(state: RunState) -> Table:
    """One row a site: account, job, status, billable seconds."""
    table = Table(title=f"Sites ({state.isolation})", title_justify="left")
    for column in ("site", "account", "job", "status", "seconds", "note"):
        table.add_column(
            column, overflow="fold", justify="right" if column == "seconds" else "left"
        )
    for site in state.sites.values():
        status = site.status
        if status == "InProgress":
            status = "in the run" if site.joined else site.secondary or "Starting"
        note = site.reason or (site.errors[-1] if site.errors else "")
        table.add_row(
            site.name,
            site.account,
            site.job,
            Text(status, style=_COLOURS.get(site.status, "")),
            str(site.seconds) if site.seconds else "",
            Text(note),
        )
    return table


def rounds_table(state: RunState, *, last: int = 10) -> Table:
    """The last rounds: the coordinator's test rows, the sites' average, each site's AUC."""
    shown = state.rounds[-last:]
    title = f"Rounds {state.current_round}/{state.rounds_planned}"
    if len(shown) < len(state.rounds):
        title += f" (the last {last}; all: fedsm history)"
    table = Table(title=title, title_justify="left")
    table.add_column("round", justify="right")
    for column in ("test loss", "test AUC", "test accuracy", "sites' loss", "sites' accuracy"):
        table.add_column(column, justify="right")
    for name in state.sites:
        table.add_column(f"{name} AUC", justify="right")
    table.add_column("s", justify="right")
    for row in shown:
        table.add_row(
            str(row.number),
            *(number(row.server.get(key)) for key in ("loss", "auc", "accuracy")),
            *(number(row.evaluate.get(key)) for key in ("loss", "accuracy")),
            *(number(_evaluate(row.sites, name).get("auc")) for name in state.sites),
            f"{row.seconds:.2f}",
        )
    return table


def summary(state: RunState) -> RenderableType:
    """What a finished run leaves: both tables, where the models are, what it took."""
    parts: list[RenderableType] = [sites_table(state), rounds_table(state)]
    if state.calls:
        calls = {where: sum(counts.values()) for where, counts in state.calls.items()}
        parts.append(Text("AWS calls: " + ", ".join(f"{where} {n}" for where, n in calls.items())))
    if state.model:
        parts.append(Text(f"Model of the coordinator: {state.model}"))
    for site in state.sites.values():
        if site.artifacts and site.status == "Completed":
            parts.append(Text(f"Model of {site.name}: {site.artifacts}"))
    if state.experiment:
        parts.append(Text(f"SageMaker experiment: {state.experiment}"))
    if state.reason:
        parts.append(Text(f"{state.status}: {state.reason}", style="red"))
    return Group(*parts)


def _evaluate(sites: Mapping[str, Mapping[str, Any]], name: str) -> Mapping[str, Any]:
    found = sites.get(name, {}).get("evaluate", {})
    return found if isinstance(found, Mapping) else {}
