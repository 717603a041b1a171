"""The final evaluation through the round loop, the transport and the shipped app."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import ConfigRecord, Context, Message, MetricRecord, RecordDict
from sklearn.metrics import roc_auc_score

from fedsm import evaluation
from fedsm.datasets import breast_cancer, write_channels
from fedsm.events import Journal, read
from fedsm.hooks import model_of
from fedsm.learning.models import adapter
from fedsm.learning.strategies import make_strategy
from fedsm.learning.tables import concatenate, write_csv
from fedsm.report import console
from fedsm.report_tables import full, summary
from fedsm.reporting import Reporter
from fedsm.run import Run
from fedsm.state import fold
from fedsm.training import Loop, Outcome, Rounds
from fedsm.training_config import Prepare, Report, Training
from tests.learning.inprocess import ROOT, fresh_app
from tests.transport.world import World

DATA = breast_cancer()
SITES = tuple(DATA.sites)
HOSTILE, LATE = SITES[0], SITES[1]

Answer = Callable[[Message], Message]


def reporter(
    settings: Report, training: Training, journal: Journal, project: Path, run: Path
) -> Reporter:
    return Reporter(
        settings,
        journal,
        run,
        model=partial(model_of, training, project),
        test=partial(evaluation.test_rows, training, project),
        hyperparameters=training.hyperparameters,
    )


class Hospitals:
    """A world of the shipped app, and runs of three rounds in it."""

    def __init__(self, place: Path) -> None:
        self.world = World(SITES)
        self.place = place
        self.app = fresh_app(ROOT / "client_code")
        self.contexts: dict[str, Context] = {}
        self.handlers: dict[str, Answer] = {}
        for number, (site, channels) in enumerate(write_channels(DATA, place).items(), start=2):
            folders = {f"channel-{name}": str(path) for name, path in channels.items()}
            self.contexts[site] = Context(1, number, folders, RecordDict(), {})
            self.handlers[site] = lambda message, site=site: self.honest(site, message)
            self.world.join(site, lambda message, site=site: self.handlers[site](message))
        self.world.wait(len(SITES))
        write_csv(DATA.test, place / "test.csv", label="target")

    def honest(self, site: str, message: Message) -> Message:
        return self.app(message, self.contexts[site])

    def instead(self, site: str, change: Callable[[Message], Message]) -> None:
        """Let a site answer the report with something else."""

        def handle(message: Message) -> Message:
            reply = self.honest(site, message)
            return change(reply) if message.metadata.message_type == "evaluate.report" else reply

        self.handlers[site] = handle

    def run(self, settings: Report, **training: Any) -> tuple[Outcome, Run]:
        run = self.place / "runs" / f"run-{len(list(self.place.glob('runs/*')))}"
        run.mkdir(parents=True)
        journal = Journal(run / "events.jsonl")
        given = Training(model="logistic-regression", test="test.csv", **training)
        outcome = Loop(
            self.world.grid,
            make_strategy("fedavg", {}, min_sites=2, sites=len(SITES)),
            Rounds(3, SITES, 2, 10.0, 20.0, seed=0, prepare=Prepare()),
            journal,
            run,
            initial=lambda known: adapter("logistic-regression").initial(known, {}),  # type: ignore[arg-type]
            report=reporter(settings, given, journal, self.place, run),
        ).run()
        journal.close()
        return outcome, Run(run)


@pytest.fixture
def hospitals(tmp_path: Path) -> Iterator[Hospitals]:
    made = Hospitals(tmp_path)
    yield made
    made.world.close()


def shown(report: Mapping[str, Any]) -> str:
    out = console()
    with out.capture() as capture:
        out.print(summary(report), full(report))
    return capture.get()


def test_every_site_is_told_by_itself_and_all_together(hospitals: Hospitals) -> None:
    settings = Report(
        personalize=True, groups={"mean_radius": (13.0,)}, importance=True, smallest=2
    )
    outcome, run = hospitals.run(settings)
    report = run.report()
    assert report == json.loads((run.directory / "report.json").read_text())
    assert set(report["sites"]) == set(SITES)
    assert report["missing"] == {}
    assert "notes" not in report
    known = outcome.summary
    assert known is not None
    model = adapter("logistic-regression").build(outcome.arrays, known, {})
    tables = {site: split.validation for site, split in DATA.sites.items()}
    for site, table in tables.items():
        entry = report["sites"][site]
        score = model.predict_proba(table.features)[:, 1]
        assert entry["auc"]["value"] == pytest.approx(roc_auc_score(table.labels, score))
        assert entry["local_only"]["auc"]["value"] > 0.9
        assert "personal" in hospitals.contexts[site].state
    rows = concatenate(list(tables.values()))
    score = model.predict_proba(rows.features)[:, 1]
    assert report["pooled"]["auc"]["value"] == pytest.approx(
        roc_auc_score(rows.labels, score), abs=0.005
    )
    assert report["pooled"]["n"] == len(rows)
    test = model.predict_proba(DATA.test.features)[:, 1]
    assert report["server"]["auc"]["value"] == pytest.approx(roc_auc_score(DATA.test.labels, test))
    assert report["server"]["classification_report"]["1"]["support"] == DATA.test.labels.sum()
    largest = np.abs(model[-1].coef_).max()
    assert abs(report["coefficients"][0]["value"]) == pytest.approx(largest)
    assert report["worst"] in SITES
    assert {"under 13", "13 and over"} == set(report["groups"]["mean_radius"]["groups"])
    assert report["importance"]
    text = shown(report)
    assert "personal: AUC" in text
    assert "Coefficients (15 of 30)" in text
    for word in (*SITES, "pooled", "test (server)", f"{report['worst']} (worst)", "By mean_radius"):
        assert word in text
    told = [e.data for e in read(run.journal) if e.kind == "site-report"]
    assert [event["site"] for event in told] == sorted(SITES)


def one_class(metrics: MetricRecord) -> dict[str, list[int]]:
    """Counts that leave nothing to rank, beside an AUC."""
    n, bins = metrics["num-examples"], len(metrics["num-scores-negative"])  # type: ignore[arg-type]
    none = [0] * (bins - 1)
    return {
        "num-classes": [n, 0],
        "num-confusion": [n, 0, 0, 0],
        "num-scores-positive": [0, *none],
        "num-scores-negative": [n, *none],
    }  # type: ignore[dict-item]


BAD: dict[str, tuple[Callable[[MetricRecord], object], str]] = {
    "lengths": (lambda m: m.update({"num-scores-positive": [1, 2]}), "num-scores-positive"),
    "negative": (lambda m: m.update({"num-classes": [-5, 34]}), "num-classes"),
    "not a number": (lambda m: m.update({"num-examples": math.nan}), "num-examples"),
    "huge": (lambda m: m.update({"loss": 1e300}), "loss"),
    "beyond": (lambda m: m.update({"num-classes": [2**60, 1]}), "num-classes"),
    "one class": (lambda m: m.update(one_class(m)), "'auc'"),
    "long": (lambda m: m.update({"importance": [0.0] * 5000}), "importance"),
    "empty": (lambda m: m.clear(), "num-examples"),
}


@pytest.mark.parametrize("kind", BAD)
def test_a_hostile_report_is_refused_and_the_others_stand(hospitals: Hospitals, kind: str) -> None:
    change, name = BAD[kind]

    def lie(reply: Message) -> Message:
        change(next(iter(reply.content.metric_records.values())))
        return reply

    hospitals.instead(HOSTILE, lie)
    outcome, run = hospitals.run(Report(local_only=False))
    report = run.report()
    assert name in report["missing"][HOSTILE]
    assert set(report["sites"]) == set(SITES) - {HOSTILE}
    assert HOSTILE not in report["pooled"]["sites"]
    assert len(outcome.history) == 3
    assert f"{HOSTILE}: no report" in shown(report)


def test_an_app_that_knows_no_report_is_noted_and_no_more(hospitals: Hospitals) -> None:
    def stock(message: Message) -> Message:
        if message.metadata.message_type == "evaluate.report":
            raise ValueError("No evaluate function registered with name 'report'")
        return hospitals.honest(LATE, message)

    hospitals.world.join(LATE, stock)
    _, run = hospitals.run(Report(local_only=False))
    report = run.report()
    assert LATE in report["missing"]
    state = run.status()
    assert state.sites[LATE].errors == []
    assert state.sites[LATE].trained > state.sites[LATE].failed


def test_arrays_and_configuration_in_a_report_go_nowhere(hospitals: Hospitals) -> None:
    def more(reply: Message) -> Message:
        reply.content["more"] = ConfigRecord({"text": "a row"})
        return reply

    hospitals.instead(HOSTILE, more)
    _, run = hospitals.run(Report(local_only=False))
    assert "a row" not in run.journal.read_text()


def test_without_a_preparation_there_is_no_report(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "events.jsonl")
    made = reporter(Report(), Training(), journal, tmp_path, tmp_path)
    made(None, [], Outcome(None, None))  # type: ignore[arg-type]
    journal.close()
    (note,) = fold(read(journal.path)).report["notes"]
    assert "training.prepare" in note


def test_a_fault_in_the_report_does_not_lose_the_run(hospitals: Hospitals) -> None:
    (hospitals.place / "test.csv").write_text("a,b\n1,2\n")
    outcome, run = hospitals.run(Report(local_only=False))
    assert len(outcome.history) == 3
    assert "the coordinator's own rows" in run.report()["notes"][0]
    assert set(run.report()["sites"]) == set(SITES)
