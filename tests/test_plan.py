"""The launch as data."""

from __future__ import annotations

import base64
import json
import random
import subprocess
import sys
import zlib

import botocore.session
import pytest
from botocore.validate import ParamValidator

from fedsm.config import FederationConfig
from fedsm.contract import CODE_CHANNEL, JobSettings
from fedsm.errors import LaunchError
from fedsm.names import job_name
from fedsm.plan import Facts, LaunchPlan, launch_plan
from fedsm.request import LOADER
from tests.support import federation, site

BOOTSTRAP = "import sys\nprint('bootstrap', len(sys.argv))\n"


def facts(config: FederationConfig, **changes: str) -> Facts:
    names = [s.name for s in config.sites]
    values = {
        "run": "heart-20260101-000000-abcd",
        "address": "10.0.1.5:8443",
        "certificate": "Q0VSVA==",
        "bundle_sha256": "a" * 64,
        "bootstrap": BOOTSTRAP,
        **changes,
    }
    return Facts(
        join_ids={n: f"join-{n}" for n in names},
        images=dict.fromkeys(names, "123456789012.dkr.ecr.us-east-1.amazonaws.com/x:1"),
        **values,
    )


def plan(*sites: dict[str, object], **changes: str) -> LaunchPlan:
    config = FederationConfig.model_validate(
        federation(
            *sites,
            launch="direct",
            training={"hyperparameters": {"learning-rate": 0.1, "c": 1}, "rounds": 7},
        )
    )
    return launch_plan(config, facts(config, **changes))


def test_every_request_is_valid_by_the_service_model() -> None:
    shape = (
        botocore.session.get_session()
        .get_service_model("sagemaker")
        .operation_model("CreateTrainingJob")
        .input_shape
    )
    sites = [
        site("a", subnets=["subnet-0a"], security_groups=["sg-0b"], tags={"team": "x"}),
        site("b", "333333333333", bundle="b" * 64),
    ]
    for launch in plan(*sites).launches:
        report = ParamValidator().validate(dict(launch.request), shape)
        assert not report.has_errors(), report.generate_report()


def test_a_job_is_told_what_it_needs_and_tagged() -> None:
    launch = plan(site("a", environment={"TEAM": "x"}), site("b", "333333333333")).launches[1]
    request = launch.request
    settings = JobSettings.from_environment(request["Environment"])
    assert settings.site == "b"
    assert (settings.partition, settings.partitions) == (1, 2)
    assert settings.address == "10.0.1.5:8443"
    assert settings.rounds == 7
    assert not [name for name in request["Environment"] if "LIMIT" in name]
    assert request["HyperParameters"] == {"learning-rate": "0.1", "c": "1"}
    assert {"Key": "fedsm:site", "Value": "b"} in request["Tags"]
    code = next(c for c in request["InputDataConfig"] if c["ChannelName"] == CODE_CHANNEL)
    uri = code["DataSource"]["S3DataSource"]["S3Uri"]
    assert uri == f"s3://b-code/fedsm/{'a' * 64}/source.tar.gz"


def test_the_entry_point_runs_the_bootstrap_it_was_given() -> None:
    spec = plan().launches[0].request["AlgorithmSpecification"]
    assert spec["ContainerEntrypoint"] == ["python3", "-c", LOADER]
    packed = base64.b64decode("".join(spec["ContainerArguments"]))
    assert zlib.decompress(packed).decode() == BOOTSTRAP
    command = [sys.executable, *spec["ContainerEntrypoint"][1:], *spec["ContainerArguments"]]
    out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert out.startswith("bootstrap")


def test_it_is_json() -> None:
    data = plan().as_data()
    assert json.loads(json.dumps(data)) == data
    assert [step["call"] for step in data["steps"]][:2] == [
        "sts:AssumeRole",
        "sagemaker:CreateTrainingJob",
    ]
    assert "trusted server mode" in data["mode"]


def test_limits_name_the_site_and_the_value() -> None:
    with pytest.raises(LaunchError, match="a: environment variable BIG has 513"):
        plan(site("a", environment={"BIG": "x" * 513}), site("b", "333333333333"))
    noise = random.Random(0).randbytes(30_000).hex()
    with pytest.raises(LaunchError, match="bootstrap needs"):
        plan(bootstrap=noise)


def test_the_owners_key_encrypts_volume_and_output() -> None:
    key = "arn:aws:kms:us-east-1:222222222222:key/0a"
    with_key, without = plan(site("a", kms_key_arn=key), site("b", "333333333333")).launches
    assert with_key.request["ResourceConfig"]["VolumeKmsKeyId"] == key
    assert with_key.request["OutputDataConfig"]["KmsKeyId"] == key
    assert "KmsKeyId" not in without.request["OutputDataConfig"]


def test_job_names_fit_and_stay_apart() -> None:
    long = [job_name("heart", "r" * 40, "s" * 20 + end) for end in ("a", "b")]
    assert all(len(name) <= 63 for name in long)
    assert long[0] != long[1]
    assert job_name("heart", "heart-1", "site") == "fedsm-heart--site--1"
    assert job_name("heart", "mine", "site") == "fedsm-heart--site--mine"
