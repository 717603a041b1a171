"""The SageMaker SDK opens what fedsm wrote, at the local cloud."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fedsm.events import Journal
from fedsm.tracking.follower import position_file
from fedsm.tracking.pump import replay
from fedsm.tracking.sagemaker import SageMakerExperiments
from tests.tracking import sdk, story
from tests.tracking.conftest import new_account
from tests.tracking.sdk import needs_sdk

EXPERIMENT = "fedsm-heart"
SITES = ("north", "south")
CLIENT = f"{story.RUN}-client-north"
AGGREGATOR = f"{story.RUN}-aggregator-server"


@pytest.fixture(scope="module")
def read_back(cloud: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """One tracked run, as the SDK sees it beside another experiment of the account."""
    account = new_account(cloud)
    path = tmp_path_factory.mktemp("run") / "events.jsonl"
    journal = Journal(path)
    story.play(journal, SITES)
    journal.close()
    for prefix in ("other", "fedsm"):
        (standing,) = replay(path, [SageMakerExperiments(account, prefix)])
        assert standing.left == 0
        position_file(path, SageMakerExperiments.name).unlink()
    return sdk.read(account, EXPERIMENT, CLIENT)


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
