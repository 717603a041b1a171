"""The cloud's own life: start, share, outlive, end, start again."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest

from fedsm.errors import LocalCloudError
from fedsm.local import Endpoint, down, status, up
from fedsm.local.sandbox import PROCESS, probe, start
from tests.local.conftest import REGION, SERVER, SITE, World, prepare, statement, trust


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path
    down(tmp_path)


def alive(pid: int) -> bool:
    """Whether a process runs; one that ended and waits for its parent does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def test_a_cloud_is_started_once_and_found_again(project: Path) -> None:
    assert status(project) is None
    first = up(project, accounts=[SERVER])
    second = up(project, accounts=[SITE])
    assert (first.url, first.pid) == (second.url, second.pid)
    assert second.accounts == (SERVER, SITE)
    assert status(project) == second
    assert first.url.startswith("http://127.0.0.1:")
    assert second.isolation == probe()
    for name in ("credentials.ini", "cloud.json"):
        assert stat.S_IMODE((second.directory / name).stat().st_mode) == 0o600
    down(project)
    assert status(project) is None
    assert not alive(second.pid)
    down(project)


def test_starters_at_the_same_time_agree(project: Path) -> None:
    def one(account: str) -> Endpoint:
        return up(project, accounts=[account])

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(one, [SERVER, SITE, SERVER, "333333333333"]))
    assert len({(endpoint.url, endpoint.pid) for endpoint in found}) == 1
    last = status(project)
    assert last is not None
    assert set(last.accounts) == {SERVER, SITE, "333333333333"}


def test_the_cloud_outlives_its_starter_and_its_session(project: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from fedsm.local import up;"
        f"print(up(Path(sys.argv[1]), accounts=['{SITE}']).pid)"
    )
    starter = subprocess.run(
        [sys.executable, "-c", program, str(project)],
        capture_output=True,
        text=True,
        check=True,
        start_new_session=True,
    )
    pid = int(starter.stdout)
    assert alive(pid)
    assert os.getsid(pid) not in (os.getsid(0), 0)
    found = status(project)
    assert found is not None
    assert found.pid == pid
    assert found.session(SITE, REGION).client("sts").get_caller_identity()["Account"] == SITE


def children(pid: int) -> list[int]:
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        with suppress(FileNotFoundError):  # a thread that has just ended
            found += map(int, (task / "children").read_text().split())
    return found


LONG = """
    import signal, time
    signal.signal(signal.SIGTERM, lambda *_: (print("stopping", flush=True), exit(0)))
    print("ready", flush=True)
    time.sleep(120)
"""


def test_down_stops_jobs_and_their_records_remain(project: Path) -> None:
    world = World(up(project, accounts=[SERVER, SITE]), project)
    prepare(world)
    done, running = world.request(), world.request(LONG)
    world.run(done)
    world.admin().client("sagemaker").create_training_job(**running)
    world.ready(running["TrainingJobName"])
    jobs = children(world.endpoint.pid)
    assert jobs
    down(project)
    assert not [pid for pid in jobs if alive(pid)]
    again = World(up(project, accounts=[SITE]), project)
    assert again.endpoint.accounts == (SERVER, SITE)
    assert again.describe(done["TrainingJobName"])["TrainingJobStatus"] == "Completed"
    assert again.describe(running["TrainingJobName"])["TrainingJobStatus"] == "Stopped"


def start_pipeline(world: World) -> str:
    """Start a pipeline whose job runs long; returns the execution's ARN."""
    arguments = world.request(LONG)
    del arguments["TrainingJobName"]
    steps = [{"Name": "only", "Type": "Training", "Arguments": arguments}]
    client = world.admin().client("sagemaker")
    client.create_pipeline(
        PipelineName="long",
        PipelineDefinition=json.dumps({"Steps": steps}),
        RoleArn=world.role(
            SITE, "pipeline", trust({"Service": "sagemaker.amazonaws.com"}), statement("Allow", "*")
        ),
    )
    return str(client.start_pipeline_execution(PipelineName="long")["PipelineExecutionArn"])


def test_a_cloud_that_is_killed_takes_its_jobs_along_and_says_so(project: Path) -> None:
    world = World(up(project, accounts=[SERVER, SITE]), project)
    prepare(world)
    running = world.request(LONG)
    world.admin().client("sagemaker").create_training_job(**running)
    execution = start_pipeline(world)
    world.wait(running["TrainingJobName"], "Training")
    jobs = children(world.endpoint.pid) if world.endpoint.isolation == "bubblewrap" else []
    os.kill(world.endpoint.pid, signal.SIGKILL)
    deadline = time.monotonic() + 10
    while any(alive(pid) for pid in [world.endpoint.pid, *jobs]):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert status(project) is None
    again = World(up(project, accounts=[SITE]), project)
    assert again.endpoint.pid != world.endpoint.pid
    found = again.describe(running["TrainingJobName"])
    assert found["TrainingJobStatus"] == "Failed"
    assert "restarted" in found["FailureReason"]
    client = again.admin().client("sagemaker")
    kept = client.describe_pipeline_execution(PipelineExecutionArn=execution)
    assert kept["PipelineExecutionStatus"] == "Failed"
    (step,) = client.list_pipeline_execution_steps(PipelineExecutionArn=execution)[
        "PipelineExecutionSteps"
    ]
    assert "restarted" in step["FailureReason"]


def test_keys_outlive_the_cloud(project: Path) -> None:
    before = up(project, accounts=[SITE]).session(SITE, REGION).get_credentials()
    down(project)
    after = up(project, accounts=[SITE]).session(SITE, REGION)
    assert before is not None
    keys = after.get_credentials()
    assert keys is not None
    assert keys.access_key == before.access_key
    assert after.client("sts").get_caller_identity()["Account"] == SITE


def test_errors_name_what_is_wrong(project: Path) -> None:
    with pytest.raises(LocalCloudError, match="twelve digits"):
        up(project, accounts=["12"])
    endpoint = up(project, accounts=[SITE])
    with pytest.raises(LocalCloudError, match="no such account"):
        endpoint.session(SERVER, REGION)
    second = subprocess.run(
        [sys.executable, "-m", "fedsm.local", "serve", str(project)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert second.returncode == 6
    assert "another local cloud" in second.stderr
    assert "Traceback" not in second.stderr


def test_a_stale_state_file_is_no_cloud(project: Path) -> None:
    state = project / ".fedsm/cloud"
    state.mkdir(parents=True)
    for content in ("not json", "{}", json.dumps({"port": 1, "token": "x", "proof": "y"})):
        (state / "cloud.json").write_text(content)
        assert status(project) is None
    assert up(project, accounts=[SITE]).accounts == (SITE,)


def test_commands(project: Path) -> None:
    def run(*words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "fedsm.local", *words]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    assert run("status", str(project)).returncode == 1
    assert run("up", str(project), "--account", SITE).returncode == 0
    said = run("status", str(project))
    assert said.returncode == 0
    assert SITE in said.stdout
    assert run("down", str(project)).returncode == 0
    assert status(project) is None


def test_without_bubblewrap_jobs_run_as_plain_processes(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(project / "nothing"))
    world = World(up(project, accounts=[SERVER, SITE], stop_grace=5), project)
    assert world.endpoint.isolation == PROCESS
    prepare(world)
    world.put("data/x.csv", "1")
    program = """
        import boto3, os, pathlib, signal, sys, time
        base = pathlib.Path(os.environ["SAGEMAKER_BASE_DIR"])
        assert (base / "input/data/train/x.csv").read_text() == "1"
        assert os.getcwd() == str(base / "code")
        assert boto3.client("sts").get_caller_identity()["Arn"].endswith("execution/SageMaker")
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
        (base / "model/ready").touch()
        time.sleep(60)
    """
    request = world.request(program)
    request["InputDataConfig"] = [world.channel("train", f"s3://{world.bucket}/data/")]
    name = request["TrainingJobName"]
    client = world.admin().client("sagemaker")
    client.create_training_job(**request)
    ready = world.endpoint.directory / "jobs" / SITE / REGION / name / "ml/model/ready"
    deadline = time.monotonic() + 30
    while not ready.exists():
        assert world.describe(name)["TrainingJobStatus"] == "InProgress", world.describe(name)
        assert time.monotonic() < deadline
        time.sleep(0.05)
    client.stop_training_job(TrainingJobName=name)
    assert world.wait(name)["TrainingJobStatus"] == "Stopped"


def test_a_plain_process_gets_its_base_directory(tmp_path: Path) -> None:
    ml = tmp_path / "ml"
    (ml / "code").mkdir(parents=True)
    program = "import os; print(sorted(os.environ), os.getcwd())"
    process = start(
        PROCESS,
        ml=ml,
        environments=tmp_path,
        command=[sys.executable, "-c", program],
        environment={"SAGEMAKER_BASE_DIR": str(ml)},
    )
    with process.output as output:
        said = output.read().decode()
    assert process.popen.wait(10) == 0
    assert "SAGEMAKER_BASE_DIR" in said
    assert "PYTEST" not in said
    assert str(ml / "code") in said
    process.kill()
