"""Flower's RecordDict as a :class:`~fedsm.transport.wire.Payload` and back, without pickles.

The content is ``[[key, kind, value], ...]``: kind ``A`` (arrays: ``[name, dtype, shape, stype]``,
one segment each), ``M`` (metrics) or ``C`` (configuration). Integers, floats (NaN and infinities
too), strings, booleans and lists of them are JSON as Python reads and writes it; bytes are
``{"b": base64}``.
"""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from collections.abc import Sequence
from functools import lru_cache
from io import BytesIO
from math import prod
from typing import Any

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, MetricRecord, RecordDict

from fedsm.errors import WireError
from fedsm.transport.wire import Limits, Payload

_NUMPY = "numpy.ndarray"
_MAX_HEADER = 10_000
_MAX_DIMENSIONS = 64
"""As of NumPy."""


def dump(records: RecordDict) -> Payload:
    """Encode records; the arrays' bytes are referred to, not copied.

    Raises
    ------
    WireError
        A value cannot be written, such as an integer of thousands of digits.
    """
    content: list[list[Any]] = []
    segments: list[bytes] = []
    for key, record in records.items():
        if isinstance(record, ArrayRecord):
            described = [[n, a.dtype, list(a.shape), a.stype] for n, a in record.items()]
            segments += [a.data for a in record.values()]
            content.append([key, "A", described])
        else:
            kind = "M" if isinstance(record, MetricRecord) else "C"
            content.append([key, kind, {name: _plain(value) for name, value in record.items()}])
    try:
        return Payload(json.dumps(content, separators=(",", ":")).encode(), tuple(segments))
    except (ValueError, TypeError) as error:
        # Its text may hold what was to be written, and goes out of the job.
        raise WireError(f"a record cannot be written ({type(error).__name__})") from error


def load(content: Any, segments: Sequence[bytes]) -> RecordDict:
    """Rebuild records from decoded JSON and segments.

    Raises
    ------
    WireError
        The content is not of the form above, or an array's data is not what its header declares.
    """
    records = RecordDict()
    rest = iter(segments)
    try:
        for key, kind, value in content:
            if kind == "A":
                records[key] = _arrays(value, rest)
            elif kind == "M":
                records[key] = MetricRecord({n: _value(v) for n, v in value.items()})
            elif kind == "C":
                records[key] = ConfigRecord({n: _value(v) for n, v in value.items()})
            else:
                raise WireError("a record of unknown kind arrived")
    except (TypeError, ValueError, AttributeError) as error:
        raise WireError("a message's content is not a set of records") from error
    if next(rest, None) is not None:
        raise WireError("a message has more arrays than it describes")
    return records


def check_amount(content: Any, limits: Limits) -> None:
    """Refuse a reply's content before the work that :func:`load` would make of it.

    Raises
    ------
    WireError
        It has more records, values or items in lists than the limits say.
    """
    try:
        plain = [value for _, kind, value in content if kind != "A"]
        values = len(content) + sum(map(len, plain))
        if values > limits.max_values:
            raise WireError(
                f"{values:,} records and values arrived, at most {limits.max_values:,} may"
            )
        lists = (v for record in plain for v in record.values() if isinstance(v, list))
        items = sum(map(len, lists))
    except (TypeError, ValueError, AttributeError) as error:
        raise WireError("a message's content is not a set of records") from error
    if items > limits.max_items:
        raise WireError(f"lists of {items:,} items arrived, at most {limits.max_items:,} may")


def _arrays(described: Any, segments: Any) -> ArrayRecord:
    record = ArrayRecord()
    for name, dtype, shape, stype in described:
        data = next(segments, None)
        if data is None:
            raise WireError("a message describes more arrays than it has")
        if len(shape) > _MAX_DIMENSIONS:
            raise WireError(f"an array of {len(shape):,} dimensions arrived")
        if not all(type(n) is int and n >= 0 for n in shape):
            raise WireError("an array's shape is not a list of sizes")
        if stype == _NUMPY:
            _check_numpy(data, dtype, tuple(shape))
        record[name] = Array(dtype, tuple(shape), stype, data)
    return record


def _check_numpy(data: bytes, dtype: str, shape: tuple[int, ...]) -> None:
    """Refuse a ``.npy`` whose header would make a reader allocate other than what arrived.

    Flower's own bridge to its older API leaves dtype and shape empty: then the header alone counts.
    """
    start = 10 + int.from_bytes(data[8:10], "little")
    if data[:8] != b"\x93NUMPY\x01\x00" or start > min(len(data), _MAX_HEADER):
        raise WireError("an array's data is not a version 1 .npy")
    actual, actual_shape, itemsize = _header(data[:start])
    if dtype and (dtype, shape) != (actual, actual_shape):
        raise WireError("an array's data is of another type or shape than declared")
    if start + itemsize * prod(actual_shape) != len(data):
        raise WireError("an array's data is not as long as its header says")


@lru_cache(maxsize=1024)
def _header(raw: bytes) -> tuple[str, tuple[int, ...], int]:
    stream = BytesIO(raw)
    np.lib.format.read_magic(stream)
    try:
        shape, _, dtype = np.lib.format.read_array_header_1_0(stream)
    except Exception as error:  # the header is evaluated as a literal: any fault of syntax
        raise WireError("an array's .npy header cannot be read") from error
    if dtype.hasobject or any(n < 0 for n in shape):
        raise WireError("an array holds Python objects, which are never read")
    return str(dtype), shape, dtype.itemsize


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return {"b": b64encode(value).decode()}
    if isinstance(value, list):
        return [_plain(item) for item in value] if value and isinstance(value[0], bytes) else value
    return value


def _value(value: Any) -> Any:
    if isinstance(value, dict):
        if set(value) != {"b"}:
            raise WireError("a value of unknown kind arrived")
        return b64decode(value["b"], validate=True)
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return [_value(item) for item in value]
    return value
