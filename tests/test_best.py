"""The best round's model, and ending early, through the round loop."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from math import nan
from pathlib import Path
from typing import Any

import pytest
from flwr.app import ArrayRecord, Message, MetricRecord, RecordDict

from fedsm.best import higher_is_better
from fedsm.errors import ConfigError, TrainingError
from fedsm.events import read
from fedsm.learning.arrays import arrays_from_npz
from fedsm.report import chosen, rounds_table
from fedsm.state import fold
from fedsm.training import Outcome
from fedsm.training_config import Best
from tests.test_training import SITES, Bench
from tests.transport.world import World


def scripted(aucs: Sequence[float]) -> Callable[[Message], Message]:
    """A site that adds 1 to the arrays each round, and measures what it is told to."""

    def handle(message: Message) -> Message:
        number = int(message.content.config_records["config"]["server-round"])  # type: ignore[arg-type]
        metrics = MetricRecord({"num-examples": 10, "loss": 0.5, "auc": aucs[number - 1]})
        content = RecordDict({"metrics": metrics})
        if message.metadata.message_type == "train":
            (array,) = message.content.array_records["arrays"].to_numpy_ndarrays()
            content["arrays"] = ArrayRecord([array + 1.0])
        return Message(content, reply_to=message)

    return handle


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    world = World(SITES)
    yield Bench(world, tmp_path)
    world.close()


def run(bench: Bench, best: Best, aucs: Sequence[float] = (0.5,) * 9, **changes: Any) -> Outcome:
    for site in SITES:
        bench.world.join(site, scripted(aucs))
    bench.world.wait(len(SITES))
    return bench.loop(best=best, **{"rounds": len(aucs), **changes}).run()


def round_of(outcome: Outcome) -> float:
    """The round that the arrays are of: every round adds 1."""
    return float(outcome.arrays.to_numpy_ndarrays()[0][0])


def told(bench: Bench) -> dict[str, Any]:
    (event,) = bench.events("best-round")
    return dict(event)


def test_the_best_rounds_model_is_kept_the_earlier_of_equals(bench: Bench) -> None:
    outcome = run(bench, Best(metric="auc"), (0.6, 0.8, 0.7, 0.8, 0.75))
    assert (round_of(outcome), outcome.best) == (2.0, 2)
    assert len(outcome.history) == 5
    event = told(bench)
    assert (event["round"], event["value"], event["early"]) == (2, 0.8, False)
    last = arrays_from_npz(Path(bench.events("checkpoint")[-1]["path"]))
    assert last.to_numpy_ndarrays()[0][0] == 5.0  # every round's own checkpoint stays


def test_it_ends_after_the_patience_and_the_report_says_so(bench: Bench) -> None:
    aucs = (0.6, 0.7, 0.705, 0.704, 0.9, 0.9)
    outcome = run(bench, Best(metric="auc", patience=2, min_delta=0.01), aucs)
    assert (round_of(outcome), len(outcome.history)) == (2.0, 4)
    state = fold(read(bench.journal.path))
    state.rounds_planned = 6
    assert chosen(state) == (
        "Best round: 2 of 4, by auc on the sites' validation rows (0.7000); "
        "ended early, 6 were planned"
    )
    assert "2 *" in rounds_table(state).columns[0].cells
    assert state.as_data()["best"]["round"] == 2


def test_a_loss_is_better_when_it_is_lower_on_the_servers_rows_too(bench: Bench) -> None:
    losses = iter([0.9, 0.4, 0.6])
    outcome = run(
        bench, Best(of="server"), (0.5,) * 3, evaluate_fn=lambda *_: {"loss": next(losses)}
    )
    assert round_of(outcome) == 2.0


def test_undefined_rounds_are_counted_and_are_never_the_best(bench: Bench) -> None:
    outcome = run(bench, Best(metric="auc", patience=2), (nan, 0.6, nan, nan, 0.9))
    assert (round_of(outcome), len(outcome.history)) == (2.0, 4)
    assert told(bench)["undefined"] == 3


def test_a_metric_that_is_never_defined_leaves_the_last_model(bench: Bench) -> None:
    outcome = run(bench, Best(metric="auc"), (nan, nan))
    assert (round_of(outcome), outcome.best) == (2.0, None)
    event = told(bench)
    assert (event["round"], event["value"], event["undefined"]) == (0, None, 2)
    assert "undefined in every round" in chosen(fold(read(bench.journal.path)))


def test_rounds_that_are_not_evaluated_cost_no_patience(bench: Bench) -> None:
    sparse: list[dict[str, float]] = [{"auc": 0.6}, {}, {}, {"auc": 0.7}]
    outcome = run(
        bench,
        Best(metric="auc", of="server", patience=1),
        (0.5,) * 4,
        evaluate_fn=lambda number, *_: sparse[number - 1],
    )
    assert round_of(outcome) == 4.0


def test_a_wrong_name_tells_the_right_ones(bench: Bench) -> None:
    with pytest.raises(TrainingError, match=r"choose one of auc, loss, num-examples") as caught:
        run(bench, Best(metric="roc"))
    assert caught.value.where == "training.best.metric"
    with pytest.raises(ConfigError, match="no rows of the server's"):
        run(bench, Best(of="server"))


@pytest.mark.parametrize(
    ("name", "higher"),
    [
        ("loss", False),
        ("train-loss", False),
        ("eval_loss", False),
        ("brier", False),
        ("calibration-error", False),
        ("auc", True),
        ("average-precision", True),
        ("glossary", True),
    ],
)
def test_losses_and_errors_are_better_low(name: str, higher: bool) -> None:
    assert higher_is_better(name) is higher
