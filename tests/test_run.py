"""A run taken up later: from its journal alone, and with credentials only where they are needed."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from fedsm import Federation, local
from fedsm.assets import asset
from fedsm.aws import jobs
from fedsm.coordinator import PID_FILE, STOP_FILE
from fedsm.errors import AccessError, ConfigError, FedsmError, JobError, LocalCloudError
from fedsm.events import Event, Journal
from fedsm.names import job_name
from fedsm.report import shortfall
from fedsm.run import Run
from fedsm.scaffold import write
from fedsm.state import fold
from tests.support import site

RUN = "breast-cancer-1"


def write_run(project: Path, run: str, *, created: bool = True, **changes: Any) -> Path:
    """A run of one site, north, that its coordinator left without a word."""
    journal = Journal(project / "runs" / run / "events.jsonl")
    north = {**site("north"), **changes}
    journal.append(
        "run-started",
        run=run,
        federation="heart",
        cloud="local",
        isolation="process",
        coordinator={
            "account": "111111111111",
            "region": "us-east-1",
            "role": "arn:aws:iam::111111111111:role/fedsm-coordinator",
        },
        rounds=3,
        sites=[
            {
                "name": north["name"],
                "account": north["account_id"],
                "region": north["region"],
                "role": north["role_arn"],
                "external_id": north["external_id"],
                "job": job_name("breast-cancer", run, "north"),
            }
        ],
    )
    if created:
        journal.append(
            "job-created",
            site="north",
            job=job_name("breast-cancer", run, "north"),
            account="",
            arn="",
        )
    journal.close()
    return project / "runs" / run


def test_the_latest_run_is_opened_without_an_id(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="start one: fedsm train"):
        Run.open(tmp_path, None)
    write_run(tmp_path, RUN)
    assert Run.open(tmp_path, None).id == RUN
    with pytest.raises(ConfigError, match=f"there is no run other.*choose one of {RUN}"):
        Run.open(tmp_path, "other")


def test_a_live_coordinator_is_asked_to_stop(tmp_path: Path) -> None:
    directory = write_run(tmp_path, RUN)
    (directory / PID_FILE).write_text(str(os.getpid()))
    Run(directory).stop()
    assert (directory / STOP_FILE).exists()


def test_nothing_is_left_to_stop_where_all_jobs_have_ended(tmp_path: Path) -> None:
    directory = write_run(tmp_path, RUN)
    journal = Journal(directory / "events.jsonl")
    append_end(journal, "north", "Failed")
    journal.close()
    Run(directory).stop()


def append_end(journal: Journal, name: str, status: str, reason: str = "") -> None:
    journal.append(
        "job-status", site=name, job="j", status=status, secondary="", reason=reason, seconds=1
    )


def test_a_local_cloud_is_not_started_to_look_back(tmp_path: Path) -> None:
    write(tmp_path, "breast-cancer", None)
    run = Run(write_run(tmp_path, RUN))
    for call in (lambda: run.logs("north"), lambda: run.logs("north", owner=True), run.stop):
        with pytest.raises(LocalCloudError, match="the local cloud is down"):
            call()
    assert local.status(tmp_path) is None


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A federation on a running cloud, whose file has lost the site north since."""
    place = tmp_path_factory.mktemp("study")
    write(place, "breast-cancer", None)
    federation = Federation.load(place)
    assert federation.cloud.isolation
    north = federation.config.subset("north").sites[0]
    write_run(place, RUN, **north.model_dump())
    values = yaml.safe_load((place / "federation.yaml").read_text())
    values["sites"] = [s for s in values["sites"] if s["name"] != "north"]
    (place / "federation.yaml").write_text(yaml.safe_dump(values))
    yield place
    local.down(place)


def test_jobs_are_reached_as_the_journal_has_them(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The file may have become another one since, or be faulty.
    monkeypatch.setattr("fedsm.config.load", None)
    run = Run.open(project, RUN)
    with pytest.raises(AccessError, match="--owner"):
        list(run.logs("north"))
    with pytest.raises(JobError, match="logs of the local cloud end with it"):
        list(run.logs("north", owner=True))
    run.stop()


def test_a_planned_job_is_stopped_too(project: Path) -> None:
    external_id = "not-the-agreed-one"
    directory = write_run(project, "breast-cancer-2", created=False, external_id=external_id)
    with pytest.raises(FedsmError, match="north"):
        Run(directory).stop()


def test_what_a_job_wrote_is_made_printable(project: Path) -> None:
    run = Run.open(project, RUN)
    endpoint = local.status(project)
    assert endpoint is not None
    north = run.status().sites["north"]
    client = endpoint.session(north.account, north.region).client("logs")
    client.create_log_group(logGroupName=jobs.LOG_GROUP)
    with pytest.raises(JobError, match="has no log"):
        list(run.logs("north", owner=True))
    stream = {"logGroupName": jobs.LOG_GROUP, "logStreamName": f"{north.job}/algo-1"}
    client.create_log_stream(**stream)
    moment = int(time.time() * 1000)
    event = {"timestamp": moment, "message": "a\x1b[2Jb"}
    client.put_log_events(**stream, logEvents=[event])
    assert list(run.logs("north", owner=True)) == [(moment, "a\\x1b[2Jb")]


def test_a_failure_reason_is_made_printable() -> None:
    class SageMaker:
        def describe_training_job(self, **_: str) -> dict[str, str]:
            return {
                "TrainingJobStatus": "Failed",
                "SecondaryStatus": "Failed",
                "FailureReason": "\x1b]0;\ud800" + "x" * 2000,
            }

    reason = jobs.describe(SageMaker(), "north", "j").reason
    assert reason.startswith("\\x1b]0;\\ud800x")
    assert len(reason) == jobs.LONGEST_REASON


def test_sites_that_did_not_end_well_are_named(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "events.jsonl")
    seen: list[Event] = []
    journal.subscribe(seen.append)
    names = ("north", "south", "east", "west")
    for name in names:
        journal.append("job-created", site=name, job="j", account="", arn="")
    for number in (1, 2):
        for name in names:
            if name == "north" or (name == "west" and number == 1):
                journal.append(
                    "site-error", round=number, phase="train", site=name, error="ValueError"
                )
            else:
                journal.append("site-metrics", round=number, phase="train", site=name, metrics={})
    for name in names:
        failed = name == "east"
        append_end(journal, name, "Failed" if failed else "Completed", "killed" if failed else "")
    assert shortfall(fold(seen)) == ""
    journal.append("run-ended", status="Completed", reason="", model="m", model_sha256="")
    journal.close()
    assert shortfall(fold(seen)) == (
        "2 of 4 sites ended well; north: round 2, train: ValueError; east: killed"
    )


def test_a_site_that_never_trained_is_named_at_the_end(project: Path) -> None:
    code = project / "client_code"
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(asset("client_code"), code, ignore=ignored, dirs_exist_ok=True)
    app = (code / "app.py").read_text()
    made = "tabular_app(train_rows, validation_rows)"
    assert made in app
    bad = (
        "def rows(context):\n"
        '    if context.node_config["site"] == "south":\n'
        "        raise ValueError\n"
        "    return train_rows(context)\n\n\n"
    )
    app = app.replace(f"app = {made}", f"{bad}app = tabular_app(rows, validation_rows)")
    (code / "app.py").write_text(app)
    federation = Federation.load(project)
    for found in federation.config.sites:
        federation.publish(found.name)
    command = [sys.executable, "-m", "fedsm", "train", "--json", "--config", str(project)]
    command += ["--set", "training.rounds=1", "--set", "tracking.experiments=false"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["status"] == "Completed"
    last = done.stderr.splitlines()[-1]
    assert last.startswith("2 of 3 sites ended well; south: ")
    assert "ValueError" in last
