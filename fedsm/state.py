"""A run's state, folded from its journal: what status, history and the report show."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from fedsm.events import Event

_OVER = ("Completed", "Failed", "Stopped")


@dataclass(slots=True)
class SiteState:
    """One site in one run.

    Attributes
    ----------
    job, planned_job
        Name of its job once created, and the name that it was to get in the direct launch.
    bundle
        Digest of the bundle that it runs.
    pipeline, execution, asked
        ARNs of the approved pipeline and of its execution, and whether AWS was asked to start it.
    output
        S3 prefix of its output.
    seconds
        Billable time of the job.
    withheld
        What its owner's terms held back, by name.
    trained, failed
        Last round in which it trained, and in which it answered with an error; 0 for none.
    """

    name: str
    account: str = ""
    region: str = ""
    role: str = ""
    external_id: str = ""
    planned_job: str = ""
    job: str = ""
    bundle: str = ""
    pipeline: str = ""
    execution: str = ""
    asked: bool = False
    output: str = ""
    status: str = "Planned"
    secondary: str = ""
    reason: str = ""
    seconds: int = 0
    joined: bool = False
    artifacts: str = ""
    errors: list[str] = field(default_factory=list)
    withheld: list[str] = field(default_factory=list)
    trained: int = 0
    failed: int = 0

    @property
    def ended(self) -> bool:
        """Whether its job is over."""
        return self.status in _OVER

    @property
    def ended_well(self) -> bool:
        """Whether its job completed and it trained to the end without an error."""
        return self.status == "Completed" and self.trained > self.failed


@dataclass(slots=True)
class RoundState:
    """One finished round: averages over the sites, the coordinator's test rows, each site."""

    number: int
    seconds: float
    train: Mapping[str, Any]
    evaluate: Mapping[str, Any]
    server: Mapping[str, Any]
    sites: dict[str, dict[str, Any]]


@dataclass(frozen=True, slots=True)
class ServerState:
    """The server account of a run, and the role that the coordinator worked from."""

    account: str = ""
    region: str = ""
    role: str = ""


@dataclass(slots=True)
class RunState:
    """A whole run.

    ``best`` says which round's model is the run's, where ``training.best`` chose one: ``round``, 0
    where the metric was never defined; ``metric``, ``of``, ``value``; ``undefined``, the rounds in
    which it was not defined; ``early``, whether the run ended before its rounds. ``report`` is the
    final evaluation, empty where there is none.
    """

    run: str = ""
    federation: str = ""
    cloud: str = ""
    isolation: str = ""
    launch: str = ""
    coordinator: ServerState = ServerState()
    status: str = "Planned"
    reason: str = ""
    rounds_planned: int = 0
    current_round: int = 0
    model: str = ""
    model_sha256: str = ""
    best: Mapping[str, Any] = field(default_factory=dict)
    report: Mapping[str, Any] = field(default_factory=dict)
    experiment: str = ""
    sites: dict[str, SiteState] = field(default_factory=dict)
    rounds: list[RoundState] = field(default_factory=list)
    calls: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    _metrics: dict[int, dict[str, dict[str, Any]]] = field(default_factory=dict)

    @property
    def ended(self) -> bool:
        """Whether the run is over."""
        return self.status in _OVER

    def last_metrics(self, site: str) -> Mapping[str, Mapping[str, Any]]:
        """A site's metrics by phase, of the last round it took part in."""
        for rounds in (self._metrics.values(), (r.sites for r in reversed(self.rounds))):
            for sites in rounds:
                if site in sites:
                    return sites[site]
        return {}

    def apply(self, event: Event) -> None:
        """Take one event in."""
        handler = getattr(self, "_on_" + event.kind.replace("-", "_"), None)
        if handler is not None:
            handler(event.data)

    def as_data(self) -> dict[str, Any]:
        """The document that ``--json`` prints."""
        return {
            "run_id": self.run,
            "status": self.status,
            "reason": self.reason,
            "sites": [
                {
                    "name": s.name,
                    "account": s.account,
                    "job": s.job,
                    "status": s.status,
                    "seconds": s.seconds,
                    **({"reason": s.reason} if s.reason else {}),
                    **({"errors": s.errors} if s.errors else {}),
                    **({"withheld": s.withheld} if s.withheld else {}),
                }
                for s in self.sites.values()
            ],
            "rounds": [
                {
                    "round": r.number,
                    "loss": _first(r, "loss"),
                    "auc": _first(r, "auc"),
                    "accuracy": _first(r, "accuracy"),
                    "seconds": round(r.seconds, 4),
                    "sites": r.sites,
                }
                for r in self.rounds
            ],
            "model": self.model,
            **({"best": dict(self.best)} if self.best else {}),
            "experiment": self.experiment,
            "isolation": self.isolation,
            "launch": self.launch,
            "calls": self.calls,
        }

    def _site(self, name: str) -> SiteState:
        return self.sites.setdefault(name, SiteState(name))

    def _on_run_started(self, data: Mapping[str, Any]) -> None:
        self.run, self.federation = data["run"], data["federation"]
        self.cloud, self.isolation = data["cloud"], data["isolation"]
        self.rounds_planned, self.status = data["rounds"], "Starting"
        self.experiment = data.get("experiment", "")
        self.launch = data.get("launch", "direct")
        self.coordinator = ServerState(**data.get("coordinator", {}))
        for site in data["sites"]:
            found = self._site(site["name"])
            found.account, found.region = site["account"], site.get("region", "")
            found.role, found.external_id = site.get("role", ""), site.get("external_id", "")
            found.planned_job, found.pipeline = site.get("job", ""), site.get("pipeline", "")
            found.bundle, found.output = site.get("bundle", ""), site.get("output", "")

    def _on_call(self, data: Mapping[str, Any]) -> None:
        if data["action"] == "sagemaker:StartPipelineExecution":
            self._site(data["site"]).asked = True

    def _on_execution_started(self, data: Mapping[str, Any]) -> None:
        site = self._site(data["site"])
        site.execution, site.status = data["execution"], "InProgress"

    def _on_job_created(self, data: Mapping[str, Any]) -> None:
        site = self._site(data["site"])
        site.job, site.status = data["job"], "InProgress"

    def _on_job_status(self, data: Mapping[str, Any]) -> None:
        site = self._site(data["site"])
        site.status, site.secondary = data["status"], data["secondary"]
        site.reason, site.seconds = data["reason"], data["seconds"]
        site.artifacts = data.get("artifacts", "")

    def _on_site_joined(self, data: Mapping[str, Any]) -> None:
        self._site(data["site"]).joined = True

    def _on_site_lost(self, data: Mapping[str, Any]) -> None:
        self._site(data["site"]).joined = False

    def _on_preparation(self, data: Mapping[str, Any]) -> None:
        for site, names in data.get("withheld", {}).items():
            self._withheld(site, names)

    def _withheld(self, site: str, names: Iterable[str]) -> None:
        known = self._site(site).withheld
        known += [name for name in names if name not in known]

    def _on_round_started(self, data: Mapping[str, Any]) -> None:
        self.status, self.current_round = "Training", data["round"]

    def _on_site_metrics(self, data: Mapping[str, Any]) -> None:
        site = self._metrics.setdefault(data["round"], {}).setdefault(data["site"], {})
        site[data["phase"]] = data["metrics"]
        if data["phase"] == "train":
            self._site(data["site"]).trained = data["round"]
        self._withheld(data["site"], data.get("withheld", ()))

    def _on_site_error(self, data: Mapping[str, Any]) -> None:
        site = self._site(data["site"])
        site.errors.append(f"round {data['round']}, {data['phase']}: {data['error']}")
        site.failed = data["round"]

    def _on_round_ended(self, data: Mapping[str, Any]) -> None:
        self.rounds.append(
            RoundState(
                number=data["round"],
                seconds=data["seconds"],
                train=data["train"],
                evaluate=data["evaluate"],
                server=data["server"],
                sites=self._metrics.pop(data["round"], {}),
            )
        )

    def _on_report(self, data: Mapping[str, Any]) -> None:
        self.report = data["report"]

    def _on_site_report(self, data: Mapping[str, Any]) -> None:
        self._withheld(data["site"], data.get("withheld", ()))

    def _on_best_round(self, data: Mapping[str, Any]) -> None:
        self.best = data

    def _on_calls(self, data: Mapping[str, Any]) -> None:
        self.calls = data["calls"]

    def _on_run_ended(self, data: Mapping[str, Any]) -> None:
        self.status, self.reason = data["status"], data["reason"]
        self.model, self.model_sha256 = data["model"], data["model_sha256"]


def fold(events: Iterable[Event]) -> RunState:
    """State after all ``events``."""
    state = RunState()
    for event in events:
        state.apply(event)
    return state


def _first(row: RoundState, name: str) -> Any:
    """A metric on the coordinator's test rows, or else averaged over the sites."""
    return row.server.get(name, row.evaluate.get(name))
