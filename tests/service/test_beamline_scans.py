"""Scans by a real RunEngine: the documents are valid, carry the truth's counts bit for bit, and come while it scans."""

from __future__ import annotations

import copy
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from bluesky import RunEngine
from bluesky.utils import Msg, RunEngineInterrupted
from event_model import DocumentNames, schema_validators

from quietbeam.beamline.experiment import Experiment, ExperimentOptions
from quietbeam.beamline.plans import make_plan
from quietbeam.beamline.truth import Truth

LINES = ("P_Ka", "Ca_Ka", "Fe_Ka")
SHAPE = (6, 10)
Documents = list[tuple[str, dict[str, Any]]]


@pytest.fixture
def experiment() -> Experiment:
    return Experiment(
        ExperimentOptions(specimen="cell", lines=LINES, shape=SHAPE, detectors=3, counts=30.0, dwell_s=0.002, seed=5)
    )


def engine(*callbacks: Callable[[str, Any], Any]) -> tuple[RunEngine, Documents]:
    documents: Documents = []
    made = RunEngine({}, context_managers=[])
    made.pause_msg = ""
    made.subscribe(lambda name, doc: documents.append((name, copy.deepcopy(doc))))
    for callback in callbacks:
        made.subscribe(callback)
    return made, documents


def map_of(documents: Documents, shape: tuple[int, int] = SHAPE) -> tuple[np.ndarray, np.ndarray]:
    """Build the map as a consumer has to: (detector, line, row, col) counts and the measured mask."""
    start = next(doc for name, doc in documents if name == "start")
    assert tuple(start["shape"]) == shape
    snake = start["snaking"][1]
    counts = np.zeros((3, 3, *shape), np.uint32)
    measured = np.zeros(shape, bool)

    def place(index: int, frame: Any) -> None:
        row, along = divmod(index, shape[1])
        col = shape[1] - 1 - along if snake and row % 2 else along
        counts[:, :, row, col], measured[row, col] = frame, True

    files: dict[str, tuple[str, str]] = {}
    for name, doc in documents:
        if name == "event":
            frame = [[doc["data"][f"xs_det{d + 1}_{line}"] for line in LINES] for d in range(3)]
            place(doc["seq_num"] - 1, frame)
        elif name == "stream_resource" and doc["data_key"] == "xs_counts":
            files[doc["uid"]] = (doc["uri"].removeprefix("file://localhost"), doc["parameters"]["dataset"])
        elif name == "stream_datum" and doc["stream_resource"] in files:
            path, dataset = files[doc["stream_resource"]]
            with h5py.File(path, "r") as file:
                # The RunEngine numbers frames, not the file: after a pause it may count again.
                for offset in range(doc["indices"]["stop"] - doc["indices"]["start"]):
                    place(doc["seq_nums"]["start"] - 1 + offset, file[dataset][doc["indices"]["start"] + offset])
    return counts, measured


def assert_same(documents: Documents, truth: Truth) -> None:
    counts, measured = map_of(documents)
    assert np.array_equal(measured, truth.measured)
    assert np.array_equal(counts, truth.counts)


@pytest.mark.parametrize(("mode", "burst"), [("step", None), ("snake", None), ("fly", None), ("fly", 7)])
def test_documents_are_valid_and_equal_the_truth(
    experiment: Experiment, tmp_path: Path, mode: Any, burst: int | None
) -> None:
    run, documents = engine()
    run(make_plan(mode, experiment, speed=0, folder=tmp_path, burst=burst))
    for name, doc in documents:
        schema_validators[DocumentNames[name]].validate(doc)
    truth = experiment.truth()
    assert truth.measured.all() and truth.counts.sum() > 1000
    assert_same(documents, truth)
    start, stop = documents[0][1], documents[-1][1]
    assert start["beamline_id"] == "quietbeam-simulated" and start["dwell_s"] == 0.002
    assert start["snaking"][1] == (mode != "step")
    assert np.allclose(start["extents"], [[-0.625, 0.625], [-1.125, 1.125]])
    assert stop["exit_status"] == "success" and stop["num_events"]["primary"] == 60


def test_step_scans_use_the_keys_of_the_profile(experiment: Experiment) -> None:
    run, documents = engine()
    run(make_plan("snake", experiment, speed=0))
    descriptor = documents[1][1]
    expected = {f"xs_det{d}_{line}" for d in (1, 2, 3) for line in LINES} | {
        f"xs_det{d}_live_time_s" for d in (1, 2, 3)
    }
    assert set(descriptor["data_keys"]) == expected | {"i0", "sample_x", "sample_y"}
    assert descriptor["data_keys"]["xs_det1_Fe_Ka"]["dtype"] == "integer"
    configuration = descriptor["configuration"]["xs"]["data"]
    assert list(configuration["xs_line_names"]) == list(LINES)
    events = [doc["data"] for name, doc in documents if name == "event"]
    xs = np.array([event["sample_x"] for event in events]).reshape(SHAPE)
    assert (np.diff(xs[0]) > 0).all() and (np.diff(xs[1]) < 0).all(), "odd rows run backwards"
    assert (np.diff([event["sample_y"] for event in events][:: SHAPE[1]]) > 0).all()
    truth = experiment.truth()
    assert events[0]["i0"] == truth.i0[0, 0] and events[10]["i0"] == truth.i0[1, 9]
    assert events[10]["xs_det2_live_time_s"] == truth.live_time_s[1, 1, 9]


def test_the_truth_never_goes_through_documents(experiment: Experiment, tmp_path: Path) -> None:
    for mode in ("step", "fly"):
        run, documents = engine()
        run(make_plan(mode, experiment, speed=0, folder=tmp_path))
        text = repr([doc for name, doc in documents if name in ("start", "descriptor", "stop")]).replace(
            str(tmp_path), ""
        )
        for word in ("expected", "truth", "gain", "seed", "rate"):
            assert word not in text


def test_same_seed_same_documents(tmp_path: Path) -> None:
    options = ExperimentOptions(specimen="star", lines=LINES, shape=SHAPE, detectors=3, counts=5.0, seed=9)
    maps, ranges = [], []
    for _ in range(2):
        run, documents = engine()
        run(make_plan("fly", Experiment(options), speed=0, folder=tmp_path, burst=7))
        maps.append(map_of(documents)[0])
        ranges.append([doc["indices"] for name, doc in documents if name == "stream_datum"])
    assert np.array_equal(*maps)
    assert ranges[0] == ranges[1]


def test_bursts_align_with_no_row(experiment: Experiment, tmp_path: Path) -> None:
    run, documents = engine()
    run(make_plan("fly", experiment, speed=0, folder=tmp_path, burst=7))
    spans = [d["indices"] for n, d in documents if n == "stream_datum"][::3]
    stops = [span["stop"] for span in spans]
    assert stops[-1] == 60 and any(stop % SHAPE[1] for stop in stops[:-1])
    assert any(span["start"] // 10 != (span["stop"] - 1) // 10 for span in spans), "a range crosses a row's end"
    assert [span["start"] for span in spans] == [0, *stops[:-1]], "no gap, no overlap"


READER = """
import sys, h5py
for request in sys.stdin:
    path, dataset = request.split()
    with h5py.File(path, "r", libver="latest", swmr=True) as file:
        print(len(file[dataset]), flush=True)
"""


def test_the_file_grows_while_documents_come(experiment: Experiment, tmp_path: Path) -> None:
    """Another process that opens the file (SWMR) at each document finds what was announced, and not yet everything."""
    lengths: list[tuple[int, int]] = []
    source: dict[str, tuple[str, str]] = {}
    reader = subprocess.Popen([sys.executable, "-c", READER], stdin=-1, stdout=-1, text=True)
    assert reader.stdin and reader.stdout

    def follow(name: str, doc: Any) -> None:
        if name == "stream_resource":
            source[doc["uid"]] = (doc["uri"].removeprefix("file://localhost"), doc["parameters"]["dataset"])
        if name == "stream_datum":
            print(*source[doc["stream_resource"]], file=reader.stdin, flush=True)
            lengths.append((doc["indices"]["stop"], int(reader.stdout.readline())))

    run, documents = engine(follow)
    run(make_plan("fly", experiment, speed=0.1, folder=tmp_path))
    reader.communicate(timeout=10)
    assert len(lengths) == 3 * SHAPE[0]
    assert all(there >= announced for announced, there in lengths), "nothing is announced before it is in the file"
    assert lengths[0][1] < 60, "the first row was announced before the last was measured"
    assert_same(documents, experiment.truth())


def test_dwell_is_real_time(experiment: Experiment, tmp_path: Path) -> None:
    for mode in ("snake", "fly"):
        run, _ = engine()
        begin = time.monotonic()
        run(make_plan(mode, experiment, speed=0.5, folder=tmp_path))
        assert time.monotonic() - begin >= 60 * 0.002 / 0.5 * 0.9


def pause_after(frames: int, documents: Documents, run: RunEngine, *, defer: bool) -> Callable[[str, Any], None]:
    """Return a callback that pauses the engine, once, when so many frames were announced."""
    asked = threading.Event()

    def callback(name: str, doc: Any) -> None:
        seen = doc["seq_num"] if name == "event" else doc["indices"]["stop"] if name == "stream_datum" else 0
        if seen >= frames and not asked.is_set():
            asked.set()
            run.loop.create_task(run._request_pause_coro(defer))

    return callback


@pytest.mark.parametrize("mode", ["snake", "fly"])
@pytest.mark.parametrize("defer", [True, False])
def test_pause_and_resume_lose_nothing(experiment: Experiment, tmp_path: Path, mode: Any, defer: bool) -> None:
    run, documents = engine()
    run.subscribe(pause_after(23, documents, run, defer=defer))
    with pytest.raises(RunEngineInterrupted):
        run(make_plan(mode, experiment, speed=0.2, folder=tmp_path, burst=4))
    before = len(documents)
    assert not experiment.truth().measured.all(), "paused in the middle"
    run.resume()
    assert len(documents) > before
    assert documents[-1][1]["exit_status"] == "success"
    assert experiment.truth().measured.all()
    assert_same(documents, experiment.truth())


def test_a_rewind_measures_again_and_the_last_event_wins(experiment: Experiment) -> None:
    run, documents = engine()
    plan = make_plan("snake", experiment, speed=0)

    def with_pauses() -> Any:
        saves = 0
        answer = None
        while True:
            try:
                message = plan.send(answer)
            except StopIteration:
                return
            answer = yield message
            if message.command == "save" and (saves := saves + 1) in (15, 16, 40):
                yield Msg("pause", defer=False)

    with pytest.raises(RunEngineInterrupted):
        run(with_pauses())
    for _ in range(2):
        with pytest.raises(RunEngineInterrupted):
            run.resume()
    run.resume()
    events = [doc for name, doc in documents if name == "event"]
    numbers = [doc["seq_num"] for doc in events]
    repeated = [n for n in set(numbers) if numbers.count(n) > 1]
    assert sorted(repeated) == [15, 16, 40]
    for number in repeated:
        twins = [doc for doc in events if doc["seq_num"] == number]
        assert len({doc["uid"] for doc in twins}) == len(twins)
    assert_same(documents, experiment.truth())


@pytest.mark.parametrize("mode", ["snake", "fly"])
def test_abort_leaves_what_was_measured(experiment: Experiment, tmp_path: Path, mode: Any) -> None:
    run, documents = engine()
    run.subscribe(pause_after(23, documents, run, defer=True))
    with pytest.raises(RunEngineInterrupted):
        run(make_plan(mode, experiment, speed=0.2, folder=tmp_path, burst=4))
    run.abort("enough")
    assert documents[-1][0] == "stop" and documents[-1][1]["exit_status"] == "abort"
    truth = experiment.truth()
    assert 20 <= truth.measured.sum() < 60
    assert_same(documents, truth)


@pytest.mark.parametrize("shape", [(1, 12), (12, 1), (1, 1)])
@pytest.mark.parametrize("mode", ["step", "fly"])
def test_maps_of_one_row_or_column(tmp_path: Path, shape: tuple[int, int], mode: Any) -> None:
    experiment = Experiment(ExperimentOptions(specimen="cell", lines=LINES, shape=shape, detectors=3, counts=4.0))
    run, documents = engine()
    run(make_plan(mode, experiment, speed=0, folder=tmp_path))
    counts, measured = map_of(documents, shape)
    assert measured.all() and np.array_equal(counts, experiment.truth().counts)


def test_no_thread_is_left(experiment: Experiment, tmp_path: Path) -> None:
    run, _ = engine()
    run(make_plan("fly", experiment, speed=0, folder=tmp_path))
    assert not [t for t in threading.enumerate() if t.name == "fly-row"]
