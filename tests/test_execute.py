"""Starting, watching and stopping jobs: what the journal says of them, in both launches."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import pytest
from botocore.exceptions import ClientError, ReadTimeoutError

from fedsm.aws.jobs import JobState
from fedsm.config import FederationConfig
from fedsm.errors import FedsmError, JobError, LaunchError
from fedsm.events import Event, Journal
from fedsm.execute import Launcher, Watcher
from fedsm.plan import Facts, LaunchPlan, SiteLaunch, launch_plan
from fedsm.state import fold
from tests.support import federation

EXECUTION = "arn:aws:sagemaker:us-east-1:222222222222:pipeline/p/execution/0123456789ab"


def plan(mode: str) -> LaunchPlan:
    config = FederationConfig.model_validate(federation(launch=mode))
    facts = Facts(
        run="heart-1",
        address="10.0.1.5:8443",
        certificate="Q0VSVA==",
        join_ids={"a": "join-a", "b": "join-b"},
        bundle_sha256="a" * 64,
        images={"a": "x:1", "b": "x:1"},
        bootstrap="x",
    )
    return launch_plan(config, facts)


class SageMaker:
    """Answers as told; ``calls`` is what was asked, in order."""

    def __init__(self, *starts: Exception | None) -> None:
        self.calls: list[str] = []
        self._starts: Iterator[Exception | None] = iter(starts)

    def _start(self, name: str) -> None:
        self.calls.append(name)
        if (error := next(self._starts, None)) is not None:
            raise error

    def create_training_job(self, **request: Any) -> dict[str, str]:
        self._start("create")
        return {"TrainingJobArn": f"arn:x/{request['TrainingJobName']}"}

    def start_pipeline_execution(self, **request: Any) -> dict[str, str]:
        self._start(f"start {request['ClientRequestToken'][:8]}")
        return {"PipelineExecutionArn": EXECUTION}

    def stop_training_job(self, **_: str) -> None:
        self.calls.append("stop")

    def stop_pipeline_execution(self, **_: str) -> None:
        self.calls.append("stop")


class Sessions:
    """Gives each site its SageMaker."""

    def __init__(self, **clients: SageMaker) -> None:
        self._clients = clients

    def assume(self, source: Any, site: str, *_: str) -> str:
        return site

    def client(self, session: str, *_: str) -> SageMaker:
        return self._clients[session]


def refusal(code: str, status: int) -> ClientError:
    answer = {"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return ClientError(answer, "Start")  # type: ignore[arg-type]


@pytest.fixture
def told(tmp_path: Path) -> Iterator[tuple[Journal, list[Event]]]:
    journal, seen = Journal(tmp_path / "events.jsonl"), list[Event]()
    journal.subscribe(seen.append)
    yield journal, seen
    journal.close()


def launcher(journal: Journal, **clients: SageMaker) -> Launcher:
    return Launcher(Sessions(**clients), None, journal)  # type: ignore[arg-type]


def test_a_direct_job_is_told_at_once(told: tuple[Journal, list[Event]]) -> None:
    journal, seen = told
    launcher(journal, a=SageMaker(), b=SageMaker()).start(plan("direct"))
    state = fold(seen)
    assert {s.job for s in state.sites.values()} == {"fedsm-heart--a--1", "fedsm-heart--b--1"}
    assert not any(e.kind == "execution-started" for e in seen)


def test_of_a_pipeline_the_execution_is_told(told: tuple[Journal, list[Event]]) -> None:
    journal, seen = told
    launcher(journal, a=SageMaker(), b=SageMaker()).start(plan("pipeline"))
    state = fold(seen)
    assert {s.execution for s in state.sites.values()} == {EXECUTION}
    assert not any(e.kind == "job-created" for e in seen)
    started = next(e.data for e in seen if e.kind == "execution-started")
    assert started["parameters"]["Run"] == "heart-1"
    assert started["pipeline"].endswith(f"--{started['site']}--{'a' * 64}")


def test_what_was_refused_is_not_stopped_and_what_was_lost_is(
    told: tuple[Journal, list[Event]],
) -> None:
    journal, seen = told
    refused = SageMaker(refusal("ValidationException", 400))
    lost = SageMaker(ReadTimeoutError(endpoint_url="https://x"))
    started = launcher(journal, a=refused, b=lost)
    with pytest.raises(LaunchError, match="2 of 2 sites failed"):
        started.start(plan("pipeline"))
    assert started.started == []
    assert [job.launch.site for job in started.attempted] == ["b"]
    started.stop(started.attempted)
    assert [call.split()[0] for call in refused.calls] == ["start"]
    assert [call.split()[0] for call in lost.calls] == ["start", "start", "stop"]
    assert lost.calls[0] == lost.calls[1]
    # The journal has the execution that was found, so the evidence has it too.
    assert [e.data["site"] for e in seen if e.kind == "execution-started"] == ["b"]


def test_a_direct_job_whose_answer_was_lost_is_stopped(
    told: tuple[Journal, list[Event]],
) -> None:
    lost = SageMaker(ReadTimeoutError(endpoint_url="https://x"))
    started = launcher(told[0], a=lost, b=SageMaker())
    with pytest.raises(LaunchError):
        started.start(plan("direct"))
    started.stop(started.attempted)
    assert lost.calls == ["create", "stop"]


@dataclass
class Polled:
    """A job that goes through given states."""

    launch: SiteLaunch
    states: list[tuple[str, JobState | FedsmError]]
    arn: str = ""
    execution: str = EXECUTION
    name: str = ""
    watching: ClassVar[str] = "sagemaker:ListPipelineExecutionSteps"
    stopping: ClassVar[str] = "sagemaker:StopPipelineExecution"
    seen: list[str] = field(default_factory=list)

    def start(self) -> None: ...

    def stop(self) -> bool:
        return True

    def describe(self) -> JobState:
        self.name, state = self.states.pop(0) if len(self.states) > 1 else self.states[0]
        if isinstance(state, FedsmError):
            raise state
        return state


def running(secondary: str) -> JobState:
    return JobState("InProgress", secondary, "", 0, "")


def test_a_pipelines_job_is_told_once_it_is_found(told: tuple[Journal, list[Event]]) -> None:
    journal, seen = told
    ended: list[str] = []
    done = JobState("Completed", "Succeeded", "", 9, "s3://model")
    job = Polled(
        plan("pipeline").launches[0],
        [
            ("", running("Starting")),
            ("", JobError("throttled")),
            ("pipelines-1", running("Executing")),
            ("pipelines-1", running("Executing")),
            ("pipelines-1", done),
        ],
    )
    with Watcher([job], journal, lambda site, state: ended.append(site), 0.01) as watcher:
        assert watcher.wait(10)
    # Another look at it, after it was told to stop, tells nothing new of its making.
    with Watcher([job], journal, lambda site, state: None, 0.01) as watcher:
        assert watcher.wait(10)
    assert [e.kind for e in seen][:4] == ["job-status", "call", "job-created", "job-status"]
    created = [e.data for e in seen if e.kind == "job-created"]
    assert [(c["job"], c["execution"]) for c in created] == [("pipelines-1", EXECUTION)]
    site = fold(seen).sites["a"]
    assert (site.status, site.job, site.seconds) == ("Completed", "pipelines-1", 9)
    assert site.artifacts == "s3://model"
    assert ended == ["a"]
