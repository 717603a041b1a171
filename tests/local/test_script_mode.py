"""Our script-mode runner against SageMaker's own toolkit, on the same job.

``FEDSM_TOOLKIT_PYTHON`` names the interpreter of an environment that holds
``sagemaker-training==5.1.4``.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from fedsm.local import script_mode

TOOLKIT = os.environ.get("FEDSM_TOOLKIT_PYTHON", "")
needs_toolkit = pytest.mark.skipif(
    not TOOLKIT, reason="FEDSM_TOOLKIT_PYTHON does not name a Python with sagemaker-training 5.1.4"
)
RUNNERS = {
    "ours": [sys.executable, str(Path(script_mode.__file__))],
    "toolkit": [TOOLKIT, "-m", "sagemaker_training.cli.train"],
}
REPORT = """
import json, os, signal, sys, time
from pathlib import Path

out = Path(os.environ["SM_OUTPUT_DATA_DIR"])
report = {"environment": dict(os.environ), "argv": sys.argv, "cwd": os.getcwd()}
(out / "report.json").write_text(json.dumps(report))
"""
HYPERPARAMETERS = {
    "epochs": "3",
    "learning-rate": "0.1",
    "name": '"quoted"',
    "raw": "not json",
    "nested": '{"b": 2, "a": 1}',
    "list": "[1, 2]",
    "flag": "true",
    "none": "null",
    "e": "1",
    "sagemaker_program": '"train.py"',
    "sagemaker_region": '"eu-west-1"',
    "sagemaker_job_name": '"job-1"',
    "sagemaker_extra": '"framework"',
}


@dataclass
class Outcome:
    exit_code: int
    report: dict[str, Any]
    failure: str | None
    success: bool


def lay_out(base: Path, script: str) -> None:
    for name in ("input/config", "input/data/train", "input/data/test", "model", "output/data"):
        (base / name).mkdir(parents=True)
    (base / "code").mkdir()
    (base / "code/train.py").write_text(REPORT + script)
    group = {
        "instance_group_name": "homogeneousCluster",
        "instance_type": "ml.m5.large",
        "hosts": ["algo-1"],
    }
    channel = {
        "TrainingInputMode": "File",
        "S3DistributionType": "FullyReplicated",
        "RecordWrapperType": "None",
    }
    files = {
        "hyperparameters": HYPERPARAMETERS,
        "inputdataconfig": {"train": channel, "test": {**channel, "ContentType": "text/csv"}},
        "resourceconfig": {
            "current_host": "algo-1",
            "current_instance_type": "ml.m5.large",
            "current_group_name": "homogeneousCluster",
            "hosts": ["algo-1"],
            "instance_groups": [group],
            "network_interface_name": "eth0",
        },
    }
    for name, content in files.items():
        (base / "input/config" / f"{name}.json").write_text(json.dumps(content))


def launch(runner: str, base: Path, script: str) -> subprocess.Popen[bytes]:
    lay_out(base, script)
    environment = {
        "PATH": os.environ["PATH"],
        "SAGEMAKER_BASE_DIR": str(base),
        "SM_STUDIO_LOCAL_MODE": "true",
        "TRAINING_JOB_NAME": "job-1",
        "AWS_REGION": "eu-west-1",
        "AWS_DEFAULT_REGION": "eu-west-1",
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    with (base / "log").open("wb") as log:
        return subprocess.Popen(RUNNERS[runner], env=environment, cwd=base, stdout=log, stderr=log)


def outcome(base: Path, process: subprocess.Popen[bytes]) -> Outcome:
    code = process.wait(60)
    report = base / "output/data/report.json"
    failure = base / "output/failure"
    return Outcome(
        code,
        json.loads(report.read_text()) if report.exists() else {},
        failure.read_text() if failure.exists() else None,
        (base / "output/success").exists(),
    )


def comparable(found: dict[str, Any], base: Path) -> dict[str, str]:
    """The ``SM_*`` variables of a report, without what differs by directory."""
    return {
        name: value.replace(str(base), "BASE")
        for name, value in found["environment"].items()
        if name.startswith("SM_")
    }


def both(tmp_path: Path, script: str) -> tuple[Outcome, Outcome]:
    bases = {name: tmp_path / name / "ml" for name in RUNNERS}
    processes = {name: launch(name, base, script) for name, base in bases.items()}
    ours, theirs = (outcome(bases[name], processes[name]) for name in ("ours", "toolkit"))
    return ours, theirs


@needs_toolkit
def test_the_same_environment_arguments_and_directory(tmp_path: Path) -> None:
    ours, theirs = both(tmp_path, "")
    assert ours.exit_code == theirs.exit_code == 0
    assert ours.success
    assert theirs.success
    mine = comparable(ours.report, tmp_path / "ours/ml")
    toolkit = comparable(theirs.report, tmp_path / "toolkit/ml")
    assert json.loads(mine.pop("SM_TRAINING_ENV")) == json.loads(toolkit.pop("SM_TRAINING_ENV"))
    assert mine == toolkit
    assert ours.report["argv"] == theirs.report["argv"]
    assert ours.report["cwd"].replace("/ours/", "/toolkit/") == theirs.report["cwd"]


@needs_toolkit
@pytest.mark.parametrize(
    "script",
    [
        "sys.exit(7)",
        "raise ValueError('no')",
        "Path('../output/failure').write_text('mine'); sys.exit(3)",
        "os.kill(os.getpid(), 9)",
    ],
)
def test_the_same_exit_code_and_failure_file(tmp_path: Path, script: str) -> None:
    ours, theirs = both(tmp_path, script)
    assert ours.exit_code == theirs.exit_code == 1
    assert not ours.success
    assert not theirs.success
    assert ours.failure is not None
    assert theirs.failure is not None
    assert ours.failure.replace(sys.executable, "PYTHON") == theirs.failure.replace(
        TOOLKIT, "PYTHON"
    )


SLOW = """
def stop(number, frame):
    (out / "stopped").touch()
    sys.exit(0)

signal.signal(signal.SIGTERM, stop)
(out / "ready").touch()
time.sleep(60)
"""


def terminate(tmp_path: Path, runner: str) -> tuple[subprocess.Popen[bytes], Path]:
    base = tmp_path / runner / "ml"
    process = launch(runner, base, SLOW)
    deadline = time.monotonic() + 30
    while not (base / "output/data/ready").exists():
        assert process.poll() is None, (base / "log").read_text()
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    return process, base


def script_pid(base: Path) -> int:
    """Process id of the script, a child of the runner."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                words = (entry / "cmdline").read_bytes().split(b"\0")
                where = (entry / "cwd").readlink()
            except OSError:
                continue
            if b"train.py" in words and where == base / "code":
                return int(entry.name)
    raise AssertionError("the script does not run")


def test_sigterm_reaches_the_script(tmp_path: Path) -> None:
    process, base = terminate(tmp_path, "ours")
    assert process.wait(10) == 0
    assert (base / "output/data/stopped").exists()


@needs_toolkit
def test_the_toolkit_keeps_sigterm_from_the_script(tmp_path: Path) -> None:
    """The one documented difference: the toolkit dies and leaves its script running."""
    process, base = terminate(tmp_path, "toolkit")
    assert process.wait(10) == -signal.SIGTERM
    child = script_pid(base)
    try:
        time.sleep(0.3)
        assert not (base / "output/data/stopped").exists()
        assert script_pid(base) == child
    finally:
        os.kill(child, signal.SIGKILL)


def test_values_that_are_not_json_pass_as_they_stand() -> None:
    assert script_mode.decode("0.1") == 0.1
    assert script_mode.decode("fedavg") == "fedavg"
    assert script_mode.arguments({"b": {"y": 1, "x": 2}, "aa": None}) == [
        "--aa",
        "",
        "-b",
        "x=2,y=1",
    ]


@pytest.mark.parametrize("name", ["../train.py", "/bin/sh", "-c", "a b.py", "", None])
def test_an_entry_point_outside_the_source_is_refused(tmp_path: Path, name: str | None) -> None:
    with pytest.raises(script_mode.ScriptError, match="entry point"):
        script_mode.command(name, tmp_path, [])
