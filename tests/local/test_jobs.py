"""Training jobs that really run."""

from __future__ import annotations

import io
import json
import tarfile
import time
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.local.conftest import REGION, SITE, World, code_of, members, statement, trust


def test_a_job_reads_its_channels_and_leaves_its_artifacts(world: World) -> None:
    world.put("data/train/a/rows.csv", "1,2\n")
    world.put("data/train/top.csv", "3\n")
    world.put("data/one.csv", "4\n")
    request = world.request(
        """
        import json, os, pathlib
        base = pathlib.Path(os.environ.get("SAGEMAKER_BASE_DIR", "/opt/ml"))
        seen = {str(p.relative_to(base)): p.read_text()
                for p in (base / "input").rglob("*") if p.is_file()}
        (base / "model/seen.json").write_text(json.dumps(seen))
        (base / "model/deep").mkdir()
        (base / "model/deep/w.bin").write_bytes(b"1")
        (base / "output/data/notes.txt").write_text("note")
        print("loss=0.5 auc=0.75"); print("loss=0.25")
        print("cwd", os.getcwd()); print("env", os.environ["WHO"], os.environ["AWS_REGION"])
        """,
        HyperParameters={"epochs": "3", "raw": "text"},
        Environment={"WHO": "site"},
    )
    train = world.channel("train", f"s3://{world.bucket}/data/train")
    single = world.channel("single", f"s3://{world.bucket}/data/one.csv")
    request["InputDataConfig"] = [train, single | {"ContentType": "text/csv"}]
    request["AlgorithmSpecification"]["MetricDefinitions"] = [
        {"Name": "Validation:Loss", "Regex": r"loss=([0-9.]+)"},
        {"Name": "Validation:AUC", "Regex": r"auc=([0-9.]+)"},
    ]
    found = world.run(request)
    assert found["TrainingJobStatus"] == "Completed", found.get("FailureReason")
    assert [t["Status"] for t in found["SecondaryStatusTransitions"]] == [
        "Starting",
        "Downloading",
        "Training",
        "Uploading",
        "Completed",
    ]
    assert {m["MetricName"]: m["Value"] for m in found["FinalMetricDataList"]} == {
        "Validation:Loss": 0.25,
        "Validation:AUC": 0.75,
    }
    assert found["Environment"] == {"WHO": "site"}
    assert found["BillableTimeInSeconds"] >= 1
    uri = found["ModelArtifacts"]["S3ModelArtifacts"]
    model = members(world, uri)
    assert model["deep/w.bin"] == b"1"
    seen = json.loads(model["seen.json"])
    assert seen["input/data/train/a/rows.csv"] == "1,2\n"
    assert seen["input/data/train/top.csv"] == "3\n"
    assert seen["input/data/single/one.csv"] == "4\n"
    assert json.loads(seen["input/config/hyperparameters.json"]) == request["HyperParameters"]
    assert json.loads(seen["input/config/inputdataconfig.json"])["single"]["ContentType"]
    assert json.loads(seen["input/config/resourceconfig.json"])["current_host"] == "algo-1"
    assert members(world, uri.replace("model.tar", "output.tar")) == {"notes.txt": b"note"}
    assert world.logs(found["TrainingJobName"])[-1] == f"env site {REGION}"


@pytest.mark.parametrize(
    ("program", "reason"),
    [
        (
            "import os; open(os.environ.get('SAGEMAKER_BASE_DIR','/opt/ml')+'/output/failure','w')"
            ".write('ValueError at train.py:3'); raise SystemExit(23)",
            "AlgorithmError: ValueError at train.py:3, exit code: 23",
        ),
        ("raise SystemExit(4)", "AlgorithmError: , exit code: 4"),
        (
            "import os; open(os.environ.get('SAGEMAKER_BASE_DIR','/opt/ml')+'/output/failure','w')"
            ".write('x' * 5000); raise SystemExit(1)",
            "AlgorithmError: " + "x" * 994 + ", exit code: 1",
        ),
    ],
)
def test_a_failure_carries_its_reason(world: World, program: str, reason: str) -> None:
    found = world.run(world.request(program))
    assert found["TrainingJobStatus"] == found["SecondaryStatus"] == "Failed"
    assert found["FailureReason"] == reason


def test_a_program_that_is_not_there_fails_the_job(world: World) -> None:
    request = world.request()
    request["AlgorithmSpecification"]["ContainerEntrypoint"] = ["/no/such/program"]
    found = world.run(request)
    assert found["TrainingJobStatus"] == "Failed"
    assert found["FailureReason"].startswith("AlgorithmError")


WAITS = """
    import os, pathlib, signal, sys, time
    base = pathlib.Path(os.environ.get("SAGEMAKER_BASE_DIR", "/opt/ml"))
    def stop(*_):
        (base / "model/said").write_text("stopped")
        sys.exit(0)
    signal.signal(signal.SIGTERM, stop)
    print("ready", flush=True)
    time.sleep(60)
"""
DEAF = """
    import signal, time
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    print("ready", flush=True)
    time.sleep(60)
"""


def test_stop_sends_sigterm_and_keeps_the_model(world: World) -> None:
    request = world.request(WAITS)
    name = request["TrainingJobName"]
    client = world.admin().client("sagemaker")
    client.create_training_job(**request)
    world.ready(name)
    client.stop_training_job(TrainingJobName=name)
    assert world.describe(name)["TrainingJobStatus"] in ("Stopping", "Stopped")
    found = world.wait(name)
    assert (found["TrainingJobStatus"], found["SecondaryStatus"]) == ("Stopped", "Stopped")
    assert members(world, found["ModelArtifacts"]["S3ModelArtifacts"]) == {"said": b"stopped"}
    with pytest.raises(ClientError) as refused:
        client.stop_training_job(TrainingJobName=name)
    assert code_of(refused) == "ValidationException"


def test_a_program_that_ignores_sigterm_is_killed_after_the_grace(world: World) -> None:
    request = world.request(DEAF)
    name = request["TrainingJobName"]
    client = world.admin().client("sagemaker")
    client.create_training_job(**request)
    world.ready(name)
    begin = time.monotonic()
    client.stop_training_job(TrainingJobName=name)
    assert world.wait(name)["TrainingJobStatus"] == "Stopped"
    assert 1.5 < time.monotonic() - begin < 20


def test_max_runtime_stops_a_job(world: World) -> None:
    request = world.request(WAITS, StoppingCondition={"MaxRuntimeInSeconds": 1})
    found = world.run(request)
    assert found["TrainingJobStatus"] == "Stopped"
    assert found["SecondaryStatus"] == "MaxRuntimeExceeded"


def test_a_name_is_used_once(world: World) -> None:
    request = world.request()
    world.run(request)
    with pytest.raises(ClientError) as refused:
        world.admin().client("sagemaker").create_training_job(**request)
    assert code_of(refused) == "ResourceInUse"


@pytest.mark.parametrize(
    ("uri", "words"),
    [
        ("s3://{bucket}/data/nothing/", "No S3 objects found"),
        ("s3://{bucket}/secret/", "AccessDenied"),
        ("s3://no-such-bucket-here/x", "NoSuchBucket"),
    ],
)
def test_a_channel_that_cannot_be_read_fails_the_job(world: World, uri: str, words: str) -> None:
    world.put("secret/x", "1")
    arn = world.role(
        SITE,
        "reader",
        trust({"Service": "sagemaker.amazonaws.com"}),
        statement("Allow", "s3:ListBucket", "*"),
        statement("Allow", "s3:GetObject", f"arn:aws:s3:::{world.bucket}/data/*"),
    )
    request = world.request(RoleArn=arn)
    request["InputDataConfig"] = [world.channel("train", uri.format(bucket=world.bucket))]
    found = world.run(request)
    assert found["TrainingJobStatus"] == "Failed"
    assert "Data download failed" in found["FailureReason"]
    assert words in found["FailureReason"]


def test_artifacts_need_the_right_to_write(world: World) -> None:
    request = world.request(OutputDataConfig={"S3OutputPath": f"s3://{world.bucket}/elsewhere"})
    found = world.run(request)
    assert found["TrainingJobStatus"] == "Failed"
    assert "Artifact upload failed" in found["FailureReason"]


def test_a_role_without_log_rights_runs_without_logs(world: World) -> None:
    arn = world.role(
        SITE,
        "silent",
        trust({"Service": "sagemaker.amazonaws.com"}),
        statement("Allow", "s3:*", "*"),
    )
    found = world.run(world.request("print('unheard')", RoleArn=arn))
    assert found["TrainingJobStatus"] == "Completed"
    client = world.admin().client("logs")
    group = "/aws/sagemaker/TrainingJobs"
    prefix = found["TrainingJobName"]
    try:
        streams = client.describe_log_streams(logGroupName=group, logStreamNamePrefix=prefix)
    except client.exceptions.ResourceNotFoundException:
        return
    assert streams["logStreams"] == []


def test_the_job_is_its_execution_role(world: World) -> None:
    request = world.request(
        """
        import boto3, json, os, pathlib
        base = pathlib.Path(os.environ.get("SAGEMAKER_BASE_DIR", "/opt/ml"))
        said = boto3.client("sts").get_caller_identity()
        try:
            boto3.client("s3").list_buckets()
            denied = ""
        except Exception as error:
            denied = type(error).__name__ + str(error)
        (base / "model/said.json").write_text(json.dumps([said["Arn"], said["Account"], denied]))
        """
    )
    found = world.run(request)
    assert found["TrainingJobStatus"] == "Completed", found.get("FailureReason")
    said = json.loads(members(world, found["ModelArtifacts"]["S3ModelArtifacts"])["said.json"])
    assert said[:2] == [f"arn:aws:sts::{SITE}:assumed-role/execution/SageMaker", SITE]
    assert "AccessDenied" in said[2]


def test_script_mode_runs_a_source_archive(world: World) -> None:
    source = io.BytesIO()
    program = (
        b"import os, sys\n"
        b"open(os.environ['SM_MODEL_DIR'] + '/argv', 'w').write(' '.join(sys.argv[1:]))\n"
    )
    with tarfile.open(fileobj=source, mode="w:gz") as tar:
        entry = tarfile.TarInfo("train.py")
        entry.size = len(program)
        tar.addfile(entry, io.BytesIO(program))
    world.put("data/source.tar.gz", source.getvalue())
    request = world.request(
        HyperParameters={
            "epochs": "3",
            "sagemaker_program": '"train.py"',
            "sagemaker_submit_directory": f'"s3://{world.bucket}/data/source.tar.gz"',
        }
    )
    for name in ("ContainerEntrypoint", "ContainerArguments"):
        del request["AlgorithmSpecification"][name]
    request["AlgorithmSpecification"]["TrainingImage"] = (
        "141502667606.dkr.ecr.eu-west-1.amazonaws.com/sagemaker-scikit-learn:1.4-2-cpu-py312"
    )
    found = world.run(request)
    assert found["TrainingJobStatus"] == "Completed", found.get("FailureReason")
    model = members(world, found["ModelArtifacts"]["S3ModelArtifacts"])
    assert model["argv"] == b"--epochs 3"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"EnableNetworkIsolation": True}, "EnableNetworkIsolation"),
        ({"RetryStrategy": {"MaximumRetryAttempts": 2}}, "RetryStrategy"),
        ({"CheckpointConfig": {"S3Uri": "s3://b/x"}}, "CheckpointConfig"),
        ({"EnableManagedSpotTraining": True}, "EnableManagedSpotTraining"),
        (
            {
                "ResourceConfig": {
                    "InstanceType": "ml.m5.large",
                    "InstanceCount": 2,
                    "VolumeSizeInGB": 5,
                }
            },
            "InstanceCount=2",
        ),
    ],
)
def test_what_is_not_modelled_is_refused(world: World, change: Any, words: str) -> None:
    with pytest.raises(ClientError, match=f"the local cloud does not model.*{words}"):
        world.admin().client("sagemaker").create_training_job(**world.request(**change))


def test_requests_are_validated(world: World) -> None:
    client = world.admin().client("sagemaker")
    for change, words in (
        ({"Environment": {"A": "x" * 600}}, "environment.A"),
        ({"TrainingJobName": "under_score"}, "trainingJobName"),
        ({"HyperParameters": {f"h{i}": "1" for i in range(101)}}, "hyperParameters"),
    ):
        with pytest.raises(ClientError, match=words) as refused:
            client.create_training_job(**world.request(**change))
        assert code_of(refused) == "ValidationException"
    request = world.request()
    request["AlgorithmSpecification"]["MetricDefinitions"] = [{"Name": "m", "Regex": "("}]
    with pytest.raises(ClientError, match="regular expression of the metric m"):
        client.create_training_job(**request)
    request = world.request()
    request["AlgorithmSpecification"]["TrainingImage"] = "registry.example/other:1"
    with pytest.raises(ClientError, match="Cannot pull image"):
        client.create_training_job(**request)


def test_jobs_are_listed_and_tagged(world: World) -> None:
    client = world.admin().client("sagemaker")
    request = world.request(Tags=[{"Key": "fedsm:run", "Value": "r1"}])
    found = world.run(request)
    arn = found["TrainingJobArn"]
    client.add_tags(ResourceArn=arn, Tags=[{"Key": "more", "Value": "x"}])
    tags = {t["Key"]: t["Value"] for t in client.list_tags(ResourceArn=arn)["Tags"]}
    assert tags == {"fedsm:run": "r1", "more": "x"}
    listed = client.list_training_jobs(NameContains=found["TrainingJobName"])
    assert [j["TrainingJobStatus"] for j in listed["TrainingJobSummaries"]] == ["Completed"]
    assert not client.list_training_jobs(NameContains="no-such")["TrainingJobSummaries"]
    first = client.list_training_jobs(MaxResults=1)
    assert first["TrainingJobSummaries"][0]["TrainingJobName"] == found["TrainingJobName"]
    other = world.admin("111111111111").client("sagemaker")
    assert other.list_training_jobs()["TrainingJobSummaries"] == []


def test_jobs_run_side_by_side(world: World) -> None:
    client = world.admin().client("sagemaker")
    requests = [world.request("import time; time.sleep(0.5)") for _ in range(8)]
    for request in requests:
        client.create_training_job(**request)
    found = [world.wait(request["TrainingJobName"]) for request in requests]
    assert {f["TrainingJobStatus"] for f in found} == {"Completed"}
    starts = [f["TrainingStartTime"] for f in found]
    assert max(starts) < min(f["TrainingEndTime"] for f in found)
