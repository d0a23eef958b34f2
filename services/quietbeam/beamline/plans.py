"""Plans of the simulated beamline. They can be paused, resumed and aborted; documents come while the scan runs."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from pathlib import Path
from typing import Any, Literal

import bluesky.plan_stubs as bps
import bluesky.plans as bp
import bluesky.preprocessors as bpp
from bluesky.utils import Msg

from .devices import I0, FluorescenceDetector, Stages, make_detector
from .experiment import Experiment
from .fly import FlyDetector
from .pace import Pace

BEAMLINE_ID = "quietbeam-simulated"
Mode = Literal["step", "snake", "fly"]
Plan = Generator[Msg, Any, Any]

_FLUSH_S = 0.05


def start_metadata(experiment: Experiment, md: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return what the start document says beyond the plan's own entries. Nothing of the truth."""
    return {
        "beamline_id": BEAMLINE_ID,
        "dwell_s": experiment.options.dwell_s,
        "units": "um",
        "sample": {"name": experiment.specimen},
        **(md or {}),
    }


def make_plan(
    mode: Mode,
    experiment: Experiment,
    *,
    speed: float = 1.0,
    folder: Path = Path(),
    burst: int | None = None,
    md: Mapping[str, Any] | None = None,
) -> Plan:
    """Return the plan of one map with devices of its own.

    Parameters
    ----------
    mode
        ``step`` (raster), ``snake`` (odd rows backwards) or ``fly`` (rows in flight, odd ones backwards).
    speed
        1 keeps the dwell in real time, 0 goes as fast as possible.
    folder, burst
        Where the fly detector writes, and how many frames it announces at once (:class:`FlyDetector`).
    """
    pace, stages = Pace(speed), Stages(experiment.options.shape, experiment.options.step_um)
    if mode == "fly":
        return fly_map(experiment, FlyDetector(experiment, pace, folder, burst=burst), stages, md=md)
    i0 = I0()
    detector = make_detector(experiment, stages.where, i0, pace)
    return step_map(experiment, detector, i0, stages, snake=mode == "snake", md=md)


def step_map(
    experiment: Experiment,
    detector: FluorescenceDetector,
    i0: I0,
    stages: Stages,
    *,
    snake: bool = False,
    md: Mapping[str, Any] | None = None,
) -> Plan:
    """Step raster, one event per pixel: bluesky's own ``grid_scan``."""
    rows, cols = experiment.options.shape
    (slow_low, slow_high), (fast_low, fast_high) = stages.extents
    return (
        yield from bp.grid_scan(
            [detector, i0],
            stages.slow,
            slow_low,
            slow_high,
            rows,
            stages.fast,
            fast_low,
            fast_high,
            cols,
            snake_axes=snake,
            per_step=_step,
            md=start_metadata(experiment, md),
        )
    )


def fly_map(
    experiment: Experiment,
    detector: FlyDetector,
    stages: Stages,
    *,
    md: Mapping[str, Any] | None = None,
) -> Plan:
    """Fly scan row by row; frames are announced while the row is being written."""
    rows, cols = experiment.options.shape
    snake = detector.snake
    start = {
        "plan_name": "fly_map",
        "plan_args": {"shape": [rows, cols], "snake": snake},
        "shape": [rows, cols],
        "extents": [list(extent) for extent in stages.extents],
        "snaking": [False, snake],
        "num_points": rows * cols,
        "motors": [stages.slow.name, stages.fast.name],
        "detectors": [detector.name],
        "hints": {
            "gridding": "rectilinear",
            "dimensions": [[[stages.slow.name], "primary"], [[stages.fast.name], "primary"]],
        },
        **start_metadata(experiment, md),
    }

    @bpp.stage_decorator([detector])
    @bpp.run_decorator(md=start)
    def scan() -> Plan:
        yield from bps.declare_stream(detector, name="primary", collect=True)
        for row in range(rows):
            yield from bps.checkpoint()
            yield from bps.mv(stages.slow, _position(stages, 0, row, rows))
            yield from bps.mv(stages.fast, stages.extents[1][1 if snake and row % 2 else 0])
            yield from bps.prepare(detector, row, wait=True)
            yield from bps.kickoff(detector, wait=True)
            yield from bps.complete(detector, group="row", wait=False)
            done = False
            while not done:
                done = yield from bps.wait(group="row", timeout=_FLUSH_S, error_on_timeout=False)
                while detector.unannounced:
                    yield from bps.collect(detector, name="primary")

    return (yield from scan())


def _step(detectors: Any, step: Any, pos_cache: Any, _take_reading: Any = None) -> Plan:
    """Do what ``bps.one_nd_step`` does, in bare messages: its plan stubs format a stack trace each (1 ms a pixel)."""
    yield Msg("checkpoint")
    for motor, position in step.items():
        if position != pos_cache[motor]:
            yield Msg("set", motor, position, group="move")
            pos_cache[motor] = position
    yield Msg("wait", None, group="move")
    for detector in detectors:
        yield Msg("trigger", detector, group="expose")
    yield Msg("wait", None, group="expose")
    yield Msg("create", None, name="primary")
    for device in (*detectors, *step):
        yield Msg("read", device)
    yield Msg("save")


def _position(stages: Stages, axis: int, index: int, n: int) -> float:
    low, high = stages.extents[axis]
    return low if n == 1 else low + (high - low) * index / (n - 1)
