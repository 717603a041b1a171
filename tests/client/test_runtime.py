"""Jobs against a real grid: in a thread of this process, or in their own to take signals."""

from __future__ import annotations

import hashlib
import json
import re
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest
from flwr.app import ArrayRecord, ConfigRecord, RecordDict

from fedsm.client.exits import Exit, Failure
from fedsm.client.runtime import Job
from fedsm.contract import JobSettings
from fedsm.errors import IdentityRefused
from fedsm.learning.arrays import arrays_from_npz, arrays_to_npz
from fedsm.learning.models import adapter, save
from fedsm.learning.strategies import make_strategy
from fedsm.learning.tables import Table
from tests.client.harness import (
    CREDENTIALS,
    ROOT,
    client_code,
    environment,
    hub,
    job,
    wait_until,
    workplace,
)

SHIPPED = ROOT / "client_code"
SECRET = "patient Jane Roe"
START = ArrayRecord([np.zeros((1, 3)), np.zeros(1)])

COUNTING = """
from flwr.app import Array, ArrayRecord, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
app = ClientApp()

def check(number):
    pass

@app.train()
def train(message, context):
    number = message.content["config"]["server-round"]
    check(number)
    w = message.content["arrays"].to_numpy_ndarrays()
    arrays = ArrayRecord([a + 1 for a in w])
    metrics = MetricRecord({"num-examples": 5, "loss": 1.0 / number})
    return Message(RecordDict({"arrays": arrays, "metrics": metrics}), reply_to=message)
"""


def rows(seed: int, n: int = 30, classes: tuple[int, ...] = (0, 1)) -> Table:
    random = np.random.default_rng(seed)
    labels = random.choice(classes, n)
    return Table(("a", "b"), random.normal(size=(n, 2)) + labels[:, None], labels)


class Running:
    """A job in a thread; ``end`` gives what it returned."""

    def __init__(self, base: Path, code: Path, settings: JobSettings) -> None:
        environ = environment(base, settings)
        self._found: list[Failure | None] = []
        self._thread = threading.Thread(
            target=lambda: self._found.append(Job(code, environ).run()), daemon=True
        )
        self._thread.start()

    def end(self) -> Failure | None:
        self._thread.join(30)
        assert self._found, "the job does not end"
        return self._found[0]


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for key, value in CREDENTIALS.items():
        monkeypatch.setenv(key, value)
    path = list(sys.path)
    yield
    sys.path[:] = path
    for name in ("app", "data", "task"):
        sys.modules.pop(name, None)


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_the_shipped_code_from_joining_to_the_model(tmp_path: Path) -> None:
    model = adapter("logistic-regression")
    hyperparameters = {"c": 0.5, "local-steps": 3}
    channels: dict[str, dict[str, Table | None]] = {
        "north": {"train": rows(0), "validation": rows(1)},
        "south": {"train": rows(2, classes=(1,))},  # one class, no validation rows
    }
    with hub(*channels) as coordinator:
        bases = {
            site: workplace(tmp_path / site, tables, hyperparameters)
            for site, tables in channels.items()
        }
        north, south = (
            job(bases[s], SHIPPED, coordinator.settings(s, model=model.name)) for s in channels
        )
        with north as one, south as two:
            coordinator.join()
            summary = coordinator.summary()
            config = ConfigRecord(summary.to_config())
            result = make_strategy("fedavg", {}, min_sites=2, sites=2).start(
                grid=coordinator.grid,
                initial_arrays=model.initial(summary, hyperparameters),
                num_rounds=3,
                train_config=config,
                evaluate_config=ConfigRecord(dict(config)),
            )
            asked = {**config, "report-personalize": True, "report-local-only": True}
            told = coordinator.send("evaluate.report", {"arrays": result.arrays}, asked)
            closing = RecordDict({"arrays": result.arrays, "config": config})
            assert sorted(coordinator.grid.finish(closing, 20)) == ["north", "south"]
            log, _ = one.communicate(timeout=30)
            assert (one.returncode, two.wait(30)) == (0, 0)
    assert result.train_metrics_clientapp[3]["num-examples"] == 60
    assert result.evaluate_metrics_clientapp[3]["num-examples"] == 30
    assert 0.5 < result.evaluate_metrics_clientapp[3]["auc"] <= 1
    for name in ("train-loss", "evaluate-loss", "evaluate-accuracy", "evaluate-auc"):
        assert len(re.findall(rf"(?:^|\s){name}=([0-9.eE+-]+);", log)) == 3
    report = told["north"].content.metric_records["metrics"]
    assert report["num-examples"] == 30
    assert report["personal-auc"] == pytest.approx(report["auc"], abs=0.5)
    assert (bases["north"] / "model" / "personal.joblib").exists()
    assert told["south"].content.metric_records["metrics"]["num-examples"] == 0
    here = tmp_path / "model.joblib"
    save(model.build(result.arrays, summary, hyperparameters), here)
    for base in bases.values():
        assert digest(base / "model" / "model.joblib") == digest(here)
        assert digest(base / "model" / "local.joblib") != digest(here)
        assert not (base / "output" / "failure").exists()
    probabilities = joblib.load(here).predict_proba(np.array([[np.nan, 1.0]]))
    assert probabilities.shape == (1, 2)


QUICKSTART_TASK = '''
"""Model and data, in the shape of Flower's scikit-learn quickstart."""
import numpy as np
from sklearn.linear_model import LogisticRegression


def get_model_params(model):
    return [model.coef_, model.intercept_]


def set_model_params(model, params):
    model.coef_, model.intercept_ = params
    return model


def set_initial_params(model):
    model.classes_ = np.arange(2)
    model.coef_ = np.zeros((1, 3))
    model.intercept_ = np.zeros((1,))


def create_log_reg_and_instantiate_parameters(penalty):
    model = LogisticRegression(C={"l2": 1.0}[penalty], max_iter=100, warm_start=True)
    set_initial_params(model)
    return model


def load_data(partition_id, num_partitions):
    random = np.random.default_rng(partition_id)
    x = random.normal(size=(40, 3))
    y = (x.sum(axis=1) > 0).astype(int)
    return x[:30], x[30:], y[:30], y[30:]
'''

QUICKSTART_APP = '''
"""Flower's scikit-learn quickstart."""
import warnings

from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from sklearn.metrics import log_loss
from task import (
    create_log_reg_and_instantiate_parameters,
    get_model_params,
    load_data,
    set_model_params,
)

app = ClientApp()


@app.train()
def train(msg: Message, context: Context):
    model = create_log_reg_and_instantiate_parameters(context.run_config["penalty"])
    set_model_params(model, msg.content["arrays"].to_numpy_ndarrays())
    partition_id = context.node_config["partition-id"]
    num_partitions = context.node_config["num-partitions"]
    X_train, _, y_train, _ = load_data(partition_id, num_partitions)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.fit(X_train, y_train)
    train_logloss = log_loss(y_train, model.predict_proba(X_train))
    model_record = ArrayRecord(get_model_params(model))
    metric_record = MetricRecord({"num-examples": len(X_train), "train_logloss": train_logloss})
    content = RecordDict({"arrays": model_record, "metrics": metric_record})
    return Message(content=content, reply_to=msg)


@app.evaluate()
def evaluate(msg: Message, context: Context):
    model = create_log_reg_and_instantiate_parameters(context.run_config["penalty"])
    set_model_params(model, msg.content["arrays"].to_numpy_ndarrays())
    partition_id = context.node_config["partition-id"]
    _, X_test, _, y_test = load_data(partition_id, context.node_config["num-partitions"])
    metrics = {
        "num-examples": len(X_test),
        "test_logloss": log_loss(y_test, model.predict_proba(X_test)),
        "accuracy": model.score(X_test, y_test),
    }
    return Message(content=RecordDict({"metrics": MetricRecord(metrics)}), reply_to=msg)
'''


def test_a_stock_flower_app_runs_as_it_is(tmp_path: Path) -> None:
    code = client_code(tmp_path / "code", QUICKSTART_APP, task=QUICKSTART_TASK)
    with hub("north", "south") as coordinator:
        jobs = [
            Running(workplace(tmp_path / s, {}, {"penalty": "l2"}), code, coordinator.settings(s))
            for s in coordinator.sites
        ]
        coordinator.join()
        result = make_strategy("fedavg", {}, min_sites=2, sites=2).start(
            grid=coordinator.grid, initial_arrays=START, num_rounds=3
        )
        # It knows no final evaluation, which is no failure of its own.
        told = coordinator.send("evaluate.report", {"arrays": result.arrays}, {})
        assert all(reply.has_error() for reply in told.values())
        coordinator.grid.finish(RecordDict({"arrays": result.arrays}), 20)
        assert [j.end() for j in jobs] == [None, None]
    assert result.evaluate_metrics_clientapp[3]["accuracy"] > 0.8
    for site in coordinator.sites:
        written = tmp_path / site / "model" / "model.npz"
        assert written.read_bytes() == arrays_to_npz(result.arrays)
        assert (tmp_path / site / "model" / "local.npz").exists()


def train(coordinator: Any, number: int, arrays: ArrayRecord = START) -> Any:
    """One site's answer to train."""
    replies = coordinator.send("train", {"arrays": arrays}, {"server-round": number})
    assert len(replies) == 1
    return replies["north"]


def test_an_error_in_a_round_is_told_without_its_text_and_the_site_goes_on(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    broken = COUNTING.replace("    pass", f"    assert number != 2, {SECRET!r}")
    line = broken.splitlines().index(f"    assert number != 2, {SECRET!r}") + 1
    code = client_code(tmp_path / "code", broken)
    with hub("north") as coordinator:
        running = Running(workplace(tmp_path / "north", {}), code, coordinator.settings("north"))
        coordinator.join()
        assert train(coordinator, 1).has_content()
        reply = train(coordinator, 2)
        assert reply.error.code == Exit.APP_RAISED
        assert reply.error.reason == (
            f"AssertionError at app.py:{line}: the app raised an error; "
            "the job's log has the traceback."
        )
        assert train(coordinator, 3).has_content()
        coordinator.grid.finish(RecordDict({"arrays": START}), 20)
        assert running.end() is None
    assert SECRET in capfd.readouterr().err  # the owner's own log


def test_a_site_whose_last_round_failed_ends_with_that(tmp_path: Path) -> None:
    code = client_code(tmp_path / "code", COUNTING.replace("    pass", "    import nowhere"))
    with hub("north") as coordinator:
        running = Running(workplace(tmp_path / "north", {}), code, coordinator.settings("north"))
        coordinator.join()
        reply = train(coordinator, 1)
        coordinator.grid.finish(RecordDict({"arrays": START}), 20)
        found = running.end()
    assert found is not None
    assert found.exit == Exit.APP_RAISED
    assert found.sentence == reply.error.reason
    assert "ModuleNotFoundError at app.py:" in found.sentence
    assert "nowhere" not in found.sentence
    assert (tmp_path / "north" / "model" / "model.npz").exists()


def test_rows_that_cannot_be_used(tmp_path: Path) -> None:
    base = workplace(tmp_path / "north", {"train": None})
    (base / "input" / "data" / "train" / "rows.csv").write_text(f"a,target\n{SECRET},1\n")
    with hub("north") as coordinator:
        running = Running(base, SHIPPED, coordinator.settings("north"))
        coordinator.join()
        (reply,) = coordinator.send("query.statistics", {}, {}).values()
        coordinator.grid.finish(None, 20)
        found = running.end()
    assert reply.error.code == Exit.DATA_UNUSABLE
    assert re.match(
        r"DataError at data\.py:\d+: the site's rows cannot be used", reply.error.reason
    )
    assert SECRET not in reply.error.reason
    assert found is not None
    assert found.exit == Exit.DATA_UNUSABLE


@pytest.mark.parametrize(
    ("app", "begin"),
    [
        (f"import os\nraise ValueError({SECRET!r})\n", "ValueError at app.py:2:"),
        (f"x = {{\n{SECRET}\n", "SyntaxError at app.py:"),
        ("import sys\n\nsys.exit(0)\n", "SystemExit at app.py:3:"),
        ("import flwr\n", "AppNotFoundError at app_loader.py:"),
        ("import task\n", "ZeroDivisionError at task.py:2:"),
    ],
)
def test_an_app_that_cannot_be_loaded(tmp_path: Path, app: str, begin: str) -> None:
    code = client_code(tmp_path / "code", app, task="def f():\n    return 1 / 0\nf()\n")
    with hub("north") as coordinator:
        base = workplace(tmp_path / "north", {})
        found = Running(base, code, coordinator.settings("north")).end()
    assert found is not None
    assert found.exit == Exit.APP_NOT_LOADED
    assert found.sentence.startswith(begin)
    assert "Jane" not in found.sentence


def test_settings_that_are_no_launch(tmp_path: Path) -> None:
    base = str(workplace(tmp_path, {}))
    found = Job(SHIPPED, {"SAGEMAKER_BASE_DIR": base}).run()
    assert found is not None
    assert found.exit == Exit.SETTINGS_WRONG
    assert "FEDSM_ADDRESS is not set" in found.sentence
    with hub("north") as coordinator:
        settings = coordinator.settings("north", model="forest")
        found = Job(SHIPPED, environment(Path(base), settings)).run()
    assert found is not None
    assert "logistic-regression" not in found.sentence or "forest" in found.sentence
    assert found.exit == Exit.SETTINGS_WRONG


def test_a_coordinator_that_is_gone_ends_the_job_well(tmp_path: Path) -> None:
    code = client_code(tmp_path / "code", COUNTING)
    with hub("north") as coordinator:
        settings = coordinator.settings("north", max_wait=0.5)
        running = Running(workplace(tmp_path / "north", {}), code, settings)
        coordinator.join()
        train(coordinator, 1, ArrayRecord([np.full(2, 7.0)]))
    assert running.end() is None
    written = arrays_from_npz(tmp_path / "north" / "model" / "model.npz")
    np.testing.assert_array_equal(written["0"].numpy(), [7.0, 7.0])


def test_a_coordinator_that_never_was(tmp_path: Path) -> None:
    with hub("north") as coordinator:
        settings = coordinator.settings("north", max_wait=0.3)
    code = client_code(tmp_path / "code", COUNTING)
    found = Running(workplace(tmp_path / "north", {}), code, settings).end()
    assert found is not None
    assert found.exit == Exit.COORDINATOR_NOT_REACHED
    assert "security groups" in found.sentence


def test_a_coordinator_that_refuses_the_job(tmp_path: Path) -> None:
    code = client_code(tmp_path / "code", COUNTING)
    with hub("north") as coordinator:
        settings = coordinator.settings("north", join_id="another")
        found = Running(workplace(tmp_path / "north", {}), code, settings).end()
    assert found is not None
    assert found.exit == Exit.IDENTITY_REFUSED
    assert found.sentence.startswith(IdentityRefused.__name__)


SLOW = COUNTING.replace(
    "    pass",
    """    import pathlib, time
    if number == 2:
        pathlib.Path("computing").touch()
        try:
            time.sleep(60)
        except Exception:
            time.sleep(60)""",
)


def test_a_stop_breaks_off_the_app_and_saves_what_is_there(tmp_path: Path) -> None:
    code = client_code(tmp_path / "code", SLOW)
    base = workplace(tmp_path / "north", {})
    with hub("north") as coordinator, job(base, code, coordinator.settings("north")) as process:
        coordinator.join()
        train(coordinator, 1)
        asking = threading.Thread(
            target=train, args=(coordinator, 2, ArrayRecord([np.full(2, 7.0)])), daemon=True
        )
        asking.start()
        wait_until((code / "computing").exists)
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == Exit.STOPPED
        coordinator.grid.end_site("north", "its job is Stopped")
    failure = (base / "output" / "failure").read_text()
    assert failure == "Stopped: the job was told to stop before the run was over."
    written = arrays_from_npz(base / "model" / "model.npz")
    np.testing.assert_array_equal(written["0"].numpy(), [7.0, 7.0])
    local = arrays_from_npz(base / "model" / "local.npz")
    np.testing.assert_array_equal(local["1"].numpy(), [1.0])


def test_an_app_that_computes_for_nobody_is_broken_off(tmp_path: Path) -> None:
    code = client_code(tmp_path / "code", SLOW)
    base = workplace(tmp_path / "north", {})
    with hub("north") as coordinator:
        settings = coordinator.settings("north", max_wait=0.5)
        with job(base, code, settings) as process:
            coordinator.join()
            threading.Thread(target=train, args=(coordinator, 2), daemon=True).start()
            wait_until((code / "computing").exists)
            coordinator.grid.close()
            assert process.wait(20) == Exit.OVER
    assert (base / "model" / "model.npz").exists()
    assert not (base / "output" / "failure").exists()


def test_a_stop_while_the_app_is_loaded(tmp_path: Path) -> None:
    app = "import pathlib, time\npathlib.Path('loading').touch()\ntime.sleep(60)\n"
    code = client_code(tmp_path / "code", app)
    base = workplace(tmp_path / "north", {})
    with hub("north") as coordinator, job(base, code, coordinator.settings("north")) as process:
        wait_until((code / "loading").exists)
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == Exit.STOPPED
        assert coordinator.grid.get_node_ids() == []


@pytest.mark.parametrize("then", ["pass", "raise RuntimeError from None"])
def test_a_stop_that_the_import_of_the_app_swallows(tmp_path: Path, then: str) -> None:
    app = f"""
import pathlib, time
from flwr.clientapp import ClientApp
pathlib.Path('loading').touch()
try:
    time.sleep(2)
except BaseException:
    {then}
app = ClientApp()
"""
    code = client_code(tmp_path / "code", app)
    base = workplace(tmp_path / "north", {})
    with hub("north") as coordinator, job(base, code, coordinator.settings("north")) as process:
        wait_until((code / "loading").exists)
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == Exit.STOPPED
        assert coordinator.grid.get_node_ids() == []


def test_the_context_is_flowers(tmp_path: Path) -> None:
    app = """
import json
from pathlib import Path
from flwr.app import ConfigRecord, Message, RecordDict
from flwr.clientapp import ClientApp
app = ClientApp()

@app.query("context")
def context(message, context):
    seen = context.state.get("seen", ConfigRecord({"times": 0}))
    context.state["seen"] = ConfigRecord({"times": seen["times"] + 1})
    config = {f"run-{k}": v for k, v in context.run_config.items()} | dict(context.node_config)
    record = {**config, "times": seen["times"], "node": context.node_id}
    (Path(__file__).parent / "context.json").write_text(json.dumps(record))
    return Message(RecordDict({"config": ConfigRecord(record)}), reply_to=message)
"""
    code = client_code(tmp_path / "code", app)
    base = workplace(tmp_path / "north", {"train": None}, {"c": 0.5, "name": "x"})
    with hub("other", "north") as coordinator:
        running = Running(base, code, coordinator.settings("north"))
        coordinator.grid.wait_for_sites(1, 20)
        coordinator.query("context")
        (content,) = coordinator.query("context").values()
        coordinator.grid.finish(None, 20)
        assert running.end() is None
    assert "config" not in content  # what an app configures is not the coordinator's to know
    assert json.loads((code / "context.json").read_text()) == {
        "run-c": 0.5,
        "run-name": "x",
        "site": "north",
        "model": "",
        "code": str(code),
        "smallest-count": 0,
        "partition-id": 1,
        "num-partitions": 2,
        "channel-train": str(base / "input" / "data" / "train"),
        "times": 1,
        "node": 3,
    }
