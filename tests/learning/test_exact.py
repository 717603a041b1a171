from __future__ import annotations

import warnings
from collections.abc import Collection, Iterable, Mapping
from typing import Any

import numpy as np
import pytest
from flwr.app import Array, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from scipy import sparse
from sklearn.datasets import load_breast_cancer, load_wine
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

from fedsm.errors import ConfigError, DataError, TrainingError
from fedsm.learning.checks import fault
from fedsm.learning.exact import Exact, NotConverged, SeparatedData
from fedsm.learning.exact_site import Question, answer, asked, to_arrays, to_matrix
from tests.client.test_limits import asking
from tests.learning.inprocess import InProcessGrid

Site = tuple[Any, np.ndarray]


class Sites(InProcessGrid):
    """Sites of rows; those in ``away`` do not answer."""

    def __init__(self, sites: list[Site]) -> None:
        app = ClientApp()

        @app.train()
        def train(message: Message, context: Context) -> Message:
            assert asked(message)
            return Message(answer(message, *sites[context.node_id - 2]), reply_to=message)

        @app.evaluate()
        def evaluate(message: Message, context: Context) -> Message:
            rows = len(sites[context.node_id - 2][1])
            metrics = MetricRecord({"num-examples": rows, "auc": 0.5})
            return Message(RecordDict({"metrics": metrics}), reply_to=message)

        super().__init__(app, [{}] * len(sites))
        labels = np.concatenate([y for _, y in sites])
        classes, counts = np.unique(labels, return_counts=True)
        self.config = {
            "prepare-classes": classes.tolist(),
            "prepare-class-counts": counts.tolist(),
            "prepare-features": [f"x{i}" for i in range(sites[0][0].shape[1])],
        }
        self.away: Collection[int] = ()

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> list[Message]:
        here = [m for m in messages if m.metadata.dst_node_id not in self.away]
        return super().send_and_receive(here, timeout=timeout)

    @property
    def start(self) -> np.ndarray:
        classes = len(self.config["prepare-classes"])
        features = len(self.config["prepare-features"])
        return np.zeros((1 if classes == 2 else classes, features + 1))


def run(
    strategy: Exact,
    grid: Sites,
    rounds: int = 60,
    away: Mapping[int, Collection[int]] | None = None,
    config: Mapping[str, Any] | None = None,
) -> tuple[np.ndarray, list[dict[str, Any]]]:
    """The rounds as the loop goes through them, with its check of each reply."""
    arrays, history = to_arrays(grid.start), []
    for number in range(1, rounds + 1):
        grid.away = (away or {}).get(number, ())
        given = ConfigRecord(dict(grid.config if config is None else config))
        messages = list(strategy.configure_train(number, arrays, given, grid))
        replies = grid.send_and_receive(messages)
        for reply in replies:
            assert fault(reply, strategy.reply_arrays(), "num-examples") is None
        moved, metrics = strategy.aggregate_train(number, replies)
        assert moved is not None
        assert metrics is not None
        arrays = moved
        history.append(dict(metrics))
        if strategy.finished:
            break
    return to_matrix(arrays), history


def split(x: Any, y: np.ndarray, count: int = 3) -> list[Site]:
    """Sites of unlike size and labels."""
    order = np.argsort(y + np.random.default_rng(0).normal(size=len(y)))
    ends = (np.cumsum([0.5, 0.3, 0.2][:count]) * len(y)).astype(int)[:-1]
    return [(x[rows], y[rows]) for rows in np.split(order, ends)]


def pooled(x: Any, y: np.ndarray, **options: Any) -> np.ndarray:
    model = LogisticRegression(solver="newton-cholesky", tol=1e-13, max_iter=1000, **options)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the tolerance lies below rounding error
        model.fit(x, y)
    intercept = model.intercept_ - (model.intercept_.mean() if len(model.coef_) > 1 else 0.0)
    return np.column_stack([model.coef_, intercept])


def public(load: Any) -> tuple[np.ndarray, np.ndarray]:
    x, y = load(return_X_y=True)
    return (x - x.mean(axis=0)) / x.std(axis=0), y


def noisy(n: int = 300, features: int = 5, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    x = random.normal(size=(n, features))
    return x, (x[:, 0] - x[:, 1] + random.logistic(size=n) > 1).astype(int)


@pytest.mark.parametrize("load", [load_breast_cancer, load_wine])
@pytest.mark.parametrize(("c", "rounds"), [(1.0, 10), (1e4, 20)])
@pytest.mark.parametrize("weight", [None, "balanced"])
def test_newton_is_scikit_learns_pooled_optimum(
    load: Any, c: float, rounds: int, weight: str | None
) -> None:
    x, y = public(load)
    w, history = run(Exact(c=c, class_weight=weight), Sites(split(x, y)))
    expected = pooled(x, y, C=c, class_weight=weight)
    assert len(history) <= rounds
    assert np.abs(w - expected).max() / np.abs(expected).max() <= 1e-6
    assert history[-1]["converged"] == 1
    assert history[-1]["gap"] < 1e-6


@pytest.mark.parametrize("load", [load_breast_cancer, load_wine])
@pytest.mark.parametrize("directions", [0, 10])
def test_lbfgs_over_sparse_rows_reaches_the_same(load: Any, directions: int) -> None:
    x, y = public(load)
    strategy = Exact(solver="lbfgs", directions=directions, objective_tolerance=1e-12)
    w, history = run(strategy, Sites(split(sparse.csr_array(x), y)), rounds=120)
    expected = pooled(x, y)
    assert history[-1]["converged"] == 1
    assert np.abs(w - expected).max() / np.abs(expected).max() <= 1e-4


def test_windows_of_like_columns_are_solved_together() -> None:
    """Blocks over windows need fewer rounds than single columns where hours are alike."""
    random = np.random.default_rng(0)
    level = random.normal(size=(400, 1, 8))
    x = (level + 0.1 * random.normal(size=(400, 6, 8))).reshape(400, 48)
    y = (level[:, 0, 0] + random.logistic(size=400) > 0).astype(int)

    def rounds(**options: Any) -> int:
        return len(run(Exact(solver="lbfgs", **options), Sites(split(x, y)), rounds=200)[1])

    blocks = rounds(windows=6, directions=0)
    assert blocks < rounds(windows=1, directions=0) - 10
    assert rounds(windows=6) <= blocks


def test_class_weights_by_label() -> None:
    x, y = noisy()
    w, _ = run(Exact(class_weight={"1": 4, 0: 0.5}), Sites(split(x, y)))
    np.testing.assert_allclose(w, pooled(x, y, class_weight={0: 0.5, 1: 4.0}), atol=1e-7)


@pytest.mark.parametrize("penalty", ["l2", "none"])
def test_a_site_of_one_class_and_one_of_one_row_take_part(penalty: str) -> None:
    x, y = noisy()
    ones = y == 1
    sites = [(x[ones], y[ones]), (x[~ones][:1], y[~ones][:1]), (x[~ones][1:], y[~ones][1:])]
    w, _ = run(Exact(penalty=penalty), Sites(sites))
    np.testing.assert_allclose(w, pooled(x, y, C=1.0 if penalty == "l2" else np.inf), atol=1e-7)


def test_columns_that_repeat_each_other_need_no_penalty() -> None:
    x, y = noisy()
    w, _ = run(Exact(penalty="none"), Sites(split(np.column_stack([x, x[:, 0]]), y)))
    expected = pooled(x, y, C=np.inf)
    assert w[0, 0] == pytest.approx(w[0, 5])
    assert w[0, 0] + w[0, 5] == pytest.approx(expected[0, 0])


@pytest.mark.parametrize("solver", ["newton", "lbfgs"])
def test_separated_rows_without_a_penalty_are_named(solver: str) -> None:
    x, y = noisy()
    x[:, 3] = 2 * y - 1 + np.random.default_rng(1).uniform(-0.5, 0.5, len(y))
    with pytest.raises(SeparatedData, match=r"feature 'x3' most.*Next: set penalty: l2"):
        run(Exact(penalty="none", solver=solver), Sites(split(x, y)))


def test_rows_that_one_value_separates_are_found_too() -> None:
    """Quasi-separation: the column is 0 for most rows, of either class, and 1 for some of one."""
    x, y = noisy()
    x[:, 2] = (y == 1) & (np.arange(len(y)) % 4 == 0)
    with pytest.raises(SeparatedData, match="feature 'x2' most"):
        run(Exact(penalty="none"), Sites(split(x, y)), rounds=30)
    w, _ = run(Exact(penalty="none"), Sites(split(np.delete(x, 2, axis=1), y)))
    assert np.isfinite(w).all()


def test_rounds_that_end_first_are_an_error_or_a_warning() -> None:
    grid = Sites(split(*noisy()))
    with pytest.raises(NotConverged, match="not converged in 2 rounds"):
        run(Exact(rounds=2), grid, rounds=2)
    with pytest.warns(ConvergenceWarning, match="not converged in 2 rounds"):
        _, history = run(Exact(rounds=2, unconverged="warn"), grid, rounds=2)
    assert history[-1]["converged"] == 0


def test_a_site_that_misses_a_round_has_it_repeated() -> None:
    x, y = noisy()
    w, history = run(Exact(), Sites(split(x, y)), away={3: {3}})
    np.testing.assert_allclose(w, pooled(x, y), atol=1e-7)
    assert [h["repeated"] for h in history[:4]] == [0, 0, 1, 0]
    assert [h["sites-missing"] for h in history[:4]] == [0, 0, 1, 0]
    assert {h["restarts"] for h in history} == {0}


@pytest.mark.parametrize("solver", ["newton", "lbfgs"])
def test_a_site_that_stays_away_redefines_the_objective(solver: str) -> None:
    x, y = noisy()
    sites = split(x, y)
    strategy = Exact(solver=solver, objective_tolerance=1e-12)
    gone = {number: {3} for number in range(3, 100)}
    w, history = run(strategy, Sites(sites), rounds=80, away=gone)
    left = [sites[0], sites[2]]
    expected = pooled(np.vstack([s[0] for s in left]), np.concatenate([s[1] for s in left]))
    np.testing.assert_allclose(w, expected, atol=1e-4 if solver == "lbfgs" else 1e-7)
    assert (history[-1]["sites"], history[-1]["restarts"]) == (2, 1)


def test_a_site_that_comes_back_belongs_to_the_objective_again() -> None:
    x, y = noisy()
    w, history = run(Exact(repeats=0), Sites(split(x, y)), away={2: {3}, 3: {3}})
    np.testing.assert_allclose(w, pooled(x, y), atol=1e-7)
    assert [h["sites"] for h in history[:4]] == [3, 2, 2, 3]
    assert history[-1]["restarts"] == 2


def test_once_finished_nobody_is_asked_and_the_model_is_evaluated_once() -> None:
    grid, strategy = Sites(split(*noisy())), Exact(solver="lbfgs")
    _, history = run(strategy, grid)
    arrays, config = to_arrays(grid.start), ConfigRecord({})
    assert list(strategy.configure_train(99, arrays, config, grid)) == []
    assert strategy.aggregate_train(99, []) == (None, None)
    messages = list(strategy.configure_evaluate(len(history), arrays, config, grid))
    metrics = strategy.aggregate_evaluate(99, grid.send_and_receive(messages))
    assert metrics is not None
    assert dict(metrics) == {"num-examples": 300, "auc": 0.5}
    assert list(strategy.configure_evaluate(99, arrays, config, grid)) == []


@pytest.mark.parametrize(
    ("options", "evaluated"),
    [({}, [1, 2, 3, 4]), ({"evaluate_every": 2}, [2, 4]), ({"solver": "lbfgs"}, [4])],
)
def test_which_rounds_are_evaluated(options: dict[str, Any], evaluated: list[int]) -> None:
    grid = Sites(split(*noisy()))
    strategy = Exact(rounds=4, coef_tolerance=1e-300, unconverged="warn", **options)
    arrays, found = to_arrays(grid.start), []
    for number in range(1, 5):
        config = ConfigRecord(grid.config)
        replies = grid.send_and_receive(strategy.configure_train(number, arrays, config, grid))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            strategy.aggregate_train(number, replies)
        if list(strategy.configure_evaluate(number, arrays, config, grid)):
            found.append(number)
    assert found == evaluated


def test_it_runs_in_flowers_own_loop_and_unprepared() -> None:
    x, y = noisy()
    grid, strategy = Sites(split(x, y)), Exact()
    strategy.summary()
    result = strategy.start(grid=grid, initial_arrays=to_arrays(grid.start), num_rounds=12)
    np.testing.assert_allclose(to_matrix(result.arrays), pooled(x, y), atol=1e-7)
    assert 0 < len(result.train_metrics_clientapp) < 12


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"c": 0}, "c must be above 0"),
        ({"penalty": "l1"}, "penalty must be one of l2, none"),
        ({"solver": "sag"}, "solver must be one of auto, newton, lbfgs"),
        ({"unconverged": "ignore"}, "unconverged must be error or warn"),
        ({"class_weight": "equal"}, "class_weight must be balanced"),
    ],
)
def test_wrong_options(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Exact(**options)


@pytest.mark.parametrize(
    ("options", "config", "said"),
    [
        ({"class_weight": "balanced"}, {}, "set training.prepare"),
        ({"class_weight": {"2": 1.0}}, None, "the labels are 0, 1"),
        ({"class_weight": {"1": -1.0}}, None, "a weight is not above 0"),
        ({"windows": 3}, None, "5 features are not 3 windows"),
    ],
)
def test_options_that_do_not_fit_the_rows(
    options: dict[str, Any], config: dict[str, Any] | None, said: str
) -> None:
    with pytest.raises(ConfigError, match=said):
        run(Exact(**options), Sites(split(*noisy())), config=config)


def test_rows_that_cannot_be_used() -> None:
    x, y = noisy()
    holes = x.copy()
    holes[0, 0] = np.nan
    for rows, said in (
        ((holes, y), "a feature is missing or infinite"),
        ((x[:, :4], y), "the model has 5 features"),
        ((x[:0], y[:0]), "give each site one row at least"),
    ):
        grid = Sites([(x, y), rows])
        with pytest.raises(DataError, match=said):
            run(Exact(), grid)


def test_hessians_of_no_convex_function_are_named() -> None:
    grid, strategy = Sites(split(*noisy())), Exact(c=1e6)
    messages = strategy.configure_train(1, to_arrays(grid.start), ConfigRecord({}), grid)
    replies = grid.send_and_receive(messages)
    for reply in replies:
        arrays = reply.content.array_records["arrays"]
        arrays["hessian"] = type(arrays["hessian"])(-arrays["hessian"].numpy())
    with pytest.raises(TrainingError, match=r"0 sites .* its Hessian is not that of a convex"):
        strategy.aggregate_train(1, replies)


@pytest.mark.parametrize(
    ("question", "said"),
    [
        (Question("gradient", (1.0, 1.0), lengths=(1.0,) * 4), "4 points in one round, 3 at most"),
        (Question("curvature", (1.0, 1.0), windows=50_000), "50000 windows"),
        (Question("curvature", (1.0, 1.0), windows=0), "0 windows"),
    ],
)
def test_a_site_refuses_work_that_no_round_needs(question: Question, said: str) -> None:
    point = np.zeros((1, 3))
    message = asking("train", question.content(point, point, {}))
    with pytest.raises(DataError, match=said):
        answer(message, np.zeros((4, 2)), np.array([0, 1, 0, 1]))


def lying(strategy: Exact, grid: Sites, rounds: int, lies: Mapping[str, Any]) -> np.ndarray:
    """Rounds in which node 2 lies in every other one."""
    arrays = to_arrays(grid.start)
    for number in range(1, rounds + 1):
        config = ConfigRecord(dict(grid.config))
        replies = grid.send_and_receive(strategy.configure_train(number, arrays, config, grid))
        for reply in replies:
            if reply.metadata.src_node_id == 2 and number % 2:
                found = reply.content.array_records["arrays"]
                for name, lie in lies.items() if lies.keys() <= set(found) else ():
                    found[name] = Array(lie(found[name].numpy().copy()))
            assert fault(reply, strategy.reply_arrays(), "num-examples") is None
        moved, _ = strategy.aggregate_train(number, replies)
        assert moved is not None
        arrays = moved
        if strategy.finished:
            break
    return to_matrix(arrays)


def indefinite(packed: np.ndarray) -> np.ndarray:
    """A diagonal that could be, and a coupling that could not."""
    packed[:, 1] = 2 * np.sqrt(packed[:, 0] * packed[:, 2])
    return packed


def drowning(packed: np.ndarray) -> np.ndarray:
    """Curvature of huge features that are all alike."""
    packed[:, :15] = 1e20
    packed[:, 15:20] = 0
    return packed


LIES: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({}, {"hessian": lambda v: np.full_like(v, -1e6)}),
    ({}, {"hessian": lambda v: np.full_like(v, 1e29)}),
    ({}, {"hessian": indefinite}),
    ({}, {"hessian": drowning}),
    ({}, {"losses": lambda v: v - 1e3}),
    ({}, {"losses": lambda v: np.full_like(v, 1e29)}),
    ({}, {"coef": lambda v: np.full_like(v, 1e29)}),
    ({}, {"intercept": lambda v: np.full_like(v, 1e6)}),
    ({"solver": "lbfgs"}, {"curvature-total": lambda v: np.full_like(v, -1e6)}),
    ({"penalty": "none"}, {"extremes": lambda v: np.array([-1.0, 0.0, 1e30])}),
    ({"penalty": "none"}, {"extremes": lambda v: np.array([0.0, 1.0, -1.0])}),
]


@pytest.mark.parametrize(("options", "lies"), LIES)
def test_a_site_whose_sums_no_rows_have_is_left_out(
    options: dict[str, Any], lies: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    sites = split(*noisy())
    strategy = Exact(objective_tolerance=1e-12, **options)
    w = lying(strategy, Sites(sites), 60, lies)
    left = sites[1:]
    penalty = {} if "penalty" not in options else {"C": np.inf}
    expected = pooled(
        np.vstack([s[0] for s in left]), np.concatenate([s[1] for s in left]), **penalty
    )
    np.testing.assert_allclose(w, expected, atol=1e-4 if "solver" in options else 1e-7)
    assert [r.getMessage().count("node 2: ") for r in caplog.records if "left" in r.msg] == [1]


def test_too_few_sites_do_not_go_on_without_one() -> None:
    grid, strategy = Sites(split(*noisy())), Exact(min_available_nodes=3)
    with pytest.raises(TrainingError, match=r"2 sites .*, 3 are needed \(node 2: a loss is below"):
        lying(strategy, grid, 1, {"losses": lambda v: -v})
