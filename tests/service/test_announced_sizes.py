"""Cost follows what is measured, not what is announced: ingest, worker, publish, serve and report."""

from __future__ import annotations

import time
import tracemalloc
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from ingest_kit import Doc, Pipe, Scan, same
from publish_kit import Run

from quietbeam.buffer import RunBuffer
from quietbeam.buffer.sparse import read_present
from quietbeam.core.model.types import RowBlock, RunInfo, RunState
from quietbeam.core.settings import Settings
from quietbeam.core.wire import runs
from quietbeam.core.wire.bus import Connection
from quietbeam.denoiser.live.stage import DenoiseStage
from quietbeam.denoiser.live.window import RowWindow
from quietbeam.ingest.stage.strays import MAX_STRAY_BYTES
from quietbeam.ingest.transports import ReceivedDocument
from quietbeam.publish.publication import Publication
from quietbeam.publish.tiled_api import TiledRefusedError
from quietbeam.serve.report.page import make_report
from quietbeam.serve.state.catalog import RunCatalog
from quietbeam.serve.state.maps import MapReader

BIG = 16_777_216
SHAPES = [(BIG, 1), (1, BIG), (10_000, 10_000)]
IDS = ["tall", "wide", "hundred million"]


@pytest.fixture
def generous(settings: Settings) -> Settings:
    """Settings that admit a hundred million pixels."""
    ingest = settings.ingest.model_copy(update={"max_pixels": 200_000_000, "max_buffer_bytes": 2**45})
    return settings.model_copy(update={"ingest": ingest})


class OfShape(Scan):
    """A scan that announces another shape than it measures."""

    def __init__(self, shape: tuple[int, int], **values: Any) -> None:
        super().__init__(rows=2, cols=2, **values)
        self.start[1]["shape"] = list(shape)


def at(scan: Scan, index: int) -> Doc:
    """The event of a pixel of the announced map, with the counts of the first pixel."""
    name, doc = scan.event(0)
    return name, {**doc, "uid": f"{scan.uid}-{index}", "seq_num": index + 1}


@pytest.mark.parametrize("shape", SHAPES, ids=IDS)
def test_ingest(generous: Settings, redis: Connection, shape: tuple[int, int]) -> None:
    scan, good = OfShape(shape), Scan()
    places = [0, 1, BIG // 2, shape[0] * shape[1] - 1]
    pipe = Pipe(generous, redis)
    tracemalloc.start()
    begun = time.process_time()
    pipe.send([scan.start, scan.descriptor(), *(at(scan, index) for index in places), scan.stop()])
    pipe.send(good.docs())
    pipe.drain()
    took, (_, peak) = time.process_time() - begun, tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert pipe.state(scan.uid) is RunState.INCOMPLETE and pipe.status(scan.uid).pixels_measured == 4
    same(pipe, good)
    # the mask of the map is one byte a pixel, of which the system gives what is touched
    assert took < 5 and peak < 2.5 * shape[0] * shape[1] + 100e6
    for index in places:
        row, col = divmod(index, shape[1])
        block = pipe.buffer(scan.uid).read_row(row, slice(col, col + 1))
        assert block.measured.all()
        np.testing.assert_array_equal(block.counts[..., 0], scan.counts[:, :, 0, 0])
    pipe.stage.close()
    begun = time.process_time()
    again = Pipe(generous, redis)  # a restart meets the run again
    assert time.process_time() - begun < 3
    again.stage.close()


def test_a_row_in_parts_takes_frames_of_all_of_them(generous: Settings, redis: Connection) -> None:
    scan = Scan(rows=1, cols=200_000, lines=("Fe_Ka",), detectors=1)
    pipe = Pipe(generous, redis)
    pipe.send([scan.start, scan.descriptor(), scan.row_event(0), scan.stop()])
    pipe.drain()
    same(pipe, scan)
    assert pipe.state(scan.uid) is RunState.COMPLETE and len(pipe.buffer(scan.uid).parts_written(0)) == 4


def test_pages_without_values_runs_that_only_started_and_documents_of_nobody(
    settings: Settings, redis: Connection
) -> None:
    scan, pipe = Scan(), Pipe(settings, redis)
    numbers = list(range(1, 900_000))
    docs = scan.docs()
    page = {"descriptor": docs[1][1]["uid"], "seq_num": numbers}
    begun = time.process_time()
    pipe.send(docs[:2])
    pipe.send([("event_page", {**page, "data": {}}), ("event_page", {**page, "data": {"other": [None] * 899_999}})])
    pipe.send(docs[2:])
    pipe.send(Scan(uid=f"flood-{i}").start for i in range(600))
    pipe.drain()
    assert time.process_time() - begun < 15
    same(pipe, scan)
    assert len(pipe.quarantined()) == 2
    strays = pipe.stage._strays
    megabyte = ReceivedDocument(token=b"", name="event", run="", payload=bytes(2**20))
    for _ in range(200):
        strays.add(time.monotonic(), 0, megabyte)
    given_up: list[int] = []

    def give_up(*_: object) -> bool:
        given_up.append(1)
        return True

    strays.retry(time.monotonic(), 60, lambda *_: False, give_up)
    assert (200 - len(given_up)) * 2**20 <= MAX_STRAY_BYTES


@pytest.fixture
def sparse(settings: Settings, redis: Connection) -> Iterator[Any]:
    """Makes runs in which some pixels are measured."""

    def make(uid: str, shape: tuple[int, int], places: list[int]) -> RunBuffer:
        info = RunInfo(uid=uid, lines=("P_Ka", "Fe_Ka"), detectors=("a", "b"), shape=shape, time_start=time.time())
        buffer = RunBuffer.create(settings.runs_dir, info)
        for index in places:
            row, col = divmod(index, shape[1])
            first = col // buffer.segment * buffer.segment
            block = buffer.read_row(row, slice(first, first + buffer.segment))
            measured, counts = block.measured.copy(), block.counts.copy()
            measured[col - first], counts[..., col - first] = True, 7
            buffer.write_row(row, RowBlock(counts=counts, measured=measured), first)
        runs.register_run(redis, uid, time.time())
        runs.write_status(redis, uid, info=info, state="incomplete", pixels_measured=len(places))
        return buffer

    yield make


@pytest.mark.parametrize("shape", [*SHAPES[:2], (100_000, 1000)], ids=IDS)
@pytest.mark.parametrize("places", [[0, 1, 2, 3], [0, 70_000, BIG - 1]], ids=["near", "far"])
def test_worker_serve_and_report(
    settings: Settings, redis: Connection, sparse: Any, shape: tuple[int, int], places: list[int]
) -> None:
    buffer = sparse("sparse", shape, places)
    denoise = settings.denoise.model_copy(update={"device": "cpu", "fine_tune": False})
    stage = DenoiseStage(settings.model_copy(update={"denoise": denoise}), redis, owner="w")
    begun, cpu = time.monotonic(), time.process_time()
    while (status := runs.read_status(redis, "sparse")) is None or status.denoise_state != "final":
        assert time.monotonic() - begun < 120
        stage.step()
    stage.close()
    for index in places:
        row, col = divmod(index, shape[1])
        first = col // buffer.segment * buffer.segment
        raw = buffer.read_map("raw", rows=slice(row, row + 1))[:, 0, col]
        assert (raw > 0).all(), (row, first)
    html = make_report(status, MapReader(settings.runs_dir))
    assert "too large for pictures" in html
    redis.flushall()
    found = RunCatalog(settings.runs_dir, redis).status("sparse")
    assert found.pixels_measured == len(places)
    assert time.process_time() - cpu < 30


def test_publish_sends_what_was_written(settings: Settings, sparse: Any) -> None:
    tall = sparse("tall", (BIG, 1), [0, 1, 70_000])
    ones = np.ones((2, 2, 1), np.float32)
    tall.write_maps(0, ones, ones, ones, chi2=ones, version=1)
    sent: list[tuple[str, tuple[int, ...], tuple[int, ...]]] = []

    class Api:
        def patch(self, path: str, values: Any, offset: tuple[int, ...]) -> None:
            sent.append((path.rpartition("/")[2], values.shape, offset))

    Publication(Api(), settings, tall).write(0, BIG)  # type: ignore[arg-type]
    assert {name for name, _, _ in sent} == {"measured", "raw", "denoised", "uncertainty"}
    assert sum(int(np.prod(shape)) for _, shape, _ in sent) <= 2 * 64 + 3 * 2 * 64
    wide = sparse("wide", (1, BIG), [0])
    with pytest.raises(TiledRefusedError, match="not sent to Tiled"):
        Publication(Api(), settings, wide).ensure({})  # type: ignore[arg-type]


def test_a_window_grows_with_the_rows_and_is_moved_back() -> None:
    info = RunInfo(uid="x", lines=("Fe_Ka",), detectors=("a",), shape=(4096, 512))
    window = RowWindow(info)
    grown = 0
    for row in range(4096):
        if not window.holds(row, row + 1):
            window.grow(row, row + 1)
            grown += 1
        assert window.holds(0, row + 1) and window.rows <= 4 * (row + 1) + 64
    assert grown <= 9 and (window.first, window.stop) == (0, 4096)
    small = RowWindow(RunInfo(uid="x", lines=("Fe_Ka",), detectors=("a",), shape=(512, 512)))
    assert small.holds(0, 512), "maps of usual size are in memory as a whole from the beginning"


def test_a_large_map_that_is_measured_row_by_row_is_denoised_as_a_whole(settings: Settings, redis: Connection) -> None:
    shape = (1100, 250)
    info = RunInfo(uid="grows", lines=("Fe_Ka",), detectors=("a", "b"), shape=shape, time_start=time.time())
    buffer = RunBuffer.create(settings.runs_dir, info)
    rng = np.random.default_rng(1)
    runs.register_run(redis, "grows", time.time())
    runs.write_status(redis, "grows", info=info, state="running")
    denoise = settings.denoise.model_copy(update={"device": "cpu", "fine_tune": False})
    stage = DenoiseStage(settings.model_copy(update={"denoise": denoise}), redis, owner="w")
    for first in (0, 60, 100):
        for row in range(first, {0: 60, 60: 100, 100: 130}[first]):
            counts = rng.poisson(4, (2, 1, 250)).astype(np.uint32)
            buffer.write_row(row, RowBlock(counts=counts, measured=np.ones(250, bool)))
            redis.xadd("qb:rows", {"run": "grows", "row": row})
        stage.step()
    runs.write_status(redis, "grows", state="aborted")
    limit = time.monotonic() + 200
    while (status := runs.read_status(redis, "grows")) is None or status.denoise_state != "final":
        assert time.monotonic() < limit
        stage.step()
    stage.close()
    raw = buffer.read_map("raw")
    assert status.denoise_rows == 130 and not status.denoise_reason
    assert (raw[0, :130].mean(axis=1) > 4).all() and not raw[0, 130:].any()


def test_sparse_reads_equal_whole_reads(settings: Settings, redis: Connection, sparse: Any) -> None:
    buffer = sparse("some", (3000, 40), [5 * 40 + 1, 2999 * 40, 1700 * 40 + 39])
    array = buffer._array("counts")
    np.testing.assert_array_equal(read_present(buffer.path / "counts", array, slice(None)), array[:])
    part = read_present(buffer.path / "counts", array, slice(1, 2999), slice(3, 40))
    np.testing.assert_array_equal(part, array[:, :, 1:2999, 3:40])
    assert Run(settings, redis, "other").buffer.rows_written() == []
