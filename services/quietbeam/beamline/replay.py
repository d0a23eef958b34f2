"""A measured map as the Bluesky documents of a live scan."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any, Literal

import numpy as np
from event_model import compose_run

from quietbeam.core.errors import InputError
from quietbeam.spectra import LineMap

from .plans import BEAMLINE_ID

Grain = Literal["pixel", "row"]
Document = tuple[str, Any, float]


def replay_documents(
    measured: LineMap, *, grain: Grain = "pixel", snake: bool = False, step_um: float | None = None
) -> Iterator[Document]:
    """Yield (name, document, seconds of measuring before it).

    Pixels that were not measured have no event; the sequence numbers of the others stay their places in the scan.

    Parameters
    ----------
    grain
        One event for each pixel with scalars, or for each row with arrays along it.
    snake
        Send odd rows backwards, as a snaked scan measures them.
    step_um
        Pixel size; None leaves the extents out.
    """
    if grain == "row" and not measured.measured.all():
        raise InputError("the map has pixels that were not measured: replay it pixel by pixel")
    if grain == "row" and snake:
        raise InputError("whole rows have no snake: replay pixel by pixel")
    info = measured.info
    rows, cols = info.shape
    start: dict[str, Any] = {
        "beamline_id": BEAMLINE_ID if measured.counts.dtype.kind == "u" else f"{BEAMLINE_ID}-areas",
        "plan_name": "replay",
        "plan_args": {"file": info.source, "grain": grain},
        "shape": [rows, cols],
        "snaking": [False, snake],
        "num_points": rows * cols,
        "detectors": ["xs"],
        "motors": ["sample_y", "sample_x"],
        "units": "um",
        "sample": {"name": info.source},
    }
    if info.dwell_s is not None:
        start["dwell_s"] = info.dwell_s
    if step_um is not None:
        start["extents"] = [[0.0, step_um * (n - 1)] for n in info.shape]
    readings = _readings(measured)
    length = [] if grain == "pixel" else [cols]
    data_keys = {
        key: {
            "source": f"file:{info.source}",
            "dtype": ("integer" if values.dtype.kind in "iu" else "number") if grain == "pixel" else "array",
            "dtype_numpy": values.dtype.str,
            "shape": length,
            "object_name": "i0" if key == "i0" else "xs",
        }
        for key, values in readings.items()
    }
    run = compose_run(metadata=start)
    yield "start", run.start_doc, 0.0
    descriptor = run.compose_descriptor(
        name="primary",
        data_keys=data_keys,
        configuration={"xs": _configuration(measured)},
        object_keys={name: [k for k in data_keys if data_keys[k]["object_name"] == name] for name in ("xs", "i0")},
    )
    yield "descriptor", descriptor.descriptor_doc, 0.0
    dwell = info.dwell_s or 0.0
    for index in range(rows * cols if grain == "pixel" else rows):
        row, along = divmod(index, cols) if grain == "pixel" else (index, 0)
        col = cols - 1 - along if snake and row % 2 else along
        seconds = dwell if grain == "pixel" else dwell * cols
        if grain == "pixel" and not measured.measured[row, col]:
            continue
        place: Any = (row, col) if grain == "pixel" else row
        data = {k: v[place].item() if grain == "pixel" else v[place].copy() for k, v in readings.items()}
        now = time.time()
        event = descriptor.compose_event(
            data=data, timestamps=dict.fromkeys(data, now), seq_num=index + 1, validate=False
        )
        yield "event", event, seconds
    yield "stop", run.compose_stop(), 0.0


def _readings(measured: LineMap) -> dict[str, np.ndarray[Any, Any]]:
    """Return a (row, col) array for each key of the events."""
    info = measured.info
    readings: dict[str, np.ndarray[Any, Any]] = {}
    wire = "<u4" if measured.counts.dtype.kind == "u" else "<f4"
    for d, detector in enumerate(info.detectors):
        for n, line in enumerate(measured.lines):
            readings[f"xs_{detector}_{line}"] = measured.counts[d, n].astype(wire)
        if info.live_time_s is not None:
            readings[f"xs_{detector}_live_time_s"] = info.live_time_s[d].astype("<f8")
    if info.i0 is not None:
        readings["i0"] = info.i0.astype("<f8")
    return readings


def _configuration(measured: LineMap) -> dict[str, Any]:
    now = time.time()
    names = {"xs_detector_names": list(measured.info.detectors), "xs_line_names": list(measured.lines)}
    return {
        "data": names,
        "timestamps": dict.fromkeys(names, now),
        "data_keys": {
            key: {
                "source": "replay",
                "dtype": "array",
                "dtype_numpy": f"<U{max(map(len, value))}",
                "shape": [len(value)],
            }
            for key, value in names.items()
        },
    }
