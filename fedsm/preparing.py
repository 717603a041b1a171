"""The federation's statistics, asked of the sites before round 1."""

from __future__ import annotations

from collections.abc import Callable

from fedsm.config import Prepare
from fedsm.errors import FedsmError
from fedsm.events import Journal
from fedsm.exchange import Exchange
from fedsm.learning.metrics import WEIGHT
from fedsm.learning.preparation import Summary, combine, usable


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
    """
    answers, withheld = exchange.query("statistics", live(), {})
    replies, faults = usable(answers)
    for site, found in faults.items():
        exchange.fault(0, "query.statistics", site, found)
    if len(replies) < min_sites:
        raise too_few(0, "query.statistics", len(replies))
    summary = combine(replies)
    exchange.rows = {
        site: int(reply.metric_records["metrics"][WEIGHT])  # type: ignore[arg-type]
        for site, reply in replies.items()
    }
    journal.append(
        "preparation",
        sites=sorted(replies),
        examples=summary.rows,
        statistics=["count", "sum", "sum of squares", "rows", "rows per class"],
        withheld=withheld,
    )
    return summary
