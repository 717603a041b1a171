"""Whole runs over real jobs: what the sites learn, and who may go missing."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import psutil
import pytest
from flwr.app import ArrayRecord

from fedsm import Federation, evidence, local
from fedsm.run import Run
from tests.end_to_end.conftest import FAST, Project

QUICKSTART = '''
"""The shape of Flower's own scikit-learn quickstart; knows nothing of fedsm."""

import csv
from pathlib import Path

import numpy as np
from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss

app = ClientApp()


def load_data(context, channel):
    folder = Path(context.node_config[f"channel-{channel}"])
    with next(folder.glob("*.csv")).open() as file:
        rows = np.array([[float(v) for v in row] for row in list(csv.reader(file))[1:]])
    return rows[:, :-1] / 1000, rows[:, -1]


def create_model(message, context):
    model = LogisticRegression(max_iter=int(context.run_config["local-epochs"]), warm_start=True)
    model.classes_ = np.array([0.0, 1.0])
    model.coef_, model.intercept_ = message.content["arrays"].to_numpy_ndarrays()
    return model


@app.train()
def train(message: Message, context: Context) -> Message:
    model = create_model(message, context)
    X, y = load_data(context, "train")
    model.fit(X, y)
    arrays = ArrayRecord([model.coef_, model.intercept_])
    loss = log_loss(y, model.predict_proba(X))
    metrics = MetricRecord({"num-examples": len(X), "train_logloss": loss})
    return Message(content=RecordDict({"arrays": arrays, "metrics": metrics}), reply_to=message)


@app.evaluate()
def evaluate(message: Message, context: Context) -> Message:
    model = create_model(message, context)
    X, y = load_data(context, "validation")
    loss = log_loss(y, model.predict_proba(X), labels=[0, 1])
    metrics = MetricRecord({"num-examples": len(X), "test_logloss": loss})
    return Message(content=RecordDict({"metrics": metrics}), reply_to=message)
'''


def artifacts(run: Run, site: str, place: Path) -> dict[str, bytes]:
    """Members of a site's ``model.tar.gz``, read with its owner's credentials."""
    with tarfile.open(run.fetch(site, place)) as tar:
        return {m.name: tar.extractfile(m).read() for m in tar.getmembers() if m.isfile()}  # type: ignore[union-attr]


def test_every_party_ends_with_the_same_model(project: Project, tmp_path: Path) -> None:
    federation = project.federation()
    run = federation.train()
    state = run.status()
    assert state.status == "Completed"
    assert [s.status for s in state.sites.values()] == ["Completed"] * 4
    own = run.model_path().read_bytes()
    for site in state.sites:
        found = artifacts(run, site, tmp_path)
        assert found["model.joblib"] == own, site
        assert "local.joblib" in found
    model = joblib.load(io.BytesIO(own))
    raw = np.full((1, 30), np.nan)
    assert model.predict_proba(raw).shape == (1, 2)
    assert [row["round"] for row in run.history()] == [1, 2, 3]
    assert set(run.history()[0]["sites"]) == set(state.sites)
    checkpoints = sorted(p.name for p in (run.directory / "checkpoints").iterdir())
    assert checkpoints == ["round-0001.npz", "round-0002.npz", "round-0003.npz"]
    report = run.report()
    assert set(report["sites"]) == set(state.sites)
    assert report["pooled"]["auc"]["value"] > 0.97
    assert report["sites"]["north"]["local_only"]["auc"]["value"] > 0.9
    assert report["server"]["classification_report"]["1"]["support"] > 0
    assert (run.directory / "report.json").is_file()
    evidence.write(run.directory, tmp_path / "pack.zip")
    kept = [evidence.read_heads(site, tmp_path / f"{site}.tar.gz") for site in state.sites]
    assert [head.phase for head in kept[0].heads] == [
        "query.statistics",
        *["train", "evaluate"] * 3,
        "evaluate.report",
        "closing",
    ]
    verdict = evidence.verify(tmp_path / "pack.zip", kept)
    assert verdict.faults == []
    for site in state.sites:
        assert f"the model in the archive of {site} is the one of the journal" in verdict.notes


def test_a_stock_flower_app_runs_with_no_line_changed(project: Project, tmp_path: Path) -> None:
    project.code(app=QUICKSTART)
    initial = ArrayRecord([np.zeros((1, 30)), np.zeros(1)])
    federation = project.federation(
        {
            "training.model": None,
            "training.prepare": None,
            "training.test": None,
            "training.hyperparameters": {"local-epochs": 3},
        }
    )
    run = federation.train(initial=initial, sites=["north", "south"])
    assert run.status().status == "Completed"
    losses = [row["evaluate"]["test_logloss"] for row in run.history()]
    assert losses[-1] < losses[0]
    assert run.model_path().name == "model.npz"
    assert {"0", "1"} == set(run.model())
    assert artifacts(run, "north", tmp_path)["model.npz"] == run.model_path().read_bytes()


def processes_of(site: str, run: str) -> list[psutil.Process]:
    """The processes of a run's job."""
    wanted = {"FEDSM_SITE": site, "FEDSM_RUN": run}
    return [
        p
        for p in psutil.process_iter()
        if p.pid != os.getpid() and wanted.items() <= _environment(p).items()
    ]


def _environment(process: psutil.Process) -> dict[str, str]:
    try:
        return process.environ()
    except (psutil.AccessDenied, psutil.NoSuchProcess, psutil.ZombieProcess):
        return {}


def kill_job(site: str, run: str) -> None:
    found = processes_of(site, run)
    assert found, f"no process of {site}"
    for process in found:
        with suppress(psutil.NoSuchProcess):  # the sandbox takes with it what it holds
            process.kill()


def test_a_job_killed_in_round_2_leaves_the_run_to_the_others(project: Project) -> None:
    killed = False

    def kill(round_number: int) -> dict[str, Any]:
        nonlocal killed
        if round_number == 2 and not killed:
            killed = True
            kill_job("east", run_id)
        return {}

    federation = project.federation({"training.rounds": 5})
    run_id = federation.new_run_id()
    run = federation.train(run=run_id, config_fn=kill)
    state = run.status()
    assert state.status == "Completed"
    assert len(state.rounds) == 5
    assert state.sites["east"].status == "Failed"
    assert state.sites["east"].reason
    assert set(state.rounds[4].sites) == {"north", "south", "west"}
    others = [state.sites[s].status for s in ("north", "south", "west")]
    assert others == ["Completed"] * 3


COORDINATOR = """
import sys, time
from fedsm import Federation
federation = Federation.load(sys.argv[1], {fast!r})
federation.train(run=sys.argv[2], config_fn=lambda number: time.sleep(0.3) or {{}})
"""


def test_jobs_outlive_a_killed_coordinator_and_leave_by_themselves(project: Project) -> None:
    federation = project.federation()
    run_id = federation.new_run_id()
    code = COORDINATOR.format(fast={**FAST, "training.rounds": 500, "training.max_wait": 3})
    coordinator = subprocess.Popen([sys.executable, "-c", code, str(project.directory), run_id])
    run = None
    try:
        wait_for(lambda: run_id in federation.runs())
        run = federation.attach(run_id)
        wait_for(lambda: len(run.status().rounds) >= 2)
    finally:
        coordinator.kill()
        coordinator.wait()
    assert not run.alive
    assert local.status(project.directory) is not None
    jobs = {s.name: s.job for s in run.status().sites.values()}
    assert all(describe(federation, name, job) == "InProgress" for name, job in jobs.items())
    wait_for(lambda: all(describe(federation, n, j) != "InProgress" for n, j in jobs.items()), 40)
    assert {describe(federation, n, j) for n, j in jobs.items()} == {"Completed"}


def describe(federation: Federation, site: str, job: str) -> str:
    owner = federation.cloud.owner(federation.config.subset([site]).sites[0])
    answer = owner.client("sagemaker").describe_training_job(TrainingJobName=job)
    return str(answer["TrainingJobStatus"])


def wait_for(ready: Callable[[], Any], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not ready():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.1)


def test_a_run_in_the_background_can_be_stopped(project: Project) -> None:
    federation = project.federation({"training.rounds": 5000})
    run = federation.train(wait=False, sites=["north", "west"])
    wait_for(lambda: len(run.status().rounds) >= 2)
    run.stop()
    state = run.wait(timeout=60)
    assert state.status == "Stopped"
    assert run.model_path().exists()
    assert {s.status for s in state.sites.values()} == {"Completed"}


def test_ctrl_c_stops_what_was_started(project: Project) -> None:
    federation = project.federation()
    run_id = federation.new_run_id()
    code = COORDINATOR.format(fast={**FAST, "training.rounds": 500})
    coordinator = subprocess.Popen(
        [sys.executable, "-c", code, str(project.directory), run_id],
        stderr=subprocess.DEVNULL,
    )
    wait_for(lambda: run_id in federation.runs())
    run = federation.attach(run_id)
    wait_for(lambda: run.status().rounds)
    coordinator.send_signal(signal.SIGINT)
    assert coordinator.wait(timeout=140) != 0
    state = run.status()
    assert state.status == "Stopped"
    assert all(s.status in ("Stopped", "Completed", "Failed") for s in state.sites.values())


def test_ctrl_c_that_a_callback_swallows_ends_the_run_nevertheless(project: Project) -> None:
    federation = project.federation()
    run_id = federation.new_run_id()

    def interrupted(number: int) -> dict[str, Any]:
        with suppress(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        return {}

    with pytest.raises(KeyboardInterrupt):
        federation.train(run=run_id, sites=["north", "west"], config_fn=interrupted)
    state = federation.attach(run_id).status()
    assert (state.status, state.reason) == ("Stopped", "interrupted")
    assert len(state.rounds) == 1
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.parametrize("dataset", ["breast-cancer", "heart-disease"])
def test_the_demo(dataset: str, tmp_path: Path, heart_data: Path) -> None:
    command = [sys.executable, "-m", "fedsm", "demo", "--dataset", dataset, "--json"]
    command += ["--directory", str(tmp_path / "demo")]
    if dataset == "heart-disease":
        command += ["--data", str(heart_data)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=170, check=False)
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert {"run_id", "sites", "rounds", "model", "journal", "experiment", "isolation"} <= set(
        answer
    )
    assert [site["status"] for site in answer["sites"]] == ["Completed"] * 4
    assert {"name", "account", "job", "status", "seconds"} <= set(answer["sites"][0])
    last = answer["rounds"][-1]
    assert {"round", "loss", "auc", "accuracy", "sites"} <= set(last)
    assert last["auc"] >= (0.99 if dataset == "breast-cancer" else 0.85)
    assert Path(answer["model"]).exists()
    assert Path(answer["journal"]).exists()
    assert local.status(tmp_path / "demo") is None
    assert len(list((tmp_path / "demo" / "models").iterdir())) == 4
    if dataset == "heart-disease":
        assert last["sites"]["switzerland"]["train"]["num-examples"] == 81
