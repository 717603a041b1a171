"""The local cloud decides over HTTP as both judges do, for all that it serves, in both launches."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from botocore.exceptions import ClientError

from fedsm import local, onboarding
from fedsm.names import pipeline_name
from tests.policies import job_probes, probes
from tests.policies.judges import Bears, Judge, local_judge, oracle_judge
from tests.policies.place import (
    OFFICER,
    STEWARD,
    Place,
    Probe,
    Site,
    definition,
    job_request,
)
from tests.policies.world import (
    DIGEST,
    OTHER_DIGEST,
    OWNER,
    PLAIN,
    REGION,
    SERVER,
    agreement,
)

ORACLE = os.environ.get("FEDSM_MINISTACK", "")
PAST = datetime(2026, 1, 1, tzinfo=UTC)


def make_site(name: str, launch: str, **terms: Any) -> Site:
    given = json.loads(json.dumps(PLAIN).replace("north-", f"{name}-"))
    people = {"publisher": STEWARD, "approver": OFFICER}
    invitation, made = agreement({**given, **people, **terms}, launch=launch, site=name)
    return Site(name, invitation, made, onboarding.account(invitation, made))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """North approves its code; west and east trust the server, east with network and key."""
    directory = tmp_path_factory.mktemp("cloud")
    endpoint = local.up(directory, accounts=[SERVER, OWNER], stop_grace=1.0)
    north = make_site("north", "pipeline")
    west = make_site("west", "direct", server_reads_logs=True)
    try:
        made = Place(endpoint, {"north": north, "west": west})
        made.sites["east"] = make_site("east", "direct", **grounds(made))
        made.set_up()
        s3 = made.session("admin", "").client("s3")
        for site in made.sites.values():
            publisher = made.session("publisher", site.name).client("s3")
            s3.put_object(Bucket=site.bucket("data"), Key="train/x.csv", Body=b"1")
            for digest in (DIGEST, OTHER_DIGEST):
                key = f"fedsm/{digest}/source.tar.gz"
                publisher.put_object(
                    Bucket=site.bucket("code"), Key=key, Body=b"code", IfNoneMatch="*"
                )
        for digest, until in ((DIGEST, None), (probes.EXPIRED, PAST)):
            pipeline(made, north, digest, job_request(north))
            made.approve(north, digest, until)
        pipeline(made, north, OTHER_DIGEST, job_request(north))
        yield made
    finally:
        local.down(directory)


def grounds(place: Place) -> dict[str, Any]:
    """A network, a key and an image of the owner's own, as terms."""
    admin = place.session("admin", "")
    ec2 = admin.client("ec2")
    vpc = ec2.create_vpc(CidrBlock="10.1.0.0/16")["Vpc"]["VpcId"]
    subnets = [
        ec2.create_subnet(VpcId=vpc, CidrBlock=f"10.1.{i}.0/24")["Subnet"]["SubnetId"]
        for i in range(3)
    ]
    groups = [
        ec2.create_security_group(VpcId=vpc, GroupName=f"g{i}", Description="x")["GroupId"]
        for i in range(2)
    ]
    place.spare = (subnets.pop(), groups.pop())
    return {
        "vpc_id": vpc,
        "subnets": subnets,
        "security_groups": groups,
        "kms_key_arn": admin.client("kms").create_key()["KeyMetadata"]["Arn"],
        "image": f"{OWNER}.dkr.ecr.{REGION}.amazonaws.com/fedsm:1",
    }


@pytest.fixture
def judges(monkeypatch: pytest.MonkeyPatch) -> list[Judge]:
    """Both judges; where the second is not unpacked, another test is skipped and says so."""
    return [local_judge, *([oracle_judge(ORACLE, monkeypatch)] if ORACLE else [])]


def pipeline(place: Place, site: Site, digest: str, request: dict[str, Any]) -> None:
    place.session("approver", site.name).client("sagemaker").create_pipeline(
        PipelineName=pipeline_name("heart", site.name, digest),
        RoleArn=site.role("pipeline"),
        PipelineDefinition=definition(site, request),
        ClientRequestToken=digest,
    )


def run(place: Place, site: Site, digest: str) -> dict[str, Any]:
    """Start a pipeline as the server, and wait for the end of its one step."""
    client = place.session("kickoff", site.name).client("sagemaker")
    execution = client.start_pipeline_execution(
        PipelineName=pipeline_name("heart", site.name, digest), ClientRequestToken=digest
    )["PipelineExecutionArn"]
    deadline = time.monotonic() + 60
    while True:
        found = client.describe_pipeline_execution(PipelineExecutionArn=execution)
        if found["PipelineExecutionStatus"] not in ("Executing", "Stopping"):
            listed = client.list_pipeline_execution_steps(PipelineExecutionArn=execution)
            return dict(listed["PipelineExecutionSteps"][0])
        assert time.monotonic() < deadline, found
        time.sleep(0.05)


def differences(
    place: Place, site: Site, asked: Iterable[Probe], judges: list[Judge]
) -> list[tuple[str, str, bool, list[bool]]]:
    """Calls on which cloud, judges and table do not all agree."""
    found = []
    for probe in asked:
        verdicts = [place.allowed(probe, site.name)]
        for judge in judges:
            cases = [(site.case(probe.who, ask), site.bears(probe.who, ask)) for ask in probe.asks]
            verdicts.append(all(judge(case, bears) for case, bears in cases))
        if set(verdicts) != {probe.allowed}:
            found.append((probe.who, probe.name, probe.allowed, verdicts))
    return found


@pytest.mark.parametrize("name", ["north", "west"])
def test_objects(place: Place, judges: list[Judge], name: str) -> None:
    site = place.sites[name]
    asked = list(probes.of_objects(site))
    assert {probe.allowed for probe in asked} == {True, False}
    assert not differences(place, site, asked, judges)


@pytest.mark.parametrize("name", ["west", "east"])
def test_jobs_of_the_direct_launch(place: Place, judges: list[Judge], name: str) -> None:
    site = place.sites[name]
    asked = [*probes.of_direct_jobs(site), *probes.of_logs(site)]
    assert len(asked) > 15
    assert not differences(place, site, asked, judges)


def test_executions_of_the_pipeline_launch(place: Place, judges: list[Judge]) -> None:
    north = place.sites["north"]
    client = place.session("kickoff", "north").client("sagemaker")
    execution = client.start_pipeline_execution(
        PipelineName=pipeline_name("heart", "north", DIGEST), ClientRequestToken="y" * 32
    )["PipelineExecutionArn"]
    asked = [*probes.of_executions(north, execution), *probes.of_logs(north)]
    assert not differences(place, north, asked, judges)


def test_approvals(place: Place, judges: list[Judge]) -> None:
    north = place.sites["north"]
    assert not differences(place, north, probes.of_approvals(north), judges)


@pytest.mark.parametrize("name", ["north", "west", "east"])
def test_taking_roles(place: Place, judges: list[Judge], name: str) -> None:
    site, wrong = place.sites[name], []
    for who, arguments, allowed, kind in probes.of_assumptions(site):
        role = site.account.role(kind)  # type: ignore[arg-type]
        keys = {f"sts:{key}": [value] for key, value in arguments.items()}
        asks = [("sts:AssumeRole", role.arn, keys)]
        asks += [("sts:SetSourceIdentity", role.arn, keys)] if "SourceIdentity" in arguments else []
        probe = Probe(
            f"{kind} {sorted(arguments)}",
            who,
            allowed,
            tuple(asks),
            probes.call(
                "sts", "assume_role", RoleArn=role.arn, RoleSessionName="probe", **arguments
            ),
        )
        verdicts = [place.allowed(probe, name)]
        for judge in judges:
            verdicts.append(
                all(judge(site.case(who, ask), taking(site, who, ask, role.trust)) for ask in asks)
            )
        if set(verdicts) != {allowed}:
            wrong.append((who, kind, arguments, allowed, verdicts))
    assert not wrong


def taking(site: Site, who: str, ask: Any, trust: Any) -> Bears:
    held = site.bears(who, ask)
    return Bears(held.identity, held.boundary, trust, must=True)


# --- what SageMaker does in the roles that no person can take -------------------------------------


def test_jobs_that_the_pipeline_role_creates(place: Place, judges: list[Judge]) -> None:
    """Whatever the approver puts into a pipeline, its role creates jobs as agreed and no others."""
    north, wrong = place.sites["north"], []
    for i, (name, allowed, request) in enumerate(probes.variations(north)):
        digest = f"{i:064x}"
        pipeline(place, north, digest, request)
        place.approve(north, digest)
        step = run(place, north, digest)
        verdicts = [step["StepStatus"] == "Succeeded"]
        said = step.get("FailureReason", "")
        assert verdicts[0] or "is not authorized to perform" in said, (name, said)
        job = job_probes.pipeline_job(north)
        for judge in judges:
            asks = probes.creation(north, job, request, pipeline=True)
            cases = [(north.case("pipeline", ask), north.bears("pipeline", ask)) for ask in asks]
            verdicts.append(all(judge(case, bears) for case, bears in cases))
        if set(verdicts) != {allowed}:
            wrong.append((name, allowed, verdicts, said))
    assert not wrong


def test_what_sagemaker_does_in_the_execution_role(place: Place, judges: list[Judge]) -> None:
    """Interfaces, image and key: an administrator's job is held to the execution role's rights."""
    east, wrong = place.sites["east"], []
    for name, allowed, request, asks in probes.of_the_execution_role(east, *place.spare):
        job = f"fedsm-heart--east--{name.replace(' ', '-')}"
        create = probes.call("sagemaker", "create_training_job", TrainingJobName=job, **request)
        verdicts = [place.allowed(Probe(name, "admin", allowed, asks, create), "east")]
        for judge in judges:
            cases = [(east.case("execution", ask), east.bears("execution", ask)) for ask in asks]
            verdicts.append(all(judge(case, bears) for case, bears in cases))
        if set(verdicts) != {allowed}:
            wrong.append((name, allowed, verdicts))
    assert not wrong


def test_no_job_of_another_name_gets_the_execution_role(place: Place) -> None:
    """Not even an administrator's: the role trusts SageMaker for this site's own jobs only."""
    admin = place.session("admin", "").client("sagemaker")
    with pytest.raises(ClientError, match="Could not assume role"):
        admin.create_training_job(TrainingJobName="other", **job_request(place.sites["west"]))


@pytest.mark.parametrize("name", ["north", "west", "east"])
def test_what_a_job_can_reach(place: Place, judges: list[Judge], name: str) -> None:
    """Calls that a job makes with its execution role's credentials."""
    site = place.sites[name]
    asked = list(job_probes.of_a_job(site))
    program = job_probes.caller(asked)
    answers = in_a_job(place, site, job_request(site, program))
    wrong = []
    for (label, allowed, ask, _), code in zip(asked, answers, strict=True):
        verdicts = [code not in ("AccessDenied", "AccessDeniedException", "403")]
        for judge in judges:
            case = site.case("execution", ask)
            verdicts.append(judge(case, site.bears("execution", ask)))
        if set(verdicts) != {allowed}:
            wrong.append((label, allowed, verdicts, code))
    assert not wrong


def in_a_job(place: Place, site: Site, request: dict[str, Any]) -> list[str]:
    """The codes that the program of a job writes into its log, one a call."""
    if site.invitation.launch == "pipeline":
        digest = "5" * 64
        pipeline(place, site, digest, request)
        place.approve(site, digest)
        step = run(place, site, digest)
        assert step["StepStatus"] == "Succeeded", step["FailureReason"]
        job = step["Metadata"]["TrainingJob"]["Arn"].rpartition("/")[2]
    else:
        job = f"fedsm-heart--{site.name}--caller"
        client = place.session("kickoff", site.name).client("sagemaker")
        client.create_training_job(TrainingJobName=job, **request)
        deadline = time.monotonic() + 60
        while True:
            found = client.describe_training_job(TrainingJobName=job)
            if found["TrainingJobStatus"] in ("Completed", "Failed", "Stopped"):
                break
            assert time.monotonic() < deadline, found
            time.sleep(0.05)
        assert found["TrainingJobStatus"] == "Completed", found.get("FailureReason")
    logs = place.session("admin", "").client("logs", region_name=REGION)
    streams = logs.describe_log_streams(logGroupName=probes.GROUP, logStreamNamePrefix=f"{job}/")
    events = logs.get_log_events(
        logGroupName=probes.GROUP,
        logStreamName=streams["logStreams"][0]["logStreamName"],
        startFromHead=True,
    )["events"]
    (said,) = [event["message"] for event in events if event["message"].startswith("CODES ")]
    return list(json.loads(said.removeprefix("CODES ")))
