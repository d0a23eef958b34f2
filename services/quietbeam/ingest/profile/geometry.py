"""Where a frame lies in the map: acquisition index to (row, col), from the start document as the profile says."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from quietbeam.core.errors import ProfileError

from .schema import MISSING, GeometrySection, Profile, lookup


@dataclass(frozen=True, slots=True, kw_only=True)
class Geometry:
    """Shape and scan order of a map.

    Attributes
    ----------
    shape
        (row, col) = (slow, fast) in pixels.
    snake
        True when odd rows are scanned backwards.
    step, origin
        Pixel size and position of pixel (0, 0), (row, col) in `units`; None when unknown.
    dwell_s
        Nominal dwell per pixel in seconds, or None.
    frames
        Maps in the run: more than 1 for a stack (tomography, time series).
    gridded
        True when samples go to cells by their measured positions.
    adds
        True when pixels that are measured again after the last one add up.
    points
        Samples that the plan announces, or None.
    least_rows
        Rows that the plan announces, where there may be more or it does not say (0): `shape` has the most, and the last
        one that was measured ends the map. None: it has as many rows as `shape`.
    """

    shape: tuple[int, int]
    snake: bool = False
    step: tuple[float, float] | None = None
    origin: tuple[float, float] | None = None
    units: str = "um"
    dwell_s: float | None = None
    frames: int = 1
    gridded: bool = False
    adds: bool = False
    points: int | None = None
    least_rows: int | None = None

    @property
    def pixels(self) -> int:
        """Number of pixels."""
        return self.shape[0] * self.shape[1]

    @property
    def sums(self) -> bool:
        """True when a pixel can hold several samples."""
        return self.gridded or self.adds

    def place(self, index: int) -> tuple[int, int]:
        """Return (row, col) of the frame that was measured as number `index` (from 0)."""
        row, col = divmod(index, self.shape[1])
        return row, (self.shape[1] - 1 - col if self.snake and row % 2 else col)

    def columns(self, row: int, start: int, stop: int) -> npt.NDArray[np.intp]:
        """Return the columns of the frames measured as number ``[start, stop)`` within `row`."""
        columns = np.arange(start, stop)
        return self.shape[1] - 1 - columns if self.snake and row % 2 else columns


def geometry_of(profile: Profile, start: Mapping[str, Any]) -> Geometry:
    """Read the geometry from a start document.

    Raises
    ------
    ProfileError
        No usable shape; the message names the profile, the entry and the remedy.
    """
    section = profile.geometry
    points: Any = start.get("num_points")
    points = int(points) if _is_number(points) and points == int(points) > 0 else None
    grows = section.most_rows is not None and _rows_open(section, start)
    if section.shape is not None:
        frames, shape = _shape(profile.name, section, start, grows=grows)
    else:
        frames, shape = 1, _grid(profile.name, section, start, points)
    more = 0 if grows or frames > 1 else section.more_rows
    step, origin = _extents(section, start, shape)
    if section.positions is not None and step is None:
        raise ProfileError(
            f"profile {profile.name!r}: positions are put on a grid, which needs extents; "
            f"{section.extents.describe() if section.extents else 'geometry.extents'} gives none that can be used"
        )
    dwell: Any = section.dwell_s.value(start) if section.dwell_s is not None else MISSING
    return Geometry(
        shape=(shape[0] + more, shape[1]),
        snake=_snake(section, start),
        step=step,
        origin=origin,
        units=section.units,
        dwell_s=float(dwell) if _is_number(dwell) and dwell > 0 else None,
        frames=frames,
        gridded=section.positions is not None,
        adds=section.repeat == "add",
        points=None if grows else points,
        least_rows=0 if grows else shape[0] if more else None,
    )


def _rows_open(section: GeometrySection, start: Mapping[str, Any]) -> bool:
    """Return whether a shape leaves the number of rows open: ``[cols]``, or null, 0 or -1 for the rows."""
    value = _list(section.shape.value(start)) if section.shape is not None else MISSING
    if not isinstance(value, list) or len(value) not in (1, 2):
        return False
    slow = value[0] if section.order == "slow_fast" else value[-1]
    return len(value) == 1 or slow is None or slow in (0, -1)


def _shape(
    name: str, section: GeometrySection, start: Mapping[str, Any], *, grows: bool
) -> tuple[int, tuple[int, int]]:
    """Return (frames, (rows, cols)); a shape of three numbers is a stack."""
    assert section.shape is not None
    where = section.shape.describe()
    value = _list(section.shape.value(start))
    if grows:
        cols = value[-1] if section.order == "slow_fast" else value[0]
        value = [section.most_rows, cols] if section.order == "slow_fast" else [cols, section.most_rows]
    remedy = f"give the plan a map shape there, or set geometry.shape of profile {name!r}"
    if value is MISSING:
        entries = ", ".join(sorted(map(str, start))[:30])
        raise ProfileError(
            f"profile {name!r}: no map shape, {where} is not in the start document ({entries}); {remedy}"
        )
    if (
        not isinstance(value, list)
        or len(value) not in (2, 3)
        or not all(_is_number(n) and n == int(n) > 0 for n in value)
    ):
        raise ProfileError(
            f"profile {name!r}: {where} is {str(value)[:80]}, not two positive integers (three for a stack); {remedy}; "
            "where the number of rows is not known before, set geometry.most_rows"
        )
    frames, slow, fast = ([1] + [int(n) for n in (value if section.order == "slow_fast" else value[::-1])])[-3:]
    return frames, (slow, fast)


def _grid(name: str, section: GeometrySection, start: Mapping[str, Any], points: int | None) -> tuple[int, int]:
    """Return the shape of the grid that covers the extents: by the step, or with about a cell for each point."""
    assert section.extents is not None and section.positions is not None
    axes = _axes(section, start)
    if axes is None:
        raise ProfileError(
            f"profile {name!r}: no extents for the grid, {section.extents.describe()} is not "
            "[[slow_first, slow_last], [fast_first, fast_last]]; give them there or in geometry.extents"
        )
    lengths = [abs(high - low) for low, high in axes]
    value: Any = _list(section.positions.step.value(start)) if section.positions.step is not None else MISSING
    steps = value if isinstance(value, list) else [value, value]
    if value is MISSING and points is not None and min(lengths) > 0:
        steps = [math.sqrt(lengths[0] * lengths[1] / points)] * 2
    if len(steps) != 2 or not all(_is_number(n) and n > 0 for n in steps):
        raise ProfileError(
            f"profile {name!r}: no cell size for the grid; set geometry.positions.step, or give num_points in the plan"
        )
    rows, cols = (round(length / step) + 1 for length, step in zip(lengths, steps, strict=True))
    return rows, cols


def _snake(section: GeometrySection, start: Mapping[str, Any]) -> bool:
    if section.snake is None:
        return False
    value = _list(section.snake.value(start))
    if isinstance(value, list):
        axes = value if section.order == "slow_fast" else value[::-1]
        return bool(axes and axes[-1])
    return value is not MISSING and bool(value)


def _axes(section: GeometrySection, start: Mapping[str, Any]) -> list[tuple[float, float]] | None:
    """Return the first and the last position of the slow and of the fast axis; of a stack the last two axes."""
    value = _list(section.extents.value(start)) if section.extents is not None else MISSING
    if isinstance(value, list) and len(value) == 4 and all(map(_is_number, value)):
        value = [value[:2], value[2:]]
    if not isinstance(value, list) or len(value) not in (2, 3):
        return None
    axes = [_list(axis) for axis in (value if section.order == "slow_fast" else value[::-1])][-2:]
    if not all(isinstance(axis, list) and len(axis) == 2 and all(_is_number(v) for v in axis) for axis in axes):
        return None
    return [(float(low), float(high)) for low, high in axes]


def _extents(
    section: GeometrySection, start: Mapping[str, Any], shape: tuple[int, int]
) -> tuple[tuple[float, float] | None, tuple[float, float] | None]:
    axes = _axes(section, start)
    if axes is None:
        return None, None
    steps = [(high - low) / (n - 1) if n > 1 else 0.0 for (low, high), n in zip(axes, shape, strict=True)]
    # An axis of one pixel has no step of its own; square pixels are the best guess.
    slow, fast = (s if s else other for s, other in zip(steps, reversed(steps), strict=True))
    return ((slow, fast) if slow and fast else None), (axes[0][0], axes[1][0])


def _list(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return value.tolist()
    return list(value) if isinstance(value, tuple) else value


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and bool(np.isfinite(value))


__all__ = ["Geometry", "geometry_of", "lookup"]
