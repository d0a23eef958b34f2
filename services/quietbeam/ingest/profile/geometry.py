"""Geometry of a map: shape, scan order and pixel size, read once from the start document."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from quietbeam.core.errors import ProfileError
from quietbeam.core.model.not_measured import known_seconds

from .schema import BeamlineProfile
from .sections import DisplaySection, GeometrySection
from .source import MISSING, Source


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
    maps
        Number of maps in the run: more than 1 for a map series (tomography, time series).
    gridded
        True when samples are binned into cells by their measured positions.
    adds
        True when a pixel that is measured again adds to its earlier counts; False when it replaces them.
    points
        Number of samples that the plan announces, or None.
    least_rows
        None when the map has exactly the rows of `shape`. Otherwise `shape` is an upper limit, the last measured row
        ends the map, and this is the number of rows that the plan announces (0 when it announces none).
    one_axis
        True when the plan moves one motor and announces no shape: the map is one row.
    display
        How the map is shown; arrays do not depend on it.
    """

    shape: tuple[int, int]
    snake: bool = False
    step: tuple[float, float] | None = None
    origin: tuple[float, float] | None = None
    units: str = "um"
    dwell_s: float | None = None
    maps: int = 1
    gridded: bool = False
    adds: bool = False
    points: int | None = None
    least_rows: int | None = None
    one_axis: bool = False
    display: DisplaySection = field(default_factory=DisplaySection)

    @property
    def pixels(self) -> int:
        """Number of pixels."""
        return self.shape[0] * self.shape[1]

    @property
    def sums(self) -> bool:
        """True when a pixel can be the sum of several samples."""
        return self.gridded or self.adds

    def place(self, index: int) -> tuple[int, int]:
        """Return (row, col) of frame number `index` (from 0, in the order of acquisition)."""
        row, col = divmod(index, self.shape[1])
        return row, (self.shape[1] - 1 - col if self.snake and row % 2 else col)

    def columns(self, row: int, start: int, stop: int) -> npt.NDArray[np.intp]:
        """Return the columns of frames ``[start, stop)`` of `row`, counted in the order of acquisition."""
        columns = np.arange(start, stop)
        return self.shape[1] - 1 - columns if self.snake and row % 2 else columns


@dataclass(frozen=True, slots=True)
class _StartValues:
    """The entries of a geometry section with their values in one start document; MISSING where there is none."""

    shape: Any
    snake: Any
    extents: Any
    dwell_s: Any
    cell: Any
    points: int | None

    @classmethod
    def read(cls, section: GeometrySection, start: Mapping[str, Any]) -> _StartValues:
        def value(source: Source | None) -> Any:
            return _as_list(source.in_start(start)) if source is not None else MISSING

        points: Any = start.get("num_points")
        return cls(
            shape=value(section.shape),
            snake=value(section.snake),
            extents=value(section.extents),
            dwell_s=value(section.dwell_s),
            cell=value(section.positions.step) if section.positions is not None else MISSING,
            points=int(points) if _is_number(points) and points == int(points) > 0 else None,
        )


def geometry_of(profile: BeamlineProfile, start: Mapping[str, Any]) -> Geometry:
    """Read the geometry from a start document.

    Raises
    ------
    ProfileError
        No usable shape; the message names the profile, the entry and the remedy.
    """
    section = profile.geometry
    values = _StartValues.read(section, start)
    grows = section.most_rows is not None and _rows_are_open(section, values.shape)
    axes = _axis_ranges(section, values.extents)
    one_axis = _moves_one_motor(section, values, start)
    if one_axis:
        assert values.points is not None
        maps, shape = 1, (1, values.points)
    elif section.shape is not None:
        maps, shape = _map_shape(profile.name, section, values.shape, start, grows=grows)
    else:
        maps, shape = 1, _grid_shape(profile.name, section, values, axes)
    more = 0 if grows or maps > 1 or one_axis else section.more_rows
    least_rows = None
    if grows:
        least_rows = 0
    elif more:
        least_rows = shape[0]
    step, origin = _step_and_origin(axes, shape)
    if section.positions is not None and step is None:
        raise ProfileError(
            f"profile {profile.name!r}: positions are put on a grid, which needs extents; "
            f"{section.extents.origin if section.extents else 'geometry.extents'} gives none that can be used"
        )
    return Geometry(
        shape=(shape[0] + more, shape[1]),
        snake=_is_snake(section, values.snake),
        step=step,
        origin=origin,
        units=section.units,
        dwell_s=known_seconds(values.dwell_s),
        maps=maps,
        gridded=section.positions is not None,
        adds=section.repeat == "add",
        points=None if grows else values.points,
        least_rows=least_rows,
        one_axis=one_axis,
        display=section.display,
    )


def _moves_one_motor(section: GeometrySection, values: _StartValues, start: Mapping[str, Any]) -> bool:
    """Return whether a plan is a scan of two or more points over one motor (`scan`, `list_scan`), without a shape."""
    if section.shape is None or values.shape is not MISSING or section.positions is not None:
        return False
    motors = start.get("motors")
    return isinstance(motors, list | tuple) and len(motors) == 1 and values.points is not None and values.points > 1


def _rows_are_open(section: GeometrySection, shape: Any) -> bool:
    """Return whether a shape leaves the number of rows open: ``[cols]``, or null, 0 or -1 for the rows."""
    if not isinstance(shape, list) or len(shape) not in (1, 2):
        return False
    slow = shape[0] if section.order == "slow_fast" else shape[-1]
    return len(shape) == 1 or slow is None or slow in (0, -1)


def _map_shape(
    name: str, section: GeometrySection, shape: Any, start: Mapping[str, Any], *, grows: bool
) -> tuple[int, tuple[int, int]]:
    """Return (maps, (rows, cols)); a shape of three numbers is a map series."""
    assert section.shape is not None
    origin = section.shape.origin
    slow_first = section.order == "slow_fast"
    if grows:
        shape = [section.most_rows, shape[-1]] if slow_first else [shape[0], section.most_rows]
    remedy = f"give the plan a map shape there, or set geometry.shape of profile {name!r}"
    if shape is MISSING:
        entries = ", ".join(sorted(map(str, start))[:30])
        raise ProfileError(
            f"profile {name!r}: no map shape, {origin} is not in the start document ({entries}); {remedy}"
        )
    usable = isinstance(shape, list) and len(shape) in (2, 3)
    if not usable or not all(_is_number(n) and n == int(n) > 0 for n in shape):
        raise ProfileError(
            f"profile {name!r}: {origin} is {str(shape)[:80]}, not two positive integers (three for a map series); "
            f"{remedy}; where the number of rows is not known before, set geometry.most_rows"
        )
    sizes = [int(n) for n in (shape if slow_first else reversed(shape))]
    maps = sizes[0] if len(sizes) == 3 else 1
    return maps, (sizes[-2], sizes[-1])


def _grid_shape(
    name: str, section: GeometrySection, values: _StartValues, axes: list[tuple[float, float]] | None
) -> tuple[int, int]:
    """Return the shape of the grid that covers the extents: by the cell size, or with about one cell per point."""
    assert section.extents is not None
    if axes is None:
        raise ProfileError(
            f"profile {name!r}: no extents for the grid, {section.extents.origin} is not "
            "[[slow_first, slow_last], [fast_first, fast_last]]; give them there or in geometry.extents"
        )
    lengths = [abs(high - low) for low, high in axes]
    cell = values.cell if isinstance(values.cell, list) else [values.cell, values.cell]
    if values.cell is MISSING and values.points is not None and min(lengths) > 0:
        cell = [math.sqrt(lengths[0] * lengths[1] / values.points)] * 2
    if len(cell) != 2 or not all(_is_number(n) and n > 0 for n in cell):
        raise ProfileError(
            f"profile {name!r}: no cell size for the grid; set geometry.positions.step, or give num_points in the plan"
        )
    rows, cols = (round(length / size) + 1 for length, size in zip(lengths, cell, strict=True))
    return rows, cols


def _is_snake(section: GeometrySection, snake: Any) -> bool:
    if isinstance(snake, list):
        axes = snake if section.order == "slow_fast" else snake[::-1]
        return bool(axes and axes[-1])
    return snake is not MISSING and bool(snake)


def _axis_ranges(section: GeometrySection, extents: Any) -> list[tuple[float, float]] | None:
    """Return (first, last) position of the slow and of the fast axis, or None; of a map series the last two axes."""
    if isinstance(extents, list) and len(extents) == 4 and all(map(_is_number, extents)):
        extents = [extents[:2], extents[2:]]
    if not isinstance(extents, list) or len(extents) not in (2, 3):
        return None
    ordered = extents if section.order == "slow_fast" else extents[::-1]
    axes = [_as_list(axis) for axis in ordered[-2:]]
    if not all(isinstance(axis, list) and len(axis) == 2 and all(map(_is_number, axis)) for axis in axes):
        return None
    return [(float(first), float(last)) for first, last in axes]


def _step_and_origin(
    axes: list[tuple[float, float]] | None, shape: tuple[int, int]
) -> tuple[tuple[float, float] | None, tuple[float, float] | None]:
    if axes is None:
        return None, None
    slow, fast = ((last - first) / (n - 1) if n > 1 else 0.0 for (first, last), n in zip(axes, shape, strict=True))
    # An axis of one pixel has no step of its own; square pixels are the best guess.
    slow, fast = slow or fast, fast or slow
    return ((slow, fast) if slow and fast else None), (axes[0][0], axes[1][0])


def _as_list(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return value.tolist()
    return list(value) if isinstance(value, tuple) else value


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and bool(np.isfinite(value))
