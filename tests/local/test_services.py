"""Services beside training jobs: judged action by action, answered or refused."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.local.conftest import (
    EXECUTION,
    REGION,
    SERVER,
    SITE,
    World,
    refused,
    statement,
)

TAGS = [{"Key": "fedsm", "Value": "client"}]


def test_experiments_are_judged_and_answered(world: World) -> None:
    prefix = f"arn:aws:sagemaker:{REGION}:{SERVER}:experiment"
    session = world.as_role(
        SERVER,
        statement("Allow", "sagemaker:CreateExperiment", f"{prefix}/fedsm-*"),
        statement("Allow", ["sagemaker:CreateTrial", "sagemaker:CreateTrialComponent"]),
        statement("Allow", "sagemaker:AssociateTrialComponent", f"{prefix}-trial/fedsm-t"),
        statement("Allow", "sagemaker:BatchPutMetrics", f"{prefix}-trial-component/fedsm-c"),
    )
    client = session.client("sagemaker")
    client.create_experiment(ExperimentName="fedsm-e")
    client.create_trial(TrialName="fedsm-t", ExperimentName="fedsm-e")
    client.create_trial_component(TrialComponentName="fedsm-c")
    metrics = session.client("sagemaker-metrics")
    data = [{"MetricName": "Test:AUC", "Timestamp": datetime.now(UTC), "Step": 1, "Value": 0.9}]
    metrics.batch_put_metrics(TrialComponentName="fedsm-c", MetricData=data)
    assert "AccessDenied" in refused(
        session, "sagemaker", "create_experiment", ExperimentName="other"
    )
    assert "experiment-trial-component/fedsm-c" in refused(
        session,
        "sagemaker",
        "associate_trial_component",
        TrialName="fedsm-t",
        TrialComponentName="fedsm-c",
    )
    assert "AccessDenied" in refused(
        session,
        "sagemaker-metrics",
        "batch_put_metrics",
        TrialComponentName="fedsm-other",
        MetricData=data,
    )


def test_experiments_are_listed_and_found(world: World) -> None:
    client = world.admin(SERVER).client("sagemaker")
    client.create_experiment(ExperimentName="fedsm-list", Tags=TAGS)
    client.create_trial(TrialName="fedsm-list-t", ExperimentName="fedsm-list")
    client.create_trial_component(TrialComponentName="fedsm-list-c")
    client.associate_trial_component(TrialName="fedsm-list-t", TrialComponentName="fedsm-list-c")
    client.update_trial_component(TrialComponentName="fedsm-list-c", DisplayName="shown")
    described = client.describe_trial_component(TrialComponentName="fedsm-list-c")
    assert described["DisplayName"] == "shown"
    names = [e["ExperimentName"] for e in client.list_experiments()["ExperimentSummaries"]]
    assert "fedsm-list" in names
    trials = client.list_trials(ExperimentName="fedsm-list")["TrialSummaries"]
    assert [t["TrialName"] for t in trials] == ["fedsm-list-t"]
    components = client.list_trial_components(TrialName="fedsm-list-t")
    assert len(components["TrialComponentSummaries"]) == 1
    client.create_trial_component(TrialComponentName="fedsm-stray")
    components = client.list_trial_components(ExperimentName="fedsm-list")
    names = [c["TrialComponentName"] for c in components["TrialComponentSummaries"]]
    assert names == ["fedsm-list-c"]
    arn = client.describe_experiment(ExperimentName="fedsm-list")["ExperimentArn"]
    client.add_tags(ResourceArn=arn, Tags=[{"Key": "more", "Value": "x"}])
    assert {t["Key"] for t in client.list_tags(ResourceArn=arn)["Tags"]} == {"fedsm", "more"}
    client.search(Resource="Experiment")


def test_experiment_names_are_unique_and_must_be_there(world: World) -> None:
    session = world.admin(SERVER)
    client = session.client("sagemaker")
    client.create_experiment(ExperimentName="fedsm-once")
    client.create_trial(TrialName="fedsm-once-t", ExperimentName="fedsm-once")
    said = refused(session, "sagemaker", "create_experiment", ExperimentName="fedsm-once")
    assert said.startswith("ValidationException")
    assert "already exists" in said
    assert client.list_trials(ExperimentName="fedsm-once")["TrialSummaries"]
    for operation, arguments in (
        ("describe_experiment", {"ExperimentName": "absent"}),
        ("describe_trial_component", {"TrialComponentName": "absent"}),
        ("update_trial_component", {"TrialComponentName": "absent"}),
        ("create_trial", {"TrialName": "x", "ExperimentName": "absent"}),
        (
            "associate_trial_component",
            {"TrialName": "fedsm-once-t", "TrialComponentName": "absent"},
        ),
    ):
        said = refused(session, "sagemaker", operation, **arguments)
        assert said.startswith("ResourceNotFound"), operation


@pytest.mark.parametrize(
    ("service", "operation", "arguments", "action"),
    [
        ("iam", "get_role", {"RoleName": "execution"}, "iam:GetRole"),
        ("iam", "create_user", {"UserName": "eve"}, "iam:CreateUser"),
        ("ec2", "describe_vpcs", {}, "ec2:DescribeVpcs"),
        ("ec2", "create_vpc", {"CidrBlock": "10.0.0.0/16"}, "ec2:CreateVpc"),
        ("logs", "create_log_group", {"logGroupName": "/x"}, "logs:CreateLogGroup"),
        ("kms", "list_keys", {}, "kms:ListKeys"),
    ],
)
def test_other_actions_need_their_permission(
    world: World, service: str, operation: str, arguments: dict[str, Any], action: str
) -> None:
    said = refused(world.as_role(SITE), service, operation, **arguments)
    code = "UnauthorizedOperation" if service == "ec2" else "AccessDenied"
    assert said.startswith(code)
    assert f"not authorized to perform: {action}" in said
    session = world.as_role(SITE, statement("Allow", action))
    if not operation.startswith("create_user"):
        getattr(session.client(service, region_name=REGION), operation)(**arguments)


def test_a_policy_on_a_log_group_ends_with_a_star(world: World) -> None:
    group = f"arn:aws:logs:{REGION}:{SITE}:log-group:/starred"
    actions = ["logs:CreateLogGroup", "logs:CreateLogStream", "logs:DescribeLogStreams"]
    named = {"logGroupName": "/starred"}
    bare = world.as_role(SITE, statement("Allow", actions, group))
    stream = {**named, "logStreamName": "own/1"}
    for operation, arguments in (
        ("create_log_group", named),
        ("create_log_stream", stream),
        ("describe_log_streams", named),
    ):
        assert "AccessDenied" in refused(bare, "logs", operation, **arguments)
    writer = world.as_role(
        SITE,
        statement("Allow", actions, f"{group}:*"),
        statement("Allow", "logs:PutLogEvents", f"{group}:log-stream:own/*"),
    )
    client, events = writer.client("logs"), [{"timestamp": int(time.time() * 1000), "message": "x"}]
    client.create_log_group(**named)
    for name in ("own/1", "other/1"):
        client.create_log_stream(**named, logStreamName=name)
    assert len(client.describe_log_streams(**named)["logStreams"]) == 2
    client.put_log_events(**stream, logEvents=events)
    other = {**named, "logStreamName": "other/1", "logEvents": events}
    said = refused(writer, "logs", "put_log_events", **other)
    assert f"{group}:log-stream:other/1" in said


def test_identity_resources_have_arns(world: World) -> None:
    session = world.as_role(SITE, statement("Allow", "iam:GetRole", EXECUTION))
    session.client("iam").get_role(RoleName="execution")
    assert "role/kickoff" in refused(session, "iam", "get_role", RoleName="kickoff")


@pytest.mark.parametrize(
    ("service", "call"),
    [
        ("sagemaker", lambda c: c.list_endpoints()),
        ("sagemaker", lambda c: c.list_models()),
        ("sts", lambda c: c.get_session_token()),
        ("dynamodb", lambda c: c.list_tables()),
        ("lambda", lambda c: c.list_functions()),
    ],
)
def test_services_beyond_the_cloud_say_so(
    world: World, service: str, call: Callable[[Any], Any]
) -> None:
    with pytest.raises(ClientError, match="the local cloud does not model"):
        call(world.admin().client(service))


def test_get_caller_identity_needs_no_permission(world: World) -> None:
    session = world.as_role(SITE)
    assert session.client("sts").get_caller_identity()["Account"] == SITE
    arn = world.admin().client("sts").get_caller_identity()["Arn"]
    assert arn == f"arn:aws:iam::{SITE}:user/admin"
