"""The final evaluation: asked of every site after the last round, and put together for the run.

Nothing here fails a run. A site that gives no report, or one that cannot be, is named with the
reason.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, RecordDict

from fedsm.errors import DataError, FedsmError
from fedsm.events import Journal
from fedsm.exchange import REPORT, Exchange
from fedsm.learning.groups import Groups
from fedsm.learning.models import Adapter
from fedsm.learning.pooled import by_group, importances, pooled
from fedsm.learning.preparation import Summary
from fedsm.learning.reported import Reported, read
from fedsm.learning.schema import AnyTable
from fedsm.learning.site_report import MOST_PERMUTED, Asked, counted, measured
from fedsm.training import Outcome
from fedsm.training_config import Report

FILE = "report.json"

MOST_COEFFICIENTS = 50
"""Inputs whose coefficients are listed: the largest ones."""


class Reporter:
    """Makes the report of a run; for the loop's ``report``.

    Parameters
    ----------
    settings : Report
    journal : Journal
        Gets ``site-report`` for each site, as it was told, or ``site-unreported`` with the reason,
        and ``report``.
    directory : Path
        The run's, which gets ``report.json``.
    model : callable
        () -> Adapter, or None where the arrays are of no model that is known here.
    test : callable
        () -> the coordinator's own rows, or None.
    hyperparameters : mapping
    """

    def __init__(
        self,
        settings: Report,
        journal: Journal,
        directory: Path,
        *,
        model: Callable[[], Adapter | None],
        test: Callable[[], AnyTable | None],
        hyperparameters: Mapping[str, Any],
    ) -> None:
        self._settings = settings
        self._journal = journal
        self._directory = directory
        self.model = model
        self._test = test
        self._hyperparameters = hyperparameters
        self._groups = Groups.of(settings.groups)

    def __call__(self, exchange: Exchange, nodes: list[int], outcome: Outcome) -> None:
        """Ask the sites, and write the report down."""
        try:
            self._report(exchange, nodes, outcome)
        except Exception as error:  # the model is there: what tells of it may not lose it
            said = str(error) if isinstance(error, FedsmError) else type(error).__name__
            self._write({"notes": [f"no report: {said}"]})

    def _report(self, exchange: Exchange, nodes: list[int], outcome: Outcome) -> None:
        if outcome.summary is None:
            self._write({"notes": ["no report: training.prepare is off, so no class is known"]})
            return
        made = _Report(self, outcome.arrays, outcome.summary)
        rounds = len(outcome.history)
        config = {"server-round": rounds, **made.asked(rounds).to_config()}
        content = RecordDict(
            {
                "arrays": outcome.arrays,
                "config": ConfigRecord(config | outcome.summary.to_config()),
            }
        )
        answers, withheld, missing = exchange.report(rounds, nodes, content)
        for site, why in sorted(missing.items()):
            self._journal.append(
                "site-unreported", round=rounds, phase=REPORT, site=site, error=why
            )
        for site, metrics in sorted(answers.items()):
            held = withheld.get(site, [])
            self._journal.append(
                "site-report",
                round=rounds,
                phase=REPORT,
                site=site,
                metrics=metrics,
                withheld=held,
            )
            try:
                made.take(site, metrics, held)
            except DataError as error:
                missing[site] = error.what
        self._write({"round": outcome.best or rounds, **made.combined(missing)})

    def _write(self, report: Mapping[str, Any]) -> None:
        event = self._journal.append("report", report=dict(report))
        text = json.dumps(event.data["report"], indent=1)
        (self._directory / FILE).write_text(text + "\n", encoding="utf-8")

    @property
    def settings(self) -> Report:
        """What is asked for."""
        return self._settings

    @property
    def groups(self) -> Groups:
        """By which rows are counted."""
        return self._groups

    def server(self, model: Adapter, arrays: ArrayRecord, summary: Summary) -> Reported | None:
        """The model on the coordinator's own test rows, measured as at a site."""
        rows = self._test()
        if rows is None:
            return None
        y = summary.encode(rows.labels)
        found = model.predict(arrays, summary.transform(rows), summary, self._hyperparameters)
        metrics = measured(y, found) | counted(y, found, 1)
        return read(metrics, len(summary.classes), Groups(), (), [])

    def coefficients(
        self, model: Adapter, arrays: ArrayRecord, summary: Summary
    ) -> dict[str, float]:
        """Of a binary linear model: input to its coefficient, the largest first."""
        fitted = model.build(arrays, summary, self._hyperparameters)
        values = np.atleast_2d(getattr(fitted[-1], "coef_", np.zeros((0, 0))))
        if values.shape != (1, len(summary.inputs)):
            return {}
        order = np.argsort(-np.abs(values[0]), kind="stable")
        return {summary.inputs[at]: float(values[0, at]) for at in order.tolist()}


class _Report:
    """One report in the making."""

    def __init__(self, reporter: Reporter, arrays: ArrayRecord, summary: Summary) -> None:
        self._reporter = reporter
        self._summary = summary
        self._labels = [str(label) for label in summary.classes]
        self._vocabulary = dict(zip(summary.categories, summary.vocabulary, strict=True))
        self._notes: list[str] = []
        self._sites: dict[str, Reported] = {}
        self._server: Reported | None = None
        self._coefficients: dict[str, float] = {}
        try:
            model = reporter.model()
            if model is not None:
                self._coefficients = reporter.coefficients(model, arrays, summary)
                self._server = reporter.server(model, arrays, summary)
        except FedsmError as error:
            self._notes.append(f"the coordinator's own rows: {error}")

    def asked(self, rounds: int) -> Asked:
        settings = self._reporter.settings
        self._asked = Asked(
            local_only=settings.local_only,
            personalize=settings.personalize,
            groups=self._reporter.groups,
            importance=self._permuted() if settings.importance else (),
            smallest=settings.smallest,
            rounds=rounds,
        )
        return self._asked

    def _permuted(self) -> tuple[str, ...]:
        """Raw features by their largest coefficient, or in their order; so many at most."""
        features = (*self._summary.features, *self._summary.categories)
        if len(features) > MOST_PERMUTED:
            self._notes.append(f"importance of {MOST_PERMUTED} of {len(features)} features")
        ranked = [name for name in self._coefficients if name in set(features)]
        return tuple(dict.fromkeys((*ranked, *features)))[:MOST_PERMUTED]

    def take(self, site: str, metrics: Mapping[str, Any], withheld: list[str]) -> None:
        """Take in what a site told.

        Raises
        ------
        DataError
            It cannot be.
        """
        asked = self._asked
        classes = len(self._labels)
        self._sites[site] = read(
            metrics, classes, asked.groups, asked.importance, withheld, self._vocabulary
        )

    def combined(self, missing: Mapping[str, str]) -> dict[str, Any]:
        """The whole, as it is journaled."""
        sites = self._sites
        out: dict[str, Any] = {
            "labels": self._labels,
            "sites": {site: told.entry for site, told in sites.items()},
            "missing": dict(missing),
            "pooled": pooled(sites, self._labels),
            "undefined": _counted_undefined(sites),
        }
        aucs = {s: t.entry["auc"]["value"] for s, t in sites.items() if t.entry["n"]}
        known = {site: value for site, value in aucs.items() if value is not None}
        if known:
            out["worst"] = min(known, key=lambda site: known[site])
        if self._server is not None:
            own = pooled({"server": self._server}, self._labels) | self._server.entry
            unsaid = ("sites", "without", "withheld", "suppressed")
            out["server"] = {name: value for name, value in own.items() if name not in unsaid}
        if self._asked.groups.columns:
            out["groups"] = by_group(sites, self._asked.groups, self._vocabulary)
        if self._coefficients:
            largest = list(self._coefficients.items())[:MOST_COEFFICIENTS]
            out["coefficients"] = [{"input": name, "value": value} for name, value in largest]
        if self._asked.importance:
            out["importance"] = importances(sites, self._asked.importance)
        if self._notes:
            out["notes"] = self._notes
        return out


def _counted_undefined(sites: Mapping[str, Reported]) -> dict[str, int]:
    """Metric to the number of sites at which it is undefined."""
    counts: dict[str, int] = {}
    for told in sites.values():
        for name in told.entry["undefined"]:
            counts[name] = counts.get(name, 0) + 1
    return counts
