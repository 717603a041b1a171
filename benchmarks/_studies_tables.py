"""Tables of the studies as Markdown, and their places in docs/studies.md.

A place is what stands between ``<!-- NAME -->`` and ``<!-- /NAME -->``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks._studies_plots import plot_gains

Document = Mapping[str, Any]

PLOTTED = ("ROC curves and calibration", "What each site gains")


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _number(value: Any, form: str = ".3f") -> str:
    return "" if value is None else format(value, form)


def _interval(row: Mapping[str, Any], name: str, form: str = ".3f") -> str:
    low, high = row[f"{name}_low"], row[f"{name}_high"]
    return "" if low is None else f" ({low:{form}} to {high:{form}})"


def results(rows: Sequence[Mapping[str, Any]]) -> str:
    """One study's variants."""
    head = ("variant", "sites", "preparation", "AUC (95 %)", "to pooled (95 %)", "accuracy")
    body = [
        (
            row["variant"],
            row["sites"] or "",
            row["preparation"],
            _number(row["auc"]) + _interval(row, "auc"),
            _number(row["difference_to_pooled"], "+.4f") + _interval(row, "difference", "+.4f"),
            _number(row["accuracy"]),
            _number(row["rounds"], "d"),
            _number(row["max_abs_coef_diff"], ".0e"),
            _number(row["splits"], "d"),
        )
        for row in rows
    ]
    return _table((*head, "rounds", "coefficients off by", "splits"), body)


def gains(rows: Sequence[Mapping[str, Any]]) -> str:
    """What each site gains."""
    head = (
        *("sites", "site", "its own AUC", "exact", "gain", "personalised", "gain (95 %)"),
        "splits undefined",
    )
    at = {(row["sites"], row["site"], row["variant"]): row for row in rows}
    body = []
    for sites, site in dict.fromkeys((row["sites"], row["site"]) for row in rows):
        joint, own = at[sites, site, "exact"], at[sites, site, "personalized"]
        body.append(
            (
                sites,
                site,
                _number(joint["auc_local_only"]),
                _number(joint["auc"]),
                _number(joint["difference_to_local_only"], "+.3f"),
                _number(own["auc"]),
                _number(own["difference_to_local_only"], "+.3f")
                + _interval(own, "difference", "+.3f"),
                f"{own['undefined']} of {own['undefined'] + own['splits']}",
            )
        )
    return _table(head, body)


def preparation(measured: Mapping[str, Any]) -> str:
    """Seconds and memory of the eICU preparation."""
    head = ("patients", "hourly records", "seconds", "peak MB", "pandas' seconds", "times faster")
    sizes = [measured["tenth"], measured] if "tenth" in measured else [measured]
    return _table(
        head,
        [
            (
                f"{size['patients']:,}",
                f"{size['rows']:,}",
                _number(size["seconds"], ".1f"),
                _number(size["peak_mb"], ",.0f"),
                _number(size["pandas_seconds"], ".1f"),
                _number(size["times_faster_than_pandas"], ".2f"),
            )
            for size in sizes
        ],
    )


def coefficients(rows: Sequence[Mapping[str, Any]]) -> str:
    """The exact strategy beside scikit-learn over the pooled rows."""
    head = ("rows", "coefficients", "C", "rounds", "coefficients off by")
    return _table(
        head,
        [
            (
                row["study"],
                _number(row["coefficients"], "d"),
                f"{row['c']:g}",
                _number(row["rounds"], "d"),
                _number(row["max_abs_coef_diff"], ".0e"),
            )
            for row in rows
        ],
    )


def gaps(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rounds of the exact strategy over wide rows."""
    names = list(rows[0]["rounds_to_gap"])
    head = ("C", *(f"rounds to {name}" for name in names), "MB a round", "MB once")
    return _table(
        head,
        [
            (
                f"{row['c']:g}",
                *(_number(row["rounds_to_gap"][name], "d") or "-" for name in names),
                _number(row["mb_a_round"], ".2f"),
                _number(row["mb_one_off"], ".1f"),
            )
            for row in rows
        ],
    )


def sites(rows: Sequence[Mapping[str, Any]]) -> str:
    """Simulated sites beside Flower's own."""
    head = ("sites", "s a round", "peak MB", "MB for the sites", "Flower's s a round", "and MB")
    body = []
    for row in rows:
        own = row["flower"] if isinstance(row["flower"], Mapping) else {}
        body.append(
            (
                f"{row['sites']:,}",
                _number(row["seconds_per_round"]),
                _number(row["peak_mb"], ",.0f"),
                _number(row["mb_for_sites"], ".1f"),
                _number(own.get("seconds_per_round")) or "could not run",
                _number(own.get("peak_mb"), ",.0f"),
            )
        )
    return _table(head, body)


def figures(rows: Sequence[Mapping[str, Any]]) -> str:
    """What must be reached."""
    body = [
        (row["what"], _number(row["value"], ".4g"), row["bound"], "yes" if row["met"] else "**no**")
        for row in rows
    ]
    return _table(("figure", "found", "bound", "met"), body)


def places(document: Document) -> dict[str, str]:
    """Place to its text, for all that the document has."""
    found: dict[str, str] = {}
    for study in dict.fromkeys(row["study"] for row in document["rows"]):
        found[study] = results([row for row in document["rows"] if row["study"] == study])
    for study in dict.fromkeys(row["study"] for row in document["gains"]):
        found[f"{study}-gain"] = gains([row for row in document["gains"] if row["study"] == study])
    for name, make in (
        ("eicu_preparation", preparation),
        ("exact_gaps", gaps),
        ("exact_coefficients", coefficients),
        ("simulated_sites", sites),
        ("figures", figures),
    ):
        if document.get(name):
            found[name] = make(document[name])
    return found


def as_text(document: Document) -> str:
    """All tables, one after the other."""
    return "\n\n".join(f"{name}\n\n{text}" for name, text in places(document).items())


def write_tables(document: Document, page: Path) -> None:
    """Put the tables into their places, each with the plot of its name; draws the gains."""
    plot_gains(document["gains"], page.parent)
    text = page.read_text(encoding="utf-8")
    for name, table in places(document).items():
        plot = Path("studies") / f"{name}.svg"
        if (page.parent / plot).is_file():
            table += f"\n\n![{PLOTTED['-gain' in name]}]({plot})"
        place = re.compile(f"(<!-- {name} -->\n).*?(<!-- /{name} -->)", re.DOTALL)
        text, count = place.subn(lambda m, t=table: f"{m[1]}{t}\n{m[2]}", text)  # type: ignore[misc]
        if count != 1:
            raise SystemExit(f"{page} has no place for {name}")
    page.write_text(text, encoding="utf-8")
