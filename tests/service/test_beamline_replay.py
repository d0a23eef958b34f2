"""Replays: documents of a live scan out of a measured map."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest
from event_model import DocumentNames, schema_validators

from quietbeam.beamline.replay import replay_documents
from quietbeam.core import codec
from quietbeam.core.errors import InputError
from quietbeam.core.process.stop import StopRequest
from quietbeam.ingest.documents.playback import play
from quietbeam.spectra import LineMap, MapInfo

LINES = ("P_Ka", "Fe_Ka")


def measured(**info: Any) -> LineMap:
    rng = np.random.default_rng(0)
    live = rng.uniform(0.9, 1.0, (2, 4, 5))
    facts = {"live_time_s": live, "i0": rng.uniform(1, 2, (4, 5)), "dwell_s": 0.01} | info
    return LineMap(
        info=MapInfo(source="rock.npz", detectors=("det1", "det2"), shape=(4, 5), **facts),
        lines=LINES,
        counts=rng.poisson(5.0, (2, 2, 4, 5)).astype(np.uint32),
        measured=np.ones((4, 5), bool),
    )


def test_pixels_become_valid_events_with_the_same_counts() -> None:
    source = measured()
    documents = list(replay_documents(source, step_um=2.0))
    names = [name for name, _, _ in documents]
    assert names == ["start", "descriptor", *["event"] * 20, "stop"]
    counts = np.zeros_like(source.counts)
    for name, doc, seconds in documents:
        schema_validators[DocumentNames[name]].validate(doc)
        assert codec.unpack(codec.pack(doc))["uid"] == doc["uid"], "goes over the wire"
        if name == "event":
            assert seconds == 0.01
            row, col = divmod(doc["seq_num"] - 1, 5)
            counts[:, :, row, col] = [[doc["data"][f"xs_det{d}_{line}"] for line in LINES] for d in (1, 2)]
            assert doc["data"]["xs_det2_live_time_s"] == source.info.live_time_s[1, row, col]  # type: ignore[index]
    assert np.array_equal(counts, source.counts)
    start, stop = documents[0][1], documents[-1][1]
    assert start["beamline_id"] == "quietbeam-simulated" and start["shape"] == [4, 5]
    assert start["extents"] == [[0.0, 6.0], [0.0, 8.0]] and start["dwell_s"] == 0.01
    assert stop["exit_status"] == "success" and stop["num_events"] == {"primary": 20}


def test_rows_become_events_with_arrays() -> None:
    source = measured()
    events = [doc for name, doc, _ in replay_documents(source, grain="row") if name == "event"]
    assert len(events) == 4
    for row, doc in enumerate(events):
        assert np.array_equal(doc["data"]["xs_det2_Fe_Ka"], source.counts[1, 1, row])
        assert doc["data"]["i0"].shape == (5,)


def test_a_snake_sends_odd_rows_backwards() -> None:
    source = measured()
    events = [doc for name, doc, _ in replay_documents(source, snake=True) if name == "event"]
    assert [e["data"]["xs_det1_P_Ka"] for e in events[5:10]] == source.counts[0, 0, 1, ::-1].tolist()


def test_unmeasured_pixels_have_no_event_and_shift_nothing() -> None:
    from dataclasses import replace

    mask = np.ones((4, 5), bool)
    mask[0, 1] = mask[3, 4] = False
    source = replace(measured(), measured=mask)
    documents = list(replay_documents(source))
    numbers = [doc["seq_num"] for name, doc, _ in documents if name == "event"]
    assert numbers == [1, *range(3, 20)]
    for grain, snake in (("row", False), ("row", True)):
        with pytest.raises(InputError):
            list(replay_documents(source, grain=grain, snake=snake))  # type: ignore[arg-type]


def test_what_is_not_known_is_left_out() -> None:
    documents = list(replay_documents(measured(live_time_s=None, i0=None, dwell_s=None)))
    start, descriptor = documents[0][1], documents[1][1]
    assert "extents" not in start and "dwell_s" not in start
    assert set(descriptor["data_keys"]) == {f"xs_det{d}_{line}" for d in (1, 2) for line in LINES}


def test_the_pace_is_that_of_the_measurement() -> None:
    begin = time.monotonic()
    sent = play(replay_documents(measured()), lambda *_: None, speed=2.0, stop=StopRequest())
    assert time.monotonic() - begin >= 0.09
    assert sent == {"start": 1, "descriptor": 1, "event": 20, "stop": 1}
    begin = time.monotonic()
    play(replay_documents(measured(dwell_s=100.0)), lambda *_: None, speed=0, stop=StopRequest())
    assert time.monotonic() - begin < 30


def test_an_interrupted_replay_says_that_it_was_aborted() -> None:
    stop, documents = StopRequest(), []

    def publish(name: str, doc: Any) -> None:
        documents.append((name, doc))
        if name == "event" and doc["seq_num"] == 7:
            stop.set()

    play(replay_documents(measured(dwell_s=1000.0)), publish, speed=1e6, stop=stop)
    name, doc = documents[-1]
    schema_validators[DocumentNames[name]].validate(doc)
    assert name == "stop" and doc["exit_status"] == "abort" and doc["num_events"] == {"primary": 7}
    assert sum(name == "event" for name, _ in documents) == 7
