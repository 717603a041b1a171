"""A run's state as tables and lines for people."""

from __future__ import annotations

import sys
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from fedsm.state import RunState, SiteState

_COLOURS = {"Completed": "green", "Failed": "red", "Stopped": "yellow"}


def console(*, stderr: bool = False) -> Console:
    """Where tables go; wide enough for them where nobody's terminal sets the width."""
    stream = sys.stderr if stderr else sys.stdout
    return Console(stderr=stderr, width=None if stream.isatty() else 120)


def number(value: Any, digits: int = 4) -> str:
    """A metric for a table; what is undefined is a dash."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return "-"
    return str(value) if isinstance(value, int) else f"{value:.{digits}f}"


def sites_table(state: RunState) -> Table:
    """One row a site: account, status, billable seconds, and its last validation metrics."""
    table = Table(
        title=f"Sites (launch: {state.launch}, isolation: {state.isolation})", title_justify="left"
    )
    for column in ("site", "account", "status", "seconds", "rows", "loss", "AUC", "note"):
        right = column in ("seconds", "rows", "loss", "AUC")
        table.add_column(column, overflow="fold", justify="right" if right else "left")
    for site in state.sites.values():
        status = site.status
        if status == "InProgress":
            status = "in the run" if site.joined else site.secondary or "Starting"
        metrics = state.last_metrics(site.name)
        table.add_row(
            site.name,
            site.account,
            Text(status, style=_COLOURS.get(site.status, "")),
            str(site.seconds) if site.seconds else "",
            number(metrics.get("train", {}).get("num-examples")),
            number(metrics.get("evaluate", {}).get("loss")),
            number(metrics.get("evaluate", {}).get("auc")),
            Text(site.reason or (site.errors[-1] if site.errors else "")),
        )
    return table


def rounds_table(state: RunState, *, last: int = 10) -> Table:
    """The last rounds: metrics on the coordinator's test rows, and averaged over the sites."""
    shown = state.rounds[-last:]
    title = f"Rounds {state.current_round}/{state.rounds_planned}"
    if shown and shown[-1].train.get("converged") == 1:
        title += ", converged"
    if len(shown) < len(state.rounds):
        title += f", the last {last} (all: fedsm history)"
    table = Table(title=title, title_justify="left")
    for column in ("round", "test loss", "AUC", "accuracy", "sites' loss", "AUC", "accuracy", "s"):
        table.add_column(column, justify="right", no_wrap=True)
    for row in shown:
        table.add_row(
            f"{row.number} *" if row.number == state.best.get("round") else str(row.number),
            *(number(row.server.get(key)) for key in ("loss", "auc", "accuracy")),
            *(number(row.evaluate.get(key)) for key in ("loss", "auc", "accuracy")),
            f"{row.seconds:.2f}",
        )
    return table


def shortfall(state: RunState) -> str:
    """One line that names the sites which did not end well; empty where all did, or no model is."""
    short = [site for site in state.sites.values() if not site.ended_well]
    if not short or not state.model:
        return ""
    why = (s.reason or (s.errors[-1] if s.errors else _silent_end(s)) for s in short)
    told = "; ".join(f"{site.name}: {reason}" for site, reason in zip(short, why, strict=True))
    return f"{len(state.sites) - len(short)} of {len(state.sites)} sites ended well; {told}"


def _silent_end(site: SiteState) -> str:
    return "it never trained" if not site.trained else f"its job is {site.status}"


def summary(state: RunState) -> RenderableType:
    """Both tables of a run."""
    return Group(sites_table(state), rounds_table(state))


def chosen(state: RunState) -> str:
    """One line on the round whose model is the run's."""
    best, rounds = state.best, len(state.rounds)
    whose = "the coordinator's rows" if best["of"] == "server" else "the sites' validation rows"
    what = f"{best['metric']} on {whose}"
    if not best["round"]:
        return f"Best round: none, {what} was undefined in every round; the model is the last's"
    line = f"Best round: {best['round']} of {rounds}, by {what} ({number(best['value'])})"
    if best["undefined"]:
        line += f"; undefined in {best['undefined']} rounds"
    return line + (f"; ended early, {state.rounds_planned} were planned" if best["early"] else "")


def whereabouts(state: RunState) -> list[str]:
    """Lines that say where models and records are, and what the run took."""
    lines = []
    if state.calls:
        calls = {where: sum(counts.values()) for where, counts in state.calls.items()}
        lines.append("AWS calls: " + ", ".join(f"{where} {n}" for where, n in calls.items()))
    if state.model:
        lines.append(f"Model of the coordinator: {state.model}")
    if state.best:
        lines.append(chosen(state))
    lines += [
        f"Model of {site.name}: {site.artifacts}"
        for site in state.sites.values()
        if site.artifacts and site.status == "Completed"
    ]
    if state.experiment:
        lines.append(f"SageMaker experiment: {state.experiment}")
    return lines
