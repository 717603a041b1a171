"""What a job can reach of this machine: its own, and nothing else."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from tests.local.conftest import REGION, SITE, World, members


def isolated(world: World) -> None:
    if world.endpoint.isolation != "bubblewrap":
        pytest.skip("bubblewrap cannot run on this machine")


def test_a_job_sees_nothing_but_its_own(world: World) -> None:
    isolated(world)
    other = world.run(world.request("open('/opt/ml/model/theirs','w').write('secret')"))
    state = world.endpoint.directory
    paths = [
        str(state / "credentials.ini"),
        str(state / "cloud.json"),
        str(state / "jobs" / SITE / REGION / other["TrainingJobName"] / "ml/model/theirs"),
        str(Path.home() / ".bashrc"),
        "/etc/shadow",
        "/proc/1/root/etc/shadow",
    ]
    request = world.request(
        f"""
        import json, os, pathlib
        seen = [p for p in {paths!r} if os.path.exists(p)]
        host = {{"files": os.listdir("/proc/self/fd"), "seen": seen,
                "pid": os.getpid(), "uid": os.getuid(),
                "name": os.uname().nodename,
                "variables": sorted(os.environ),
                "home": sorted(os.listdir(os.path.expanduser("~")))}}
        for path in ("/usr/x", "/etc/x", os.path.dirname(os.__file__) + "/x"):
            try:
                open(path, "w")
                seen.append(path)
            except OSError:
                pass
        pathlib.Path("/opt/ml/model/host.json").write_text(json.dumps(host))
        """
    )
    found = world.run(request)
    assert found["TrainingJobStatus"] == "Completed", found.get("FailureReason")
    host = json.loads(members(world, found["ModelArtifacts"]["S3ModelArtifacts"])["host.json"])
    assert host["seen"] == []
    assert (host["pid"], host["uid"], host["name"]) == (1, 1000, "algo-1")
    assert host["home"] == []
    assert len(host["files"]) == 4  # standard streams and the listing itself
    assert "PYTEST_CURRENT_TEST" not in host["variables"]


def test_a_jobs_variables_stay_inside(world: World) -> None:
    isolated(world)
    request = world.request(
        "import os; assert os.environ['LD_PRELOAD'] == '/no/such/library.so'",
        Environment={"LD_PRELOAD": "/no/such/library.so", "PATH": os.environ["PATH"]},
    )
    found = world.run(request)
    assert found["TrainingJobStatus"] == "Completed", found.get("FailureReason")
    complaints = [line for line in world.logs(found["TrainingJobName"]) if "ld.so" in line]
    assert complaints  # of the job's own program only, not of bubblewrap's
    assert all("bwrap" not in line for line in complaints)
    assert len(complaints) == 1


def test_a_variable_cannot_add_options_to_the_sandbox(world: World) -> None:
    request = world.request(Environment={"A": "x\0--bind\0/\0/host"})
    found = world.run(request)
    assert found["TrainingJobStatus"] == "Failed"
    assert "cannot be started" in found["FailureReason"]


def test_links_that_a_job_leaves_lead_nowhere(world: World) -> None:
    isolated(world)
    state = world.endpoint.directory
    for where in ("model", "output/data", "output"):
        request = world.request(
            f"""
            import os, shutil
            shutil.rmtree("/opt/ml/{where}")
            os.symlink({str(state)!r}, "/opt/ml/{where}")
            raise SystemExit(0)
            """
        )
        found = world.run(request)
        assert found["TrainingJobStatus"] == "Completed", found.get("FailureReason")
        model = members(world, found["ModelArtifacts"]["S3ModelArtifacts"])
        assert "credentials.ini" not in model
    keys = world.admin().client("s3").list_objects_v2(Bucket=world.bucket, Prefix="output/")
    assert not [
        k["Key"]
        for k in keys["Contents"]
        if name_of(found) in k["Key"] and k["Key"].endswith("output.tar.gz")
    ]


def name_of(found: dict[str, Any]) -> str:
    return str(found["TrainingJobName"])


def test_an_account_keeps_its_environments(world: World) -> None:
    program = """
        import os, pathlib
        cache = pathlib.Path(os.environ["FEDSM_ENV_DIR"])
        base = pathlib.Path(os.environ.get("SAGEMAKER_BASE_DIR", "/opt/ml"))
        (base / "model/was").write_text(str((cache / "marker").exists()))
        (cache / "marker").touch()
    """
    was = []
    for _ in range(2):
        found = world.run(world.request(program))
        was.append(members(world, found["ModelArtifacts"]["S3ModelArtifacts"])["was"])
    assert was == [b"False", b"True"]
