"""The adapters that are trained by steps: what they learn, refuse, and leave on disk."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord
from scipy.sparse import csr_array
from sklearn.linear_model import SGDClassifier

from fedsm.datasets import breast_cancer, write_channels
from fedsm.errors import ConfigError
from fedsm.learning import checks, trees
from fedsm.learning.models import ADAPTERS, Adapter, Local, adapter, evaluate, nets, save
from fedsm.learning.models.xgboost_trees import TreesClassifier
from fedsm.learning.preparation import Summary, combine, statistics
from fedsm.learning.strategies import make_strategy, reply_arrays
from fedsm.learning.tables import Table
from fedsm.simulation import simulate
from fedsm.training_config import Training
from tests.learning.inprocess import ROOT, InProcessGrid, fresh_app

STEPPED = ("sgd-classifier", "mlp-classifier", "pytorch", "xgboost")

NET = """
from torch import nn

def net(inputs, outputs):
    return nn.Sequential(
        nn.Linear(inputs, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.1), nn.Linear(8, outputs)
    )
"""


def example(classes: int = 2, rows: int = 90) -> tuple[Summary, Table]:
    random = np.random.default_rng(0)
    x = random.normal([1.0, 20.0, -3.0], [1.0, 9.0, 0.1], size=(rows, 3))
    labels = np.array(["no", "so", "yes"])[((x[:, 0] > 1) * (classes - 1)).astype(int)]
    if classes == 3:
        labels[x[:, 1] > 25] = "so"
    else:
        labels[labels == "so"] = "yes"
    x[::7, 1] = np.nan
    table = Table(("a", "b", "c"), x, labels)
    return combine({"one": statistics(table)}), table


def code(folder: Path, text: str = NET) -> Path:
    (folder / "net.py").write_text(text)
    return folder


def trained(
    model: Adapter, summary: Summary, table: Table, config: Any = None, rounds: int = 3
) -> ArrayRecord:
    x, y = summary.transform(table), summary.encode(table.labels)
    arrays = model.initial(summary, config or {})
    for number in range(1, rounds + 1):
        local = Local(summary, config or {}, {"server-round": number}, site="north")
        arrays = model.fit(arrays, x, y, local)
    return arrays


def same(one: ArrayRecord, other: ArrayRecord) -> bool:
    pairs = zip(one.values(), other.values(), strict=True)
    return list(one) == list(other) and all(np.array_equal(a.numpy(), b.numpy()) for a, b in pairs)


def test_the_configuration_knows_the_adapters() -> None:
    assert {Training(model=name).model for name in ADAPTERS} == set(ADAPTERS)


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("name", STEPPED)
def test_a_model_learns_and_builds_a_pipeline_of_raw_rows(name: str, classes: int) -> None:
    summary, table = example(classes)
    model = adapter(name)
    before = model.initial(summary, {})
    arrays = trained(model, summary, table, rounds=10)
    after, first = (evaluate(model, a, summary, {}, table)["loss"] for a in (arrays, before))
    assert isinstance(after, float)
    assert isinstance(first, float)
    assert after < 0.8 * first
    built = model.build(arrays, summary, {})
    found = model.predict(arrays, summary.transform(table), summary, {})
    np.testing.assert_allclose(built.predict_proba(table.features), found, atol=1e-6)
    np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-6)
    assert set(built.predict(table.features)) <= set(table.labels)
    assert list(built.classes_) == list(summary.classes)
    nothing = summary.transform(table.take(np.zeros(0, np.intp)))
    assert model.predict(arrays, nothing, summary, {}).shape == (0, classes)


@pytest.mark.parametrize("name", STEPPED)
def test_training_repeats_itself_and_leaves_the_global_arrays_alone(name: str) -> None:
    summary, table = example()
    model = adapter(name)
    config = {"seed": 4, **({"subsample": 0.5} if name == "xgboost" else {})}
    start = model.initial(summary, config)
    kept = ArrayRecord({key: Array(array.numpy().copy()) for key, array in start.items()})
    one, other = (trained(model, summary, table, config) for _ in range(2))
    assert same(one, other)
    assert same(start, kept)
    assert not same(one, trained(model, summary, table, config | {"seed": 5}))


@pytest.mark.parametrize("name", STEPPED)
def test_a_site_that_lacks_classes_takes_part(name: str) -> None:
    summary, table = example(3)
    only = table.take(np.flatnonzero(table.labels == "yes"))
    model = adapter(name)
    arrays = trained(model, summary, only)
    assert checks.values_fault(arrays) is None
    if name != "xgboost":
        assert {k: a.shape for k, a in arrays.items()} == {
            k: a.shape for k, a in model.initial(summary, {}).items()
        }


@pytest.mark.parametrize("name", STEPPED)
def test_class_weights_and_sparse_rows(name: str) -> None:
    summary, table = example()
    x, y = summary.transform(table), summary.encode(table.labels)
    model = adapter(name)
    start = model.initial(summary, {})
    local = Local(summary, {"class-weights": "no:1,yes:50"}, {"server-round": 1})
    dense = model.fit(start, x, y, local)
    sparse = model.fit(start, csr_array(x), y, local)
    for one, other in zip(dense.values(), sparse.values(), strict=True):
        if name == "sgd-classifier":  # whose intercept moves less on sparse rows
            assert one.shape == other.shape
            continue
        np.testing.assert_allclose(one.numpy(), other.numpy(), rtol=1e-5, atol=1e-7)
    plain = model.fit(start, x, y, replace(local, run_config={}))
    heavy, even = (model.predict(a, x, summary, {})[:, 1].mean() for a in (dense, plain))
    assert heavy > even


def test_sgd_is_scikit_learns_own_over_the_same_rows() -> None:
    summary, table = example()
    x, y = summary.transform(table), summary.encode(table.labels)
    local = Local(summary, {"learning-rate": 0.02, "epochs": 1}, {"server-round": 1})
    order = local.generator().permutation(len(y))
    reference = SGDClassifier(
        loss="log_loss", learning_rate="constant", eta0=0.02, shuffle=False
    ).partial_fit(x[order], y[order], classes=[0, 1])
    model = adapter("sgd-classifier")
    found = model.fit(model.initial(summary, {}), x, y, local)
    np.testing.assert_allclose(found["coef"].numpy(), reference.coef_)


def test_one_full_step_of_the_nets_is_a_gradient_step(tmp_path: Path) -> None:
    summary, table = example(3)
    x, y = summary.transform(table), summary.encode(table.labels)
    config = {"hidden-layers": "", "learning-rate": 0.5, "local-steps": 1, "batch-size": 90}
    z = np.column_stack([x, np.ones(len(x))])
    for name, keys in (
        ("pytorch", ("0.weight", "0.bias")),
        ("mlp-classifier", ("coefs-0", "intercepts-0")),
    ):
        model = adapter(name)
        start = model.initial(summary, config)
        more = {"weight-decay": 0.0} if name == "mlp-classifier" else {}
        local = Local(summary, config | more, {"server-round": 1})
        p = model.predict(start, x, summary, config)
        slope = z.T @ (p - np.eye(3)[y]) / len(y)
        end = model.fit(start, x, y, local)
        moved = [end[k].numpy() - start[k].numpy() for k in keys]
        weight = moved[0].T if name == "pytorch" else moved[0]
        np.testing.assert_allclose(np.vstack([weight, moved[1]]), -0.5 * slope, atol=1e-6)


def test_pytorch_heeds_the_proximal_term_and_the_correction() -> None:
    summary, table = example()
    x, y = summary.transform(table), summary.encode(table.labels)
    model: Any = adapter("pytorch")
    local = Local(summary, {"local-steps": 20}, {"server-round": 1})
    start = model.initial(summary, {})

    def moved(arrays: ArrayRecord) -> float:
        gaps = (arrays[n].numpy() - start[n].numpy() for n in start)
        return float(sum(np.square(gap).sum() for gap in gaps))

    free, held = (moved(model.fit(start, x, y, replace(local, proximal_mu=mu))) for mu in (0, 5.0))
    assert held < 0.5 * free
    one = replace(local, run_config={"local-steps": 1, "batch-size": len(y)})
    slope = model.gradient(start, x, y, one)
    against = ArrayRecord({name: Array(-array.numpy()) for name, array in slope.items()})
    assert moved(model.fit(start, x, y, replace(one, correction=against))) < 1e-10


@pytest.mark.parametrize("name", ["sgd-classifier", "mlp-classifier", "xgboost"])
def test_what_a_library_cannot_do_is_refused(name: str) -> None:
    summary, table = example()
    x, y = summary.transform(table), summary.encode(table.labels)
    model = adapter(name)
    start = model.initial(summary, {})
    with pytest.raises(ConfigError, match="proximal term"):
        model.fit(start, x, y, Local(summary, {}, proximal_mu=0.1))
    with pytest.raises(ConfigError, match="correct its gradients"):
        model.fit(start, x, y, Local(summary, {}, correction=start))


@pytest.mark.parametrize(
    ("name", "config"),
    [
        ("sgd-classifier", {"batch-size": 4, "learning-rate": -1}),
        ("mlp-classifier", {"optimizer": "lion", "hidden-layers": "8,x"}),
        ("pytorch", {"epochs": 1, "c": 1.0}),
        ("pytorch", {"batch-size": 0.5, "seed": True, "weight-decay": -1}),
        ("xgboost", {"epochs": 2, "max-depth": 99, "subsample": 2}),
    ],
)
def test_wrong_hyperparameters_are_all_listed(name: str, config: dict[str, Any]) -> None:
    steps = {"local-steps": 2} if "epochs" in config else {}
    with pytest.raises(ConfigError) as caught:
        adapter(name).check({"label": "target", **steps, **config})
    assert {field for field, _ in caught.value.faults} == set(config)


@pytest.mark.parametrize("name", STEPPED)
def test_another_models_arrays_are_refused(name: str) -> None:
    summary, _ = example()
    odd = ArrayRecord({"coef": Array(np.zeros((2, 2)))})
    with pytest.raises(ConfigError, match="the arrays are"):
        adapter(name).build(odd, summary, {})


def test_a_net_of_ones_own_with_batch_normalisation(tmp_path: Path) -> None:
    summary, table = example(3, rows=91)  # a last mini-batch of one row would be one too few
    model = adapter("pytorch", code(tmp_path))
    config = {"batch-size": 10, "epochs": 2}
    arrays = trained(model, summary, table, config)
    assert "1.running_var" in arrays
    assert "1.num_batches_tracked" not in arrays
    assert {array.dtype for array in arrays.values()} == {"float32"}
    with pytest.raises(ConfigError, match=r"net\.py has its own layers"):
        model.check({"hidden-layers": "8"})
    with pytest.raises(ConfigError, match="has no function net"):
        adapter("pytorch", code(tmp_path, "net = 3")).initial(summary, {})


PROGRAM = """
import sys
from pathlib import Path
from tests.learning.test_trained_models import save_all
save_all(Path(sys.argv[1]), Path(sys.argv[2]))
"""

LOADED = """
import joblib, sys
for path in sys.argv[1:]:
    print(joblib.load(path).predict([[1, 20, -3]] * 2))
"""


def save_all(net: Path, there: Path) -> list[Path]:
    summary, table = example()
    paths = []
    for name in STEPPED:
        model = adapter(name, net)
        paths.append(there / f"{name}.joblib")
        save(model.build(trained(model, summary, table), summary, {}), paths[-1])
    return paths


def test_the_same_arrays_give_the_same_bytes_which_load_anywhere(tmp_path: Path) -> None:
    net, here, there = (tmp_path / name for name in ("net", "here", "there"))
    for folder in (net, here, there):
        folder.mkdir()
    paths = save_all(code(net), here)
    made = [sys.executable, "-c", PROGRAM, str(net), str(there)]
    subprocess.run(made, cwd=ROOT, check=True, timeout=120)
    for path in paths:
        digests = {hashlib.sha256(p.read_bytes()).digest() for p in (path, there / path.name)}
        assert len(digests) == 1, path.name
    (net / "net.py").unlink()
    loaded = [sys.executable, "-c", LOADED, *map(str, paths)]
    done = subprocess.run(
        loaded, cwd=there, check=True, timeout=120, capture_output=True, text=True
    )
    assert [line[:2] for line in done.stdout.splitlines()] == ["['"] * len(STEPPED)


@pytest.mark.parametrize(
    ("name", "strategy", "config", "rounds"),
    [
        ("sgd-classifier", "fedavg", {}, 3),
        ("mlp-classifier", "fedadam", {"class-weights": "balanced"}, 8),
        ("pytorch", "fedprox", {"optimizer": "adamw", "learning-rate": 0.01}, 8),
        ("pytorch", "qfedavg", {"hidden-layers": ""}, 2),
        ("pytorch", "scaffold", {}, 8),
        ("xgboost", "fedxgb-bagging", {"local-steps": 2}, 5),
        ("xgboost", "fedxgb-cyclic", {"local-steps": 2}, 6),
    ],
)
def test_a_federation(
    name: str, strategy: str, config: dict[str, Any], rounds: int, tmp_path: Path
) -> None:
    dataset = breast_cancer()
    channels = write_channels(dataset, tmp_path)
    grid = InProcessGrid(
        fresh_app(ROOT / "client_code"), channels.values(), config, {"model": name}
    )
    summary, model, sites = combine(grid.ask("query.statistics")), adapter(name), len(channels)
    options = {
        "fedprox": {"proximal-mu": 0.01},
        "fedadam": {"eta": 0.03},
        "qfedavg": {"client-learning-rate": 0.1},
    }
    made = make_strategy(strategy, options.get(strategy, {}), min_sites=sites, sites=sites)
    sent = ConfigRecord(summary.to_config())
    result = made.start(
        grid=grid,
        initial_arrays=model.initial(summary, config),
        num_rounds=rounds,
        train_config=sent,
        evaluate_config=sent,
    )
    auc = evaluate(model, result.arrays, summary, config, dataset.test)["auc"]
    assert isinstance(auc, float)
    assert auc >= 0.97
    if name == "xgboost":
        grown = rounds * 2 * (sites if strategy == "fedxgb-bagging" else 1)
        assert len(trees.booster(trees.read(result.arrays))["trees"]) == grown
        assert isinstance(reply_arrays(made, result.arrays), trees.Growth)


@pytest.mark.parametrize("strategy", ["fedadam", "fedyogi", "fedadagrad", "fedavgm"])
def test_the_rounds_keep_the_number_type_of_the_model(strategy: str) -> None:
    found = simulate(breast_cancer().sites, strategy, rounds=3, model="pytorch")
    assert len(found.history) == 3
    assert {array.dtype for array in found.arrays.values()} == {"float32"}


@pytest.mark.parametrize("made", [nets.NetClassifier(), TreesClassifier()])
def test_what_came_from_a_federation_is_not_fitted_elsewhere(made: Any) -> None:
    with pytest.raises(ConfigError, match="from a federation"):
        made.fit(np.zeros((2, 1)), [0, 1])
