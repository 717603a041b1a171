"""Replies from which their sites withheld metrics, made to fit together again.

Flower aggregates replies of the same metrics only. What a site held back is put in as NaN, which is
left out of every average.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace

from flwr.app import MetricRecord, RecordDict

from fedsm.transport.notes import Withheld


def fill(replies: Mapping[str, RecordDict], told: Mapping[str, Withheld]) -> dict[str, list[str]]:
    """Put NaN where a site withheld a metric; changes the replies.

    What a site names has one NaN already; it gets as many as the other sites have values. Where a
    site withheld something whose name may not leave either, what most of the others have is put in.

    Parameters
    ----------
    replies : mapping of str to RecordDict
        Site to its usable reply, of one metric record.
    told : mapping of str to Withheld
        Site to what it said of its reply.

    Returns
    -------
    dict of str to list of str
        Site to what its owner's terms held back, for people to read; sites that said nothing are
        absent.
    """
    metrics = {site: _metrics(reply) for site, reply in replies.items()}
    names = dict.fromkeys(name for record in metrics.values() for name in record)
    held: dict[str, list[str]] = {}
    for site, note in told.items():
        if not note or site not in metrics:
            continue
        own = metrics[site]
        for name in (*note.undefined, *note.names):
            if _is_nan(own.get(name)):
                own[name] = _nothing(name, metrics)
        filled = []
        for name in names if note.others else ():
            if name not in own and _usual(name, metrics, told):
                own[name] = _nothing(name, metrics)
                filled.append(name)
        names_held = (*note.names, *filled)
        rest = replace(note, names=names_held, others=max(0, note.others - len(filled)))
        if found := rest.told():
            held[site] = found
    return held


def _metrics(reply: RecordDict) -> MetricRecord:
    return next(record for record in reply.values() if isinstance(record, MetricRecord))


def _usual(name: str, metrics: Mapping[str, MetricRecord], told: Mapping[str, Withheld]) -> bool:
    """Whether more sites have a metric than lack it of their own accord."""
    have = sum(name in record for record in metrics.values())
    lack = sum(name not in r and not told.get(site) for site, r in metrics.items())
    return have > lack


def _is_nan(value: object) -> bool:
    return isinstance(value, float) and math.isnan(value)


def _nothing(name: str, metrics: Mapping[str, MetricRecord]) -> float | list[float]:
    """NaN, or as many of them as most sites have values."""
    lengths = Counter(
        len(value) if isinstance(value, list) else None
        for record in metrics.values()
        if (value := record.get(name)) is not None and not _is_nan(value)
    )
    length = lengths.most_common(1)[0][0] if lengths else None
    return math.nan if length is None else [math.nan] * length
