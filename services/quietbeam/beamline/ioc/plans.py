"""Plans for the IOC's devices: a map point by point, passes over the same map, a map row by row in flight."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import bluesky.plan_stubs as bps
import bluesky.plans as bp
import bluesky.preprocessors as bpp

from ..plans import Plan
from .devices import Devices, Sample

if TYPE_CHECKING:
    from .async_devices import AsyncDevices

BEAMLINE_ID = "quietbeam-ioc"
_FLUSH_S = 0.1


def start_metadata(sample: Sample, md: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return what the start document says of the sample; lines and energy for those who cut spectra."""
    return {
        "beamline_id": BEAMLINE_ID,
        "dwell_s": sample.dwell_s,
        "units": "um",
        "sample": {"name": sample.name},
        "lines": list(sample.lines),
        **(md or {}),
    }


def step_map(devices: Devices, *, snake: bool = True, md: Mapping[str, Any] | None = None) -> Plan:
    """One event per pixel: bluesky's own ``grid_scan``."""
    sample = devices.sample
    (slow_low, slow_high), (fast_low, fast_high) = sample.extents
    yield from bps.mv(devices.detector.cam.acquire_time, sample.dwell_s)
    return (
        yield from bp.grid_scan(
            [devices.detector, devices.i0],
            devices.slow,
            slow_low,
            slow_high,
            sample.shape[0],
            devices.fast,
            fast_low,
            fast_high,
            sample.shape[1],
            snake_axes=snake,
            md=start_metadata(sample, md),
        )
    )


def passes_map(devices: Devices, passes: int, *, md: Mapping[str, Any] | None = None) -> Plan:
    """One run, at most `passes` times over the same pixels, snaked; the profile adds the passes up.

    The plan can be ended at any checkpoint (:func:`quietbeam.runengine.stop_at_snr`), so it announces no number of
    points.
    """
    sample = devices.sample
    start = {
        **_map_metadata(sample, "passes_map", [devices.slow.name, devices.fast.name], snake=True),
        "passes": passes,
        **start_metadata(sample, md),
    }
    detectors = [devices.detector, devices.i0]

    @bpp.stage_decorator([*detectors, devices.slow, devices.fast])
    @bpp.run_decorator(md=start)
    def scan() -> Plan:
        yield from bps.mv(devices.detector.cam.acquire_time, sample.dwell_s)
        for number in range(passes):
            for row, col in _snake(sample.shape, number):
                yield from bps.checkpoint()
                yield from bps.mv(devices.slow, _at(sample, 0, row), devices.fast, _at(sample, 1, col))
                yield from bps.trigger_and_read([*detectors, devices.slow, devices.fast])

    return (yield from scan())


def fly_map(devices: AsyncDevices, *, speed: float = 1.0, md: Mapping[str, Any] | None = None) -> Plan:
    """Rows in flight, odd ones backwards: the fast axis triggers the detector at every pixel, HDF5 takes the spectra.

    Parameters
    ----------
    speed
        Factor to the velocity at which a pixel takes one dwell; 0: as fast as the stage goes.
    """
    sample, detector, slow, fast = devices.sample, devices.detector, devices.slow, devices.fast
    rows, cols = sample.shape
    start = {
        **_map_metadata(sample, "fly_map", [slow.name, fast.name], snake=True),
        "num_points": rows * cols,
        **start_metadata(sample, md),
    }

    @bpp.stage_decorator([detector])
    @bpp.run_decorator(md=start)
    def scan() -> Plan:
        yield from bps.mv(detector.driver.acquire_time, sample.dwell_s)
        quick = yield from bps.rd(fast.max_velocity)
        along = min(speed * sample.step_um / sample.dwell_s, quick) if speed else quick
        ends = _at(sample, 1, -1), _at(sample, 1, cols)
        for row in range(rows):
            begin, end = ends[:: -1 if row % 2 else 1]
            yield from bps.checkpoint()
            yield from bps.abs_set(fast.velocity, quick, wait=True)
            yield from bps.mv(slow, _at(sample, 0, row), fast, begin)
            yield from bps.abs_set(fast.velocity, along, wait=True)
            yield from bps.prepare(detector, devices.row_trigger(cols), wait=True)
            if row == 0:
                yield from bps.declare_stream(detector, name="primary", collect=True)
            yield from bps.kickoff(detector, wait=True)
            yield from bps.abs_set(fast, end, group="row")
            yield from bps.collect_while_completing(
                [detector], [detector], flush_period=_FLUSH_S, stream_name="primary"
            )
            yield from bps.wait("row")
        yield from bps.abs_set(fast.velocity, quick, wait=True)

    return (yield from scan())


def _map_metadata(sample: Sample, plan_name: str, motors: list[str], *, snake: bool) -> dict[str, Any]:
    return {
        "plan_name": plan_name,
        "shape": list(sample.shape),
        "extents": [list(extent) for extent in sample.extents],
        "snaking": [False, snake],
        "motors": motors,
        "hints": {"gridding": "rectilinear", "dimensions": [[[motor], "primary"] for motor in motors]},
    }


def _at(sample: Sample, axis: int, index: int) -> float:
    return sample.extents[axis][0] + sample.step_um * index


def _snake(shape: tuple[int, int], number: int) -> list[tuple[int, int]]:
    """Return the pixels of one pass; odd passes go the way back."""
    way = [(row, col if row % 2 == 0 else shape[1] - 1 - col) for row in range(shape[0]) for col in range(shape[1])]
    return way[::-1] if number % 2 else way
