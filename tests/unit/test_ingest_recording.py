"""Recordings: what is written, how they are played."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from quietbeam.batch.source import read_source
from quietbeam.core import codec
from quietbeam.core.errors import InputError
from quietbeam.core.settings import Settings
from quietbeam.ingest.documents.playback import paced, renewed
from quietbeam.ingest.documents.recorder import Recorder
from quietbeam.ingest.documents.recording import SUFFIXES, read_recording
from quietbeam.ingest.profile.schema import shipped_profiles

RECORDINGS = Path(__file__).parents[1] / "fixtures" / "recordings"
Doc = tuple[str, dict[str, Any]]


def run(uid: str, counts: Any = 3) -> list[Doc]:
    return [
        ("start", {"uid": uid, "time": 100.0}),
        ("descriptor", {"uid": f"{uid}-d", "run_start": uid, "time": 101.0, "data_keys": {"xs": {}}}),
        ("event", {"uid": f"{uid}-e", "descriptor": f"{uid}-d", "time": 103.5, "data": {"xs": counts}}),
        ("resource", {"uid": f"{uid}-r", "run_start": uid}),
        ("datum", {"datum_id": f"{uid}-r/0", "resource": f"{uid}-r", "datum_kwargs": {}}),
        (
            "event_page",
            {"uid": [f"{uid}-f"], "descriptor": f"{uid}-d", "time": [104.0], "data": {"xs": [f"{uid}-r/0"]}},
        ),
        ("stop", {"uid": f"{uid}-s", "run_start": uid, "time": 105.0, "exit_status": "success"}),
    ]


def taken(recorder: Recorder, docs: list[Doc]) -> None:
    for name, doc in docs:
        recorder.record(name, codec.pack(doc))


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_what_was_recorded_is_read_back(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"run{suffix}"
    counts = np.arange(6, dtype=np.uint32).reshape(2, 3)
    recorder = Recorder(path)
    taken(recorder, run("a", counts)[:4])
    recorder.flush()
    assert len(read_recording(path).documents) == 4, "readable while it is written"
    taken(recorder, run("a", counts)[4:])
    recorder.close()
    found = read_recording(path)
    assert found.broken == "" and recorder.ended == ["a"]
    assert [name for name, _ in found.documents] == [name for name, _ in run("a")]
    assert np.array_equal(found.documents[2][1]["data"]["xs"], counts)
    if "msgpack" in suffix:
        assert found.documents[2][1]["data"]["xs"].dtype == np.uint32
    times = [one for one in found.arrived if one is not None]
    assert len(times) == 7 and times == sorted(times)


def test_only_whole_runs_and_readable_documents_are_recorded(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path / "r.jsonl")
    taken(recorder, run("old")[2:])
    first, *others = run("new")
    taken(recorder, [first])
    for payload in (
        b"",
        b"\xff",
        codec.pack([1, 2]),
        codec.pack({"uid": 3, "descriptor": "new-d", "data": {"a": b"1"}}),
    ):
        recorder.record("event", payload)
    taken(recorder, others)
    recorder.record("event", codec.pack({"uid": "x", "descriptor": "new-d", "data": {"a": b"bytes are no JSON"}}))
    recorder.close()
    assert recorder.without_start == 5 + 1 and recorder.refused == 3 + 1
    assert [name for name, _ in read_recording(tmp_path / "r.jsonl").documents] == [name for name, _ in run("new")]


def test_a_recording_never_replaces_a_file(tmp_path: Path) -> None:
    there = tmp_path / "mine.jsonl"
    there.write_text("mine")
    for path, words in (
        (there, "is there already"),
        (tmp_path / "x.h5", "a recording is called"),
        (tmp_path / "no" / "x.jsonl", "cannot be written"),
    ):
        with pytest.raises(InputError, match=words):
            Recorder(path)
    assert there.read_text() == "mine"


def test_pauses_come_from_arrivals_else_from_the_documents() -> None:
    docs = run("a")
    assert [pause for _, _, pause in paced(docs, [None] * 7)] == [0.0, 1.0, 2.5, 0.0, 0.0, 0.5, 1.0]
    arrived = [10.0, 10.5, 9.0, 9.25, 1e9, 1e9 + 1, None]
    assert [pause for _, _, pause in paced(docs, arrived)] == [0.0, 0.5, 0.0, 0.25, 0.0, 1.0, 0.0]


def test_a_renewed_run_is_another_run_with_the_same_content() -> None:
    old = run("a", 7)
    new = renewed(old)
    uid = new[0][1]["uid"]
    assert uid != "a" and new[1][1]["run_start"] == uid == new[-1][1]["run_start"]
    assert new[2][1]["descriptor"] == new[1][1]["uid"] == new[5][1]["descriptor"] != "a-d"
    assert new[4][1]["datum_id"] == f"{new[3][1]['uid']}/0" == new[5][1]["data"]["xs"][0]
    assert new[2][1]["data"] == {"xs": 7}
    shift = new[0][1]["time"] - 100.0
    assert shift > 1e9 and new[5][1]["time"] == [104.0 + shift]
    assert old == run("a", 7), "the recording stays as it is"


@pytest.mark.parametrize("name", ["aps-2ide", "hxn", "id16a", "ophyd-async", "srx"])
def test_a_recording_is_a_map_by_the_shipped_profiles(name: str) -> None:
    """What `quietbeam denoise` takes without settings."""
    path = RECORDINGS / f"{name}.jsonl.gz"
    file, label = read_source(str(path), Settings(), lines=[], profiles=shipped_profiles())
    assert label == path.name
    with np.load(RECORDINGS / f"{name}.npz") as truth:
        assert file.lines == tuple(truth["lines"])
        np.testing.assert_array_equal(file.counts, truth["counts"])
