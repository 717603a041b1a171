"""What to write about a run, worked out from its journal alone: no call is made here.

`Record.fold` takes one event in and returns the writes that follow from it. The state it keeps, and
with it every later write, depends only on the events seen, so a tracker that starts in the middle
folds the earlier events first and drops their writes.

A round's metrics are held back until the round ends and then written together; parameters and
status are written whole each time, because a tracking service may replace what it held.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from fedsm.events import Event
from fedsm.tracking.names import CLIENT, SERVER
from fedsm.tracking.vocabulary import (
    EXAMPLES,
    NOT_FINITE,
    REPORT,
    ROUND,
    TEST,
    TRAINING,
    VALIDATION,
    hyperparameters,
    measured,
    metric_name,
    number_or_reason,
    parameter,
)
from fedsm.tracking.writes import (
    SERVER_SIDE,
    Artifact,
    Measure,
    Note,
    Open,
    Participant,
    Point,
    State,
    Update,
    Write,
)

Parameters = dict[str, float | int | str]

TERMINAL = ("Completed", "Failed", "Stopped")
_GROUP = {"train": TRAINING, "evaluate": VALIDATION}
_DATA_SIZE = {"train": "train-data-size", "evaluate": "validation-data-size"}
_LEFT_OUT = "metrics-left-out"
_WITHHELD = "withheld under the owner's terms"


@dataclass(slots=True)
class _Sheet:
    """A participant's state while the run goes on."""

    parameters: Parameters = field(default_factory=dict)
    hyperparameters: Parameters = field(default_factory=dict)
    artifacts: dict[str, Artifact] = field(default_factory=dict)
    status: str = "InProgress"
    message: str = ""
    start: datetime | None = None
    end: datetime | None = None
    opened: bool = False
    changed: bool = False
    points: dict[tuple[int, str], Point] = field(default_factory=dict)
    left_out: dict[tuple[str, str], int] = field(default_factory=dict)

    def set(self, **values: Any) -> None:
        """Set parameters by their names in snake_case; empty values are left out."""
        for name, value in values.items():
            if value not in ("", None):
                self.put(name.replace("_", "-"), parameter(value))

    def put(self, name: str, value: float | int | str) -> None:
        if self.parameters.get(name) != value:
            self.parameters[name] = value
            self.changed = True

    def end_as(self, status: str, message: str, time: datetime) -> None:
        self.status, self.message, self.end, self.changed = status, message, time, True

    def state(self) -> State:
        # A hyperparameter never hides what the run says of itself: it gives way and is prefixed.
        own = {
            f"hyperparameter.{name}" if name in self.parameters else name: value
            for name, value in self.hyperparameters.items()
        }
        return State(
            self.parameters | own,
            dict(self.artifacts),
            self.status,
            self.message,
            self.start,
            self.end,
        )


class Record:
    """One run, folded from its events.

    Attributes
    ----------
    run, federation : str
        Empty until ``run-started`` is seen.
    """

    def __init__(self) -> None:
        self.run = ""
        self.federation = ""
        self._sheets: dict[Participant, _Sheet] = {}
        self._notes: list[Note] = []
        self._withheld: set[tuple[Participant, str]] = set()
        # Each takes an event in and says whether it is time to write.
        self._kinds: dict[str, Callable[[Mapping[str, Any], datetime], bool]] = {
            "run-started": self._run_started,
            "job-created": self._job_created,
            "site-joined": self._site_joined,
            "preparation": self._preparation,
            "round-started": self._round_started,
            "site-metrics": self._site_metrics,
            "round-ended": self._round_ended,
            "report": self._report,
            "checkpoint": self._checkpoint,
            "job-status": self._job_status,
            "run-ended": self._run_ended,
        }

    def fold(self, event: Event) -> list[Write]:
        """Take in an event and return what has to be written because of it.

        Events before ``run-started`` (there is no run to write about) give nothing.
        """
        take = self._kinds.get(event.kind)
        if take is None or not (self.run or event.kind == "run-started"):
            return []
        time = datetime.fromisoformat(event.time)
        return self._settle() if take(event.data, time) else []

    def _run_started(self, data: Mapping[str, Any], time: datetime) -> bool:
        self.run, self.federation = data["run"], data["federation"]
        own = hyperparameters(data["hyperparameters"])
        options = {f"strategy.{name}": parameter(v) for name, v in data["options"].items()}
        sites = [site if isinstance(site, Mapping) else {"name": site} for site in data["sites"]]
        for rank, site in enumerate([{"name": SERVER}, *sites]):
            participant = Participant(CLIENT, site["name"]) if rank else SERVER_SIDE
            sheet = self._sheet(participant)
            sheet.status, sheet.message, sheet.end = "InProgress", "", None
            sheet.start = sheet.start or time
            sheet.hyperparameters, sheet.changed = own | options, True
            sheet.set(
                run=self.run,
                federation=self.federation,
                role=participant.role,
                center=participant.site,
                rank=rank,
                rounds=data["rounds"],
                strategy=data["strategy"],
                model=data.get("model"),
                min_sites=data.get("min_sites"),
                sites=len(sites),
                cloud=data.get("cloud"),
                isolation=data.get("isolation"),
                bundle_sha256=site.get("bundle") or data.get("bundle"),
                account=site.get("account"),
                region=site.get("region"),
                instance_type=site.get("instance_type"),
                # Strategies aggregate numpy arrays.
                device=None if rank else "cpu",
            )
        return True

    def _job_created(self, data: Mapping[str, Any], time: datetime) -> bool:
        sheet = self._client(data["site"])
        sheet.set(account=data["account"], job=data["job"], job_arn=data["arn"])
        return False

    def _site_joined(self, data: Mapping[str, Any], time: datetime) -> bool:
        self._client(data["site"]).set(device=data["device"])
        return False

    def _preparation(self, data: Mapping[str, Any], time: datetime) -> bool:
        if isinstance(data["examples"], int):
            self._sheet(SERVER_SIDE).set(train_data_size=data["examples"])
        return False

    def _round_started(self, data: Mapping[str, Any], time: datetime) -> bool:
        return True

    def _site_metrics(self, data: Mapping[str, Any], time: datetime) -> bool:
        participant = Participant(CLIENT, data["site"])
        sheet, phase, step = self._sheet(participant), data["phase"], int(data["round"])
        size = data["metrics"].get(EXAMPLES)
        if isinstance(size, int | float):
            sheet.put(_DATA_SIZE[phase], size)
        for name in data.get("withheld", ()):
            # The average of what all sites withhold is no number either.
            for owner in (participant, SERVER_SIDE):
                self._withheld.add((owner, metric_name(_GROUP[phase], name)))
        self._measure(participant, _GROUP[phase], step, data["metrics"], time)
        self._add(participant, f"{_GROUP[phase]}:Seconds", step, data.get("seconds"), time)
        for owner in (participant, SERVER_SIDE):
            self._count(owner, f"{ROUND}:BytesSent", step, data.get("sent"), time)
            self._count(owner, f"{ROUND}:BytesReceived", step, data.get("received"), time)
        return False

    def _round_ended(self, data: Mapping[str, Any], time: datetime) -> bool:
        step = int(data["round"])
        if EXAMPLES in data["server"]:
            self._sheet(SERVER_SIDE).set(test_data_size=data["server"][EXAMPLES])
        for group, part in ((TRAINING, "train"), (VALIDATION, "evaluate"), (TEST, "server")):
            self._measure(SERVER_SIDE, group, step, data[part], time)
        self._add(SERVER_SIDE, f"{ROUND}:Seconds", step, data.get("seconds"), time)
        return True

    def _report(self, data: Mapping[str, Any], time: datetime) -> bool:
        report = data["report"]
        entries = {Participant(CLIENT, site): e for site, e in report.get("sites", {}).items()}
        if "pooled" in report:
            entries[SERVER_SIDE] = report["pooled"]
        for participant, entry in entries.items():
            found = {name: entry.get(name) for name in ("loss", "accuracy", "brier")}
            found |= {"auc": _value(entry, "auc")}
            found |= {"average-precision": _value(entry, "average_precision")}
            if alone := entry.get("local_only"):
                found |= {"local-auc": _value(alone, "auc"), "local-gap": _value(alone, "gap")}
            known = {name: value for name, value in found.items() if value is not None}
            self._measure(participant, REPORT, int(report["round"]), known, time)
        return True

    def _checkpoint(self, data: Mapping[str, Any], time: datetime) -> bool:
        # Seen with the next update of the state: a call a round for the path alone is not worth it.
        artifact = Artifact(data["path"], "application/octet-stream")
        self._sheet(SERVER_SIDE).artifacts["checkpoint"] = artifact
        return False

    def _job_status(self, data: Mapping[str, Any], time: datetime) -> bool:
        if data["status"] not in TERMINAL:
            return False
        sheet = self._client(data["site"])
        if data.get("artifacts"):
            sheet.artifacts["model"] = Artifact(data["artifacts"], "application/gzip")
        sheet.set(job_seconds=data.get("seconds"))
        sheet.end_as(data["status"], data.get("reason") or "", time)
        return True

    def _run_ended(self, data: Mapping[str, Any], time: datetime) -> bool:
        status, reason = data["status"], data.get("reason") or ""
        server = self._sheet(SERVER_SIDE)
        if data.get("model"):
            server.artifacts["model"] = Artifact(data["model"], "application/octet-stream")
            server.set(model_sha256=data.get("model_sha256"))
        server.end_as(status, reason, time)
        for participant, sheet in self._sheets.items():
            if participant != SERVER_SIDE and sheet.status not in TERMINAL:
                ended = "Completed" if status == "Completed" else "Stopped"
                sheet.end_as(ended, "the run ended before this site's job was seen to end", time)
        return True

    # Bookkeeping

    def _sheet(self, participant: Participant) -> _Sheet:
        return self._sheets.setdefault(participant, _Sheet())

    def _client(self, site: str) -> _Sheet:
        return self._sheet(Participant(CLIENT, site))

    def _measure(
        self, who: Participant, group: str, step: int, metrics: Mapping[str, Any], time: datetime
    ) -> None:
        for name, value in measured(group, metrics):
            self._add(who, name, step, value, time)

    def _add(self, who: Participant, name: str, step: int, value: Any, time: datetime) -> None:
        sheet = self._sheet(who)
        number = value if isinstance(value, str) else number_or_reason(value)
        if isinstance(number, float):
            sheet.points[step, name] = Point(name, step, number, time)
            return
        # Terms that hold something back are no fault to speak of in every run.
        withheld = number == NOT_FINITE and (who, name) in self._withheld
        reason = _WITHHELD if withheld else number
        if (name, reason) not in sheet.left_out:
            sheet.left_out[name, reason] = step
            if not withheld:
                said = f"{name} is {reason} in round {step} and is left out"
                self._notes.append(Note(f"{who.role} {who.site}: {said}"))

    def _count(self, who: Participant, name: str, step: int, value: Any, time: datetime) -> None:
        if isinstance(value, int | float):
            so_far = self._sheet(who).points.get((step, name))
            self._add(who, name, step, value + (so_far.value if so_far else 0), time)

    def _settle(self) -> list[Write]:
        writes: list[Write] = []
        for participant, sheet in self._sheets.items():
            if sheet.left_out:
                sheet.put(_LEFT_OUT, _summary(sheet.left_out))
            if sheet.changed or not sheet.opened:
                write = Update if sheet.opened else Open
                writes.append(write(participant, sheet.state()))
                sheet.opened, sheet.changed = True, False
            if sheet.points:
                points = tuple(point for _, point in sorted(sheet.points.items()))
                writes.append(Measure(participant, points))
                sheet.points.clear()
        writes += self._notes
        self._notes.clear()
        return writes


def _value(entry: Mapping[str, Any], name: str) -> Any:
    """A metric of an entry of the report that has an interval too."""
    return (entry.get(name) or {}).get("value")


def _summary(left_out: Mapping[tuple[str, str], int]) -> str:
    return "; ".join(
        f"{name}: {reason} (first in round {step})"
        for (name, reason), step in sorted(left_out.items())
    )
