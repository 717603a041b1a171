"""A run told for an auditor, from journal and plan: who did what, and what left each site."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from fedsm.events import Event
from fedsm.transport.text import clean

_LONGEST = 200
"""Characters of a value in a table."""


class Summary:
    """Folds a journal; ``render`` tells it as Markdown.

    Attributes
    ----------
    run : str
    sites : dict of str to mapping
        Site to what ``run-started`` says of it.
    planned, model_sha256 : str
        Digests of the plan and of the final model; empty where the journal has none.
    told : tuple of str
        Sites that took the final model.
    totals : mapping of str to sequence of int
        Site to bytes sent and received in all.
    """

    def __init__(self) -> None:
        self.run = ""
        self.sites: dict[str, Mapping[str, Any]] = {}
        self.planned = ""
        self.model_sha256 = ""
        self.told: tuple[str, ...] = ()
        self.totals: Mapping[str, Any] = {}
        self._started: Mapping[str, Any] = {}
        self._times = ["", ""]
        self._head = ""
        self._lines = 0
        self._assumed: dict[tuple[str, str, str, str], list[str]] = {}
        self._executions: dict[str, Mapping[str, Any]] = {}
        self._jobs: dict[str, Mapping[str, Any]] = {}
        self._states: dict[str, Mapping[str, Any]] = {}
        self._preparation: Mapping[str, Any] = {}
        self._metrics: dict[tuple[str, str], dict[str, int]] = {}
        self._withheld: dict[str, dict[str, None]] = {}
        self._traffic: list[tuple[int, str, int, int]] = []
        self._errors: list[Mapping[str, Any]] = []
        self._refusals = 0
        self._calls: Mapping[str, Mapping[str, int]] = {}
        self._checkpoints = 0
        self._end: Mapping[str, Any] = {}

    def add(self, event: Event) -> None:
        """Take one event in."""
        self._times = [self._times[0] or event.time, event.time]
        self._head, self._lines = event.hash, event.seq + 1
        data = event.data
        match event.kind:
            case "run-started":
                self._started, self.run = data, str(data["run"])
                self.sites = {str(site["name"]): site for site in data["sites"]}
            case "role-assumed":
                key = (data["site"], data["role"], data["session"], data["source_identity"])
                self._assumed.setdefault(key, []).append(event.time)
            case "planned":
                self.planned = data["sha256"]
            case "execution-started":
                self._executions[data["site"]] = data
            case "job-created":
                self._jobs[data["site"]] = data
            case "job-status":
                self._states[data["site"]] = data
            case "preparation":
                self._preparation = data
                for site, names in data.get("withheld", {}).items():
                    self._withheld.setdefault(site, {}).update(dict.fromkeys(names))
            case "site-metrics":
                counts = self._metrics.setdefault((data["site"], data["phase"]), {})
                for name in data["metrics"]:
                    counts[name] = counts.get(name, 0) + (data["metrics"][name] is not None)
                held = self._withheld.setdefault(data["site"], {})
                held.update(dict.fromkeys(data.get("withheld", ())))
            case "site-report":
                counts = self._metrics.setdefault((data["site"], data["phase"]), {})
                counts.update(
                    {name: int(value is not None) for name, value in data["metrics"].items()}
                )
                held = self._withheld.setdefault(data["site"], {})
                held.update(dict.fromkeys(data.get("withheld", ())))
            case "site-error":
                self._errors.append(data)
            case "site-refused":
                self._refusals += 1
            case "checkpoint":
                self._checkpoints += 1
            case "round-ended":
                for site, (sent, received) in data.get("traffic", {}).items():
                    self._traffic.append((data["round"], site, sent, received))
            case "model":
                self.model_sha256 = data["model_sha256"]
            case "closing":
                self.told = tuple(data["sites"])
            case "traffic":
                self.totals = dict(data["sites"])
            case "calls":
                self._calls = data["calls"]
            case "run-ended":
                self._end = data

    def render(self, plan: Mapping[str, Any]) -> str:
        """The whole as Markdown; ``plan`` is the content of ``plan.json``."""
        parts = (
            self._heading(),
            self._identities(),
            self._what_ran(),
            self._parameters(plan),
            self._bytes(),
            self._what_left(),
            self._faults(),
            self._check(),
        )
        return "\n".join(line for part in parts for line in (*part, ""))

    def _heading(self) -> Iterator[str]:
        started, end = self._started, self._end
        server = started.get("coordinator", {})
        yield f"# Evidence of run {_cell(self.run)}"
        yield ""
        yield from _table(
            ("", ""),
            [
                ("federation", started.get("federation", "")),
                ("server", f"{server.get('account', '')} {server.get('region', '')}"),
                ("launch", started.get("mode", started.get("launch", ""))),
                ("from, to", " to ".join(self._times)),
                ("rounds planned", started.get("rounds", "")),
                ("strategy", started.get("strategy", "")),
                ("ended", f"{end.get('status', 'not over')} {end.get('reason', '')}"),
                ("model's SHA-256", self.model_sha256 or "no model"),
                ("model taken by", ", ".join(self.told) or "nobody"),
                ("checkpoints", self._checkpoints),
                ("journal", f"{self._lines} lines, the last of hash {self._head}"),
            ],
        )

    def _identities(self) -> Iterator[str]:
        yield "## Who assumed what"
        yield ""
        yield from _table(
            ("where", "role", "session", "source identity", "first", "times"),
            [(*key, times[0], len(times)) for key, times in self._assumed.items()],
        )
        yield ""
        yield "Calls of the coordinator, by place:"
        yield ""
        yield from _table(
            ("where", "call", "times"),
            [(where, call, n) for where, calls in self._calls.items() for call, n in calls.items()],
        )

    def _what_ran(self) -> Iterator[str]:
        yield "## What ran where"
        for name, site in self.sites.items():
            job, state = self._jobs.get(name, {}), self._states.get(name, {})
            execution = self._executions.get(name, {}).get("execution", "")
            yield ""
            yield f"### {_cell(name)}"
            yield ""
            yield from _table(
                ("", ""),
                [
                    ("account", f"{site.get('account', '')} {site.get('region', '')}"),
                    ("pipeline", site.get("pipeline") or "none: the server created the job"),
                    *([("execution", execution)] if execution else []),
                    ("job", job.get("arn") or job.get("job") or "none"),
                    ("job's role", site.get("execution_role", "")),
                    ("bundle's SHA-256", site.get("bundle", "")),
                    ("approved", _approved(site)),
                    ("ended", f"{state.get('status', 'unknown')} {state.get('reason', '')}"),
                ],
            )

    def _parameters(self, plan: Mapping[str, Any]) -> Iterator[str]:
        yield "## What was passed"
        yield ""
        if self.planned:
            yield f"The whole of it is `plan.json`, SHA-256 {self.planned}."
            yield ""
        rows: list[tuple[Any, ...]] = []
        for step in plan.get("steps", ()):
            site, request = step["site"], step["request"]
            given = {p["Name"]: p["Value"] for p in request.get("PipelineParameters", ())}
            image = request.get("AlgorithmSpecification", {}).get("TrainingImage")
            given |= {"image": image} if image else {}
            given |= request.get("HyperParameters", {}) | request.get("Environment", {})
            rows += [(site, name, value) for name, value in given.items()]
        yield from _table(("site", "parameter", "value"), rows)

    def _bytes(self) -> Iterator[str]:
        sums: dict[str, list[int]] = {site: [0, 0] for site in self.totals}
        for _, site, sent, received in self._traffic:
            own = sums.setdefault(site, [0, 0])
            own[0], own[1] = own[0] + sent, own[1] + received
        rows: list[tuple[Any, ...]] = [
            (number, site, received, sent) for number, site, sent, received in self._traffic
        ]
        for site, (sent, received) in self.totals.items():
            rows.append(("other", site, received - sums[site][1], sent - sums[site][0]))
            rows.append(("in all", site, received, sent))
        yield "## Bytes"
        yield ""
        yield (
            "Of messages inside TLS after the handshake, counted by the coordinator. What came "
            "before round 1 counts as round 1; the closing message is among the other."
        )
        yield ""
        yield from _table(("round", "site", "out of the site", "into the site"), rows)

    def _what_left(self) -> Iterator[str]:
        yield "## Statistics that left"
        yield ""
        prepared = self._preparation
        if prepared:
            names, sites = ", ".join(prepared["statistics"]), ", ".join(prepared["sites"])
            yield f"Before round 1, per column: {_cell(names)}; of {_cell(sites)}."
            yield ""
        yield "In each round of `train` the model's parameters leave as well: a model can give away"
        yield "rows that it was trained on, and no filter of fedsm looks into it."
        yield ""
        yield from _table(
            ("site", "phase", "metrics, with the number of rounds"),
            [
                (site, phase, ", ".join(f"{name} ({n})" for name, n in counts.items() if n))
                for (site, phase), counts in self._metrics.items()
            ],
        )
        yield ""
        yield "Withheld by the owners' terms:"
        yield ""
        yield from _table(
            ("site", "what"),
            [(site, ", ".join(names)) for site, names in self._withheld.items() if names],
        )

    def _faults(self) -> Iterator[str]:
        yield "## Errors that sites answered"
        yield ""
        yield from _table(
            ("round", "phase", "site", "error"),
            [(e["round"], e["phase"], e["site"], e["error"]) for e in self._errors],
        )
        if self._refusals:
            yield ""
            yield f"Connections that were refused: {self._refusals}."

    def _check(self) -> Iterator[str]:
        yield "## How to check this"
        yield ""
        yield "Take `model.tar.gz` of each site from its owner's bucket:"
        yield ""
        heads = " ".join(f"--head {_cell(site)}={_cell(site)}.tar.gz" for site in self.sites)
        yield f"    fedsm evidence verify PACK {heads}"


def _approved(site: Mapping[str, Any]) -> str:
    if "pipeline" not in site:
        return "not asked for: trusted server mode"
    until = site.get("bundle_until")
    return f"until {until}" if until else "until it is taken back"


def _table(head: Iterable[str], rows: Iterable[Iterable[Any]]) -> Iterator[str]:
    rows = list(rows)
    if not rows:
        yield "None."
        return
    names = list(head)
    yield f"| {' | '.join(names)} |"
    yield f"|{'---|' * len(names)}"
    for row in rows:
        yield f"| {' | '.join(_cell(value) for value in row)} |"


def _cell(value: Any) -> str:
    """A value as text that Markdown shows as it is, on one line."""
    text = clean(value, _LONGEST).strip()
    for sign in "\\`*_[]<>|":
        text = text.replace(sign, f"\\{sign}")
    return text
