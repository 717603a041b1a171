"""The final evaluation as tables for people; docs/evaluation.md says what each number means."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from fedsm.report import number

Entry = Mapping[str, Any]

_SHOWN = 15
"""Coefficients and features in a table; the rest is in report.json."""


def evaluation_table(report: Entry) -> Table:
    """One row a site, then all sites' rows together, then the coordinator's own."""
    table = Table(
        title="Final evaluation on the sites' validation rows", title_justify="left", expand=False
    )
    rows = dict(report.get("sites", {}))
    tuned = any(entry.get("personalized") for entry in rows.values())
    columns = ["site", "n", "prevalence", "AUC", "AP", "Brier", "alone: AUC", "gap"]
    for column in columns + ["personal: AUC", "gap"] * tuned:
        table.add_column(column, justify="left" if column == "site" else "right", no_wrap=True)
    rows["pooled"] = report.get("pooled", {})
    if "server" in report:
        rows["test (server)"] = report["server"]
    for name, entry in rows.items():
        others = [entry.get("local_only") or {}]
        if tuned:
            others.append(entry.get("personalized") or {})
        table.add_row(
            Text(name + (" (worst)" if name == report.get("worst") else "")),
            number(entry.get("n")),
            number(entry.get("prevalence"), 3),
            interval(entry.get("auc")),
            number((entry.get("average_precision") or {}).get("value"), 3),
            number(entry.get("brier"), 3),
            *(text for other in others for text in _against(other)),
            end_section=[name] == list(report.get("sites", {}))[-1:],
        )
    return table


def _against(other: Entry) -> tuple[str, str]:
    """AUC of another model of the site, and what is gained over or by it."""
    auc = (other.get("auc") or {}).get("value")
    return number(auc, 3), interval(other.get("gap"), signed=True)


def remarks(report: Entry) -> Iterator[str]:
    """Lines on what the tables lack: undefined, suppressed and missing."""
    yield from report.get("notes", ())
    for site, entry in report.get("sites", {}).items():
        undefined = entry.get("undefined", {})
        by_reason: dict[str, list[str]] = {}
        for name, why in undefined.items():
            by_reason.setdefault(why, []).append(name.replace("_", " "))
        for why, names in by_reason.items():
            yield f"{site}: undefined: {', '.join(names)} ({why})"
        if suppressed := entry.get("suppressed"):
            yield f"{site}: counts of few rows are not told: {', '.join(suppressed)}"
        if withheld := entry.get("withheld"):
            yield f"{site}: withheld by its owner's terms: {', '.join(withheld)}"
    for site, why in report.get("missing", {}).items():
        yield f"{site}: no report: {why}"
    for name, sites in (report.get("pooled", {}).get("without") or {}).items():
        yield f"pooled {name} is without {', '.join(sites)}"


def summary(report: Entry) -> RenderableType:
    """What ``fedsm train`` ends with."""
    return Group(evaluation_table(report), *_undefined(report))


def full(report: Entry) -> RenderableType:
    """What ``fedsm report`` prints."""
    parts: list[RenderableType] = [evaluation_table(report)]
    for name, title in (("pooled", "all sites"), ("server", "the coordinator's test rows")):
        entry = report.get(name, {})
        if "classification_report" in entry:
            about = ", approximate" if entry.get("confusion_from") == "scores" else ""
            parts.append(_classification(entry, f"Classes, {title}{about}"))
    if any("calibration" in entry for entry in report.get("sites", {}).values()):
        parts.append(_calibration(report))
    parts += [_groups(name, group) for name, group in report.get("groups", {}).items()]
    if rows := report.get("coefficients"):
        parts.append(_ranked("Coefficients", "input", "value", rows))
    if rows := report.get("importance"):
        parts.append(
            _ranked("Permutation importance, mean of the sites", "feature", "auc_drop", rows)
        )
    return Group(*parts, *(Text(line) for line in remarks(report)))


def interval(estimate: Entry | None, *, signed: bool = False) -> str:
    """``0.912 [0.870, 0.942]``; a dash where undefined."""
    if not estimate or estimate.get("value") is None:
        return "-"
    form = "+.3f" if signed else ".3f"
    value = f"{estimate['value']:{form}}"
    if estimate.get("low") is None:
        return value
    return f"{value} [{estimate['low']:{form}}, {estimate['high']:{form}}]"


def _undefined(report: Entry) -> Iterator[Text]:
    counts = report.get("undefined", {})
    if counts:
        told = ", ".join(f"{name.replace('_', ' ')} at {n}" for name, n in counts.items())
        yield Text(f"Undefined, by number of sites: {told}; why: fedsm report")
    for site, why in report.get("missing", {}).items():
        yield Text(f"{site}: no report: {why}")
    for note in report.get("notes", ()):
        yield Text(note)


def _classification(entry: Entry, title: str) -> Table:
    table = Table(title=title, title_justify="left")
    confusion = entry["confusion"]
    table.add_column("class")
    for column in ("precision", "recall", "F1", "rows", *(f"said {i}" for i in _labels(entry))):
        table.add_column(column, justify="right")
    for at, label in enumerate(_labels(entry)):
        row = entry["classification_report"][label]
        table.add_row(
            label,
            *(number(row[key], 3) for key in ("precision", "recall", "f1-score")),
            f"{row['support']:.0f}",
            *(str(count) for count in confusion[at]),
        )
    return table


def _labels(entry: Entry) -> list[str]:
    return list(entry["classification_report"])[: len(entry["confusion"])]


def _calibration(report: Entry) -> Table:
    table = Table(
        title="Calibration (perfect: slope 1, intercept 0, error 0)", title_justify="left"
    )
    table.add_column("site")
    for column in ("slope", "intercept", "error"):
        table.add_column(column, justify="right")
    for name, entry in {**report["sites"], "pooled": report.get("pooled", {})}.items():
        found = entry.get("calibration") or {}
        table.add_row(name, *(number(found.get(key), 3) for key in ("slope", "intercept", "error")))
    return table


def _groups(name: str, found: Entry) -> RenderableType:
    table = Table(title=f"By {name}", title_justify="left")
    table.add_column(name)
    rates = ("selection_rate", "true_positive_rate", "false_positive_rate", "accuracy")
    for column in ("n", *(rate.replace("_", " ") for rate in rates)):
        table.add_column(column, justify="right")
    fairness = found.get("fairness", {})
    for label, group in found["groups"].items():
        own = fairness.get("groups", {}).get(label, {})
        table.add_row(label, str(group["n"]), *(number(own.get(rate), 3) for rate in rates))
    lines = [
        f"{key.replace('_', ' ')}: {number(fairness.get(key), 3)}"
        for key in ("demographic_parity_difference", "equalized_odds_difference")
        if fairness
    ]
    lines += [found["how"]] if "how" in found else []
    lines += [
        f"{site}: {why if isinstance(why, str) else f'{why} groups of few rows are not told'}"
        for site, why in found["suppressed"].items()
    ]
    lines += [
        f"{site}: {n} groups are told by their rows alone, for a cell of few"
        for site, n in found["matrices_untold"].items()
    ]
    return Group(table, *(Text(line) for line in lines))


def _ranked(title: str, name: str, value: str, rows: list[Entry]) -> Table:
    if len(rows) > _SHOWN:
        title += f" ({_SHOWN} of {len(rows)})"
    table = Table(title=title, title_justify="left")
    table.add_column(name)
    table.add_column(value.replace("_", " "), justify="right")
    for row in rows[:_SHOWN]:
        table.add_row(Text(str(row[name])), f"{row[value]:+.4f}")
    return table
