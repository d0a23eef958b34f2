"""Runs through the ingest stage: the right map and an honest state, whatever the order and the fate of documents."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, strategies
from hypothesis import settings as hypothesis_settings
from ingest_kit import LINES, FlyScan, Pipe, Scan, same

from quietbeam.core.model.types import RunState
from quietbeam.core.settings import IngestSettings, Settings
from quietbeam.core.wire import keys
from quietbeam.core.wire.bus import Connection
from quietbeam.ingest.stage.service import IngestStage


@pytest.fixture
def pipe(settings: Settings, redis: Connection) -> Iterator[Pipe]:
    pipe = Pipe(settings, redis)
    yield pipe
    pipe.stage.close()


def with_ingest(settings: Settings, **changes: Any) -> Settings:
    return settings.model_copy(update={"ingest": IngestSettings(**{**settings.ingest.model_dump(), **changes})})


@pytest.mark.supports("document shape", "Event per pixel, Event per row with an array per key, event_page")
@pytest.mark.supports("geometry", "raster and snake, shape as [slow, fast]")
@pytest.mark.parametrize("snake", [False, True])
@pytest.mark.parametrize("mode", ["pixel", "row", "page"])
def test_counts_are_kept_bit_for_bit(pipe: Pipe, snake: bool, mode: str) -> None:
    scan = Scan(snake=snake)
    descriptor = scan.descriptor()
    if mode == "pixel":
        data = [scan.event(i) for i in range(scan.pixels)]
    elif mode == "row":
        data = [scan.row_event(row) for row in range(scan.shape[0])]
    else:
        data = [scan.page(0, 7), scan.page(7, 8), scan.page(8, scan.pixels)]
    events = 4 if mode == "row" else None
    pipe.send([scan.start, descriptor, *data, scan.stop(events=events)])
    pipe.drain()
    same(pipe, scan)
    status = pipe.status(scan.uid)
    assert (status.state, status.rows_measured, status.pixels_measured) == (RunState.COMPLETE, 4, 20)
    assert status.warnings == () and status.reason == ""
    info = status.info
    assert info is not None
    assert (info.lines, info.detectors, info.shape, info.snake) == (LINES, ("det1", "det2"), (4, 5), snake)
    assert (info.step, info.origin, info.dwell_s, info.profile) == ((1.0, 2.0), (0.0, 10.0), 0.01, "simulated")
    np.testing.assert_allclose(pipe.buffer(scan.uid).read_i0(), scan.i0)
    assert {f[b"row"] for _, f in pipe.redis.xrange(keys.ROWS)} == {b"0", b"1", b"2", b"3"}


def test_where_the_detectors_sit_travels_with_the_run(pipe: Pipe) -> None:
    scan = Scan(detectors=2)
    pipe.send([scan.start, scan.descriptor(), scan.row_event(0)])
    pipe.drain()
    status = pipe.status(scan.uid)
    assert status.info is not None
    assert status.info.detector_positions == {"det1": (-1.0, 1.0), "det2": (1.0, 1.0)}, "of the run's detectors only"
    assert pipe.buffer(scan.uid).info == status.info


def test_rows_are_acknowledged_only_when_written(pipe: Pipe) -> None:
    scan = Scan()
    docs = scan.docs()
    pipe.send(docs[: 2 + 7])  # one row and two pixels
    pipe.until(lambda: pipe.source.unacknowledged == 2, 0.9)  # type: ignore[attr-defined]
    assert pipe.buffer(scan.uid).measured()[0].all()
    pipe.drain()  # a second of silence: the two pixels become visible
    assert pipe.buffer(scan.uid).measured().sum() == 7
    assert pipe.status(scan.uid).state is RunState.RUNNING
    pipe.send(docs[9:])
    pipe.drain()
    same(pipe, scan)


@hypothesis_settings(
    max_examples=15,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(data=strategies.data())
def test_order_and_duplicates_do_not_matter(pipe: Pipe, data: strategies.DataObject) -> None:
    scan = Scan(3, 3, seed=data.draw(strategies.integers(0, 10**9)), snake=data.draw(strategies.booleans()))
    start, *between, stop = scan.docs()
    twice = data.draw(strategies.lists(strategies.sampled_from(between), max_size=6))
    pipe.send([start, *data.draw(strategies.permutations(between + twice)), stop])
    pipe.drain()
    same(pipe, scan)
    assert pipe.status(scan.uid).state is RunState.COMPLETE


def test_the_last_of_a_seq_num_wins(pipe: Pipe) -> None:
    scan = Scan()
    docs = scan.docs()
    wrong = [scan.event(i, **dict.fromkeys(scan.keys, 99)) for i in (3, 4, 5, 6)]
    pipe.send([*docs[:5], *wrong, *docs[5:]])  # paused after 7 frames, rewound to number 4
    pipe.drain()
    same(pipe, scan)


def test_a_committed_row_can_be_measured_again(pipe: Pipe) -> None:
    scan = Scan()
    docs = scan.docs()
    pipe.send([*docs[:2], *(scan.event(i, xs_det1_P_Ka=77) for i in range(5))])
    pipe.drain()
    assert (pipe.counts(scan.uid)[0, 0, 0] == 77).all()
    pipe.send(docs[2:])
    pipe.drain()
    same(pipe, scan)


def test_interleaved_runs_stay_apart(pipe: Pipe) -> None:
    scans = [Scan(seed=1), Scan(3, 4, seed=2, snake=True), Scan(2, 9, seed=3)]
    queues = [scan.docs() for scan in scans]
    while any(queues):
        for queue in queues:
            pipe.send(queue[:1])
            del queue[:1]
    pipe.drain()
    for scan in scans:
        same(pipe, scan)
        assert pipe.status(scan.uid).state is RunState.COMPLETE


@pytest.mark.supports("geometry", "aborted and failed runs, partly measured rows")
@pytest.mark.parametrize(("exit_status", "state"), [("abort", RunState.ABORTED), ("fail", RunState.FAILED)])
def test_an_aborted_run_keeps_what_it_has(pipe: Pipe, exit_status: str, state: RunState) -> None:
    scan = Scan()
    pipe.send([*scan.docs()[: 2 + 12], scan.stop(exit_status, "beam was lost", 12)])
    pipe.drain()
    status = pipe.status(scan.uid)
    assert status.state is state
    assert status.reason == "beam was lost; 8 of 20 pixels were not measured (2 rows, the first is 2)"
    assert pipe.buffer(scan.uid).measured().sum() == 12


def test_lost_documents_are_said(pipe: Pipe) -> None:
    scan = Scan()
    docs = scan.docs()
    del docs[9:11]
    pipe.send(docs)
    pipe.drain()
    status = pipe.status(scan.uid)
    assert status.state is RunState.INCOMPLETE
    assert status.reason == "2 of 20 pixels were not measured (row 1)"
    assert "2 of the 20 pixels that the run announces did not come" in status.warnings[0]


def test_a_silent_run_is_stale_and_comes_back(settings: Settings, redis: Connection) -> None:
    pipe = Pipe(with_ingest(settings, stale_after=timedelta(seconds=0.3)), redis)
    scan = Scan()
    docs = scan.docs()
    pipe.send(docs[:8])
    pipe.until(lambda: pipe.state(scan.uid) is RunState.STALE)
    pipe.send(docs[8:12])
    pipe.until(lambda: pipe.state(scan.uid) is RunState.RUNNING)
    pipe.send(docs[12:])
    pipe.drain()
    same(pipe, scan)
    assert pipe.status(scan.uid).state is RunState.COMPLETE
    pipe.stage.close()


def test_a_stale_run_goes_on_although_ingest_was_restarted(settings: Settings, redis: Connection) -> None:
    """Events over 0MQ name their descriptor only."""
    pipe = Pipe(with_ingest(settings, stale_after=timedelta(seconds=0.3)), redis)
    scan = Scan()
    docs = scan.docs()
    pipe.send(docs[:8])
    pipe.until(lambda: pipe.state(scan.uid) is RunState.STALE)
    pipe.stage.close()
    pipe = pipe.again()
    pipe.stage.step()
    assert pipe.state(scan.uid) is RunState.STALE
    pipe.send(docs[8:])
    pipe.drain()
    same(pipe, scan)
    assert pipe.status(scan.uid).state is RunState.COMPLETE
    pipe.stage.close()


def test_joining_in_the_middle_says_what_to_do(pipe: Pipe, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("quietbeam.ingest.run.router.ORPHAN_S", 0.2)
    scan = Scan()
    docs = scan.docs()
    pipe.send(docs[1:10], run=scan.uid)
    pipe.drain()
    status = pipe.status(scan.uid)
    assert status.state is RunState.UNUSABLE and "publish to Redis" in status.reason
    assert any(scan.uid in q["run"] and "no start document was received" in q["reason"] for q in pipe.quarantined())
    pipe.send(docs, run=scan.uid)  # the start was only late
    pipe.drain()
    same(pipe, scan)
    assert pipe.status(scan.uid).state is RunState.COMPLETE


@pytest.mark.supports("document shape", "a descriptor that was missed when joining")
def test_events_speak_for_a_lost_descriptor(pipe: Pipe) -> None:
    scan = Scan()
    docs = scan.docs()
    del docs[1]
    pipe.send(docs, run=scan.uid)
    pipe.drain()
    same(pipe, scan)
    assert "descriptor never came" in pipe.status(scan.uid).warnings[0]


def test_events_of_an_unknown_run_are_set_aside(pipe: Pipe, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("quietbeam.ingest.stage.service.ORPHAN_S", 0.1)
    scan = Scan()
    scan.descriptor()
    pipe.send([scan.event(0)])  # 0MQ does not say the run
    pipe.drain()
    assert "descriptor was not seen" in pipe.quarantined()[0]["reason"]


@pytest.mark.supports("damage", "NaN, infinite, negative, fractional counts and codes for no data: their pixel")
@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (-1, "negative counts"),
        (float("nan"), "NaN or infinite"),
        (float("inf"), "NaN or infinite"),
        (1.5, "not integers"),
        (2**32, "code for no data"),
        (2**80, "code for no data"),
        (-(2**80), "negative counts"),
        ("many", "not numbers"),
        (None, "not numbers"),
        ([1, 2], "differ in length"),
        (True, None),
        (7.0, None),
        (2**32 - 1, "code for no data"),
        (2**32 - 2, None),
    ],
)
def test_one_bad_value_masks_one_frame(pipe: Pipe, value: Any, reason: str | None) -> None:
    scan = Scan()
    docs = scan.docs()
    if isinstance(value, int) and value.bit_length() > 64:  # msgpack has no such integers
        value = float(value)
    docs[2 + 6] = scan.event(6, xs_det2_Fe_Ka=value)
    pipe.send(docs)
    pipe.drain()
    measured = pipe.buffer(scan.uid).measured()
    status = pipe.status(scan.uid)
    if reason is None:
        assert measured.all() and pipe.counts(scan.uid)[1, 1, 1, 1] == int(value)
        assert status.state is RunState.COMPLETE
        return
    expected = scan.counts.copy()
    expected[:, :, 1, 1] = 0
    np.testing.assert_array_equal(pipe.counts(scan.uid), expected)
    assert measured.sum() == 19 and not measured[1, 1]
    assert status.state is RunState.INCOMPLETE
    assert any(reason in warning for warning in status.warnings), status.warnings
    entry = pipe.quarantined()[0]
    assert entry["run"] == scan.uid and reason in entry["reason"] and "event 7" in entry["reason"]


def test_fitted_areas_are_floats_and_nan_is_not_measured(settings: Settings, redis: Connection, tmp_path: Path) -> None:
    profile = tmp_path / "fitted.yaml"
    text = Path("configs/beamlines/simulated.yaml").read_text().replace("kind: counts ", "kind: areas ")
    profile.write_text(text.replace("name: simulated", "name: fitted"))
    pipe = Pipe(with_ingest(settings, profiles=(str(profile),)), redis)
    scan = Scan()
    docs = scan.docs()
    docs[2] = scan.event(0, xs_det1_P_Ka=-0.25, xs_det2_P_Ka=1e3)
    docs[3] = scan.event(1, xs_det1_P_Ka=float("nan"))
    pipe.send(docs)
    pipe.drain()
    counts = pipe.counts(scan.uid)
    assert counts.dtype == np.float32 and counts[0, 0, 0, 0] == -0.25 and counts[1, 0, 0, 0] == 1e3
    assert not pipe.buffer(scan.uid).measured()[0, 1]
    pipe.stage.close()


@pytest.mark.parametrize(
    ("start", "words"),
    [
        ({"shape": None}, ("simulated", "not in the start document", "geometry.shape")),
        ({"shape": [0, 5]}, ("simulated", "[0, 5]")),
        ({"shape": [4, 5, 6, 7]}, ("two positive integers",)),
        ({"shape": "4x5"}, ("4x5",)),
        ({"shape": [10**6, 10**6]}, ("ingest.max_pixels",)),
        ({"shape": [4, 5], "scan_id": 7}, ("ingest.max_buffer_bytes", "fewer lines")),
    ],
)
def test_a_run_without_usable_shape_is_refused_with_a_remedy(
    settings: Settings, redis: Connection, start: dict[str, Any], words: tuple[str, ...]
) -> None:
    pipe = Pipe(with_ingest(settings, max_buffer_bytes=1000), redis)
    bad, good = Scan(seed=1, **start), Scan(3, 4, seed=2)
    queues = [bad.docs(), good.docs()]
    while any(queues):
        for queue in queues:
            pipe.send(queue[:1])
            del queue[:1]
    pipe.drain()
    status = pipe.status(bad.uid)
    assert status.state is RunState.UNUSABLE and status.info is None
    doc = bad.start[1]
    found = status.scan_id, status.plan, status.time_start
    assert found == (doc.get("scan_id"), doc.get("plan_name", ""), doc["time"]), "it is listed with these"
    for word in (bad.uid, *words):
        assert word in status.reason, status.reason
    same(pipe, good)
    pipe.stage.close()


def test_a_profile_that_matches_nothing_names_the_keys(pipe: Pipe) -> None:
    scan = Scan()
    entries = {f"mca_{i}": {"source": "s", "dtype": "number", "shape": []} for i in range(3)}
    pipe.send([scan.start, scan.descriptor(**entries), *(scan.event_of(i, {"mca_0": 1}) for i in range(1, 400))])
    pipe.send([scan.stop()])
    pipe.drain()
    status = pipe.status(scan.uid)
    assert status.state is RunState.UNUSABLE
    for word in (scan.uid, "simulated", "generic", "mca_0, mca_1, mca_2", "counts.keys"):
        assert word in status.reason
    assert len(pipe.quarantined()) < 5  # once, not per event


def test_frames_outside_the_map_are_refused(pipe: Pipe) -> None:
    scan = Scan()
    docs = scan.docs()
    name, event = scan.event(0)
    pipe.send([*docs[:-1], (name, event | {"seq_num": 21}), docs[-1]])
    pipe.drain()
    same(pipe, scan)
    assert "outside the map of 4x5 pixels" in pipe.quarantined()[0]["reason"]


def test_a_uid_that_is_used_twice_keeps_the_first_run(pipe: Pipe) -> None:
    first = Scan(seed=1, uid="same-uid")
    second = Scan(seed=2, uid="same-uid", plan_name="other")
    pipe.send([*first.docs(), *second.docs()])
    pipe.drain()
    same(pipe, first)
    assert any("started twice" in w for w in pipe.status("same-uid").warnings)


def test_pause_is_shown_when_the_engine_records_it(settings: Settings, redis: Connection) -> None:
    pipe = Pipe(settings, redis)
    scan = Scan()
    docs = scan.docs()
    descriptor = {"uid": "i", "run_start": scan.uid, "name": "interruptions", "time": 0.0, "data_keys": {}}

    def interruption(what: str) -> tuple[str, dict[str, Any]]:
        return "event", {"uid": what, "descriptor": "i", "seq_num": 1, "time": 0.0, "data": {"interruption": what}}

    pipe.send([*docs[:6], ("descriptor", descriptor), interruption("pause")])
    pipe.until(lambda: pipe.state(scan.uid) is RunState.PAUSED)
    pipe.stage.close()
    pipe = pipe.again()
    pipe.stage.step()
    assert pipe.state(scan.uid) is RunState.PAUSED, "also after a restart"
    pipe.send([interruption("resume"), *docs[4:]])
    pipe.drain()
    same(pipe, scan)
    assert pipe.status(scan.uid).state is RunState.COMPLETE
    pipe.stage.close()


@pytest.mark.supports(
    "document shape", "stream_resource/stream_datum: HDF5 in SWMR mode, ranges that do not end with rows, leading 1"
)
@pytest.mark.parametrize("leading_one", [False, True])
def test_fly_scan_into_a_growing_file(pipe: Pipe, tmp_path: Path, leading_one: bool) -> None:
    scan = FlyScan(tmp_path / "fly.h5", 4, 6, snake=True, leading_one=leading_one)
    pipe.send(scan.head())
    written = 0
    for stop in (4, 7, 15, 24):  # announcements do not end with rows; the file is sometimes ahead, sometimes behind
        if stop != 15:
            scan.write(min(24, stop + (stop == 7)))
        pipe.send(scan.datums(written, stop))
        while pipe.stage.step():
            pass
        written = stop
    pipe.send([scan.stop()])
    pipe.drain()
    same(pipe, scan)
    buffer = pipe.buffer(scan.uid)
    np.testing.assert_allclose(buffer.read_i0(), scan.i0)
    np.testing.assert_allclose(buffer.read_live_time_s(), 0.009, rtol=1e-6)
    assert pipe.status(scan.uid).state is RunState.COMPLETE
    assert pipe.status(scan.uid).warnings == ()


def test_a_file_that_vanishes_stops_only_its_run(settings: Settings, redis: Connection, tmp_path: Path) -> None:
    pipe = Pipe(with_ingest(settings, file_timeout=timedelta(seconds=0.5)), redis)
    fly, other = FlyScan(tmp_path / "fly.h5", 4, 6, seed=1), Scan(seed=2)
    fly.write(12)
    fly.file.close()
    fly.path.unlink()
    pipe.send([*fly.head(), *fly.datums(0, 12), fly.stop(events=12), *other.docs()])
    pipe.until(lambda: pipe.redis.exists(keys.run(other.uid)))
    pipe.until(lambda: pipe.state(other.uid) is RunState.COMPLETE)
    same(pipe, other)
    pipe.drain()
    status = pipe.status(fly.uid)
    assert status.state is RunState.INCOMPLETE
    assert any("fly.h5" in warning for warning in status.warnings)
    assert any("fly.h5" in q["reason"] and q["run"] == fly.uid for q in pipe.quarantined())
    pipe.stage.close()


@pytest.mark.parametrize(
    ("uri", "reason"),
    [
        ("file:///etc/passwd", "data_roots"),
        ("file://localhost{tmp}/../../../../etc/passwd", "data_roots"),
        ("file://localhost{tmp}/link.h5", "data_roots"),
        ("https://example.org/fly.h5", "file://"),
        ("file://localhost{tmp}/pipe", "not a file"),
        ("file://localhost{tmp}/garbage.h5", "cannot be read"),
    ],
)
def test_files_are_opened_only_below_the_roots(
    settings: Settings, redis: Connection, tmp_path: Path, uri: str, reason: str
) -> None:
    import os

    root = tmp_path / "root"
    root.mkdir()
    (root / "link.h5").symlink_to("/etc/passwd")
    (root / "garbage.h5").write_bytes(b"\x89HDF\r\n\x1a\n" + b"garbage" * 99)
    os.mkfifo(root / "pipe")
    pipe = Pipe(with_ingest(settings, data_roots=(root,), file_timeout=timedelta(seconds=0.1)), redis)
    fly = FlyScan(root / "fly.h5", 2, 3)
    head = [(n, d | {"uri": uri.format(tmp=root)} if n == "stream_resource" else d) for n, d in fly.head()]
    pipe.send([*head, *fly.datums(0, 6), fly.stop()])
    pipe.drain()
    assert pipe.status(fly.uid).state is RunState.INCOMPLETE
    assert reason in pipe.quarantined()[0]["reason"]
    pipe.stage.close()


def test_only_one_ingest_writes(pipe: Pipe) -> None:
    from quietbeam.core.errors import ServiceError

    with pytest.raises(ServiceError, match="another ingest"):
        IngestStage(pipe.settings, pipe.redis, [])
