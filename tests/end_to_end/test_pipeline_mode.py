"""Runs in which the server may only start what each site's owner approved."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from fedsm import Federation, local
from fedsm.agreement import invitation_of
from fedsm.errors import AccessError, FedsmError, JobError, LaunchError, QuorumLost
from fedsm.events import Journal, read
from fedsm.run import Run
from fedsm.scaffold import write
from fedsm.site_folder import SiteFolder
from tests.end_to_end.test_runs import artifacts, kill_job, processes_of, wait_for

SITES = ["north", "west"]
AGREED = {
    "rounds": 50,
    "max_wait": 5,
    "join_deadline": 60,
    "round_deadline": 30,
    "limits": {"learning-rate": {"low": 0.01, "high": 1}, "local-steps": {"choices": [1, 5]}},
}
FAST = {"training.rounds": 2, "tracking.experiments": False}


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    place = tmp_path_factory.mktemp("federation")
    write(place, "breast-cancer", None)
    edit(place, lambda v: (v.update(launch="pipeline"), v["training"].update(AGREED)))
    edit(place, lambda v: v.update(sites=[s for s in v["sites"] if s["name"] in SITES]))
    assert Federation.load(place).cloud.isolation
    yield place
    local.down(place)


@pytest.fixture(autouse=True)
def _as_it_was(directory: Path, tmp_path: Path) -> Iterator[None]:
    file, code = directory / "federation.yaml", directory / "client_code"
    before, kept = file.read_text(), tmp_path / "client_code"
    shutil.copytree(code, kept)
    yield
    file.write_text(before)
    shutil.rmtree(code, ignore_errors=True)
    shutil.copytree(kept, code)


def edit(directory: Path, how: Callable[[dict[str, Any]], object]) -> None:
    file = directory / "federation.yaml"
    values = yaml.safe_load(file.read_text())
    how(values)
    file.write_text(yaml.safe_dump(values))


def load(directory: Path, **overrides: Any) -> Federation:
    return Federation.load(directory, {**FAST, **overrides})


def other_code(directory: Path, note: str) -> str:
    """Other client code, published at north but not approved; returns its digest."""
    place = directory / "client_code"
    shutil.rmtree(place, ignore_errors=True)
    shutil.copytree("client_code", place, ignore=shutil.ignore_patterns("__pycache__"))
    (place / "note.py").write_text(f"NOTE = {note!r}\n")
    federation = load(directory)
    federation.publish("north")
    return federation.bundle.sha256


def owner(directory: Path, site: str) -> SiteFolder:
    federation = load(directory)
    session = federation.cloud.owner(federation.config.subset([site]).sites[0])
    return SiteFolder(directory / "agreements" / site, session)


def refused(
    directory: Path, kind: type[FedsmError], *said: str, sites: list[str] | None = None, **over: Any
) -> Run:
    """A run that ends with one sentence for both sides, and leaves nothing running."""
    federation = load(directory, **over)
    with pytest.raises(kind) as caught:
        federation.train(sites=sites or ["north"])
    for text in (*said, "Next: "):
        assert text in str(caught.value)
    run = federation.attach()
    state = run.status()
    assert state.status == "Failed"
    assert all(s.ended or s.status == "Planned" for s in state.sites.values())
    assert not processes_of("north", run.id)
    return run


def test_a_run_of_approved_pipelines(directory: Path, tmp_path: Path) -> None:
    chosen = {"learning-rate": 0.25, "local-steps": 1}  # within the limits, so the run's choice
    over = {f"training.hyperparameters.{name}": value for name, value in chosen.items()}
    run = load(directory, **over).train()
    state = run.status()
    assert (state.status, state.launch) == ("Completed", "pipeline")
    assert state.as_data()["launch"] == "pipeline"
    for site in state.sites.values():
        assert site.status == "Completed"
        assert site.job.startswith("pipelines-")
        assert site.execution.startswith(f"{site.pipeline}/execution/")
        assert site.seconds > 0
        assert site.artifacts.endswith(f"/{site.job}/output/model.tar.gz")
        assert artifacts(run, site.name, tmp_path)["model.joblib"] == run.model_path().read_bytes()
        # All that the server called in the owner's account.
        assert set(state.calls[site.name]) == {
            "sts:AssumeRole",
            "sagemaker:StartPipelineExecution",
            "sagemaker:DescribePipelineExecution",
            "sagemaker:ListPipelineExecutionSteps",
        }
    events = list(read(run.journal))
    started = next(e.data for e in events if e.kind == "execution-started")
    assert started["parameters"]["Run"] == run.id
    assert started["parameters"]["Hp-learning-rate"] == "0.25"
    created = next(e.data for e in events if e.kind == "job-created")
    assert created["execution"] == state.sites[created["site"]].execution
    kinds = [e.kind for e in events if e.data.get("site") == "north"]
    assert kinds.index("execution-started") < kinds.index("job-created")
    with pytest.raises(AccessError, match="logs are the owner's"):
        list(run.logs("north"))
    assert any("fedsm ended" in line for _, line in run.logs("north", owner=True))


def test_strategies_of_our_own_under_the_owners_terms(directory: Path, tmp_path: Path) -> None:
    """Nothing but what the terms name leaves a job; `exact` needs more than the model's arrays."""
    over = {"training.strategy": "scaffold", "training.best": {"metric": "loss"}}
    run = load(directory, **over).train()
    assert run.status().best["round"] == 2
    assert artifacts(run, "north", tmp_path)["model.joblib"] == run.model_path().read_bytes()
    # The sites were invited for another strategy: who stops it, and what to do about it.
    exact = {"training.strategy": "exact", "training.rounds": AGREED["rounds"]}
    said = ("usable replies to train", "north", "hessian, losses; invite the owner")
    with pytest.raises(QuorumLost) as caught:
        load(directory, **exact).train()
    for text in said:
        assert text in str(caught.value)
    # Invited again, the owners see the sums that are asked for, agree and approve.
    federation = load(directory, **exact)
    for site in federation.config.sites:
        folder = owner(directory, site.name)
        folder.agree(invitation_of(federation.config, site.name, site.external_id, "1"), site)
        folder.apply()
        folder.approve(federation.bundle.sha256)
    assert "hessian" in (directory / "agreements" / "north" / "terms.yaml").read_text()
    run = federation.train()
    assert run.history()[-1]["train"]["converged"] == 1


def test_a_choice_outside_the_invited_is_refused_by_the_pipeline(directory: Path) -> None:
    edit(directory, lambda v: v["training"]["limits"].pop("local-steps"))
    over = {"training.hyperparameters.local-steps": 4}
    said = ("north: ", "refuses the hyperparameter local-steps", "fedsm site invite")
    run = refused(directory, LaunchError, *said, **over)
    assert not run.status().sites["north"].job


def test_a_hyperparameter_that_was_not_invited_is_refused(directory: Path) -> None:
    over = {"training.hyperparameters.penalty": "l2"}
    refused(directory, LaunchError, "north: ", "the hyperparameter penalty", **over)


def test_a_number_outside_its_range_is_refused_by_the_job(directory: Path) -> None:
    edit(directory, lambda v: v["training"]["limits"]["learning-rate"].update(high=5))
    over = {"training.hyperparameters.learning-rate": 1.5}
    said = ("north", "learning-rate 1.5 is not a number from 0.01 to 1", "exit code: 20")
    run = refused(directory, JobError, *said, **over)
    assert not run.status().sites["north"].joined


def test_more_rounds_than_invited_are_refused_by_the_job(directory: Path) -> None:
    said = ("FEDSM_ROUNDS 51 is not from 1 to 50", "exit code: 20")
    refused(directory, JobError, *said, **{"training.rounds": 51})


def test_a_bundle_that_is_not_approved(directory: Path) -> None:
    digest = other_code(directory, "not approved")
    said = (
        f"north: bundle {digest[:12]} is not approved, or its approval has ended",
        f"fedsm site approve {digest}",
    )
    run = refused(directory, AccessError, *said)
    assert not run.status().sites["north"].execution


def test_one_site_that_has_not_approved_starts_none_that_goes_on(directory: Path) -> None:
    digest = other_code(directory, "approved by north only")
    owner(directory, "north").approve(digest)
    run = refused(directory, AccessError, f"west: bundle {digest[:12]}", sites=SITES)
    sites = run.status().sites
    assert sites["north"].execution
    assert sites["north"].status in ("Stopped", "Failed")
    assert not sites["west"].execution


def test_an_approval_that_has_ended(directory: Path) -> None:
    digest = other_code(directory, "approved for a moment")
    until = datetime.now(UTC) + timedelta(seconds=2)
    owner(directory, "north").approve(digest, until)
    time.sleep(max(0.0, (until - datetime.now(UTC)).total_seconds()) + 1)
    refused(directory, AccessError, f"bundle {digest[:12]} is not approved, or its approval has")
    # Where federation.yaml has the approval's end, nothing is called at all.
    before = load(directory).runs()
    over = {"sites.north.bundle_until": until.isoformat()}
    with pytest.raises(AccessError, match=f"north: the approval of bundle {digest[:12]} ended on"):
        load(directory, **over).train(sites=["north"])
    assert load(directory).runs() == before


def test_a_bundle_that_is_disapproved(directory: Path) -> None:
    digest = other_code(directory, "disapproved")
    folder = owner(directory, "north")
    folder.approve(digest)
    folder.disapprove(digest)
    refused(directory, AccessError, f"bundle {digest[:12]} is not approved")


def test_a_killed_job_is_named(directory: Path) -> None:
    federation = load(directory, **{"training.rounds": 5})
    run_id = federation.new_run_id()

    def kill(number: int) -> dict[str, Any]:
        if number == 2 and processes_of("west", run_id):
            kill_job("west", run_id)
        return {}

    with pytest.raises(QuorumLost, match="west"):
        federation.train(run=run_id, config_fn=kill)
    state = federation.attach(run_id).status()
    assert state.status == "Failed"
    assert state.sites["west"].status == "Failed"
    assert state.sites["west"].reason
    assert state.sites["north"].ended


COORDINATOR = """
import sys, time
from fedsm import Federation
federation = Federation.load(sys.argv[1], {fast!r})
federation.train(run=sys.argv[2], config_fn=lambda number: time.sleep(0.3) or {{}})
"""


def conducted(directory: Path) -> tuple[subprocess.Popen[bytes], Run]:
    """A coordinator of its own, in its second round."""
    federation = load(directory)
    run_id = federation.new_run_id()
    code = COORDINATOR.format(fast={**FAST, "training.rounds": 50})
    coordinator = subprocess.Popen(
        [sys.executable, "-c", code, str(directory), run_id], stderr=subprocess.DEVNULL
    )
    wait_for(lambda: run_id in federation.runs())
    run = federation.attach(run_id)
    wait_for(lambda: run.status().rounds)
    return coordinator, run


def executions(directory: Path, run: Run) -> set[str]:
    """Status of a run's executions, as the owners see it."""
    federation = load(directory)
    found = set()
    for site in run.status().sites.values():
        session = federation.cloud.owner(federation.config.subset([site.name]).sites[0])
        listed = session.client("sagemaker").list_pipeline_executions(PipelineName=site.pipeline)
        found |= {
            each["PipelineExecutionStatus"]
            for each in listed["PipelineExecutionSummaries"]
            if each["PipelineExecutionDisplayName"] == run.id
        }
    return found


def test_ctrl_c_stops_the_executions(directory: Path) -> None:
    coordinator, run = conducted(directory)
    coordinator.send_signal(signal.SIGINT)
    assert coordinator.wait(timeout=140) != 0
    state = run.status()
    assert state.status == "Stopped"
    assert all(s.ended for s in state.sites.values())
    assert executions(directory, run) <= {"Stopped", "Succeeded", "Failed"}


def test_stop_ends_the_executions_of_a_coordinator_that_is_gone(directory: Path) -> None:
    coordinator, run = conducted(directory)
    coordinator.kill()
    coordinator.wait()
    # Neither the file nor anything else of the project is needed but the run's own folder.
    (directory / "federation.yaml").rename(directory / "elsewhere.yaml")
    try:
        command = [sys.executable, "-m", "fedsm", "stop", run.id, "--config", str(directory)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    finally:
        (directory / "elsewhere.yaml").rename(directory / "federation.yaml")
    assert done.returncode == 0, done.stderr
    wait_for(lambda: "Executing" not in executions(directory, run), 30)
    assert executions(directory, run) <= {"Stopping", "Stopped"}


def test_stop_finds_an_execution_whose_start_was_not_told(directory: Path) -> None:
    coordinator, run = conducted(directory)
    coordinator.kill()
    coordinator.wait()
    # As the coordinator would have left it, had it died before the answers came.
    half = run.directory.with_name(f"{run.id}-half")
    half.mkdir()
    shutil.copy(run.directory / "plan.json", half)
    journal = Journal(half / "events.jsonl")
    for event in read(run.journal):
        if event.kind == "execution-started":
            break
        if event.data.get("phase") != "end":
            journal.append(event.kind, **event.data)
    journal.close()
    left = Run(half)
    assert not any(s.execution for s in left.status().sites.values())
    assert all(s.asked for s in left.status().sites.values())
    assert executions(directory, run) == {"Executing"}
    left.stop()
    wait_for(lambda: "Executing" not in executions(directory, run), 30)
    shutil.rmtree(half)


def test_stop_before_anything_was_asked_calls_nobody(directory: Path) -> None:
    run = load(directory).attach(load(directory).runs()[0])
    half = run.directory.with_name(f"{run.id}-begun")
    half.mkdir()
    journal = Journal(half / "events.jsonl")
    first = next(read(run.journal))
    journal.append(first.kind, **first.data)
    journal.close()
    # Without a plan there is nothing that could be asked again.
    Run(half).stop()
    shutil.rmtree(half)


def test_plan_prints_the_start_of_each_pipeline(directory: Path) -> None:
    command = [sys.executable, "-m", "fedsm", "plan", "--json", "--config", str(directory)]
    environment = {key: value for key, value in os.environ.items() if not key.startswith("AWS_")}
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=60, check=True, env=environment
    )
    plan = json.loads(done.stdout)
    assert plan["launch"] == "pipeline"
    assert [step["call"] for step in plan["steps"]] == [
        "sts:AssumeRole",
        "sagemaker:StartPipelineExecution",
    ] * 2
