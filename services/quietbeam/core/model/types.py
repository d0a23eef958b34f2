"""Values that cross the seams between stages. Frozen; arrays inside are not copied and must not be changed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from enum import StrEnum
from typing import Any

import numpy as np
import numpy.typing as npt

from .evidence import CountKind

FloatArray = npt.NDArray[np.float32]
Float64Array = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]
NumericArray = npt.NDArray[Any]
"""Integers or floats, of any size."""


class RunState(StrEnum):
    """State of a run's data, as ingest sees it."""

    RUNNING = "running"
    PAUSED = "paused"
    COMPLETE = "complete"
    """The run stopped with success and every pixel was measured."""
    INCOMPLETE = "incomplete"
    """The run stopped with success, but pixels are missing; `reason` says which."""
    ABORTED = "aborted"
    FAILED = "failed"
    STALE = "stale"
    """No document for longer than `ingest.stale_after`, and no stop document."""
    UNUSABLE = "unusable"
    """Nothing can be mapped; `reason` says why and what to do."""

    @property
    def ended(self) -> bool:
        """True when no more rows are expected (a stale run may come back)."""
        return self in {
            RunState.COMPLETE,
            RunState.INCOMPLETE,
            RunState.ABORTED,
            RunState.FAILED,
            RunState.UNUSABLE,
        }


class PixelOrder(StrEnum):
    """How the order of a run's pixels is known."""

    ASSUMED = "assumed"
    """The plan announces it; no measured positions came."""
    VERIFIED = "verified"
    """The plan announces it, and the measured positions agree."""
    FROM_POSITIONS = "from_positions"
    """The measured positions contradict the plan: each pixel lies where it was measured."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunInfo:
    """What is known of a run when its buffer is made.

    `order`, `step`, `origin` and the positions of rows and columns follow the readbacks of the motors once these came;
    everything else never changes.

    Attributes
    ----------
    uid
        Bluesky run uid.
    lines, detectors
        Names, in the order of the array axes.
    shape
        Map shape (row, col) = (slow, fast) in pixels.
    kind
        ``counts`` (integers) or ``areas`` (fitted, float).
    step
        Pixel size (row, col) in `units`, or None when unknown.
    origin
        Position (row, col) of pixel (0, 0) in `units`.
    snake
        True when odd rows are scanned backwards.
    order
        How the order of the pixels is known.
    axes
        Names of the (row, col) motors; () when unknown.
    position_axes
        The same names in the order in which the plan announces them, and the buffer keeps their positions.
    row_positions, col_positions
        Measured positions of rows and columns in `units` where they are not evenly spaced (else `origin` and `step`
        say them); None otherwise.
    horizontal
        Axis that is shown horizontally: ``fast``, ``slow`` or the name of a motor.
    vertical
        Whether the positions of the vertical axis are shown rising ``up`` or ``down``.
    has_positions
        True when the buffer keeps the measured position of every pixel.
    positions_in_units
        False where the kept positions are of encoders without a known unit: they say the order, and no coordinates.
    dwell_s
        Nominal dwell per pixel in seconds, or None.
    time_start
        Time of the start document, seconds since 1970 (data, never used for scheduling).
    detector_positions
        Where a detector sits, (x, y) seen from the sample, y upwards, by its name; empty where nobody said.
    metadata
        The start document, less bulky entries; plain JSON types.
    """

    uid: str
    lines: tuple[str, ...]
    detectors: tuple[str, ...]
    shape: tuple[int, int]
    kind: CountKind = "counts"
    scan_id: int | None = None
    plan: str = ""
    profile: str = ""
    step: tuple[float, float] | None = None
    origin: tuple[float, float] | None = None
    units: str = "um"
    snake: bool = False
    order: PixelOrder = PixelOrder.ASSUMED
    axes: tuple[str, str] | tuple[()] = ()
    position_axes: tuple[str, str] | tuple[()] = ()
    row_positions: tuple[float, ...] | None = None
    col_positions: tuple[float, ...] | None = None
    horizontal: str = "fast"
    vertical: str = "down"
    has_positions: bool = False
    positions_in_units: bool = True
    dwell_s: float | None = None
    time_start: float = 0.0
    source: str = ""
    has_i0: bool = False
    has_live_time: bool = False
    detector_positions: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    metadata: Mapping[str, Any] = field(default_factory=dict)

    @property
    def stack(self) -> tuple[str, int]:
        """The run that this is a map of, and its number there; ('', 0) where it is a run of its own."""
        place = self.metadata.get("stack")
        if not isinstance(place, Mapping) or not isinstance(place.get("map"), int):
            return "", 0
        return str(place.get("run", "")), place["map"]

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON types."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> RunInfo:
        """Build from :meth:`to_dict`; unknown keys of newer versions are ignored."""
        known = {f.name for f in fields(cls)}
        tuples = {
            "lines",
            "detectors",
            "shape",
            "step",
            "origin",
            "axes",
            "position_axes",
            "row_positions",
            "col_positions",
        }
        values: dict[str, Any] = {
            k: tuple(v) if k in tuples and v is not None else v for k, v in data.items() if k in known
        }
        values["order"] = PixelOrder(values.get("order", PixelOrder.ASSUMED))
        places = values.get("detector_positions") or {}
        values["detector_positions"] = {name: (float(x), float(y)) for name, (x, y) in places.items()}
        return cls(**values)


@dataclass(frozen=True, slots=True, kw_only=True)
class RowBlock:
    """One row of frames: the unit of commit.

    Attributes
    ----------
    counts
        (detector, line, col); uint32 counts or float32 areas. 0 where not measured.
    measured
        (col,) bool.
    i0
        (col,) float32, or None.
    live_time_s
        (detector, col) float32 in seconds, or None.
    positions
        (2, col) float64 measured (slow, fast) positions, NaN where unknown; None when the run has none.
    """

    counts: npt.NDArray[Any]
    measured: BoolArray
    i0: FloatArray | None = None
    live_time_s: FloatArray | None = None
    positions: npt.NDArray[np.float64] | None = None
