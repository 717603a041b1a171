"""What the coordinator looks at in a site's reply before it is aggregated."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any

from flwr.app import Array, ArrayRecord, Message, MetricRecord

from fedsm.learning import trees

MAX_METRICS = 256
MAX_LIST = 1000
MAX_NAME = 128
MAX_WEIGHT = 2**53
"""Bounds of what one reply may make the journal, the trackers and the average carry."""

MAX_MAGNITUDE = 1e30
"""No parameter is larger; sums of such values over sites and rounds do not overflow."""

_NAME = re.compile(r"(?!/)(?!.*\.\.)[\w./:\[\]-]{1,128}", re.ASCII)


def fault(
    reply: Message,
    reference: ArrayRecord | trees.Growth | None,
    weighted_by: str,
    needed: Sequence[str] = (),
) -> str | None:
    """Say what keeps a reply from being aggregated.

    Parameters
    ----------
    reply : Message
        A site's answer to a train or an evaluate message.
    reference : ArrayRecord, Growth or None
        For an answer to train: the global arrays, or trees that may grow. None for one to evaluate.
    weighted_by : str
        Key of the weight: positive for train, at least 0 for evaluate.
    needed : sequence of str
        Metrics that the strategy reads, which must be finite; see ``strategies.needed_metrics``.

    Returns
    -------
    str or None
        One sentence without the full stop, that holds no value from the reply but names and shapes;
        None where nothing is wrong.
    """
    if reply.has_error():
        return reply.error.reason or "the site answered with an error"
    if not reply.has_content():
        return "the reply is empty"
    content = reply.content
    if reference is not None:
        if len(content.array_records) != 1:
            return f"the reply holds {len(content.array_records)} array records instead of one"
        found = _array_fault(next(iter(content.array_records.values())), reference)
        if found:
            return found
    if len(content.metric_records) != 1:
        return f"the reply holds {len(content.metric_records)} metric records instead of one"
    metrics = next(iter(content.metric_records.values()))
    found = _metrics_fault(metrics)
    if found:
        return found
    if weighted_by not in metrics:
        return f"the metrics lack {weighted_by!r}"
    for name in (weighted_by, *needed):
        value = metrics.get(name)
        if not isinstance(value, int | float) or not math.isfinite(value):
            return f"metric {name!r} is not a finite number"
    weight = metrics[weighted_by]
    assert isinstance(weight, int | float)  # noqa: S101
    if weight < 0 or (weight == 0 and reference is not None):
        return f"metric {weighted_by!r} is {'negative' if weight < 0 else 'zero'}"
    if weight > MAX_WEIGHT:
        return f"metric {weighted_by!r} is larger than any number of rows"
    return None


def metrics_of(reply: Message) -> dict[str, Any]:
    """All metrics of a reply by name."""
    return {
        name: value
        for record in reply.content.metric_records.values()
        for name, value in record.items()
    }


def shape_of(reply: Message) -> tuple[Any, ...]:
    """What must be alike in all replies for Flower to aggregate them: names and kinds."""
    content = reply.content
    return (
        tuple(content.array_records),
        tuple(
            (record, frozenset((name, _length(value)) for name, value in metrics.items()))
            for record, metrics in content.metric_records.items()
        ),
    )


def initial_fault(arrays: ArrayRecord) -> str | None:
    """Say what keeps a site's arrays from being everybody's first; None where nothing is wrong."""
    if not len(arrays):
        return "there is no array"
    if not all(_NAME.fullmatch(name) for name in arrays):
        return "an array's name is not of letters, digits and . _ : / - [ ]"
    return values_fault(arrays)


def values_fault(arrays: ArrayRecord) -> str | None:
    """Say which array holds something else than usable real numbers; None where none does."""
    for name, array in arrays.items():
        found = _values_fault(name, array, tuple(array.shape), array.dtype)
        if found:
            return found
    return None


def _metrics_fault(metrics: MetricRecord) -> str | None:
    if len(metrics) > MAX_METRICS:
        return f"there are {len(metrics)} metrics, {MAX_METRICS} at most are taken"
    for name, value in metrics.items():
        if len(name) > MAX_NAME or not name.isprintable():
            return f"a metric's name is not printable text of at most {MAX_NAME} characters"
        values = value if isinstance(value, list) else [value]
        if len(values) > MAX_LIST:
            return f"metric {name!r} has {len(values)} values, {MAX_LIST} at most are taken"
        if any(isinstance(v, int) and abs(v) > MAX_WEIGHT for v in values):
            return f"metric {name!r} holds an integer beyond 2**53"
    return None


def _length(value: Any) -> int | None:
    return len(value) if isinstance(value, list) else None


def _array_fault(arrays: ArrayRecord, reference: ArrayRecord | trees.Growth) -> str | None:
    if isinstance(reference, trees.Growth):
        return trees.fault(arrays, reference)
    if list(arrays) != list(reference):
        missing, extra = set(reference) - set(arrays), set(arrays) - set(reference)
        if missing:
            return f"array {min(missing)!r} is missing"
        if extra:
            return f"array {min(extra)!r} is not among the global ones"
        return "the arrays are in another order than the global ones"
    for name, array in arrays.items():
        wanted = reference[name]
        if tuple(array.shape) != tuple(wanted.shape):
            return f"array {name!r} has shape {tuple(array.shape)}, not {tuple(wanted.shape)}"
        if array.dtype != wanted.dtype:
            return f"array {name!r} is of type {array.dtype}, not {wanted.dtype}"
        found = _values_fault(name, array, tuple(wanted.shape), wanted.dtype)
        if found:
            return found
    return None


def _values_fault(name: str, array: Array, shape: tuple[int, ...], dtype: str) -> str | None:
    try:
        values = array.numpy()
    except (ValueError, EOFError, TypeError):
        return f"array {name!r} cannot be decoded"
    if values.shape != shape or str(values.dtype) != dtype:
        return f"array {name!r} does not hold what its header says"
    if values.dtype.kind not in "fiub":
        return f"array {name!r} does not hold real numbers"
    # One pass each and no temporary array: NaN makes both comparisons false.
    if values.dtype.kind == "f" and not (
        values.min(initial=0.0) >= -MAX_MAGNITUDE and values.max(initial=0.0) <= MAX_MAGNITUDE
    ):
        return f"array {name!r} holds NaN, infinite or absurdly large values"
    return None
