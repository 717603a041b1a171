"""SageMaker Experiments, written so that the SageMaker SDK opens it as its own runs.

One experiment a federation, in the server account alone; one run for the aggregator and one for
each site's client. Names follow `fedsm.tracking.names`, contents `fedsm.tracking.record`. Only
boto3 is used, six operations of it: CreateExperiment, CreateTrial, CreateTrialComponent,
AssociateTrialComponent and UpdateTrialComponent of ``sagemaker``, BatchPutMetrics of
``sagemaker-metrics``; tags given to a create call also need the right to AddTags.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from fedsm.errors import TrackingError
from fedsm.events import Event
from fedsm.tracking import names
from fedsm.tracking.record import Record
from fedsm.tracking.writes import Measure, Note, Open, Participant, Point, State, Update, Write

METRICS_A_CALL = 10
MAX_PARAMETERS = 300
MAX_AGE = timedelta(days=13)
"""The service takes no metric older than two weeks; an older one is dated this far back."""

# Adaptive mode also slows this client down where the service throttles it. The time-outs bound how
# long closing a run can wait for one call.
_CONFIG = Config(
    retries={"mode": "adaptive", "total_max_attempts": 4},
    connect_timeout=5,
    read_timeout=20,
    user_agent_extra="fedsm",
)
_EXISTS_CODES = ("ValidationException", "ResourceInUse", "ConflictException")
_EXISTS = ("already", "must be unique within an AWS account")
_TRANSIENT = ("INTERNAL_ERROR", "CONFLICT_ERROR")


def _now() -> datetime:
    return datetime.now(UTC)


class SageMakerExperiments:
    """A tracker that writes one run's journal to SageMaker Experiments.

    Parameters
    ----------
    session : boto3.Session
        The server account's session.
    prefix : str
        The experiment is named ``<prefix>-<federation>``.
    clock : callable, optional
        Gives the current time with its zone.

    Raises
    ------
    TrackingError
        From `handle`: SageMaker refused or could not be reached; says for which run. Nothing is
        lost, the next call goes on where this one stopped.
    """

    name = "sagemaker-experiments"

    def __init__(
        self, session: boto3.Session, prefix: str, *, clock: Callable[[], datetime] = _now
    ) -> None:
        # Made here and not in the tracker's thread: a boto3 session is not thread-safe while it
        # makes clients, and the coordinator uses it too.
        self._api: Any = session.client("sagemaker", config=_CONFIG)
        self._metrics: Any = session.client("sagemaker-metrics", config=_CONFIG)
        self._prefix = prefix
        self._clock = clock
        self._record = Record()
        self._folded = -1
        self._writes: deque[Write] = deque()
        self._said: list[str] = []
        self._grouped = False

    @property
    def experiment(self) -> str:
        """Name of the experiment; empty before ``run-started``."""
        federation = self._record.federation
        return names.experiment_name(self._prefix, federation) if federation else ""

    def recall(self, event: Event) -> None:
        """Take note of an event that was written before."""
        if event.seq > self._folded:
            self._record.fold(event)
            self._folded = event.seq

    def handle(self, event: Event) -> Sequence[str]:
        """Write what follows from ``event``; what a failed call left over comes first."""
        if event.seq > self._folded:
            self._writes.extend(_in_batches(self._record.fold(event)))
            self._folded = event.seq
        while self._writes:
            write = self._writes[0]
            try:
                self._write(write)
            except (ClientError, BotoCoreError) as error:
                raise self._refused(write, str(error)) from error
            self._writes.popleft()
        said, self._said = self._said, []
        return said

    def close(self) -> None:
        """Close the connections."""
        self._api.close()
        self._metrics.close()

    def _write(self, write: Write) -> None:
        match write:
            case Note(sentence):
                self._said.append(sentence)
            case Measure():
                self._measure(write)
            case Open():
                self._open(write)
            case Update():
                self._api.update_trial_component(
                    TrialComponentName=self._component(write.participant), **_request(write.state)
                )

    def _open(self, write: Open) -> None:
        experiment = self.experiment
        federation = {"Key": "fedsm:federation", "Value": names.tag_value(self._record.federation)}
        trial = names.trial_name(experiment)
        if not self._grouped:
            tags = {"Tags": [federation]}
            _make(self._api.create_experiment, ExperimentName=experiment, **tags)
            _make(self._api.create_trial, TrialName=trial, ExperimentName=experiment, **tags)
            self._grouped = True
        who = write.participant
        component = self._component(who)
        made = _make(
            self._api.create_trial_component,
            TrialComponentName=component,
            DisplayName=names.run_name(self._record.run, who.role, who.site),
            Tags=[
                names.RUN_TAG,
                federation,
                {"Key": "fedsm:run", "Value": names.tag_value(self._record.run)},
                {"Key": "fedsm:role", "Value": who.role},
                {"Key": "fedsm:site", "Value": names.tag_value(who.site)},
            ],
            **_request(write.state),
        )
        if not made:
            self._api.update_trial_component(TrialComponentName=component, **_request(write.state))
        _make(self._api.associate_trial_component, TrialComponentName=component, TrialName=trial)
        surplus = len(write.state.parameters) - MAX_PARAMETERS
        if surplus > 0:
            self._said.append(
                f"{who.role} {who.site}: {surplus + 1} parameters are left out, "
                f"a run takes {MAX_PARAMETERS}"
            )

    def _measure(self, write: Measure) -> None:
        oldest = self._clock() - MAX_AGE
        answer = self._metrics.batch_put_metrics(
            TrialComponentName=self._component(write.participant),
            MetricData=[
                {
                    "MetricName": point.name,
                    "Timestamp": max(point.time, oldest),
                    "Step": point.step,
                    "Value": point.value,
                }
                for point in write.points
            ],
        )
        again: list[Point] = []
        for error in answer.get("Errors", []):
            point = write.points[error["MetricIndex"]]
            if error["Code"] in _TRANSIENT:
                again.append(point)
            else:
                who = write.participant
                self._said.append(
                    f"{who.role} {who.site}: SageMaker left out {point.name} of round "
                    f"{point.step}: {error['Code']}"
                )
        if again:
            left = replace(write, points=tuple(again))
            self._writes[0] = left
            raise self._refused(left, f"{len(again)} metrics were not stored for the moment")

    def _component(self, who: Participant) -> str:
        run = names.run_name(self._record.run, who.role, who.site)
        return names.component_name(self.experiment, run)

    def _refused(self, write: Write, why: str) -> TrackingError:
        what = type(write).__name__.lower()
        who = "" if isinstance(write, Note) else self._component(write.participant)
        return TrackingError(
            f"SageMaker refused to {what} {who}: {why}",
            where=f"experiment {self.experiment}",
            action="see that the coordinator's role may write this experiment, then replay the "
            "journal; the run is not affected",
        )


def _in_batches(writes: Sequence[Write]) -> Iterator[Write]:
    """Cut each `Measure` into calls."""
    for write in writes:
        if isinstance(write, Measure):
            for start in range(0, len(write.points), METRICS_A_CALL):
                yield replace(write, points=write.points[start : start + METRICS_A_CALL])
        else:
            yield write


def _make(create: Callable[..., Any], **request: Any) -> bool:
    """Whether ``create`` made something; false where it was there before."""
    try:
        create(**request)
    except ClientError as error:
        detail = error.response["Error"]
        if detail["Code"] in _EXISTS_CODES and any(s in detail["Message"] for s in _EXISTS):
            return False
        raise
    return True


def _request(state: State) -> dict[str, Any]:
    """A participant's state as CreateTrialComponent and UpdateTrialComponent take it."""
    request: dict[str, Any] = {
        "Parameters": _parameters(state.parameters),
        "Status": {"PrimaryStatus": state.status, "Message": _line(state.message, 1024)},
    }
    if state.artifacts:
        request["OutputArtifacts"] = {
            name: {"Value": _line(artifact.value, 2048), "MediaType": artifact.media_type}
            for name, artifact in state.artifacts.items()
        }
    if state.start:
        request["StartTime"] = state.start
    if state.end:
        request["EndTime"] = state.end
    return request


def _parameters(values: Mapping[str, float | int | str]) -> dict[str, dict[str, Any]]:
    kept = dict(values)
    if len(kept) > MAX_PARAMETERS:
        kept = dict(islice(kept.items(), MAX_PARAMETERS - 1))
        kept["parameters-left-out"] = len(values) - len(kept)
    return {
        _line(name, 320): {"StringValue": _line(value, 2500)}
        if isinstance(value, str)
        else {"NumberValue": float(value)}
        for name, value in kept.items()
    }


def _line(text: str, length: int) -> str:
    """One line of at most ``length`` characters: the API's patterns take no line feed."""
    line = " ".join(text.splitlines())
    return line if len(line) <= length else line[: length - 1] + "…"
