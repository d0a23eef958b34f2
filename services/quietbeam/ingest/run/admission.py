"""What is known of a run before its buffer is made, and whether there is room for it."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Mapping
from typing import Any

import orjson

from quietbeam.core.errors import InputError
from quietbeam.core.model.types import RunInfo
from quietbeam.core.settings import Settings

from ..documents.model import Start, Stop
from ..profile.layout import Layout
from .condition import RunCondition

MOST_CELLS = 65_536
"""Columns of a grid in which samples are summed: a row of it is in memory."""
_OVERHEAD = 2 * 1024 * 1024


def admit(info: RunInfo, settings: Settings, *, sums: bool = False) -> list[str]:
    """Check a run's size before anything is allocated; return warnings.

    Parameters
    ----------
    sums
        Pixels are sums of samples.

    Raises
    ------
    InputError
        Too many pixels, too large a buffer, or too little disk; the message says what to change.
    OSError
        The disk is full: no run can begin, call again.
    """
    limits = settings.ingest
    pixels = info.shape[0] * info.shape[1]
    n_line, n_det = len(info.lines), len(info.detectors)
    size = pixels * (4 * n_det * n_line + 12 * n_line + 4 * n_det + 5)
    if pixels > limits.max_pixels:
        raise InputError(
            f"run {info.uid}: {pixels} pixels are more than ingest.max_pixels ({limits.max_pixels}); raise the limit, "
            "or check where geometry.shape of the profile points"
        )
    if size > limits.max_buffer_bytes:
        raise InputError(
            f"run {info.uid}: its buffer would take {size} bytes, more than ingest.max_buffer_bytes "
            f"({limits.max_buffer_bytes}); raise the limit or measure fewer lines"
        )
    if sums and info.shape[1] > MOST_CELLS:
        raise InputError(
            f"run {info.uid}: a grid of {info.shape[1]} columns, at most {MOST_CELLS} can be summed; give a larger "
            "cell size, or check the extents of the plan"
        )
    folder = settings.runs_dir
    folder.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(folder).free
    if free < _OVERHEAD:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder))
    if free < size // 4 + _OVERHEAD:
        raise InputError(f"run {info.uid}: its buffer may take {size} bytes, {folder} has {free} free; make room")
    return [f"the buffer may take {size} bytes, the disk has only {free} free"] if free < size else []


def run_info(start: Start, layout: Layout, source: str) -> RunInfo:
    """Return what a start document and a layout say about the run."""
    doc, geometry = start.doc, layout.geometry
    scan_id, plan = scan_id_and_plan(doc)
    return RunInfo(
        uid=start.run,
        lines=layout.lines,
        detectors=layout.detectors,
        shape=geometry.shape,
        kind=layout.kind,
        scan_id=scan_id,
        plan=plan,
        profile=layout.profile_name,
        step=geometry.step,
        origin=geometry.origin,
        units=(layout.motors.units if not layout.motors.order_only else "") or geometry.units,
        axes=layout.motors.names,
        position_axes=layout.motors.names,
        horizontal=geometry.display.horizontal,
        vertical=geometry.display.vertical,
        has_positions=bool(layout.motors.keys) and not geometry.sums,
        positions_in_units=not layout.motors.order_only,
        snake=geometry.snake,
        dwell_s=geometry.dwell_s,
        time_start=start.time,
        source=source,
        has_i0=layout.has_i0,
        has_live_time=layout.has_live_time or geometry.sums,
        detector_positions=layout.detector_positions,
        metadata=_plain_metadata(doc),
    )


def scan_id_and_plan(doc: Mapping[str, Any]) -> tuple[int | None, str]:
    """Return the scan id and the name of the plan in a start document; None and "" where there is none."""
    scan_id = doc.get("scan_id")
    is_number = isinstance(scan_id, int) and not isinstance(scan_id, bool)
    return (scan_id if is_number else None), str(doc.get("plan_name", ""))[:200]


def status_without_map(start: Start | None, stop: Stop | None, condition: RunCondition) -> dict[str, Any]:
    """Return the fields of a run's hash that ingest writes, as long as the run has no map."""
    scan_id, plan = scan_id_and_plan(start.doc if start is not None else {})
    return {
        "info": None,
        "scan_id": scan_id,
        "plan": plan,
        "time_start": start.time if start is not None else None,
        "state": condition.state.value,
        "reason": condition.reason,
        "time_stop": stop.time if stop is not None else None,
        "rows_measured": 0,
        "pixels_measured": 0,
        "warnings": condition.warnings,
    }


def _plain_metadata(doc: Mapping[str, Any], max_bytes: int = 4096) -> dict[str, Any]:
    """Return the entries of a start document that are plain and small, as JSON types."""
    plain: dict[str, Any] = {}
    for key, value in doc.items():
        try:
            text = orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS)
        except (TypeError, ValueError):
            continue
        if len(text) <= max_bytes:
            plain[str(key)] = orjson.loads(text)
    return plain
