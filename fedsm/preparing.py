"""The federation's statistics, asked of the sites before round 1."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np

from fedsm.errors import DataError, FedsmError
from fedsm.events import Journal
from fedsm.exchange import Exchange
from fedsm.learning.preparation import Summary, categories, combine, histograms, usable
from fedsm.learning.preparation.moments import present
from fedsm.metric_names import WEIGHT
from fedsm.training_config import Prepare

T = TypeVar("T")

Reply = Any


def prepare(
    exchange: Exchange,
    journal: Journal,
    live: Callable[[], list[int]],
    settings: Prepare,
    *,
    min_sites: int,
    too_few: Callable[[int, str, int], FedsmError],
) -> Summary:
    """Ask for statistics, combine them, and journal what left the sites.

    Raises
    ------
    QuorumLost
        Fewer than ``min_sites`` gave usable answers; what ``too_few`` makes.
    DataError
        The sites' answers do not make a federation.
    ConfigError
        The rows cannot be prepared as ``settings`` say.
    """
    asking = _Asking(exchange, live, settings, min_sites, too_few)
    replies = asking.ask("statistics", {}, usable)
    summary = replace(combine(replies), scaling=settings.scale)
    exchange.rows = {
        site: int(reply.metric_records["metrics"][WEIGHT])  # type: ignore[arg-type]
        for site, reply in replies.items()
    }
    left = ["count", "sum", "sum of squares", "rows", "rows per class"]
    if summary.categories:
        texts = _reader(categories.read, summary.categories)
        found = asking.ask("categories", {}, lambda r: _few_enough(*texts(r), min_sites))
        summary = categories.merge(summary, found)
        left.append("categories")
    quantile = settings.scale == "quantile"
    median = settings.impute == "median" and not summary.sparse  # where nothing is missing
    if summary.features and (quantile or median):
        question = histograms.question(summary, settings.bins)
        shape = len(summary.features), settings.bins
        read = _reader(histograms.read, shape)
        counts = asking.ask("histograms", question, lambda r: _as_declared(*read(r), replies))
        summary = histograms.merge(
            summary, counts, bins=settings.bins, quantile=quantile, median=median
        )
        left.append("histogram counts")
    if not summary.inputs:
        raise DataError(
            "no feature is left: there are no numbers, and no category of enough rows",
            where="training.prepare.smallest",
            action="add features, or let categories of fewer rows leave the sites",
        )
    journal.append(
        "preparation",
        sites=sorted(replies),
        examples=summary.rows,
        queries=asking.queries,
        statistics=left,
        smallest=settings.smallest,
        withheld=asking.withheld,
    )
    return summary


class _Asking:
    """Queries, each of which as many sites must answer as make a federation.

    Whose first answer cannot be used is not asked again.
    """

    def __init__(
        self,
        exchange: Exchange,
        live: Callable[[], list[int]],
        settings: Prepare,
        min_sites: int,
        too_few: Callable[[int, str, int], FedsmError],
    ) -> None:
        self._exchange = exchange
        self._live = live
        self._smallest = settings.smallest
        self._min_sites = min_sites
        self._too_few = too_few
        self._usable: frozenset[str] | None = None
        self.queries: list[str] = []
        self.withheld: dict[str, list[str]] = {}

    def ask(
        self,
        action: str,
        config: Mapping[str, Any],
        sort: Callable[[dict[str, Reply]], tuple[dict[str, T], dict[str, str]]],
    ) -> dict[str, T]:
        """Site to usable answer; the others' faults are journaled."""
        asked = {**config, "smallest": self._smallest}
        self.queries.append(f"query.{action}")
        nodes = self._live()
        if self._usable is not None:
            nodes = self._exchange.among(self._usable, nodes)
        answers, withheld = self._exchange.query(action, nodes, asked)
        for site, names in withheld.items():
            self.withheld.setdefault(site, []).extend(names)
        found, faults = sort(answers)
        for site, fault in faults.items():
            self._exchange.fault(0, f"query.{action}", site, fault)
        if len(found) < self._min_sites:
            raise self._too_few(0, f"query.{action}", len(found))
        if self._usable is None:
            self._usable = frozenset(found)
        return found


def _reader(
    read: Callable[[Reply, Any], T | None], expected: object
) -> Callable[[dict[str, Reply]], tuple[dict[str, T], dict[str, str]]]:
    """Part answers that can be read from those that cannot."""

    def sort(answers: dict[str, Reply]) -> tuple[dict[str, T], dict[str, str]]:
        found: dict[str, T] = {}
        for site, reply in answers.items():
            if (value := read(reply, expected)) is not None:
                found[site] = value
        fault = "its answer is not of the form that was asked for"
        return found, {site: fault for site in answers if site not in found}

    return sort


def _few_enough(
    found: dict[str, categories.Vocabulary], faults: dict[str, str], min_sites: int
) -> tuple[dict[str, categories.Vocabulary], dict[str, str]]:
    """Leave out sites by whose categories alone a column has too many."""
    odd = categories.excess(found, min_sites)
    return {site: told for site, told in found.items() if site not in odd}, faults | odd


def _as_declared(
    found: dict[str, histograms.Counts], faults: dict[str, str], replies: Mapping[str, Reply]
) -> tuple[dict[str, histograms.Counts], dict[str, str]]:
    """Leave out histograms of other numbers of values than the site's statistics told."""
    kept: dict[str, histograms.Counts] = {}
    for site, counts in found.items():
        told, total = present(replies[site]), counts.sum(axis=1)
        if np.any((told > 0) & (total > 0) & (told != total)):
            faults[site] = "its histograms count other values than its statistics"
        else:
            kept[site] = counts
    return kept, faults
