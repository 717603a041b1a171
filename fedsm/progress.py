"""Live progress of a run: a table that refreshes in a terminal, plain lines elsewhere."""

from __future__ import annotations

import threading
from types import TracebackType

from rich.console import Console, Group
from rich.live import Live

from fedsm.events import Event
from fedsm.report import number, rounds_table, sites_table
from fedsm.state import RunState


class Progress:
    """Subscribe ``handle`` to a journal, inside a ``with`` block.

    Parameters
    ----------
    console : Console
        Where to write.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._state = RunState()
        self._lock = threading.Lock()
        self._live = (
            Live(
                console=console,
                get_renderable=self._render,
                refresh_per_second=4,
                transient=True,
            )
            if console.is_terminal
            else None
        )

    def __enter__(self) -> Progress:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def handle(self, event: Event) -> None:
        """Take one event in."""
        with self._lock:
            self._state.apply(event)
        if self._live is None and (line := describe(event)):
            self._console.print(line, highlight=False, markup=False, soft_wrap=True)

    def _render(self) -> Group:
        with self._lock:
            return Group(sites_table(self._state), rounds_table(self._state, last=5))


def describe(event: Event) -> str:
    """One line about an event; empty for those that only machines read."""
    data = event.data
    match event.kind:
        case "run-started":
            names = ", ".join(site["name"] for site in data["sites"])
            return (
                f"run {data['run']}: {data['rounds']} rounds of {data['strategy']} "
                f"over {names} ({data['cloud']}, {data['isolation']})"
            )
        case "execution-started":
            return f"{data['site']}: started {data['pipeline'].rpartition('/')[2]}"
        case "job-created":
            return f"{data['site']}: created {data['job']} in account {data['account']}"
        case "job-status":
            reason = f": {data['reason']}" if data["reason"] else ""
            return f"{data['site']}: {data['status']} ({data['secondary']}){reason}"
        case "site-joined":
            return f"{data['site']}: joined{' again' if data.get('again') else ''}"
        case "site-lost" | "site-refused":
            return f"{data.get('site', data.get('peer'))}: {data['reason']}"
        case "site-error":
            return f"{data['site']}: round {data['round']}, {data['phase']}: {data['error']}"
        case "preparation":
            left = ", ".join(data["statistics"])
            return f"prepared from {data['examples']} rows of {len(data['sites'])} sites: {left}"
        case "round-ended":
            metrics = {**data["evaluate"], **data["server"]}
            shown = ", ".join(
                f"{name} {number(metrics[name])}"
                for name in ("loss", "auc", "accuracy")
                if name in metrics
            )
            return f"round {data['round']}: {shown} ({data['seconds']:.2f} s)"
        case "tracking" if data.get("error"):
            return f"tracking by {data['tracker']}: {data['error']}"
        case "run-ended":
            reason = f": {data['reason']}" if data["reason"] else ""
            return f"run {data['status']}{reason}"
        case _:
            return ""
