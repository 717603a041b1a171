"""SCAFFOLD: where its rounds end, whoever takes part in them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from scipy import sparse
from sklearn.linear_model import LogisticRegression

from fedsm.errors import ConfigError
from fedsm.hooks import model_of
from fedsm.learning import controls
from fedsm.learning.exact_site import to_matrix
from fedsm.learning.models import Local
from fedsm.learning.models.logistic_regression import LogisticRegressionAdapter
from fedsm.learning.preparation import Summary, combine, statistics
from fedsm.learning.strategies import make_strategy, reply_arrays
from fedsm.learning.tables import Table
from fedsm.training_config import Prepare, Training
from fedsm.transport.flower import set_identity
from tests.learning.inprocess import ROOT

MODEL = LogisticRegressionAdapter()
STEPS = {"local-steps": 5, "learning-rate": 0.5}


@pytest.fixture(autouse=True)
def _quiet() -> None:
    """Flower logs every step, which here takes most of the time."""
    logging.getLogger("flwr").setLevel(logging.WARNING)


class Nodes:
    """The live sites."""

    def __init__(self, nodes: Sequence[int]) -> None:
        self.nodes = list(nodes)

    def get_node_ids(self) -> list[int]:
        return self.nodes


class Federation:
    """Sites whose rows differ in size, in place and in prevalence; no transport."""

    def __init__(
        self, run_config: dict[str, Any] | None = None, *, as_sparse: bool = False
    ) -> None:
        set_identity(1, 1)
        self.config = {**STEPS, **(run_config or {})}
        tables = [self._rows(seed, n) for seed, n in ((0, 30), (1, 60), (2, 120), (3, 90))]
        self.summary: Summary = combine({str(i): statistics(t) for i, t in enumerate(tables)})
        self.rows: dict[int, Any] = {}
        for node, table in enumerate(tables, start=2):
            x = self.summary.transform(table)
            self.rows[node] = sparse.csr_array(x) if as_sparse else x, table.labels

    @staticmethod
    def _rows(seed: int, n: int) -> Table:
        random = np.random.default_rng(seed)
        x = random.normal(size=(n, 3)) * (1 + seed) + seed
        y = x @ [1.0, -1.0, 0.5] - 2.0 * (seed % 2) + random.logistic(size=n) > seed
        return Table(("a", "b", "c"), x, y.astype(np.int64))

    def train(
        self,
        rounds: int,
        name: str = "scaffold",
        options: dict[str, Any] | None = None,
        live: Callable[[int], Sequence[int]] = lambda number: (2, 3, 4, 5),
        lost: Callable[[int], Sequence[int]] = lambda number: (),
    ) -> np.ndarray:
        """The parameters after the rounds; ``lost`` sites are asked and do not answer."""
        strategy = make_strategy(name, options or {}, min_sites=1, sites=4)
        arrays = MODEL.initial(self.summary, self.config)
        for number in range(1, rounds + 1):
            grid: Any = Nodes(live(number))
            replies = []
            for message in strategy.configure_train(number, arrays, ConfigRecord({}), grid):
                if message.metadata.dst_node_id not in lost(number):
                    replies.append(self._answer(message))
            reference = reply_arrays(strategy, arrays)
            assert all(_shapes(r.content["arrays"]) == _shapes(reference) for r in replies)
            aggregated, metrics = strategy.aggregate_train(number, replies)
            assert aggregated is not None
            assert metrics is not None
            arrays = aggregated
            assert list(arrays) == ["coef", "intercept"]
        return to_matrix(arrays)

    def _answer(self, message: Message) -> Message:
        x, y = self.rows[message.metadata.dst_node_id]
        local = Local(self.summary, self.config, message.content.config_records["config"])
        sent = message.content.array_records["arrays"]
        _, arrays = controls.train(MODEL, sent, x, y, local)
        metrics = MetricRecord({"num-examples": len(y), "loss": 0.1})
        return Message(RecordDict({"arrays": arrays, "metrics": metrics}), reply_to=message)

    def pooled(self, nodes: Sequence[int] = (2, 3, 4, 5), **settings: Any) -> np.ndarray:
        x = np.vstack([self.rows[node][0] for node in nodes])
        y = np.concatenate([self.rows[node][1] for node in nodes])
        # The sites go by the penalty of the rows that the federation was prepared with.
        strength = self.summary.rows / len(y)
        model = LogisticRegression(C=strength, tol=1e-12, max_iter=10_000, **settings).fit(x, y)
        return np.column_stack([model.coef_, model.intercept_])


def _shapes(arrays: Any) -> list[tuple[str, tuple[int, ...], str]]:
    return [(name, tuple(a.shape), a.dtype) for name, a in arrays.items()]


def error(found: np.ndarray, wanted: np.ndarray) -> float:
    return float(np.abs(found - wanted).max())


def test_it_ends_at_the_pooled_optimum_where_averaging_does_not() -> None:
    federation = Federation()
    pooled = federation.pooled()
    assert error(federation.train(100), pooled) < 1e-3
    assert error(federation.train(100, "fedavg"), pooled) > 0.02


def test_class_weights_make_the_pooled_weighted_optimum() -> None:
    federation = Federation({"class-weights": "balanced"})
    assert error(federation.train(100), federation.pooled(class_weight="balanced")) < 1e-3


def test_sparse_rows_give_what_dense_ones_give() -> None:
    dense, thin = (Federation(as_sparse=kind).train(5) for kind in (False, True))
    np.testing.assert_allclose(thin, dense, atol=1e-12)


def test_a_part_of_the_sites_a_round_is_enough() -> None:
    federation = Federation({"learning-rate": 0.2})
    found = federation.train(400, options={"fraction_train": 0.5})
    assert error(found, federation.pooled()) < 1e-3


def test_lost_answers_and_a_site_that_comes_late_change_nothing_in_the_end() -> None:
    federation = Federation()
    found = federation.train(
        150,
        live=lambda number: (2, 3, 4, 5) if number > 20 else (2, 3, 4),
        lost=lambda number: (2,) if number % 3 == 0 and number < 90 else (),
    )
    assert error(found, federation.pooled()) < 1e-4


def test_a_site_that_left_is_in_the_objective_no_longer() -> None:
    federation = Federation()
    found = federation.train(200, live=lambda number: (2, 3, 4, 5) if number < 30 else (3, 4, 5))
    assert error(found, federation.pooled((3, 4, 5))) < 1e-4


def test_a_site_never_heard_does_not_pull_the_others_away() -> None:
    """Uncorrected it would drift towards its own optimum in its first round."""
    federation = Federation()
    before = federation.train(100, live=lambda number: (2, 3, 4))

    def after(name: str) -> float:
        live: Callable[[int], Sequence[int]]
        live = lambda number: (2, 3, 4, 5) if number > 100 else (2, 3, 4)  # noqa: E731
        return error(federation.train(101, name, live=live), before)

    assert after("scaffold") < 0.1 * after("fedavg")


def test_momentum_and_a_servers_rate_keep_the_optimum() -> None:
    federation = Federation()
    options = {"server_momentum": 0.5, "server_learning_rate": 0.5}
    assert error(federation.train(100, options=options), federation.pooled()) < 1e-4
    for wrong in ({"server_momentum": 1.0}, {"server_learning_rate": 0.0}):
        with pytest.raises(ConfigError, match="refuses its options"):
            make_strategy("scaffold", wrong, min_sites=2, sites=2)


def test_types_stay_those_of_the_model() -> None:
    strategy = make_strategy("scaffold", {}, min_sites=1, sites=1)
    arrays = ArrayRecord({"w": Array(np.zeros(2, np.float32)), "n": Array(np.array([3]))})
    grid: Any = Nodes([2])
    for number in (1, 2):
        (message,) = strategy.configure_train(number, arrays, ConfigRecord({}), grid)
        model, control = controls.split(message.content.array_records["arrays"])
        assert control is not None
        assert _shapes(model) == _shapes(control) == _shapes(arrays)
        gradient = {"w": np.ones(2), "n": np.zeros(1)}
        content = RecordDict(
            {
                "arrays": controls.join(arrays, gradient),
                "metrics": MetricRecord({"num-examples": 4}),
            }
        )
        aggregated, _ = strategy.aggregate_train(number, [Message(content, reply_to=message)])
        assert aggregated is not None
        assert _shapes(aggregated) == _shapes(arrays)


class Uncorrected:
    """An adapter that has no gradient."""

    name = "forest"


def test_an_adapter_without_a_gradient_is_refused() -> None:
    sent = controls.join(ArrayRecord({"w": Array(np.zeros(1))}), {"w": np.zeros(1)})
    adapter: Any = Uncorrected()
    local: Any = None
    with pytest.raises(ConfigError, match="forest has no `gradient`"):
        controls.train(adapter, sent, np.zeros((1, 1)), np.zeros(1, dtype=np.intp), local)


def test_the_coordinator_refuses_one_before_anything_is_launched() -> None:
    training = Training(model="mlp-classifier", strategy="scaffold", prepare=Prepare())
    with pytest.raises(ConfigError, match="mlp-classifier has no `gradient`"):
        model_of(training, ROOT)
