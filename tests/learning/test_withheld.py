"""Replies with gaps, as their sites' owners ordered, still aggregate."""

from __future__ import annotations

import math
from typing import Any

from flwr.app import MetricRecord, RecordDict

from fedsm.learning.metrics import aggregate_metrics
from fedsm.learning.withheld import fill
from fedsm.transport.notes import Withheld, restore

FULL: dict[str, Any] = {"num-examples": 10, "loss": 1.0, "by-class": [0.5, 0.25]}


def replies(**sites: dict[str, Any]) -> dict[str, RecordDict]:
    return {site: RecordDict({"metrics": MetricRecord(m)}) for site, m in sites.items()}


def filled(
    told: dict[str, Withheld], **sites: dict[str, Any]
) -> tuple[dict[str, dict[str, Any]], dict[str, list[str]]]:
    given = replies(**sites)
    for site, note in told.items():
        given[site]["fedsm.withheld"] = note.record()
        restore(given[site])
        del given[site]["fedsm.withheld"]
    held = fill(given, told)
    return {site: dict(record["metrics"]) for site, record in given.items()}, held


def same(one: Any, other: Any) -> bool:
    return repr(one) == repr(other)


def test_what_a_site_names_becomes_nan_of_the_usual_length() -> None:
    told = {"b": Withheld(names=("by-class",), undefined=("loss",))}
    found, held = filled(told, a=FULL, b={"num-examples": 5})
    assert same(found["b"], {"num-examples": 5, "by-class": [math.nan] * 2, "loss": math.nan})
    assert held == {"b": ["by-class"]}  # what is undefined was not held back
    average = aggregate_metrics(list(replies(**found).values()), "num-examples")
    assert dict(average) == {"num-examples": 15, "loss": 1.0, "by-class": [0.5, 0.25]}


def test_what_a_site_may_not_name_is_made_up_for_by_what_the_others_have() -> None:
    found, held = filled({"b": Withheld(others=2)}, a=FULL, b={"num-examples": 5, "loss": 2.0})
    assert same(found["b"], {"num-examples": 5, "loss": 2.0, "by-class": [math.nan] * 2})
    assert held == {"b": ["by-class", "1 unnamed"]}


def test_one_sites_odd_metric_does_not_spread_over_those_that_withhold() -> None:
    found, held = filled(
        {"d": Withheld(others=1)},
        a={**FULL, "odd": 1.0},
        b=FULL,
        c=FULL,
        d=FULL,
    )
    assert "odd" not in found["d"]
    assert held == {"d": ["1 unnamed"]}


def test_one_sites_lengths_do_not_count_against_the_others() -> None:
    found, _ = filled(
        {"d": Withheld(names=("loss",))},
        a={**FULL, "loss": [1.0] * 1000},
        b=FULL,
        c=FULL,
        d={k: v for k, v in FULL.items() if k != "loss"},
    )
    assert same(found["d"]["loss"], math.nan)


def test_a_metric_that_nobody_releases_is_nowhere_but_named() -> None:
    note = Withheld(names=("loss",), parts=("arrays",))
    found, held = filled({"a": note, "b": note}, a={"num-examples": 1}, b={"num-examples": 2})
    assert all(same(metrics["loss"], math.nan) for metrics in found.values())
    assert held == {"a": ["loss", "arrays"], "b": ["loss", "arrays"]}


def test_a_weight_of_nothing_is_kept() -> None:
    told = {"b": Withheld(names=("num-examples", "loss"))}
    found, held = filled(told, a=FULL, b={"num-examples": 0})
    assert found["b"]["num-examples"] == 0
    assert held["b"] == ["num-examples", "loss"]


def test_those_that_say_nothing_are_left_as_they_are() -> None:
    given = replies(a=FULL, b={"num-examples": 5})
    assert fill(given, {"a": Withheld(), "c": Withheld(others=1)}) == {}
    assert dict(given["b"]["metrics"]) == {"num-examples": 5}
