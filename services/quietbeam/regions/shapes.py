"""A region: a rectangle, a polygon, a lasso, the pixels between two thresholds, or given pixels such as a cluster."""

from __future__ import annotations

import base64
import math
import re
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from quietbeam.core.errors import InputError
from quietbeam.core.model.types import BoolArray

Kind = Literal["rectangle", "polygon", "lasso", "threshold", "cluster"]
MAX_POINTS = 2000
NAME = re.compile(r"[^\x00-\x1f\x7f/\\]{1,64}")
"""Names are shown and stand in addresses and files: no slash, no control character."""
Points = Sequence[Sequence[float]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Region:
    """Pixels of a run under a name.

    Attributes
    ----------
    definition
        How it was chosen, plain JSON types; see :func:`make_region`.
    mask
        (row, col) bool.
    maps_version
        Version of the maps that thresholds and clusters were taken from; None where no map was needed.
    """

    name: str
    kind: Kind
    mask: BoolArray
    definition: Mapping[str, Any] = field(default_factory=dict)
    maps_version: int | None = None

    @property
    def pixels(self) -> int:
        """Number of pixels, measured or not."""
        return int(self.mask.sum())

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON types; the mask is packed."""
        packed = zlib.compress(np.packbits(self.mask).tobytes(), 9)
        return {
            "name": self.name,
            "kind": self.kind,
            "definition": dict(self.definition),
            "maps_version": self.maps_version,
            "mask": base64.b64encode(packed).decode(),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], shape: tuple[int, int]) -> Region:
        """Build from :meth:`to_dict`.

        Raises
        ------
        ValueError
            The content is not of that form.
        """
        bits = np.frombuffer(zlib.decompress(base64.b64decode(data["mask"])), np.uint8)
        if bits.size != -(-shape[0] * shape[1] // 8):
            raise ValueError(f"the mask is not of a map of {shape[0]} x {shape[1]} pixels")
        mask = np.unpackbits(bits, count=shape[0] * shape[1]).astype(bool).reshape(shape)
        return cls(
            name=str(data["name"]),
            kind=data["kind"],
            mask=mask,
            definition=data["definition"],
            maps_version=data["maps_version"],
        )


def make_region(
    name: str,
    kind: Kind,
    definition: Mapping[str, Any],
    shape: tuple[int, int],
    values: npt.NDArray[np.floating] | None = None,
    maps_version: int | None = None,
) -> Region:
    """Return a region of a map.

    Parameters
    ----------
    definition
        ``rectangle``: ``rows`` and ``cols``, each [first, one after the last]. ``polygon`` and ``lasso``: ``points``,
        [row, col] in pixels, whose centres are whole numbers. ``threshold``: ``low`` and ``high``, either may be None.
    shape
        (row, col) of the map.
    values
        (row, col) that a threshold applies to, NaN where there is none.

    Raises
    ------
    InputError
        Outside the map, crossing itself, or empty; the message says which.
    """
    check_name(name)
    if kind == "rectangle":
        mask = rectangle(definition.get("rows"), definition.get("cols"), shape)
    elif kind in ("polygon", "lasso"):
        mask = polygon(definition.get("points") or (), shape)
    elif kind == "threshold" and values is not None:
        mask = between(values, definition.get("low"), definition.get("high"))
    else:
        raise InputError(f"a {kind} cannot be made of {', '.join(definition) or 'nothing'}")
    return Region(name=name, kind=kind, mask=mask, definition=dict(definition), maps_version=maps_version)


def check_name(name: str) -> None:
    """Raise InputError where a text cannot be the name of a region."""
    if not NAME.fullmatch(name) or name.strip() != name or name in (".", ".."):
        raise InputError(f"{name[:70]!r} is no name of a region: take 1 to 64 characters without / and \\")


def rectangle(rows: Any, cols: Any, shape: tuple[int, int]) -> BoolArray:
    """Return the mask of rows [first, one after the last] and cols."""
    mask = np.zeros(shape, bool)
    spans = []
    for axis, span, size in zip(("rows", "cols"), (rows, cols), shape, strict=True):
        if not _is_pair(span) or any(int(value) != value for value in span):
            raise InputError(f"{axis} of a rectangle must be two whole numbers, [first, one after the last]")
        first, stop = int(span[0]), int(span[1])
        if first >= stop:
            raise InputError(f"{axis} {first} to {stop} hold no pixel: give [first, one after the last]")
        if first < 0 or stop > size:
            raise InputError(f"{axis} {first} to {stop} are outside the map, which has {size}")
        spans.append(slice(first, stop))
    mask[tuple(spans)] = True
    return mask


def _is_pair(values: Any) -> bool:
    return (
        isinstance(values, Sequence)
        and not isinstance(values, str)
        and len(values) == 2
        and all(isinstance(v, int | float) and not isinstance(v, bool) and np.isfinite(v) for v in values)
    )


def polygon(points: Points, shape: tuple[int, int]) -> BoolArray:
    """Return the mask of the pixels whose centres lie inside a polygon of (row, col) corners."""
    if len(points) > MAX_POINTS:
        raise InputError(f"{len(points)} points are too many: draw with at most {MAX_POINTS}")
    if not all(map(_is_pair, points)):
        raise InputError("points must be pairs of numbers, [row, col]")
    corners = np.array(points, float).reshape(-1, 2)
    corners = corners[np.append((np.diff(corners, axis=0) != 0).any(1), True)] if len(corners) else corners
    if len(corners) > 1 and (corners[0] == corners[-1]).all():
        corners = corners[:-1]
    if len(corners) < 3:
        raise InputError("a polygon needs at least three different points")
    rows, cols = shape
    if (corners < -0.5).any() or (corners > np.array([rows - 0.5, cols - 0.5])).any():
        raise InputError(f"the polygon reaches outside the map of {rows} x {cols} pixels")
    if crossing := _crossing(corners):
        raise InputError(f"the polygon crosses itself near row {crossing[0]:.1f}, col {crossing[1]:.1f}: draw it anew")
    mask = _inside(corners, shape)
    if not mask.any():
        raise InputError("the polygon holds no pixel: its centre must lie inside")
    return mask


def _inside(corners: npt.NDArray[np.float64], shape: tuple[int, int]) -> BoolArray:
    """Return where a ray along a row meets the outline an odd number of times.

    The cost goes as the rows that each side crosses, plus the pixels.
    """
    rows, cols = shape
    turns = np.zeros((rows, cols + 1), bool)  # True: odd and even change places left of this column
    for (r0, c0), (r1, c1) in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        low, high = sorted((r0, r1))
        row = np.arange(max(math.ceil(low), 0), min(math.ceil(high), rows))  # low <= row < high; none where level
        if row.size:
            meets = (c1 - c0) * (row - r0) / (r1 - r0) + c0
            turns[row, np.clip(np.ceil(meets), 0, cols).astype(int)] ^= True
    return np.asarray(np.logical_xor.accumulate(turns[:, :0:-1], axis=1)[:, ::-1])


def _crossing(corners: npt.NDArray[np.float64]) -> tuple[float, float] | None:
    """Return about where two sides that are no neighbours meet; None where none do."""
    n = len(corners)
    start, stop = corners, np.roll(corners, -1, axis=0)

    def turn(a: npt.NDArray[Any], b: npt.NDArray[Any], c: npt.NDArray[Any]) -> npt.NDArray[Any]:
        ab, ac = b - a, c - a
        return np.sign(ab[..., 0] * ac[..., 1] - ab[..., 1] * ac[..., 0])

    for i in range(n - 2):
        others = np.arange(i + 2, n - (i == 0))
        if not others.size:
            continue
        a, b, c, d = start[i], stop[i], start[others], stop[others]
        apart = (np.maximum(a, b) < np.minimum(c, d)).any(1) | (np.minimum(a, b) > np.maximum(c, d)).any(1)
        meets = (turn(a, b, c) * turn(a, b, d) <= 0) & (turn(c, d, a) * turn(c, d, b) <= 0) & ~apart
        if meets.any():
            where = (a + b + c[meets][0] + d[meets][0]) / 4
            return float(where[0]), float(where[1])
    return None


def between(values: npt.NDArray[np.floating], low: Any, high: Any) -> BoolArray:
    """Return where values are at least `low` and at most `high`; either may be None."""
    for name, limit in (("low", low), ("high", high)):
        if limit is not None and (not isinstance(limit, int | float) or not np.isfinite(limit)):
            raise InputError(f"{name} must be a number or null")
    if low is None and high is None:
        raise InputError("a threshold needs low, high, or both")
    if low is not None and high is not None and low > high:
        raise InputError(f"low {low:g} is above high {high:g}")
    with np.errstate(invalid="ignore"):
        mask = np.isfinite(values)
        mask &= values >= (-np.inf if low is None else low)
        mask &= values <= (np.inf if high is None else high)
    if not mask.any():
        seen = values[np.isfinite(values)]
        range_ = f"from {seen.min():.4g} to {seen.max():.4g}" if seen.size else "nowhere measured"
        raise InputError(f"no pixel lies between the thresholds: values are {range_}")
    return np.asarray(mask)
