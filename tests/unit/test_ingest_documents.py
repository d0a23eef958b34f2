"""Documents become typed values, frames become exact integers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, strategies
from hypothesis import settings as hypothesis_settings

from quietbeam.core import codec
from quietbeam.core.errors import DocumentError
from quietbeam.core.model.not_measured import NO_DATA_CODE
from quietbeam.ingest.documents.model import (
    Datums,
    Descriptor,
    Event,
    EventPage,
    Start,
    Stop,
    StreamDatum,
)
from quietbeam.ingest.documents.parse import decode
from quietbeam.ingest.frames.values import exact_counts, exact_i0, exact_live_time

EVENT = {"descriptor": "d", "seq_num": 1, "data": {"a": 1}}
DATUM = {
    "stream_resource": "r",
    "descriptor": "d",
    "indices": {"start": 0, "stop": 5},
    "seq_nums": {"start": 3, "stop": 8},
}


def test_the_documents_that_matter_decode() -> None:
    start = decode("start", codec.pack({"uid": "r", "time": 5, "shape": [1, 2]}))
    assert isinstance(start, Start) and start.time == 5.0 and start.doc["shape"] == [1, 2]
    descriptor = decode(
        "descriptor",
        codec.pack(
            {
                "uid": "d",
                "run_start": "r",
                "name": "fly",
                "data_keys": {"a": {}},
                "configuration": {"xs": {"data": {"names": ["x"]}}, "odd": 3},
            }
        ),
    )
    assert isinstance(descriptor, Descriptor)
    assert (descriptor.stream, descriptor.configuration) == ("fly", {"names": ["x"]})
    assert decode("event", codec.pack(EVENT)) == Event(descriptor="d", seq_num=1, data={"a": 1})
    assert decode("stream_datum", codec.pack(DATUM)) == StreamDatum(
        resource="r", descriptor="d", first=0, stop=5, seq_num=3
    )
    assert decode(
        "datum", codec.pack({"resource": "r", "datum_id": "r/0", "datum_kwargs": {"column": "i0"}})
    ) == Datums(resource="r", parameters={"r/0": {"column": "i0"}})
    page = decode("event_page", codec.pack({"descriptor": "d", "seq_num": [1, 2], "data": {"a": np.array([5, 6])}}))
    assert isinstance(page, EventPage)
    assert [(e.seq_num, int(e.data["a"])) for e in page.events()] == [(1, 5), (2, 6)]


@pytest.mark.parametrize(
    ("name", "change", "words"),
    [
        ("event", {"seq_num": 0}, "seq_num"),
        ("event", {"seq_num": "1"}, "seq_num"),
        ("event", {"seq_num": 1.5}, "seq_num"),
        ("event", {"seq_num": True}, "seq_num"),
        ("event", {"descriptor": 3}, "'descriptor' is int"),
        ("event", {"descriptor": ""}, "characters"),
        ("event", {"data": None}, "'data'"),
        ("stream_datum", {"seq_nums": {"start": 3, "stop": 9}}, "do not fit"),
        ("stream_datum", {"indices": {"start": -1, "stop": 5}}, "indices.start"),
        ("stream_datum", {"indices": {"start": 5, "stop": 0}}, "indices.stop"),
        ("unheard_of", {}, "unknown document name"),
        ("bulk_events", {}, "event_page"),
    ],
)
def test_what_is_wrong_is_named(name: str, change: dict[str, Any], words: str) -> None:
    base = EVENT if name == "event" else DATUM
    with pytest.raises(DocumentError, match=words):
        decode(name, codec.pack(base | change))


def test_entries_that_nobody_reads_may_be_anything() -> None:
    page = decode("event_page", codec.pack({"descriptor": "d", "seq_num": [1, 2], "data": {"a": [[1, 2], [3]]}}))
    assert isinstance(page, EventPage) and [e.data["a"] for e in page.events()] == [[1, 2], [3]]
    stop = decode("stop", codec.pack({"run_start": "r", "reason": np.arange(3), "num_events": [1]}))
    assert isinstance(stop, Stop) and stop.reason == "" and stop.num_events == {}


ENTRIES = ["uid", "run_start", "descriptor", "data_key", "stream_resource", "uri", "seq_num", "data", "indices"]
ENTRIES += ["seq_nums", "data_keys", "configuration", "parameters", "time", "reason", "num_events", "name"]
ODD: list[Any] = [None, True, -1, 2**63, 1.5, float("nan"), "", b"y", [], [[1, 2], [3]], {}, {"a": [1]}, np.arange(3)]


@hypothesis_settings(max_examples=200, deadline=None, derandomize=True)
@given(
    strategies.sampled_from(["start", "descriptor", "event", "event_page", "stream_resource", "stream_datum", "stop"]),
    strategies.binary(max_size=60)
    | strategies.dictionaries(
        strategies.sampled_from([*ENTRIES, *ENTRIES[:4]]),
        strategies.just("u") | strategies.just({"start": 0, "stop": 2}) | strategies.sampled_from(ODD),
        min_size=4,
    ).map(codec.pack),
)
def test_any_bytes_decode_or_are_refused(name: str, payload: bytes) -> None:
    try:
        decode(name, payload)
    except DocumentError as error:
        assert str(error)


@pytest.mark.parametrize("dtype", ["u1", "u4", "i8", "u8", "f8", "f4"])
def test_integers_are_converted_exactly(dtype: str) -> None:
    values = np.array([[[0, 1, 200]], [[7, 8, 9]]], dtype)
    counts, good, problems = exact_counts(values, "counts")
    assert counts.dtype == np.uint32 and good.all() and not problems
    np.testing.assert_array_equal(counts, values)


def test_the_largest_count_is_kept_and_the_next_refused() -> None:
    counts, good, problems = exact_counts(np.array([[[2**32 - 2]], [[2**32 - 1]], [[2**32]]]), "counts")
    assert counts.ravel().tolist() == [2**32 - 2, 0, 0]
    assert good.tolist() == [True, False, False] and problems == {NO_DATA_CODE: 2}


def test_each_bad_frame_is_counted_by_reason() -> None:
    values = np.array([1.0, -1.0, np.nan, 0.5, np.inf, 3.0])[:, None, None]
    _, good, problems = exact_counts(values, "counts")
    assert good.tolist() == [True, False, False, False, False, True]
    assert problems == {
        "counts that are NaN or infinite": 2,
        "negative counts": 1,
        "counts that are not integers": 1,
    }


def test_a_dead_detector_does_not_mask_the_frame() -> None:
    live, good, problems = exact_live_time(np.array([[0.1, 0.0], [np.nan, -1.0]]))
    assert good.tolist() == [True, False] and problems == {"live times that are all zero": 1}
    np.testing.assert_allclose(live, [[0.1, 0], [0, 0]])


def test_frames_without_flux_cannot_be_normalised() -> None:
    _, good, _ = exact_i0(np.array([1.0, 0.0, np.nan, -2.0]))
    assert good.tolist() == [True, False, False, False]
