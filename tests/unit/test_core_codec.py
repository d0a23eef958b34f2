"""The wire form of documents."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgpack
import msgpack_numpy
import numpy as np
import pytest
from hypothesis import given, strategies
from hypothesis import settings as hypothesis_settings
from hypothesis.extra import numpy as numpy_strategies

from quietbeam.core import codec
from quietbeam.core.errors import DocumentError

plain = strategies.recursive(
    strategies.none() | strategies.booleans() | strategies.integers(-(2**63), 2**63) | strategies.text(),
    lambda inner: strategies.lists(inner) | strategies.dictionaries(strategies.text(), inner),
    max_leaves=20,
)


@hypothesis_settings(max_examples=50, deadline=None, derandomize=True)
@given(plain)
def test_plain_values_come_back(value: Any) -> None:
    if isinstance(value, dict) and "__nd__" in value:
        return
    assert codec.unpack(codec.pack(value)) == value


dtypes = strategies.sampled_from(["<u4", ">i2", "|u1", "|b1", "<f8", "<f4", "<i8"])


@hypothesis_settings(max_examples=50, deadline=None, derandomize=True)
@given(numpy_strategies.arrays(dtypes, numpy_strategies.array_shapes(min_dims=0, min_side=0)))
def test_arrays_come_back(array: np.ndarray[Any, Any]) -> None:
    back = codec.unpack(codec.pack({"a": array}))["a"]
    assert back.dtype == array.dtype and back.shape == array.shape
    np.testing.assert_array_equal(back, array)


def test_numpy_scalars_sets_and_text_arrays_become_plain() -> None:
    value = {"a": np.float32(1.5), "b": {2, 1}, "c": np.array(["x", "y"])}
    assert codec.unpack(codec.pack(value)) == {"a": 1.5, "b": [1, 2], "c": ["x", "y"]}


@pytest.mark.parametrize("value", [Path("/x"), object(), np.array([object()]), 1j])
def test_values_without_wire_form_are_refused(value: Any) -> None:
    with pytest.raises(DocumentError, match="wire"):
        codec.pack({"a": value})


@pytest.mark.parametrize(
    "array",
    [
        ["|O", [1], b"x"],
        ["<f8", [2], b"12345678"],
        ["<f8", [-1], b""],
        ["<f8", [10**12], b""],
        ["<f8", [0] * 9, b""],
        ["<M8[s]", [1], b"12345678"],
        [["<f8"], [1], b"12345678"],
        ["<f8", "x", b""],
        [7],
    ],
)
def test_arrays_that_lie_are_refused(array: list[Any]) -> None:
    payload = msgpack.packb({"a": {"__nd__": array[:2], "b": array[-1]}})
    with pytest.raises(DocumentError):
        codec.unpack(payload)


@hypothesis_settings(max_examples=50, deadline=None, derandomize=True)
@given(numpy_strategies.arrays(dtypes, numpy_strategies.array_shapes(min_dims=0, min_side=0)))
def test_arrays_of_msgpack_numpy_come_back(array: np.ndarray[Any, Any]) -> None:
    back = codec.unpack(msgpack.packb({"a": array}, default=msgpack_numpy.encode))["a"]
    assert back.dtype == array.dtype and back.shape == array.shape
    np.testing.assert_array_equal(back, array)


def test_scalars_and_text_of_msgpack_numpy_become_plain() -> None:
    value = {"a": np.float32(1.5), "b": np.bool_(True), "c": np.array(["x", "yz"]), "d": np.int64(-3)}
    back = codec.unpack(msgpack.packb(value, default=msgpack_numpy.encode))
    assert back == {"a": 1.5, "b": True, "c": ["x", "yz"], "d": -3}
    assert [type(one) for one in back.values()] == [float, bool, list, int]


@pytest.mark.parametrize(
    "array",
    [
        {b"nd": True, b"type": "|O", b"kind": b"O", b"shape": [1], b"data": b"cos\nsystem\n(S'false'\ntR."},
        {b"nd": True, b"type": [["a", "<f8"]], b"kind": b"V", b"shape": [1], b"data": b"12345678"},
        {b"nd": True, b"type": "<f8", b"kind": b"", b"shape": [10**12], b"data": b""},
        {b"nd": True, b"type": "<U0", b"kind": b"", b"shape": [10**12], b"data": b""},
        {b"nd": True, b"type": "<f8", b"data": "text"},
        {b"nd": False, b"type": "<f8", b"data": b"1"},
        {b"nd": False, b"type": "<f8"},
    ],
)
def test_arrays_of_msgpack_numpy_are_never_unpickled(array: dict[bytes, Any]) -> None:
    with pytest.raises(DocumentError):
        codec.unpack(msgpack.packb({"a": array}))


@pytest.mark.parametrize(
    "payload", [b"", b"\xc1", b"\x81", b"\xdd\xff\xff\xff\xff", b"\x81\xa1a" * 100_000, b"\x01\x02"]
)
def test_broken_bytes_are_refused(payload: bytes) -> None:
    with pytest.raises(DocumentError):
        codec.unpack(payload)


def test_large_documents_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(codec, "MAX_DOCUMENT_BYTES", 10)
    with pytest.raises(DocumentError, match="refused"):
        codec.unpack(b"x" * 11)
