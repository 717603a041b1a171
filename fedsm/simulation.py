"""A federation in one process: the real rounds, strategies and ClientApp, without jobs or network.

For choosing a strategy and its settings before anybody starts a job, and for studies on public
rows. What a run over jobs adds is left out: identity, owners' terms and what these hold back,
sites that leave or are late. The arrays are the same, to the last bit.

    >>> from fedsm.datasets import breast_cancer
    >>> from fedsm.simulation import simulate
    >>> found = simulate(breast_cancer().sites, "exact", rounds=10)
    >>> model = found.build()  # takes raw rows
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from flwr.app import ArrayRecord, Context
from flwr.clientapp import ClientApp
from flwr.serverapp.strategy import Strategy

from fedsm.events import Event, Journal
from fedsm.hooks import options_of
from fedsm.learning.models import Adapter, adapter, evaluate
from fedsm.learning.preparation import Summary
from fedsm.learning.site_app import DEFAULT_MODEL, tabular_app
from fedsm.learning.strategies import make_strategy
from fedsm.reporting import Reporter
from fedsm.training import Loop, Outcome, Rounds
from fedsm.training_config import Best, Prepare, Report
from fedsm.transport.memory_grid import SITE, MemoryGrid

Rows = Callable[[Context], Any]
MakeApp = Callable[[Rows, Rows], ClientApp]


class Tables(Protocol):
    """One site's rows, such as :class:`fedsm.datasets.SiteTables`."""

    @property
    def train(self) -> Any:
        """A Table or SparseTable of one row at least."""

    @property
    def validation(self) -> Any:
        """Of the same columns; there may be no row."""


@dataclass(frozen=True)
class Simulation:
    """What a simulated run leaves.

    Attributes
    ----------
    outcome : Outcome
        Arrays, preparation and history, as the rounds over jobs leave them.
    sites : list of dict
        One row a site, round and phase: ``round``, ``phase``, ``site`` and ``metrics``.
    errors : list of dict
        ``round``, ``phase``, ``site`` and ``error`` of what a site could not answer.
    model : Adapter
    hyperparameters : mapping
    contexts : mapping of str to Context
        Site to its context, with the state that its app left there.
    report : dict
        The final evaluation as ``report.json`` has it; empty where none was asked for.
    """

    outcome: Outcome
    sites: list[dict[str, Any]] = field(repr=False)
    errors: list[dict[str, Any]] = field(repr=False)
    model: Adapter
    hyperparameters: Mapping[str, Any]
    contexts: Mapping[str, Context] = field(repr=False)
    report: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @property
    def arrays(self) -> ArrayRecord:
        """The global arrays after the last round."""
        return self.outcome.arrays

    @property
    def summary(self) -> Summary | None:
        """How rows are prepared."""
        return self.outcome.summary

    @property
    def history(self) -> list[dict[str, Any]]:
        """One row a round."""
        return self.outcome.history

    def build(self) -> Any:
        """A fitted scikit-learn Pipeline that takes raw rows, as ``model.joblib`` holds it."""
        assert self.summary is not None  # noqa: S101
        return self.model.build(self.arrays, self.summary, self.hyperparameters)

    def evaluate(self, table: Any) -> dict[str, Any]:
        """Metrics of the global model on raw rows."""
        assert self.summary is not None  # noqa: S101
        return dict(evaluate(self.model, self.arrays, self.summary, self.hyperparameters, table))


def simulate(
    sites: Mapping[str, Tables],
    strategy: str | Strategy = "fedavg",
    *,
    rounds: int,
    options: Mapping[str, Any] | None = None,
    model: str | Adapter = DEFAULT_MODEL,
    hyperparameters: Mapping[str, Any] | None = None,
    prepare: Prepare | None = None,
    best: Best | None = None,
    report: Report | None = None,
    test: Any = None,
    make_app: MakeApp | None = None,
    min_sites: int | None = None,
    seed: int = 0,
    directory: Path | None = None,
) -> Simulation:
    """Train over sites that are tables in memory.

    Parameters
    ----------
    sites : mapping of str to Tables
        Site to its rows.
    strategy : str or Strategy
        As ``training.strategy``; a Flower strategy of one's own must not need more nodes than
        ``min_sites``.
    rounds : int
    options : mapping, optional
        Of the strategy, where it is given by name; ``exact`` takes ``c``, ``penalty`` and
        ``class-weights`` from the hyperparameters, as a run does.
    model : str or Adapter
        As ``training.model``.
    hyperparameters : mapping, optional
        By name, as every site gets them.
    prepare : Prepare, optional
        As ``training.prepare``; standardised without it.
    best : Best, optional
        As ``training.best``; the last round's model without it.
    report : Report, optional
        As ``training.report``; none without it.
    test : Table or SparseTable, optional
        The coordinator's own rows, judged after every round: ``server`` in the history.
    make_app : callable, optional
        (training rows, validation rows) -> ClientApp; without it
        :func:`fedsm.learning.site_app.tabular_app` over ``model``.
    min_sites : int, optional
        As ``training.min_sites``; all sites without it.
    seed : int
        Of the strategy's sampling of sites.
    directory : Path, optional
        Keeps ``events.jsonl``, ``checkpoints/`` and ``report.json``; without it none outlives the
        call.

    Raises
    ------
    ConfigError
        A name, an option or a setting is wrong.
    TrainingError
        As :meth:`fedsm.training.Loop.run`.
    """
    logging.getLogger("flwr").setLevel(logging.WARNING)  # it tells of every round, twice
    least = len(sites) if min_sites is None else min_sites
    made = adapter(model) if isinstance(model, str) else model
    chosen = dict(hyperparameters or {})
    if isinstance(strategy, str):
        strategy = make_strategy(
            strategy,
            options_of(strategy, options or {}, chosen),
            min_sites=least,
            sites=len(sites),
            rounds=rounds,
        )
    make_app = make_app or (lambda train, validation: tabular_app(train, validation, made))
    app = make_app(
        lambda context: sites[str(context.node_config[SITE])].train,
        lambda context: sites[str(context.node_config[SITE])].validation,
    )
    grid = MemoryGrid(app, list(sites), chosen)
    settings = Rounds(
        rounds=rounds,
        sites=tuple(sites),
        min_sites=least,
        join_deadline=0.0,
        round_deadline=0.0,
        seed=seed,
        prepare=prepare or Prepare(),
        best=best,
    )
    per_site: list[dict[str, Any]] = []
    errors: list[dict[str, Any]] = []
    reported: dict[str, Any] = {}

    def keep(event: Event) -> None:
        if event.kind == "site-metrics":
            names = ("round", "phase", "site", "metrics")
            per_site.append({name: event.data[name] for name in names})
        elif event.kind == "site-error":
            errors.append(dict(event.data))
        elif event.kind == "report":
            reported.update(event.data["report"])

    def judge(_: int, arrays: ArrayRecord, summary: Summary | None) -> Mapping[str, Any]:
        assert summary is not None  # noqa: S101
        return dict(evaluate(made, arrays, summary, chosen, test))

    with tempfile.TemporaryDirectory() as scratch:
        folder = directory or Path(scratch)
        (folder / "checkpoints").mkdir(parents=True, exist_ok=True)
        journal = Journal(folder / "events.jsonl")
        journal.subscribe(keep)
        reporter = (
            None
            if report is None
            else Reporter(
                report,
                journal,
                folder,
                model=lambda: made,
                test=lambda: test,
                hyperparameters=chosen,
            )
        )
        try:
            outcome = Loop(
                grid,
                strategy,
                settings,
                journal,
                folder / "checkpoints",
                initial=lambda summary: made.initial(_known(summary), chosen),
                evaluate_fn=None if test is None else judge,
                report=reporter,
            ).run()
        finally:
            journal.close()
    return Simulation(outcome, per_site, errors, made, chosen, grid.contexts, reported)


def _known(summary: Summary | None) -> Summary:
    assert summary is not None  # noqa: S101
    return summary
