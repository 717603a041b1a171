"""The SageMaker SDK opens what fedsm wrote.

The SDK is large (about 1 GB) and lives in an interpreter of its own: `FEDSM_SAGEMAKER_PYTHON`
names it, or else this one has it. Neither: the tests are skipped and say so.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from moto import mock_aws

from fedsm.events import Journal
from fedsm.tracking.pump import replay
from fedsm.tracking.sagemaker import SageMakerExperiments
from tests.tracking import emulator, story

READER = Path(__file__).with_name("sdk_reader.py")
EXPERIMENT = "fedsm-heart"
SITES = ("north", "south")
CLIENT = f"{story.RUN}-client-north"
AGGREGATOR = f"{story.RUN}-aggregator-server"


def interpreter() -> str | None:
    named = os.environ.get("FEDSM_SAGEMAKER_PYTHON")
    if named:
        return named
    return sys.executable if importlib.util.find_spec("sagemaker") else None


needs_sdk = pytest.mark.skipif(
    interpreter() is None,
    reason="the SageMaker SDK is not installed: `make references` puts it into an environment of its own "
    "and FEDSM_SAGEMAKER_PYTHON names its interpreter",
)


@pytest.fixture(scope="module")
def read_back(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """One tracked run, as the SDK sees it over HTTP."""
    path = tmp_path_factory.mktemp("run") / "events.jsonl"
    journal = Journal(path)
    story.play(journal, SITES)
    journal.close()
    with pytest.MonkeyPatch.context() as patch:
        emulator.faithful(patch)
        with mock_aws():
            (standing,) = replay(path, [SageMakerExperiments(emulator.session(), "fedsm")])
            assert standing.left == 0
            with emulator.served() as url:
                yield _read(url)


def _read(url: str) -> dict[str, Any]:
    environment = {
        "PATH": os.environ.get("PATH", ""),
        "HOME": os.environ.get("HOME", ""),
        "AWS_ENDPOINT_URL": url,
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_DEFAULT_REGION": emulator.REGION,
        "AWS_EC2_METADATA_DISABLED": "true",
        "NO_PROXY": "127.0.0.1",
    }
    done = subprocess.run(
        [str(interpreter()), str(READER), EXPERIMENT, CLIENT],
        env=environment,
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    document: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return document


@needs_sdk
def test_list_runs_finds_every_participant(read_back: dict[str, Any]) -> None:
    assert set(read_back["runs"]) == {AGGREGATOR, *(f"{story.RUN}-client-{s}" for s in SITES)}
    aggregator = read_back["runs"][AGGREGATOR]
    assert aggregator["status"] == "Completed"
    assert aggregator["parameters"]["strategy"] == "fedadam"
    assert aggregator["metrics"]["Test:AUC"] == 0.9
    assert aggregator["metrics"]["Test:Loss"] == 1.0
    assert aggregator["outputs"]["model"] == "/runs/model.joblib"


@needs_sdk
def test_load_run_opens_one(read_back: dict[str, Any]) -> None:
    opened = read_back["opened"]
    assert opened["config"] == {
        "ExperimentName": EXPERIMENT,
        "TrialName": f"Default-Run-Group-{EXPERIMENT}",
        "RunName": f"{EXPERIMENT}-{CLIENT}",
    }
    assert opened["parameters"]["learning-rate"] == 0.05
    assert opened["parameters"]["train-data-size"] == 60
    assert opened["parameters"]["device"] == "cuda:0"
    assert opened["metrics"]["Validation:AUC"] == 0.875
    assert opened["outputs"]["model"] == "s3://north-models/output/model.tar.gz"


@needs_sdk
def test_the_sdk_adds_to_a_run_without_losing_anything(read_back: dict[str, Any]) -> None:
    added, opened = read_back["added"], read_back["opened"]
    assert added["parameters"] == opened["parameters"] | {"reviewed-by": "a data scientist"}
    assert added["metrics"] == opened["metrics"] | {"Review:Score": 0.5}
    assert added["outputs"] == opened["outputs"]
