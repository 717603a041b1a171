from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, MetricRecord, RecordDict
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from fedsm.errors import WireError
from fedsm.transport.records import dump, load

integers = st.integers() | st.integers(-(2**70), 2**70)
floats = st.floats()
texts = st.text(st.characters(), max_size=20)
blobs = st.binary(max_size=20)
numbers = integers | floats | st.lists(integers, max_size=5) | st.lists(floats, max_size=5)
values = (
    numbers
    | texts
    | blobs
    | st.booleans()
    | st.lists(texts, max_size=5)
    | st.lists(blobs, max_size=5)
    | st.lists(st.booleans(), max_size=5)
)
arrays = npst.arrays(
    st.sampled_from(["<f4", "<f8", ">f8", "<i8", "|u1", "|b1", "<c16", "<U3"]),
    npst.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4),
)
record = (
    st.dictionaries(texts, numbers, max_size=5).map(MetricRecord)
    | st.dictionaries(texts, values, max_size=5).map(ConfigRecord)
    | st.dictionaries(texts, arrays.map(Array), max_size=4).map(ArrayRecord)
)


def round_trip(records: RecordDict) -> RecordDict:
    payload = dump(records)
    return load(json.loads(payload.content), payload.segments)


def exact(value: Any) -> Any:
    """A form whose equality tells types, signs of zero and NaN apart."""
    if isinstance(value, list):
        return [exact(item) for item in value]
    if isinstance(value, float):
        return ("float", "nan" if math.isnan(value) else value.hex())
    return (type(value).__name__, value)


@settings(max_examples=150, deadline=None)
@given(st.dictionaries(texts, record, max_size=4))
def test_records_come_back_with_their_types_and_order(content: dict[str, Any]) -> None:
    back = round_trip(RecordDict(content))
    assert list(back) == list(content)
    for key, sent in content.items():
        got = back[key]
        assert type(got) is type(sent)
        assert list(got) == list(sent)
        if isinstance(sent, ArrayRecord):
            assert dict(got) == dict(sent)
        else:
            assert exact(list(got.values())) == exact(list(sent.values()))


def test_numpy_floats_arrive_as_floats() -> None:
    back = round_trip(RecordDict({"m": MetricRecord({"auc": np.float64(0.5)})}))
    assert type(back["m"]["auc"]) is float


def test_segments_are_the_arrays_own_bytes() -> None:
    array = Array(np.arange(5.0))
    assert dump(RecordDict({"a": ArrayRecord({"x": array})})).segments[0] is array.data


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=12,
)
near_misses = st.lists(
    st.tuples(st.text(max_size=3), st.sampled_from(["A", "M", "C", "X"]), json_values).map(list)
)


@settings(max_examples=150, deadline=None)
@given(json_values | near_misses, st.lists(st.binary(max_size=200), max_size=3))
def test_other_content_gives_nothing_but_wire_errors(content: Any, segments: list[bytes]) -> None:
    try:
        load(content, segments)
    except WireError:
        return


def described(array: Array, **changes: Any) -> tuple[list[Any], bytes]:
    fields = {"dtype": array.dtype, "shape": list(array.shape), "stype": array.stype} | changes
    data = fields.pop("data", array.data)
    return [["r", "A", [["x", fields["dtype"], fields["shape"], fields["stype"]]]]], data


def altered(old: bytes, new: bytes) -> bytes:
    data = Array(np.zeros(5)).data
    assert old in data
    return data.replace(old, new.ljust(len(old)))


@pytest.mark.parametrize(
    "changes",
    [
        {"data": b""},
        {"data": b"\x93NUMPY"},
        {"data": altered(b"(5,)", b"(6,)")},
        {"data": altered(b"(5,), }   ", b"(9**9,), }")},
        {"data": altered(b"(5,), }     ", b"(99999999,)}")},
        {"data": altered(b"'<f8'", b"'|O' ")},
        {"data": altered(b"{'descr'", b"[[[[[[[[")},
        {"data": Array(np.zeros(5)).data + b"more"},
        {"data": altered(b"\x01\x00", b"\x02\x00")},
        {"dtype": "float32"},
        {"dtype": 7},
        {"shape": [6]},
        {"shape": [-5]},
        {"shape": [True]},
        {"shape": None},
        {"stype": 3},
    ],
)
def test_an_array_whose_data_is_not_what_it_declares_is_refused(changes: dict[str, Any]) -> None:
    content, data = described(Array(np.zeros(5)), **changes)
    with pytest.raises(WireError):
        load(content, [data])


def test_arrays_and_segments_must_agree_in_number() -> None:
    content, data = described(Array(np.zeros(5)))
    for segments in ([], [data, data]):
        with pytest.raises(WireError, match="more arrays"):
            load(content, segments)


def test_data_of_another_framework_is_carried_as_it_is() -> None:
    array = Array("bfloat16", (3,), "other.tensor", b"opaque")
    back = round_trip(RecordDict({"a": ArrayRecord({"x": array})}))
    assert back["a"]["x"] == array


def test_a_number_that_json_cannot_hold_is_an_error_of_the_wire() -> None:
    with pytest.raises(WireError, match="cannot be written"):
        dump(RecordDict({"c": ConfigRecord({"n": 10**5000})}))
