"""The owner's pipeline as data: what it fixes, what it lets a run choose, and within what."""

from __future__ import annotations

import json
from typing import Any

import botocore.session
import pytest
from botocore.validate import ParamValidator
from hypothesis import given
from hypothesis import strategies as st

from fedsm.agreement import Invitation, Terms
from fedsm.client.limits import Limits
from fedsm.client.release import Release
from fedsm.contract import JobSettings
from fedsm.errors import ConfigError, LaunchError
from fedsm.fields import Limit
from fedsm.names import pipeline_name, role_arn, step_name
from fedsm.pipeline import (
    PARAMETERS,
    create_request,
    definition,
    definition_sha256,
    limits,
    parameters,
    start_request,
)
from fedsm.plan import Facts, launch_plan
from tests.support import agreement, federation

DIGEST = "a" * 64
IMAGE = "123456789012.dkr.ecr.us-east-1.amazonaws.com/x:1"
HYPERPARAMETERS = {
    "solver": Limit(choices=("lbfgs", "sgd")),
    "learning-rate": Limit(low=0.001, high=2),
}


def parties(invited: dict[str, Any] | None = None, **terms: Any) -> tuple[Invitation, Terms]:
    return agreement(**{"hyperparameters": HYPERPARAMETERS, **(invited or {})}, terms=terms)


def made(*both: Any) -> dict[str, Any]:
    invitation, terms = both or parties()
    return definition(invitation, terms, DIGEST, IMAGE, "print('bootstrap')")


def substituted(value: Any, values: dict[str, str]) -> Any:
    """What SageMaker makes of a step's arguments."""
    if isinstance(value, dict):
        if set(value) == {"Get"}:
            return values[value["Get"].removeprefix("Parameters.")]
        return {key: substituted(inner, values) for key, inner in value.items()}
    return [substituted(inner, values) for inner in value] if isinstance(value, list) else value


def settings(**changes: Any) -> JobSettings:
    values = {
        "run": "heart-1",
        "site": "a",
        "partition": 0,
        "partitions": 2,
        "address": "10.0.1.5:8443",
        "certificate": "Q0VSVA==",
        "join_id": "join",
        "sts_region": "us-east-1",
        "max_wait": 600.0,
        "bundle_sha256": DIGEST,
        "rounds": 3,
        "model": "logistic-regression",
    }
    return JobSettings(**{**values, **changes})


def is_valid(operation: str, request: dict[str, Any]) -> None:
    model = botocore.session.get_session().get_service_model("sagemaker")
    report = ParamValidator().validate(request, model.operation_model(operation).input_shape)
    assert not report.has_errors(), report.generate_report()


def test_only_the_parameters_are_open() -> None:
    found = made()
    assert found["Version"] == "2020-12-01"
    assert set(found) == {"Version", "Metadata", "Parameters", "Steps"}
    names = {*PARAMETERS.values(), "Hp-solver", "Hp-learning-rate"}
    assert {p["Name"] for p in found["Parameters"]} == names
    assert {p["Type"] for p in found["Parameters"]} == {"String"}
    assert not any("DefaultValue" in p for p in found["Parameters"])
    (step,) = found["Steps"]
    assert (step["Name"], step["Type"]) == (step_name("heart", "a"), "Training")
    arguments = step["Arguments"]
    assert "TrainingJobName" not in arguments
    opened = {
        (field, key)
        for field, value in arguments.items()
        if isinstance(value, dict)
        for key, inner in value.items()
        if isinstance(inner, dict) and "Get" in inner
    }
    environment = {("Environment", f"FEDSM_{field.upper()}") for field in PARAMETERS}
    assert opened == environment | {
        ("HyperParameters", "solver"),
        ("HyperParameters", "learning-rate"),
    }
    assert json.dumps(arguments).count('"Get"') == len(opened)


def test_choices_are_checked_by_the_pipeline_and_ranges_by_the_job() -> None:
    found = made()
    by_name = {p["Name"]: p for p in found["Parameters"]}
    assert by_name["Hp-solver"]["EnumValues"] == ['"lbfgs"', '"sgd"']
    assert "EnumValues" not in by_name["Hp-learning-rate"]
    environment = found["Steps"][0]["Arguments"]["Environment"]
    assert environment["FEDSM_LIMIT_ADDRESS"] == "10.0.0.0/16 8443"
    assert environment["FEDSM_LIMIT_ROUNDS"] == "100"
    assert environment["FEDSM_LIMIT_HP_LEARNING_RATE"] == "0.001 2.0"
    assert environment["FEDSM_LIMIT_COUNT"] == "10"
    assert "auc" in environment["FEDSM_LIMIT_METRICS"].split(",")
    assert "FEDSM_LIMIT_HP_SOLVER" not in environment


def test_what_a_run_gives_makes_the_job_that_was_agreed() -> None:
    site = {"environment": {"TEAM": "x"}, "tags": {"cost": "y"}}
    network = {"subnets": ["subnet-0a"], "security_groups": ["sg-0b"]}
    key = "arn:aws:kms:us-east-1:222222222222:key/k"
    both = parties(None, **site, **network, kms_key_arn=key)
    values = parameters(settings(), {"solver": "sgd", "learning-rate": 0.1})
    arguments = substituted(made(*both)["Steps"][0]["Arguments"], values)
    is_valid("CreateTrainingJob", {"TrainingJobName": "pipelines-x", **arguments})
    assert JobSettings.from_environment(arguments["Environment"]) == settings()
    assert arguments["HyperParameters"] == {"solver": '"sgd"', "learning-rate": "0.1"}
    assert arguments["Environment"]["TEAM"] == "x"
    assert arguments["RoleArn"] == role_arn("222222222222", "heart", "a", "execution")
    assert arguments["ResourceConfig"]["VolumeKmsKeyId"] == key
    assert arguments["OutputDataConfig"] == {"S3OutputPath": "s3://a-models/out", "KmsKeyId": key}
    assert arguments["VpcConfig"] == {"Subnets": ["subnet-0a"], "SecurityGroupIds": ["sg-0b"]}
    assert {"Key": "fedsm:site", "Value": "a"} in arguments["Tags"]
    limits = Limits.from_environment(arguments["Environment"])
    limits.check(settings(), {"solver": "sgd", "learning-rate": 0.1})
    assert Release.from_environment(arguments["Environment"]).smallest == 10


def test_the_same_agreement_gives_the_same_pipeline() -> None:
    assert definition_sha256(made()) == definition_sha256(made())
    other = parties({"rounds": 101})
    assert definition_sha256(made(*other)) != definition_sha256(made())
    requests = [
        create_request(*both, DIGEST, IMAGE, "x", description="approved")
        for both in (parties(), parties(), other)
    ]
    assert requests[0] == requests[1]
    assert requests[0] != requests[2]
    # A token of each call's own: AWS may remember one whose pipeline has gone.
    is_valid("CreatePipeline", {**requests[0], "ClientRequestToken": "x" * 32})
    assert requests[0]["PipelineName"] == pipeline_name("heart", "a", DIGEST)
    assert requests[0]["RoleArn"] == role_arn("222222222222", "heart", "a", "pipeline")


def test_a_start_is_told_by_run_and_site() -> None:
    values = parameters(settings(), {"solver": "sgd"})
    first, again, other = (
        start_request("heart", site, DIGEST, "heart-1", values) for site in ("a", "a", "b")
    )
    assert first == again
    assert first["ClientRequestToken"] != other["ClientRequestToken"]
    is_valid("StartPipelineExecution", first)
    assert {"Name": "Hp-solver", "Value": '"sgd"'} in first["PipelineParameters"]
    long = start_request("heart", "a", DIGEST, "r" * 81 + "-x", {})
    assert long["PipelineExecutionDisplayName"] == "r" * 81


@given(
    st.dictionaries(
        st.from_regex(r"[a-z0-9]{1,8}(-[a-z0-9]{1,8}){0,2}", fullmatch=True),
        st.one_of(
            st.booleans(),
            st.integers(-(10**12), 10**12),
            st.floats(allow_nan=False, allow_infinity=False),
            st.text(max_size=20),
        ),
        max_size=6,
    )
)
def test_every_invited_value_reaches_the_job_and_passes(values: dict[str, Any]) -> None:
    def limit(value: Any) -> Limit:
        if isinstance(value, bool | str):
            return Limit(choices=(value,))
        return Limit(low=float(value), high=float(value))

    invited = {name: limit(value) for name, value in values.items()}
    both = parties({"hyperparameters": invited})
    given_values = parameters(settings(), values)
    declared = {p["Name"]: p for p in made(*both)["Parameters"]}
    assert set(declared) == set(given_values)
    for name, text in given_values.items():
        assert text in declared[name].get("EnumValues", [text])
        assert len(text) <= 1024
    arguments = substituted(made(*both)["Steps"][0]["Arguments"], given_values)
    decoded = {key: json.loads(text) for key, text in arguments["HyperParameters"].items()}
    assert decoded == values
    Limits.from_environment(arguments["Environment"]).check(settings(), decoded)


@given(
    st.floats(allow_nan=False, allow_infinity=False),
    st.floats(allow_nan=False, allow_infinity=False),
    st.one_of(st.floats(), st.integers(), st.booleans(), st.text(max_size=5)),
)
def test_the_job_and_the_file_judge_a_range_alike(a: float, b: float, value: Any) -> None:
    limit = Limit(low=min(a, b), high=max(a, b))
    invitation, terms = parties({"hyperparameters": {"x": limit}})
    found = Limits.from_environment(limits(invitation, terms))
    if limit.allows(value):
        found.check(settings(), {"x": value})
    else:
        with pytest.raises(ConfigError, match="x"):
            found.check(settings(), {"x": value})


def test_many_metrics_are_spread_over_variables() -> None:
    names = tuple(f"metric-number-{i}" for i in range(100))
    both = parties(None, metrics=names)
    environment = made(*both)["Steps"][0]["Arguments"]["Environment"]
    assert len([name for name in environment if name.startswith("FEDSM_LIMIT_METRICS")]) == 4
    assert all(len(v) <= 512 for v in environment.values() if isinstance(v, str))
    assert Release.from_environment(environment).metrics == frozenset(names)


@pytest.mark.parametrize(
    ("invited", "terms", "said"),
    [
        ({}, {"metrics": ["a,b"]}, "a: 'a,b' cannot be the name of a metric"),
        ({}, {"environment": {"BIG": "x" * 513}}, "a: environment variable BIG has 513"),
        ({}, {"environment": {f"V{i}": "" for i in range(90)}}, "a: there are 108 environment"),
        (
            {"addresses": [f"2001:db8:ffff:ffff:ffff:ffff:ffff:{i:04x}/128" for i in range(16)]},
            {},
            "FEDSM_LIMIT_ADDRESS has",
        ),
        (
            {"hyperparameters": {f"h{i}": Limit(choices=("x" * 50_000,)) for i in range(30)}},
            {},
            "a: the pipeline's definition has",
        ),
    ],
)
def test_limits_of_sagemaker_name_the_site(
    invited: dict[str, Any], terms: dict[str, Any], said: str
) -> None:
    with pytest.raises(LaunchError, match=said):
        made(*parties(invited, **terms))


def test_a_runs_values_must_fit() -> None:
    with pytest.raises(LaunchError, match="a: hyperparameter text has 1025"):
        parameters(settings(), {"text": "x" * 1023})
    with pytest.raises(LaunchError, match="a: environment variable Certificate has 513"):
        parameters(settings(certificate="x" * 513), {})


def test_plan_starts_the_approved_pipelines() -> None:
    from fedsm.config import FederationConfig

    config = FederationConfig.model_validate(
        federation(launch=None, training={"hyperparameters": {"c": 1}})
    )
    plan = launch_plan(
        config,
        Facts(
            run="heart-1",
            address="10.0.1.5:8443",
            certificate="Q0VSVA==",
            join_ids={"a": "join-a", "b": "join-b"},
            bundle_sha256=DIGEST,
            images={},
            bootstrap="",
        ),
    )
    data = plan.as_data()
    assert (data["launch"], data["mode"].partition(":")[0]) == ("pipeline", "pipeline")
    assert [step["call"] for step in data["steps"]][1::2] == [
        "sagemaker:StartPipelineExecution"
    ] * 2
    launch = plan.launches[1]
    assert launch.pipeline_arn == (
        f"arn:aws:sagemaker:us-east-1:333333333333:pipeline/fedsm-heart--b--{DIGEST}"
    )
    values = {p["Name"]: p["Value"] for p in launch.request["PipelineParameters"]}
    assert (values["Run"], values["Partition"], values["Hp-c"]) == ("heart-1", "1", "1")
    assert not launch.job_name
