"""The command line as a process: documents, messages and exit codes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from fedsm import __version__
from fedsm.coordinator import PID_FILE, STOP_FILE
from fedsm.events import Journal
from tests.support import federation, site
from tests.test_run import write_run

SETS = [
    "plan",
    "--set",
    "training.model=logistic-regression",
    "--set",
    "training.prepare=standardize",
]


def fedsm(*arguments: str, place: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "fedsm", *arguments],
        cwd=place,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "federation.yaml").write_text(yaml.safe_dump(federation()))
    return tmp_path


def test_plan_is_one_json_document_and_needs_no_account(place: Path) -> None:
    done = fedsm("plan", "--json", "--set", "training.rounds=7", place=place)
    assert done.returncode == 0, done.stderr
    plan = json.loads(done.stdout)
    assert len(plan["steps"]) == 4
    assert not (place / "runs").exists()
    assert not (place / ".fedsm").exists()


def test_plan_for_people(place: Path) -> None:
    done = fedsm("plan", "--site", "b", place=place)
    assert "each site's owner chose" in done.stdout
    assert "sagemaker:StartPipelineExecution" in done.stdout
    assert "account 333333333333" in done.stdout
    assert "222222222222" not in done.stdout


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["plan", "--config", "nowhere"], 2, "cannot be read"),
        (["plan", "--set", "training.rounds=0"], 2, "training.rounds"),
        (["plan", "--set", "rounds"], 2, "section.field=value"),
        (["plan", "--set", "training.min_sites=7"], 2, "7 is more than the 2 sites"),
        (["plan", "--set", "sites=[]"], 2, "fedsm site invite"),
        (["plan", "--site", "z"], 2, "no such site: z"),
        ([*SETS, "--set", "training.hyperparameters.learning-rate=fast"], 2, "learning-rate"),
        ([*SETS, "--set", "training.test=none.csv"], 2, "there is no file"),
        (["plan", "--set", "training.initial=none.npz"], 5, "none.npz"),
        (["data", "breast-cancer", "--seed", "-1"], 2, "--seed"),
        (["status"], 2, "there is no run"),
        (["init", "."], 2, "holds a federation already"),
        (["demo", "--dataset", "other", "--directory", "d"], 2, "choose from"),
        (["train", "--nothing"], 2, "No such option"),
        (["init", "federation.yaml/x"], 1, "federation.yaml/x: Not a directory"),
    ],
)
def test_a_users_mistake_is_one_message(
    place: Path, arguments: list[str], code: int, said: str
) -> None:
    done = fedsm(*arguments, place=place)
    assert done.returncode == code, done.stderr
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert not done.stdout


def test_all_faults_of_a_file_in_one_go(place: Path) -> None:
    broken = federation(site("a", account="1"), site("b", bogus=1))
    (place / "federation.yaml").write_text(yaml.safe_dump(broken))
    done = fedsm("plan", place=place)
    assert "sites.a.account_id" in done.stderr
    assert "sites.b.bogus" in done.stderr


def test_looking_back_needs_no_federation_file(place: Path) -> None:
    write_run(place, "heart-1")
    (place / "federation.yaml").write_text("coordinator: [")
    for config in (".", "federation.yaml"):
        done = fedsm("status", "--json", "--config", config, place=place)
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["run_id"] == "heart-1"
    assert fedsm("history", place=place).returncode == 0
    (place / "runs" / "heart-1" / PID_FILE).write_text(str(os.getpid()))
    assert fedsm("stop", place=place).returncode == 0
    assert (place / "runs" / "heart-1" / STOP_FILE).exists()


def test_the_final_evaluation_is_shown(place: Path) -> None:
    run = write_run(place, "heart-1")
    done = fedsm("report", place=place)
    assert done.returncode == 5
    assert "has no report" in done.stderr
    estimate = {"value": 0.9, "low": 0.8, "high": 0.95}
    north = {"n": 40, "prevalence": 0.3, "auc": estimate, "undefined": {"calibration": "why not"}}
    report = {"round": 3, "labels": ["0", "1"], "sites": {"north": north}, "worst": "north"}
    journal = Journal(run / "events.jsonl")
    journal.append("report", report={**report, "missing": {"south": "it left"}, "pooled": {}})
    journal.close()
    assert json.loads(fedsm("report", "heart-1", "--json", place=place).stdout)["sites"]
    text = fedsm("report", place=place).stdout
    for words in ("north (worst)", "0.900 [0.800, 0.950]", "why not", "south: no report: it left"):
        assert words in text


def test_version_and_help(tmp_path: Path) -> None:
    assert fedsm("--version", place=tmp_path).stdout.strip() == __version__
    text = fedsm("--help", place=tmp_path).stdout
    for command in ("init", "demo", "publish", "plan", "train", "status", "logs", "stop", "local"):
        assert command in text


def test_the_local_cloud_is_down_where_none_was_started(tmp_path: Path) -> None:
    assert fedsm("local", "status", place=tmp_path).stdout.strip() == "down"
    assert fedsm("local", "down", place=tmp_path).returncode == 0
