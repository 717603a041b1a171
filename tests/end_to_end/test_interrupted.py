"""What must not be lost or left behind when somebody or something breaks in."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from fedsm import Federation, local
from fedsm.errors import ConfigError, QuorumLost
from fedsm.scaffold import write
from tests.end_to_end.conftest import FAST, Project
from tests.support import federation


def test_a_run_id_is_used_once(project: Project) -> None:
    made = project.federation({"training.rounds": 1})
    run = made.train(sites=["north", "west"])
    before = run.journal.read_bytes()
    with pytest.raises(ConfigError, match="a run of that id already"):
        made.train(run=run.id)
    assert run.journal.read_bytes() == before
    assert run.status().status == "Completed"


@pytest.mark.parametrize("run", ["My Run/1", "../x", "", "a" * 61, "a--b"])
def test_a_run_id_is_checked(project: Project, run: str) -> None:
    with pytest.raises(ConfigError, match="no run id"):
        project.federation().train(run=run or " ")


def test_a_wrong_strategy_is_found_before_anything_is_called(project: Project) -> None:
    made = project.federation({"training.strategy": "fedavgg"})
    before = made.runs()
    for call in (made.plan, made.train):
        with pytest.raises(ConfigError, match="fedavgg"):
            call()
    assert made.runs() == before


def test_a_cloud_that_is_killed_in_mid_run_is_named(tmp_path: Path) -> None:
    write(tmp_path, "breast-cancer", None)
    made = Federation.load(tmp_path, {**FAST, "training.rounds": 500})
    killed = False

    def kill(number: int) -> dict[str, Any]:
        nonlocal killed
        endpoint = local.status(tmp_path)
        if number == 2 and not killed and endpoint is not None:
            killed = True
            os.kill(endpoint.pid, signal.SIGKILL)
        return {}

    try:
        with pytest.raises(QuorumLost, match="the local cloud has gone"):
            made.train(sites=["north", "west"], config_fn=kill)
    finally:
        local.down(tmp_path)
    state = made.attach().status()
    assert state.status == "Failed"
    assert state.rounds


def test_without_credentials_there_is_one_message(tmp_path: Path) -> None:
    (tmp_path / "federation.yaml").write_text(yaml.safe_dump(federation()))
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    for command in (["publish", "--site", "a"],):
        done = subprocess.run(
            [sys.executable, "-m", "fedsm", *command],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 3, done.stderr
        assert "there are no AWS credentials" in done.stderr
        assert "Traceback" not in done.stderr
