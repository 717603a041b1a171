"""What lands in SageMaker Experiments, read back through the service's own API."""

from __future__ import annotations

import json
import threading
from collections import Counter, defaultdict
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any, NamedTuple

import boto3
import pytest
from botocore.exceptions import ClientError

from fedsm import policies
from fedsm.aws.sessions import Sessions
from fedsm.errors import TrackingError
from fedsm.events import Journal, read
from fedsm.tracking.follower import Backoff, position_file
from fedsm.tracking.names import experiment_name
from fedsm.tracking.pump import Pump, replay
from fedsm.tracking.sagemaker import SageMakerExperiments
from tests.tracking import story

EXPERIMENT = "fedsm-heart"
AGGREGATOR = f"{EXPERIMENT}-{story.RUN}-aggregator-server"
NORTH = f"{EXPERIMENT}-{story.RUN}-client-north"
SOUTH = f"{EXPERIMENT}-{story.RUN}-client-south"
FAST = Backoff(first=0.001, most=0.004, closing=0.001)


class Failing:
    """Counts a tracker's calls and fails one of them, before it is sent or after it is answered."""

    def __init__(
        self,
        tracker: SageMakerExperiments,
        when: str = "before-call",
        *,
        fail: int = 0,
        code: str = "ThrottlingException",
    ) -> None:
        self.calls: Counter[str] = Counter()
        self.fail, self.code, self.when = fail, code, when
        self.clients = (tracker._api, tracker._metrics)

    def __enter__(self) -> Failing:
        for client in self.clients:
            client.meta.events.register(self.when, self._call)
        return self

    def __exit__(self, *_: object) -> None:
        for client in self.clients:
            client.meta.events.unregister(self.when, self._call)

    def _call(self, model: Any, **_: Any) -> None:
        self.calls[model.name] += 1
        if self.calls.total() == self.fail:
            raise ClientError({"Error": {"Code": self.code, "Message": "no"}}, model.name)


def component(session: boto3.Session, name: str) -> dict[str, Any]:
    return session.client("sagemaker").describe_trial_component(TrialComponentName=name)


def values(session: boto3.Session, name: str) -> dict[str, Any]:
    return {
        key: value.get("NumberValue", value.get("StringValue"))
        for key, value in component(session, name)["Parameters"].items()
    }


class Summary(NamedTuple):
    """What the service tells of one metric."""

    count: int
    low: float
    mean: float
    high: float
    last: float


def measured(session: boto3.Session, name: str) -> dict[str, Summary]:
    return {
        m["MetricName"]: Summary(m["Count"], m["Min"], m["Avg"], m["Max"], m["Last"])
        for m in component(session, name)["Metrics"]
    }


def watched(tracker: SageMakerExperiments) -> dict[tuple[str, str], dict[int, float]]:
    """Values by step of each run's metrics, as they go out: the cloud gives back a summary."""
    sent: dict[tuple[str, str], dict[int, float]] = defaultdict(dict)

    def note(params: dict[str, Any], **_: Any) -> None:
        for point in params["MetricData"]:
            sent[params["TrialComponentName"], point["MetricName"]][point["Step"]] = point["Value"]

    tracker._metrics.meta.events.register("provide-client-params", note)
    return sent


def track(journal: Journal, session: boto3.Session, prefix: str = "fedsm") -> None:
    (standing,) = replay(journal.path, [SageMakerExperiments(session, prefix)], backoff=FAST)
    assert (standing.left, standing.error) == (0, "")


def everything(session: boto3.Session, experiment: str = EXPERIMENT) -> dict[str, Any]:
    """All that a reader can see of the three runs, but the experiment and when it was written."""
    seen = {}
    for name in (AGGREGATOR, NORTH, SOUTH):
        found = component(session, name.replace(EXPERIMENT, experiment))
        for changing in ("ResponseMetadata", "LastModifiedTime", "CreationTime"):
            found.pop(changing)
        seen[name] = json.loads(json.dumps(found, default=str).replace(experiment, EXPERIMENT))
    return seen


def test_one_experiment_with_a_run_for_each_participant(
    journal: Journal, server_account: boto3.Session
) -> None:
    story.play(journal)
    track(journal, server_account)
    client = server_account.client("sagemaker")
    assert [e["ExperimentName"] for e in client.list_experiments()["ExperimentSummaries"]] == [
        EXPERIMENT
    ]
    trial = f"Default-Run-Group-{EXPERIMENT}"
    assert client.describe_trial(TrialName=trial)["ExperimentName"] == EXPERIMENT
    found = client.list_trial_components(TrialName=trial)["TrialComponentSummaries"]
    assert {c["TrialComponentName"] for c in found} == {AGGREGATOR, NORTH, SOUTH}
    arn = component(server_account, NORTH)["TrialComponentArn"]
    tags = {tag["Key"]: tag["Value"] for tag in client.list_tags(ResourceArn=arn)["Tags"]}
    assert tags == {
        "sagemaker:trial-component-source": "run",
        "fedsm:federation": "heart",
        "fedsm:run": story.RUN,
        "fedsm:role": "client",
        "fedsm:site": "north",
    }


def test_parameters_metrics_artifacts_and_status(
    journal: Journal, server_account: boto3.Session
) -> None:
    story.play(journal)
    tracker = SageMakerExperiments(server_account, "fedsm")
    sent = watched(tracker)
    (standing,) = replay(journal.path, [tracker], backoff=FAST)
    assert standing.left == 0
    north, aggregator = component(server_account, NORTH), component(server_account, AGGREGATOR)
    assert north["Parameters"]["learning-rate"] == {"NumberValue": 0.05}
    assert north["Parameters"]["optimizer"] == {"StringValue": "lbfgs"}
    assert north["Parameters"]["shuffle"] == {"StringValue": "true"}
    assert values(server_account, NORTH)["train-data-size"] == 60
    assert sent[NORTH, "Training:Loss"] == {1: 1.0, 2: 0.5, 3: pytest.approx(1 / 3)}
    assert sent[NORTH, "Validation:AUC"] == {1: 0.625, 2: 0.75, 3: 0.875}
    assert sent[AGGREGATOR, "Test:AUC"] == {1: 0.9, 2: 0.9, 3: 0.9}
    assert sent[AGGREGATOR, "Test:Loss"] == {1: 3.0, 2: 1.5, 3: 1.0}
    assert measured(server_account, NORTH)["Validation:AUC"] == (3, 0.625, 0.75, 0.875, 0.875)
    assert measured(server_account, AGGREGATOR)["Test:Loss"] == pytest.approx((3, 1, 5.5 / 3, 3, 1))
    for name in (AGGREGATOR, NORTH, SOUTH):
        assert {m for run, m in sent if run == name} == set(measured(server_account, name))
    assert "Validation:AUC" not in measured(server_account, SOUTH)
    assert aggregator["OutputArtifacts"]["model"] == {
        "Value": "/runs/model.joblib",
        "MediaType": "application/octet-stream",
    }
    assert north["OutputArtifacts"]["model"]["Value"] == "s3://north-models/output/model.tar.gz"
    for found in (north, aggregator):
        assert found["Status"]["PrimaryStatus"] == "Completed"
        assert found["StartTime"] <= found["EndTime"]


def test_a_second_run_joins_the_same_experiment(
    journal: Journal, server_account: boto3.Session, tmp_path: Any
) -> None:
    story.play(journal)
    track(journal, server_account)
    before = everything(server_account)
    other = Journal(tmp_path / "other" / "events.jsonl")
    story.start(other, ["north"], run="20261121-080000-77aa")
    other.close()
    track(other, server_account)
    client = server_account.client("sagemaker")
    assert len(client.list_experiments()["ExperimentSummaries"]) == 1
    assert len(client.list_trial_components()["TrialComponentSummaries"]) == 5
    assert everything(server_account) == before


def test_replaying_the_whole_journal_changes_nothing(
    journal: Journal, server_account: boto3.Session
) -> None:
    story.play(journal)
    track(journal, server_account)
    before = everything(server_account)
    position_file(journal.path, SageMakerExperiments.name).unlink()
    track(journal, server_account)
    assert everything(server_account) == before


def test_calls_are_few_and_metrics_go_ten_at_a_time(
    journal: Journal, server_account: boto3.Session
) -> None:
    story.play(journal, rounds=5)
    tracker = SageMakerExperiments(server_account, "fedsm")
    sizes: list[int] = []
    tracker._metrics.meta.events.register(
        "provide-client-params", lambda params, **_: sizes.append(len(params["MetricData"]))
    )
    with Failing(tracker) as counted:
        replay(journal.path, [tracker], backoff=FAST)
    assert counted.calls["CreateTrialComponent"] == 3
    assert counted.calls["BatchPutMetrics"] == 3 * 5
    assert counted.calls.total() < 40
    assert max(sizes) <= 10


def test_more_than_ten_metrics_a_round_are_cut_into_calls(
    journal: Journal, server_account: boto3.Session
) -> None:
    story.start(journal, ["north"])
    metrics = {f"m-{n}": float(n) for n in range(37)}
    for phase in ("train", "evaluate"):
        journal.append("site-metrics", round=1, phase=phase, site="north", metrics=metrics)
    journal.append("round-ended", round=1, seconds=1.0, train={}, evaluate={}, server={})
    track(journal, server_account)
    found = measured(server_account, NORTH)
    assert len(found) == 74
    assert found["Validation:M36"] == (1, 36.0, 36.0, 36.0, 36.0)


@pytest.mark.parametrize(("when", "crash"), [("before-call", False), ("after-call", True)])
def test_whatever_call_fails_the_end_is_the_same(
    journal: Journal, server_account: boto3.Session, when: str, crash: bool
) -> None:
    """Each call in turn: refused and tried again, or its answer lost with the coordinator."""
    story.play(journal, rounds=1)
    server_account.client = cache(server_account.client)  # making one takes 0.1 s
    with Failing(tracker := SageMakerExperiments(server_account, "fedsm")) as counted:
        replay(journal.path, [tracker], backoff=FAST)
    expected = everything(server_account)
    for number in range(1, counted.calls.total() + 1):
        prefix = f"fedsm{number}"
        position_file(journal.path, SageMakerExperiments.name).unlink(missing_ok=True)
        tracker = SageMakerExperiments(server_account, prefix)
        with Failing(tracker, when, fail=number):
            (standing,) = replay(journal.path, [tracker], attempts=1 if crash else 2, backoff=FAST)
        if crash:
            assert standing.left
            assert "ThrottlingException" in standing.error
            track(journal, server_account, prefix)
        assert everything(server_account, f"{prefix}-heart") == expected, f"call {number}"


def test_a_refusal_names_the_experiment_and_what_to_do(
    journal: Journal, server_account: boto3.Session
) -> None:
    story.start(journal, ["north"])
    tracker = SageMakerExperiments(server_account, "fedsm")
    failing = Failing(tracker, fail=1, code="AccessDeniedException")
    with failing, pytest.raises(TrackingError) as caught:
        tracker.handle(next(read(journal.path)))
    assert "experiment fedsm-heart: SageMaker refused to open" in str(caught.value)
    assert "AccessDeniedException" in str(caught.value)
    assert "the run is not affected" in str(caught.value)


@pytest.mark.parametrize("prefix", ["fedsm", "Fed--Heart", "p" * 70])
def test_the_coordinators_role_may_write_its_own_experiments_and_no_other(
    journal: Journal, server_account: boto3.Session, prefix: str
) -> None:
    account = server_account.client("sts").get_caller_identity()["Account"]
    iam = server_account.client("iam")
    trust = json.dumps(policies.coordinator_trust(account))
    arn = iam.create_role(RoleName="coordinator", AssumeRolePolicyDocument=trust)["Role"]["Arn"]
    rights = policies.coordinator_policy(
        account, server_account.region_name, ["arn:aws:iam::222222222222:role/kickoff"], prefix
    )
    iam.put_role_policy(
        RoleName="coordinator", PolicyName="fedsm", PolicyDocument=json.dumps(rights)
    )
    role = Sessions(server_account, "run").coordinator(server_account.region_name, arn)
    story.play(journal)
    track(journal, role, prefix)
    (made,) = server_account.client("sagemaker").list_experiments()["ExperimentSummaries"]
    assert made["ExperimentName"] == experiment_name(prefix, "heart")
    other = SageMakerExperiments(role, "other")
    with pytest.raises(TrackingError, match=r"not authorized to perform: sagemaker:Create"):
        other.handle(next(read(journal.path)))
    for trial, run in ((made["ExperimentName"], "other-c"), ("other", made["ExperimentName"])):
        with pytest.raises(ClientError, match="sagemaker:AssociateTrialComponent"):
            role.client("sagemaker").associate_trial_component(
                TrialName=f"Default-Run-Group-{trial}", TrialComponentName=run
            )


def test_metrics_that_were_not_stored_are_sent_again_or_said(
    journal: Journal, server_account: boto3.Session
) -> None:
    """Errors of single metrics, which the local cloud never gives: made up at the client."""
    story.start(journal, ["north"])
    tracker = SageMakerExperiments(server_account, "fedsm")
    errors = [
        [
            {"Code": "INTERNAL_ERROR", "MetricIndex": 1},
            {"Code": "METRIC_LIMIT_EXCEEDED", "MetricIndex": 0},
        ],
        [],
    ]
    sent: list[list[str]] = []

    def answer(params: dict[str, Any], **_: Any) -> None:
        sent.append([point["MetricName"] for point in params["MetricData"]])

    def put(parsed: dict[str, Any], **_: Any) -> None:
        parsed["Errors"] = errors[len(sent) - 1]

    tracker._metrics.meta.events.register("provide-client-params", answer)
    tracker._metrics.meta.events.register("after-call", put)
    journal.append(
        "site-metrics", round=1, phase="train", site="north", metrics={"loss": 0.5, "auc": 0.7}
    )
    journal.append("run-ended", status="Completed", reason="", model="", model_sha256="")
    (standing,) = replay(journal.path, [tracker], backoff=FAST)
    assert sent == [["Training:AUC", "Training:Loss"], ["Training:Loss"]]
    assert standing.left == 0
    assert (
        "client north: SageMaker left out Training:AUC of round 1: METRIC_LIMIT_EXCEEDED"
        in standing.left_out
    )


def test_a_late_replay_dates_metrics_within_what_the_service_takes(
    journal: Journal, server_account: boto3.Session
) -> None:
    story.play(journal, rounds=1)
    later = datetime.now(UTC) + timedelta(days=60)
    tracker = SageMakerExperiments(server_account, "fedsm", clock=lambda: later)
    dates: list[datetime] = []
    tracker._metrics.meta.events.register(
        "provide-client-params",
        lambda params, **_: dates.extend(p["Timestamp"] for p in params["MetricData"]),
    )
    replay(journal.path, [tracker], backoff=FAST)
    assert dates
    assert all(later - timedelta(days=14) < date <= later for date in dates)


def test_parameters_are_cut_to_what_a_run_takes(
    journal: Journal, server_account: boto3.Session
) -> None:
    many = {f"h-{n:04d}": n for n in range(400)} | {"a-text": "x\ny" * 2000}
    story.start(journal, ["north"], hyperparameters=many)
    tracker = SageMakerExperiments(server_account, "fedsm")
    (standing,) = replay(journal.path, [tracker], backoff=FAST)
    found = values(server_account, NORTH)
    assert len(found) == 300
    assert found["role"] == "client"
    left = int(found["parameters-left-out"])
    assert f"client north: {left} parameters are left out, a run takes 300" in standing.left_out
    assert 100 < left < 150


def test_long_texts_are_cut_to_one_line(journal: Journal, server_account: boto3.Session) -> None:
    story.start(journal, ["north"], hyperparameters={"text": "x\ny" * 2000})
    journal.append("run-ended", status="Failed", reason="a\nb" * 2000, model="", model_sha256="")
    track(journal, server_account)
    assert len(values(server_account, NORTH)["text"]) == 2500
    status = component(server_account, AGGREGATOR)["Status"]
    assert status["PrimaryStatus"] == "Failed"
    assert len(status["Message"]) == 1024
    assert "\n" not in status["Message"]


def test_a_run_is_tracked_while_it_goes_on(journal: Journal, server_account: boto3.Session) -> None:
    tracker = SageMakerExperiments(server_account, "fedsm")
    ended = threading.Event()
    tracker._metrics.meta.events.register("after-call", lambda **_: ended.set())
    pump = Pump(journal, [tracker], backoff=FAST)
    story.start(journal, ["north", "south"])
    story.play_round(journal, 1, ["north", "south"])
    assert ended.wait(20)
    assert component(server_account, NORTH)["Status"]["PrimaryStatus"] == "InProgress"
    story.finish(journal, ["north", "south"])
    (standing,) = pump.close(20)
    assert standing.left == 0
    assert component(server_account, NORTH)["Status"]["PrimaryStatus"] == "Completed"
    assert tracker.experiment == EXPERIMENT
