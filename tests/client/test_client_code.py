"""The shipped app on its own: what it answers to each message."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from flwr.app import ConfigRecord, MetricRecord
from flwr.clientapp import ClientApp

from fedsm.errors import ConfigError, DataError
from fedsm.learning.models import adapter
from fedsm.learning.preparation import Summary, combine
from fedsm.learning.strategies import make_strategy
from fedsm.learning.tables import Table, write_csv
from tests.learning.inprocess import ROOT, InProcessGrid, fresh_app

MODEL = adapter("logistic-regression")


@pytest.fixture(scope="module")
def app() -> ClientApp:
    return fresh_app(ROOT / "client_code")


def rows(seed: int, n: int = 40, classes: tuple[int, ...] = (0, 1)) -> Table:
    random = np.random.default_rng(seed)
    labels = random.choice(classes, n) if n else np.zeros(0, dtype=np.int64)
    return Table(("a", "b"), random.normal(size=(n, 2)) + labels[:, None], labels)


def federation(
    app: ClientApp, folder: Path, sites: list[dict[str, Table]], **run_config: float | str
) -> tuple[InProcessGrid, Summary]:
    channels: list[Mapping[str, Path]] = []
    for i, tables in enumerate(sites):
        found = {name: folder / str(i) / name for name in tables}
        for name, table in tables.items():
            write_csv(table, found[name] / "rows.csv", label="target")
        channels.append(found)
    config = {name.replace("_", "-"): value for name, value in run_config.items()}
    grid = InProcessGrid(app, channels, config)
    return grid, combine(grid.ask("query.statistics"))


def metrics(grid: InProcessGrid, kind: str, summary: Summary) -> list[MetricRecord]:
    strategy = make_strategy("fedavg", {}, min_sites=1, sites=2)
    configure = strategy.configure_train if kind == "train" else strategy.configure_evaluate
    arrays = MODEL.initial(summary, {})
    messages = configure(1, arrays, ConfigRecord(summary.to_config()), grid)
    replies = sorted(grid.send_and_receive(messages), key=lambda r: r.metadata.src_node_id)
    return [r.content.metric_records["metrics"] for r in replies]


def test_sites_that_lack_a_class_or_validation_rows_say_so_in_their_metrics(
    app: ClientApp, tmp_path: Path
) -> None:
    grid, summary = federation(
        app,
        tmp_path,
        [
            {"train": rows(0), "validation": rows(1)},
            {"train": rows(2, classes=(1,)), "validation": rows(0, n=0)},
            {"train": rows(3, classes=(0,))},
        ],
    )
    full, ones, zeros = metrics(grid, "train", summary)
    assert list(full) == list(ones) == list(zeros)
    assert [m["classes-present"] for m in (full, ones, zeros)] == [2, 1, 1]
    assert isinstance(full["auc"], float)
    assert not math.isnan(full["auc"])
    assert math.isnan(ones["auc"])  # type: ignore[arg-type]
    held_out = metrics(grid, "evaluate", summary)
    assert [m["num-examples"] for m in held_out] == [40, 0, 0]


def test_a_site_gives_the_first_parameters(app: ClientApp, tmp_path: Path) -> None:
    grid, summary = federation(app, tmp_path, [{"train": rows(0)}])
    (content,) = grid.ask("query.initial", summary.to_config()).values()
    assert content.array_records["arrays"] == MODEL.initial(summary, {})


@pytest.mark.parametrize("strategy", ["dp-client-fixed", "dp-client-adaptive"])
def test_client_side_privacy_clips_the_update(
    app: ClientApp, tmp_path: Path, strategy: str
) -> None:
    name = "clipping_norm" if strategy.endswith("fixed") else "initial_clipping_norm"
    sites = [{"train": rows(i), "validation": rows(9 + i)} for i in range(2)]
    grid, summary = federation(app, tmp_path, sites)
    made = make_strategy(strategy, {"noise_multiplier": 0.0, name: 0.01}, min_sites=2, sites=2)
    arrays = MODEL.initial(summary, {})
    sent = list(made.configure_train(1, arrays, ConfigRecord(summary.to_config()), grid))
    replies = grid.send_and_receive(sent)
    for reply in replies:
        update = np.concatenate(
            [a.ravel() for a in reply.content.array_records["arrays"].to_numpy_ndarrays()]
        )
        assert np.linalg.norm(update) == pytest.approx(0.01)
    aggregated, _ = made.aggregate_train(1, replies)
    assert aggregated is not None


def test_fedprox_holds_the_sites_back(app: ClientApp, tmp_path: Path) -> None:
    grid, summary = federation(app, tmp_path, [{"train": rows(0)}, {"train": rows(1)}])
    moved = []
    for mu in (0.0, 10.0):
        made = make_strategy("fedprox", {"proximal_mu": mu}, min_sites=2, sites=2)
        sent = made.configure_train(
            1, MODEL.initial(summary, {}), ConfigRecord(summary.to_config()), grid
        )
        arrays, _ = made.aggregate_train(1, grid.send_and_receive(sent))
        assert arrays is not None
        moved.append(np.abs(arrays["coef"].numpy()).max())
    assert 0 < moved[1] < moved[0] / 2


def test_what_the_app_refuses(app: ClientApp, tmp_path: Path) -> None:
    tables = {"train": rows(0), "validation": rows(1, classes=(0, 2))}
    grid, summary = federation(app, tmp_path / "a", [tables])
    with pytest.raises(DataError, match="not among the classes"):
        metrics(grid, "evaluate", summary)
    with pytest.raises(ConfigError, match="prepare"):
        grid.ask("query.initial")
    grid, summary = federation(app, tmp_path / "b", [{"train": rows(0)}], local_steps=0)
    with pytest.raises(ConfigError, match="local-steps"):
        metrics(grid, "train", summary)
    with pytest.raises(DataError, match="no channel 'train'"):
        federation(app, tmp_path / "c", [{"validation": rows(0)}])
    with pytest.raises(DataError, match="no label column 'y'"):
        federation(app, tmp_path / "d", [{"train": rows(0)}], label="y")
