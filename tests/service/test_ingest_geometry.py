"""Where frames lie: orders, positions on a grid, spirals, repeats, stacks; and what is said when they lie nowhere."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from ingest_kit import Pipe
from shapes_kit import LINES, Run, ingested, pipe_with, profile, write

from quietbeam.core.model.types import RunState
from quietbeam.core.settings import Settings
from quietbeam.core.wire.bus import Connection

KEYS = {"keys": r"^(?P<detector>det\d+)_(?P<line>[A-Z]\w+)$"}
NAMES = [f"det{d}_{line}" for d in (1, 2) for line in LINES]


def plain(values: npt.NDArray[Any]) -> dict[str, Any]:
    """Return event data of (detector, line) counts, or of rows of them."""
    return dict(zip(NAMES, values.reshape(len(NAMES), *values.shape[2:]).tolist(), strict=True))


def two_axes(settings: Settings, redis: Connection, folder: Path, **geometry: Any) -> Pipe:
    """A pipe whose profile reads positions y, x."""
    positions = {"slow": "y", "fast": "x"} | geometry.pop("positions", {})
    values = {"extents": {"start": "extents"}, "dwell_s": {"start": "dwell"}, "positions": positions} | geometry
    mine = profile(folder, counts=KEYS, i0={"key": "i0"}, live_time_s=LIVE, geometry=values)
    return pipe_with(settings, redis, mine)


LIVE = {"keys": r"^live_(?P<detector>det\d+)$", "scale": 0.001}


def gridded(samples: npt.NDArray[Any], cells: npt.NDArray[np.intp], shape: tuple[int, int]) -> npt.NDArray[Any]:
    """Return (..., row, col) sums of (sample, ...) in cells (row, col), added one by one."""
    out = np.zeros((*shape, *samples.shape[1:]))
    for sample, (row, col) in zip(samples, cells, strict=True):
        if 0 <= row < shape[0] and 0 <= col < shape[1]:
            out[row, col] += sample
    return np.moveaxis(out, (0, 1), (-2, -1))


@pytest.mark.supports("geometry", "shape as [fast, slow], also with a snake")
@pytest.mark.parametrize("snake", [False, True])
def test_fast_slow(settings: Settings, redis: Connection, tmp_path: Path, snake: bool) -> None:
    run = Run(3, 7, scan={"shape": [7, 3], "snake": snake})
    geometry = {"shape": {"start": "scan.shape"}, "order": "fast_slow", "snake": {"start": "scan.snake"}}
    descriptor = run.stream("primary", {name: {} for name in NAMES})
    for row in range(3):
        for col in range(7):
            run.event(descriptor, plain(run.counts[:, :, row, 6 - col if snake and row % 2 else col]))
    run.stop({"primary": 21})
    pipe = pipe_with(settings, redis, profile(tmp_path, counts=KEYS, geometry=geometry))
    np.testing.assert_array_equal(ingested(pipe, run), run.counts)
    pipe.stage.close()


@pytest.mark.supports("geometry", "a single row, a single column")
@pytest.mark.parametrize("shape", [(1, 6), (6, 1)])
def test_single_rows(settings: Settings, redis: Connection, tmp_path: Path, shape: tuple[int, int]) -> None:
    run = Run(*shape)
    descriptor = run.stream("primary", {name: {} for name in NAMES})
    for frame in run.counts.reshape(2, 3, 6).transpose(2, 0, 1):
        run.event(descriptor, plain(frame))
    run.stop({"primary": 6})
    pipe = pipe_with(settings, redis, profile(tmp_path, counts=KEYS))
    np.testing.assert_array_equal(ingested(pipe, run), run.counts)
    pipe.stage.close()


def encoder_run(
    rows: int = 5, cols: int = 6, per_cell: int = 3, seed: int = 0
) -> tuple[Run, dict[str, npt.NDArray[Any]]]:
    """A fly scan with more samples than cells; returns arrays (row, sample) and counts (row, sample, det, line)."""
    n = cols * per_cell
    run = Run(rows, cols, seed=seed, extents=[[0.0, rows - 1.0], [10.0, 10.0 + 2 * (cols - 1)]], dwell=0.01)
    x = np.linspace(9.2, 10.8 + 2 * (cols - 1), n) + run.rng.normal(0, 0.05, (rows, n))
    y = np.arange(rows)[:, None] + run.rng.normal(0, 0.1, (rows, n))
    counts = run.rng.poisson(4, (rows, n, 2, 3))
    live = run.rng.uniform(8, 10, (rows, n, 2))
    i0 = run.rng.uniform(900, 1100, (rows, n))
    return run, {"x": x, "y": y, "counts": counts, "live": live, "i0": i0}


def row_of(values: dict[str, npt.NDArray[Any]], row: int) -> dict[str, Any]:
    return plain(np.moveaxis(values["counts"][row], 0, -1)) | {
        **{key: values[key][row] for key in ("x", "y", "i0")},
        **{f"live_det{d + 1}": values["live"][row, :, d] for d in range(2)},
    }


EXTRA = ["x", "y", "i0", "live_det1", "live_det2"]


@pytest.mark.supports("geometry", "encoder positions: samples summed per cell, live times too")
@pytest.mark.parametrize("mode", ["row", "pixel"])
def test_encoder_positions(settings: Settings, redis: Connection, tmp_path: Path, mode: str) -> None:
    run, values = encoder_run()
    descriptor = run.stream("primary", {name: {} for name in [*NAMES, *EXTRA]})
    for row in range(5):
        data = row_of(values, row)
        if mode == "row":
            run.event(descriptor, data)
        else:
            for i in range(18):
                run.event(descriptor, {key: np.asarray(value)[i] for key, value in data.items()})
    run.stop({"primary": 5 if mode == "row" else 90})
    pipe = two_axes(settings, redis, tmp_path)
    counts = ingested(pipe, run)
    cells = np.stack([np.rint(values["y"]), np.rint((values["x"] - 10) / 2)], axis=-1).astype(int).reshape(-1, 2)
    expected = gridded(values["counts"].reshape(90, 2, 3), cells, (5, 6))
    np.testing.assert_array_equal(counts, expected)
    assert counts.sum() == values["counts"].sum()
    buffer = pipe.buffer(run.uid)
    live = gridded(values["live"].reshape(90, 2) / 1000, cells, (5, 6))
    np.testing.assert_allclose(buffer.read_live_time_s(), live, rtol=1e-5)
    # exposure = i0 x live time of a cell is the sum over its samples
    weight = (values["live"] / 1000).mean(-1).reshape(90)
    exposure = gridded(values["i0"].reshape(90) * weight, cells, (5, 6))
    np.testing.assert_allclose(buffer.read_i0() * live.mean(0), exposure, rtol=1e-5)
    assert buffer.measured().all() and pipe.status(run.uid).warnings == ()
    pipe.stage.close()


def test_samples_that_come_again_are_not_counted_twice(settings: Settings, redis: Connection, tmp_path: Path) -> None:
    run, values = encoder_run()
    descriptor = run.stream("primary", {name: {} for name in [*NAMES, *EXTRA]})
    for row in (0, 1, 2, 2, 1, 3, 4, 4):
        wrong = {"x": values["x"][row] + 2.0} if row == 2 and len(run.docs) == 4 else {}
        run.event(descriptor, row_of(values, row) | wrong, seq_num=row + 1)
    pipe = two_axes(settings, redis, tmp_path)
    pipe.send(run.docs[:7])
    pipe.until(lambda: pipe.state(run.uid) is not None and pipe.status(run.uid).pixels_measured > 12)
    pipe.die()  # what was not acknowledged comes again
    pipe = pipe.again()
    pipe.send([*run.docs[5:]])
    run.docs.clear()
    run.stop({"primary": 5})
    counts = ingested(pipe, run)
    assert counts.sum() == values["counts"].sum()
    cells = np.stack([np.rint(values["y"]), np.rint((values["x"] - 10) / 2)], axis=-1).astype(int).reshape(-1, 2)
    np.testing.assert_array_equal(counts, gridded(values["counts"].reshape(90, 2, 3), cells, (5, 6)))
    pipe.stage.close()


@pytest.mark.supports("geometry", "spiral and irregular points on a grid; cells without points are not measured")
@pytest.mark.parametrize("step", [None, 0.8])
def test_spiral(settings: Settings, redis: Connection, tmp_path: Path, step: float | None) -> None:
    run = Run(extents=[[-4.0, 4.0], [-4.0, 4.0]], num_points=120, dwell=0.05)
    del run.docs[0][1]["shape"]
    phi = np.sqrt(np.arange(120)) * 2.4
    radius = 4.9 * np.sqrt(np.arange(120) / 119)
    y, x = radius * np.sin(phi), radius * np.cos(phi)
    counts = run.rng.poisson(5, (120, 2, 3))
    descriptor = run.stream("primary", {name: {} for name in [*NAMES, "x", "y", "i0"]})
    for i in range(120):
        run.event(descriptor, plain(counts[i]) | {"x": x[i], "y": y[i], "i0": 1e3})
    run.stop({"primary": 120})
    pipe = two_axes(settings, redis, tmp_path, shape=None, positions={"step": step} if step else {})
    there = ingested(pipe, run)
    side = 11 if step else round(8 / np.sqrt(64 / 120)) + 1
    cells = np.rint((np.stack([y, x], axis=-1) + 4) / (8 / (side - 1))).astype(int)
    expected = gridded(counts, cells, (side, side))
    np.testing.assert_array_equal(there, expected)
    measured = pipe.buffer(run.uid).measured()
    hit = gridded(np.ones(120), cells, (side, side))
    np.testing.assert_array_equal(measured, hit > 0)
    np.testing.assert_allclose(pipe.buffer(run.uid).read_live_time_s()[0], hit * 0.05, rtol=1e-5)
    warnings = pipe.status(run.uid).warnings
    outside = int(120 - hit.sum())
    assert outside and f"{outside} of 120 samples lie outside the grid; they are kept, but not in the map" in warnings
    assert f"{int((hit == 0).sum())} of {side * side} cells hold no sample and are not measured" in warnings
    pipe.stage.close()


@pytest.mark.supports("geometry", "regions scanned again replace (default) or add")
@pytest.mark.parametrize("repeat", ["replace", "add"])
@pytest.mark.parametrize("mode", ["pixel", "row"])
def test_repeats(settings: Settings, redis: Connection, tmp_path: Path, repeat: str, mode: str) -> None:
    run = Run(3, 4, snaking=[False, True], num_points=36 if repeat == "add" else None)
    passes = run.rng.poisson(5, (3, *run.counts.shape))
    descriptor = run.stream("primary", {name: {} for name in NAMES})
    for number, one in enumerate(passes):
        for row in range(3):
            line = one[:, :, row, ::-1] if row % 2 else one[:, :, row]
            if mode == "row":
                run.event(descriptor, plain(line), seq_num=row + 1 + (number * 3 if repeat == "add" else 0))
                continue
            for col in range(4):
                first = number * 12 if repeat == "add" else 0
                run.event(descriptor, plain(line[..., col]), seq_num=first + row * 4 + col + 1)
    run.stop()
    geometry = {"snake": {"start": "snaking"}, "repeat": repeat, "dwell_s": 0.1}
    pipe = pipe_with(settings, redis, profile(tmp_path, counts=KEYS, geometry=geometry))
    np.testing.assert_array_equal(ingested(pipe, run), passes.sum(0) if repeat == "add" else passes[-1])
    if repeat == "add":
        np.testing.assert_allclose(pipe.buffer(run.uid).read_live_time_s(), 0.3, rtol=1e-6)
    pipe.stage.close()


@pytest.mark.supports("geometry", "aborted runs keep what was measured")
def test_an_aborted_spiral(settings: Settings, redis: Connection, tmp_path: Path) -> None:
    run = Run(extents=[[0.0, 3.0], [0.0, 3.0]], num_points=50)
    descriptor = run.stream("primary", {name: {} for name in [*NAMES, "x", "y"]})
    for i in range(20):
        run.event(descriptor, plain(run.counts[:, :, 0, 0]) | {"x": i % 4, "y": np.nan if i == 3 else i // 4 % 4})
    run.stop({"primary": 20}, exit_status="abort")
    pipe = two_axes(settings, redis, tmp_path, shape=[4, 4])
    counts = ingested(pipe, run, state=RunState.ABORTED)
    assert counts.sum() == 19 * run.counts[:, :, 0, 0].sum()
    status = pipe.status(run.uid)
    assert status.reason == "31 of 50 samples did not come or could not be used"
    assert "frames with positions that are not finite are not measured" in status.warnings
    pipe.stage.close()


@pytest.mark.parametrize(
    ("geometry", "start", "words"),
    [
        ({"positions": {"fast": "nowhere"}}, {}, "geometry.positions.fast wants data key 'nowhere'; keys there are"),
        ({}, {"extents": "wide"}, "gives none that can be used"),
        ({"shape": None}, {}, "no cell size for the grid; set geometry.positions.step"),
    ],
)
def test_a_grid_that_cannot_be_is_explained(
    settings: Settings, redis: Connection, tmp_path: Path, geometry: Any, start: Any, words: str
) -> None:
    run = Run(**({"extents": [[0, 1], [0, 1]]} | start))
    run.stream("primary", {name: {} for name in [*NAMES, "x", "y"]})
    run.stop()
    pipe = two_axes(settings, redis, tmp_path, **geometry)
    pipe.send(run.docs)
    pipe.drain()
    assert pipe.state(run.uid) is RunState.UNUSABLE and words in pipe.status(run.uid).reason
    pipe.stage.close()


@pytest.mark.supports("geometry", "stacks: every map a run of its own (`UID-0000`, `UID-0001` ...)")
@pytest.mark.parametrize("mode", ["pixel", "row"])
@pytest.mark.parametrize("killed", [False, True])
def test_stacks(settings: Settings, redis: Connection, tmp_path: Path, mode: str, killed: bool) -> None:
    run = Run(3, 4, shape=[3, 3, 4], num_points=36, snaking=[False, False, True])
    maps = run.rng.poisson(5, (3, *run.counts.shape)).astype(np.uint32)
    descriptor = run.stream("primary", {name: {} for name in NAMES})
    for one in maps:
        for row in range(3):
            line = one[:, :, row, ::-1] if row % 2 else one[:, :, row]
            if mode == "row":
                run.event(descriptor, plain(line))
            else:
                run.page(descriptor, {k: list(v) for k, v in plain(line).items()})
    run.stop({"primary": 9 if mode == "row" else 36})
    pipe = pipe_with(settings, redis, profile(tmp_path, counts=KEYS, geometry={"snake": {"start": "snaking"}}))
    uids = [f"{run.uid}-{number:04d}" for number in range(3)]
    if killed:
        pipe.send(run.docs[:8])
        pipe.until(lambda: pipe.state(uids[1]) is not None)
        assert pipe.state(uids[0]) is RunState.COMPLETE, "a map is over when the next one begins"
        pipe.die()
        pipe = pipe.again()
        pipe.send(run.docs[8:])
    else:
        pipe.send(run.docs)
    pipe.drain(60)
    for uid, counts in zip(uids, maps, strict=True):
        status = pipe.status(uid)
        assert (status.state, status.warnings) == (RunState.COMPLETE, ())
        np.testing.assert_array_equal(pipe.counts(uid), counts)
        assert status.info is not None and status.info.metadata["stack"]["run"] == run.uid
    assert pipe.state(run.uid) is None, "the stack itself is no map"
    pipe.stage.close()


def test_a_stack_restarted_between_two_maps(settings: Settings, redis: Connection, tmp_path: Path) -> None:
    run = Run(3, 4, shape=[3, 3, 4])
    descriptor = run.stream("primary", {name: {} for name in NAMES})
    maps = run.rng.poisson(5, (3, *run.counts.shape)).astype(np.uint32)
    for one in maps:
        for row in range(3):
            run.event(descriptor, plain(one[:, :, row]))
    run.stop({"primary": 9})
    pipe = pipe_with(settings, redis, profile(tmp_path, counts=KEYS))
    uids = [f"{run.uid}-{number:04d}" for number in range(3)]
    pipe.send(run.docs[:5])  # start, descriptor, the first map
    pipe.until(lambda: pipe.state(uids[0]) is not None and bool(pipe.status(uids[0]).rows_measured == 3))
    assert pipe.state(uids[0]) is RunState.RUNNING
    pipe.die()
    pipe = pipe.again()
    pipe.send(run.docs[5:6])
    pipe.until(lambda: pipe.state(uids[1]) is RunState.RUNNING)
    pipe.until(lambda: pipe.state(uids[0]) is RunState.COMPLETE)
    pipe.send(run.docs[6:])
    pipe.drain(60)
    for uid, counts in zip(uids, maps, strict=True):
        assert pipe.state(uid) is RunState.COMPLETE
        np.testing.assert_array_equal(pipe.counts(uid), counts)
    pipe.stage.close()


@pytest.mark.supports("geometry", "runs that grow: the number of rows is not known at the start")
@pytest.mark.parametrize(("shape", "order"), [([None, 4], "slow_fast"), ([4, -1], "fast_slow"), ([4], "slow_fast")])
@pytest.mark.parametrize("frames", [20, 18])
def test_runs_that_grow(
    settings: Settings, redis: Connection, tmp_path: Path, shape: list[Any], order: str, frames: int
) -> None:
    run = Run(5, 4, shape=shape, num_points=None)
    descriptor = run.stream("primary", {name: {} for name in NAMES})
    for frame in run.counts.reshape(2, 3, 20).transpose(2, 0, 1)[:frames]:
        run.event(descriptor, plain(frame))
    run.stop({"primary": frames})
    pipe = pipe_with(settings, redis, profile(tmp_path, counts=KEYS, geometry={"order": order, "most_rows": 8}))
    pipe.send(run.docs)
    pipe.drain(60)
    status = pipe.status(run.uid)
    assert status.info is not None and status.info.shape == (8, 4)
    assert status.state is (RunState.COMPLETE if frames == 20 else RunState.INCOMPLETE), status.reason
    if frames == 18:
        assert status.reason == "2 of 20 pixels were not measured (row 4)"
    flat = pipe.counts(run.uid).reshape(2, 3, -1)
    np.testing.assert_array_equal(flat[..., :frames], run.counts.reshape(2, 3, -1)[..., :frames])
    pipe.stage.close()


@pytest.mark.supports("geometry", "runs that grow: a plan adds rows to those that it announced")
@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        (3, ""),
        (5, ""),
        (2, "4 of 12 pixels were not measured (row 2)"),
        (4.5, "2 of 20 pixels were not measured (row 4)"),
    ],
)
def test_rows_that_are_added(settings: Settings, redis: Connection, tmp_path: Path, rows: float, reason: str) -> None:
    """Three are announced, and there is room for two more; fewer than three are too few."""
    geometry = {"more_rows": 2, "extents": {"start": "extents"}}
    run = Run(5, 4, shape=[3, 4], extents=[[0, 2], [0, 3]], num_points=12)
    descriptor = run.stream("primary", {name: {} for name in NAMES})
    frames = int(4 * rows)
    for frame in run.counts.reshape(2, 3, 20).transpose(2, 0, 1)[:frames]:
        run.event(descriptor, plain(frame))
    run.stop({"primary": frames})
    pipe = pipe_with(settings, redis, profile(tmp_path, counts=KEYS, geometry=geometry))
    pipe.send(run.docs)
    pipe.drain(60)
    status = pipe.status(run.uid)
    assert status.info is not None and status.info.shape == (5, 4) and status.info.step == (1, 1)
    assert status.state is (RunState.INCOMPLETE if reason else RunState.COMPLETE) and status.reason == reason
    flat = pipe.counts(run.uid).reshape(2, 3, -1)
    np.testing.assert_array_equal(flat[..., :frames], run.counts.reshape(2, 3, -1)[..., :frames])
    pipe.stage.close()


def test_more_rows_than_announced(settings: Settings, redis: Connection, tmp_path: Path) -> None:
    """What lies behind the announced map is set aside with the reason; the map itself is whole."""
    run = Run(3, 4)
    descriptor = run.stream("primary", {name: {} for name in NAMES})
    for row in (0, 1, 2, 0, 1):
        run.event(descriptor, plain(run.counts[:, :, row]))
    run.stop({"primary": 5})
    pipe = pipe_with(settings, redis, profile(tmp_path, counts=KEYS))
    pipe.send(run.docs)
    pipe.drain(60)
    status = pipe.status(run.uid)
    np.testing.assert_array_equal(pipe.counts(run.uid), run.counts)
    assert any("announce" in text or "beyond" in text or "outside" in text for text in status.warnings)
    pipe.stage.close()


def test_a_streamed_stack(settings: Settings, redis: Connection, tmp_path: Path) -> None:
    run = Run(3, 4, shape=[2, 3, 4])
    maps = run.rng.poisson(5, (2, *run.counts.shape)).astype(np.uint32)
    path = write(tmp_path / "stack.h5", {"d": np.moveaxis(maps, (0, 3, 4), (0, 1, 2)).reshape(24, 2, 3)})
    dataset = {"data_key": "xs", "axes": ["frame", "detector", "line"], "detectors": ["a", "b"], "lines": list(LINES)}
    descriptor = run.stream("primary", {"xs": {"external": "STREAM:", "dtype": "array", "shape": [1, 2, 3]}})
    doc = {"uid": "r", "run_start": run.uid, "data_key": "xs", "uri": f"file://localhost{path}"}
    run.docs.append(("stream_resource", doc | {"mimetype": "application/x-hdf5", "parameters": {"dataset": "d"}}))
    for first, stop in ((0, 7), (7, 19), (19, 24)):
        ranges = {"indices": {"start": first, "stop": stop}, "seq_nums": {"start": first + 1, "stop": stop + 1}}
        datum = {"uid": f"r/{first}", "stream_resource": "r", "descriptor": descriptor}
        run.docs.append(("stream_datum", datum | ranges))
    run.stop({"primary": 24})
    pipe = pipe_with(settings, redis, profile(tmp_path, counts={"dataset": dataset}))
    pipe.send(run.docs)
    pipe.drain(60)
    for number, counts in enumerate(maps):
        np.testing.assert_array_equal(pipe.counts(f"{run.uid}-{number:04d}"), counts)
        assert pipe.state(f"{run.uid}-{number:04d}") is RunState.COMPLETE
    pipe.stage.close()
