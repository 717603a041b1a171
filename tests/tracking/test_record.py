"""What follows from a journal, without any service."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedsm.events import Event, Journal, read
from fedsm.tracking.record import Record
from fedsm.tracking.writes import (
    SERVER_SIDE,
    Measure,
    Note,
    Open,
    Participant,
    State,
    Update,
    Write,
)
from tests.tracking import story

NORTH, SOUTH = Participant("client", "north"), Participant("client", "south")


def events(journal: Journal) -> list[Event]:
    return list(read(journal.path))


def writes(journal: Journal) -> list[Write]:
    record = Record()
    return [write for event in events(journal) for write in record.fold(event)]


def final(written: list[Write], who: Participant) -> State:
    return [w for w in written if isinstance(w, Open | Update) and w.participant == who][-1].state


def series(written: list[Write], who: Participant) -> dict[str, list[tuple[int, float]]]:
    found: dict[str, list[tuple[int, float]]] = {}
    for write in written:
        if isinstance(write, Measure) and write.participant == who:
            for point in write.points:
                found.setdefault(point.name, []).append((point.step, point.value))
    return found


def test_each_participant_is_opened_once_and_at_the_start(journal: Journal) -> None:
    story.start(journal, ["north", "south"])
    written = writes(journal)
    assert [type(w) for w in written[:3]] == [Open, Open, Open]
    assert [w.participant for w in written if isinstance(w, Open)] == [SERVER_SIDE, NORTH, SOUTH]


def test_parameters_of_a_site(journal: Journal) -> None:
    story.play(journal)
    parameters = final(writes(journal), NORTH).parameters
    expected = {
        "run": story.RUN,
        "federation": "heart",
        "role": "client",
        "center": "north",
        "rank": 1,
        "account": "000000000001",
        "device": "cuda:0",
        "train-data-size": 60,
        "validation-data-size": 20,
        "rounds": 3,
        "epochs": 5,
        "local-epochs": 5,
        "learning-rate": 0.05,
        "batch-size": 32,
        "optimizer": "lbfgs",
        "weight-decay": 1e-4,
        "strategy": "fedadam",
        "strategy.eta": 0.1,
        "class-weights": "[1.0, 3.5]",
        "shuffle": "true",
        "job": "job-north",
    }
    assert {k: parameters.get(k) for k in expected} == expected
    assert next(iter(parameters)) == "run"


def test_parameters_of_the_aggregator(journal: Journal) -> None:
    story.play(journal)
    parameters = final(writes(journal), SERVER_SIDE).parameters
    assert parameters["role"] == "aggregator"
    assert parameters["rank"] == 0
    assert parameters["train-data-size"] == 120
    assert parameters["test-data-size"] == 100
    assert parameters["device"] == "cpu"


def test_metrics_of_a_site_by_round(journal: Journal) -> None:
    story.play(journal, rounds=2)
    assert series(writes(journal), NORTH) == {
        "Training:Loss": [(1, 1.0), (2, 0.5)],
        "Training:Accuracy": [(1, 0.5), (2, 0.5)],
        "Training:Seconds": [(1, 0.25), (2, 0.25)],
        "Validation:Loss": [(1, 2.0), (2, 1.0)],
        "Validation:Accuracy": [(1, 0.6), (2, 0.6)],
        "Validation:AUC": [(1, 0.625), (2, 0.75)],
        "Validation:Seconds": [(1, 0.125), (2, 0.125)],
        "Round:BytesSent": [(1, 1100.0), (2, 1100.0)],
        "Round:BytesReceived": [(1, 2010.0), (2, 2010.0)],
    }


def test_metrics_of_the_aggregator_by_round(journal: Journal) -> None:
    story.play(journal, rounds=1)
    assert series(writes(journal), SERVER_SIDE) == {
        "Training:Loss": [(1, 1.0)],
        "Validation:Loss": [(1, 2.0)],
        "Validation:AUC": [(1, 0.8)],
        "Test:Loss": [(1, 3.0)],
        "Test:AUC": [(1, 0.9)],
        "Test:Accuracy": [(1, 0.7)],
        "Round:Seconds": [(1, 1.5)],
        "Round:BytesSent": [(1, 2200.0)],
        "Round:BytesReceived": [(1, 4020.0)],
    }


def test_the_final_evaluation_of_each_site_and_of_all(journal: Journal) -> None:
    story.start(journal, ("north", "south"))
    alone = {"auc": {"value": 0.8}, "gap": {"value": 0.05}}
    north = {"loss": 0.3, "auc": {"value": 0.85, "low": 0.8}, "brier": None, "local_only": alone}
    pooled = {"accuracy": 0.9, "average_precision": {"value": 0.7}}
    journal.append("report", report={"round": 3, "sites": {"north": north}, "pooled": pooled})
    journal.append("report", report={"notes": ["no report"]})
    written = writes(journal)
    found = series(written, NORTH)
    assert found["Report:AUC"] == [(3, 0.85)]
    assert found["Report:LocalGap"] == [(3, 0.05)]
    assert "Report:Brier" not in found
    assert series(written, SERVER_SIDE)["Report:AveragePrecision"] == [(3, 0.7)]


def test_what_is_not_finite_is_left_out_and_said_once(journal: Journal) -> None:
    story.play(journal)
    written = writes(journal)
    assert "Validation:AUC" not in series(written, SOUTH)
    assert [w.sentence for w in written if isinstance(w, Note)] == [
        "client south: Validation:AUC is not a finite number in round 1 and is left out"
    ]
    assert (
        final(written, SOUTH).parameters["metrics-left-out"]
        == "Validation:AUC: not a finite number (first in round 1)"
    )


def test_what_a_site_withholds_is_no_fault_to_speak_of(journal: Journal) -> None:
    story.start(journal, ("north", "south"))
    values: dict[str, Any] = {"auc": None, "classes-present": None}
    data = {"round": 1, "phase": "evaluate", "metrics": values, "withheld": ["classes-present"]}
    journal.append("site-metrics", site="north", seconds=0.1, **data)
    journal.append("round-ended", round=1, seconds=0.2, train={}, evaluate=values, server={})
    written = writes(journal)
    assert {w.sentence for w in written if isinstance(w, Note)} == {
        f"{who}: Validation:AUC is not a finite number in round 1 and is left out"
        for who in ("client north", "aggregator server")
    }
    for who in (NORTH, SERVER_SIDE):
        left_out = str(final(written, who).parameters["metrics-left-out"])
        assert "Validation:ClassesPresent: withheld under the owner's terms" in left_out


def test_models_and_status(journal: Journal) -> None:
    story.play(journal)
    written = writes(journal)
    server, north = final(written, SERVER_SIDE), final(written, NORTH)
    assert server.artifacts["model"].value == "/runs/model.joblib"
    assert server.artifacts["checkpoint"].value == "/runs/checkpoints/3.npz"
    assert north.artifacts["model"].value == "s3://north-models/output/model.tar.gz"
    for state in (server, north):
        assert state.status == "Completed"
        assert state.start is not None
        assert state.end is not None
        assert state.start <= state.end


@pytest.mark.parametrize("status", ["Failed", "Stopped"])
def test_a_run_that_ends_early_ends_its_sites(journal: Journal, status: str) -> None:
    story.start(journal, ["north", "south"])
    journal.append(
        "job-status", site="north", job="j", status="Failed", secondary="Failed", reason="exit 3"
    )
    journal.append("run-ended", status=status, reason="below quorum", model="", model_sha256="")
    written = writes(journal)
    assert (final(written, SERVER_SIDE).status, final(written, SERVER_SIDE).message) == (
        status,
        "below quorum",
    )
    assert (final(written, NORTH).status, final(written, NORTH).message) == ("Failed", "exit 3")
    assert final(written, SOUTH).status == "Stopped"
    assert "model" not in final(written, SERVER_SIDE).artifacts


def test_metrics_of_a_round_that_never_ended_are_written_at_the_end(journal: Journal) -> None:
    story.start(journal, ["north"])
    journal.append("round-started", round=1, sites=["north"])
    journal.append(
        "site-metrics", round=1, phase="train", site="north", metrics={"loss": 0.5}, seconds=1.0
    )
    journal.append("run-ended", status="Failed", reason="lost", model="", model_sha256="")
    assert series(writes(journal), NORTH)["Training:Loss"] == [(1, 0.5)]


def test_a_run_taken_up_again_is_in_progress_again(journal: Journal) -> None:
    story.start(journal, ["north"])
    journal.append("run-ended", status="Failed", reason="lost", model="", model_sha256="")
    story.start(journal, ["north"])
    written = writes(journal)
    assert sum(isinstance(w, Open) for w in written) == 2
    assert final(written, SERVER_SIDE).status == "InProgress"


def test_a_hyperparameter_does_not_hide_what_the_run_says(journal: Journal) -> None:
    story.start(journal, ["north"], hyperparameters={"device": "tpu", "rounds": 99})
    journal.append("run-ended", status="Completed", reason="", model="", model_sha256="")
    parameters = final(writes(journal), NORTH).parameters
    assert (parameters["rounds"], parameters["hyperparameter.rounds"]) == (3, 99)
    assert (parameters["device"], parameters["hyperparameter.device"]) == ("cuda:0", "tpu")


def test_nothing_is_written_without_a_run(journal: Journal) -> None:
    journal.append("job-status", site="a", job="j", status="Failed", secondary="", reason="")
    journal.append("something-else", x=1)
    assert writes(journal) == []


@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_later_writes_do_not_depend_on_where_a_tracker_started(data: Any) -> None:
    with TemporaryDirectory() as directory:
        opened = Journal(Path(directory) / "events.jsonl")
        sites = data.draw(st.lists(st.sampled_from("abcdef"), min_size=1, unique=True))
        story.play(opened, sites, rounds=data.draw(st.integers(1, 4)))
        seen = events(opened)
        opened.close()
    cut = data.draw(st.integers(0, len(seen)))
    whole, resumed = Record(), Record()
    expected = [whole.fold(event) for event in seen][cut:]
    for event in seen[:cut]:
        resumed.fold(event)
    assert [resumed.fold(event) for event in seen[cut:]] == expected
