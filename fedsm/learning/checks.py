"""What the coordinator looks at in a site's reply before it is aggregated."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from flwr.app import ArrayRecord, Message


def fault(
    reply: Message,
    reference: ArrayRecord | None,
    weighted_by: str,
    needed: Sequence[str] = (),
) -> str | None:
    """Say what keeps a reply from being aggregated.

    Parameters
    ----------
    reply : Message
        A site's answer to a train or an evaluate message.
    reference : ArrayRecord or None
        The global arrays, for an answer to train; None for one to evaluate.
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
    return None


def _array_fault(arrays: ArrayRecord, reference: ArrayRecord) -> str | None:
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
        try:
            values = array.numpy()
        except (ValueError, EOFError, TypeError):
            return f"array {name!r} cannot be decoded"
        if values.shape != tuple(wanted.shape) or str(values.dtype) != wanted.dtype:
            return f"array {name!r} does not hold what its header says"
        if np.issubdtype(values.dtype, np.inexact) and not np.isfinite(values).all():
            return f"array {name!r} holds NaN or infinite values"
    return None
