"""Where a frame lies in the map: acquisition index to (row, col), from the start document as the profile says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from quietbeam.core.errors import ProfileError

from .profile import MISSING, GeometrySection, Profile, lookup


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
    """

    shape: tuple[int, int]
    snake: bool = False
    step: tuple[float, float] | None = None
    origin: tuple[float, float] | None = None
    units: str = "um"
    dwell_s: float | None = None

    @property
    def pixels(self) -> int:
        """Number of pixels."""
        return self.shape[0] * self.shape[1]

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
    shape = _shape(profile.name, section, start)
    step, origin = _extents(section, start, shape)
    dwell: Any = section.dwell_s.value(start) if section.dwell_s is not None else MISSING
    return Geometry(
        shape=shape,
        snake=_snake(section, start),
        step=step,
        origin=origin,
        units=section.units,
        dwell_s=float(dwell) if _is_number(dwell) and dwell > 0 else None,
    )


def _shape(name: str, section: GeometrySection, start: Mapping[str, Any]) -> tuple[int, int]:
    where = section.shape.describe()
    value = _list(section.shape.value(start))
    remedy = f"give the plan a map shape there, or set geometry.shape of profile {name!r}"
    if value is MISSING:
        entries = ", ".join(sorted(map(str, start))[:30])
        raise ProfileError(
            f"profile {name!r}: no map shape, {where} is not in the start document ({entries}); {remedy}"
        )
    if not isinstance(value, list) or len(value) != 2 or not all(_is_number(n) and n == int(n) > 0 for n in value):
        raise ProfileError(f"profile {name!r}: {where} is {str(value)[:80]}, not two positive integers; {remedy}")
    slow, fast = (int(n) for n in value)
    return (slow, fast) if section.order == "slow_fast" else (fast, slow)


def _snake(section: GeometrySection, start: Mapping[str, Any]) -> bool:
    if section.snake is None:
        return False
    value = _list(section.snake.value(start))
    if isinstance(value, list):
        axes = value if section.order == "slow_fast" else value[::-1]
        return bool(axes and axes[-1])
    return value is not MISSING and bool(value)


def _extents(
    section: GeometrySection, start: Mapping[str, Any], shape: tuple[int, int]
) -> tuple[tuple[float, float] | None, tuple[float, float] | None]:
    value = _list(section.extents.value(start)) if section.extents is not None else MISSING
    if not isinstance(value, list) or len(value) != 2:
        return None, None
    axes = [_list(axis) for axis in (value if section.order == "slow_fast" else value[::-1])]
    if not all(isinstance(axis, list) and len(axis) == 2 and all(_is_number(v) for v in axis) for axis in axes):
        return None, None
    origin = (float(axes[0][0]), float(axes[1][0]))
    steps = [(float(a[1]) - float(a[0])) / (n - 1) if n > 1 else 0.0 for a, n in zip(axes, shape, strict=True)]
    # An axis of one pixel has no step of its own; square pixels are the best guess.
    slow, fast = (s if s else other for s, other in zip(steps, reversed(steps), strict=True))
    return ((slow, fast) if slow and fast else None), origin


def _list(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return value.tolist()
    return list(value) if isinstance(value, tuple) else value


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and bool(np.isfinite(value))


__all__ = ["Geometry", "geometry_of", "lookup"]
