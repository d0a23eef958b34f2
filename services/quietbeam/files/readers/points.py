"""Where points lie in a map: in the announced order, as their positions say, or in cells of a grid laid over them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.spatial import KDTree

from quietbeam.core.errors import FileFormatError
from quietbeam.core.model.levels import even_step, levels_of, nearest
from quietbeam.core.model.types import BoolArray, Float64Array
from quietbeam.spectra.maps import Axes, Order

_MOST_CELLS = 64
"""Cells for every point, beyond which a grid is mostly empty."""
_FEW = 0.02
"""Share of points whose positions may disagree with an order that is right: bad readings."""
_OFF_CENTRE = 0.4
"""Of a step: how far points of a grid may lie from the middle of their pixel."""
_TREND = 0.9


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """Which pixel each point belongs to.

    Attributes
    ----------
    pixels
        (point,) row * columns + col; -1: no pixel.
    shape
        (row, col).
    """

    pixels: npt.NDArray[np.intp]
    shape: tuple[int, int]
    order: Order
    axes: Axes | None = None
    remarks: tuple[str, ...] = ()

    @property
    def measured(self) -> BoolArray:
        """(row, col): True where a point lies."""
        measured = np.zeros(self.shape[0] * self.shape[1], bool)
        measured[self.pixels[self.pixels >= 0]] = True
        return measured.reshape(self.shape)

    def sum(self, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Return the sums (row, col, ...) of (point, ...); integers stay exact."""
        out = np.zeros((self.shape[0] * self.shape[1], *values.shape[1:]), values.dtype)
        n = min(len(values), len(self.pixels))
        placed = np.flatnonzero(self.pixels[:n] >= 0)
        np.add.at(out, self.pixels[placed], values[placed])
        return out.reshape(*self.shape, *values.shape[1:])


def in_order(points: int, shape: tuple[int, int], *, snake: bool = False) -> Placement:
    """Place points row by row; with `snake`, every second row runs backwards."""
    rows, cols = shape
    row, col = np.divmod(np.arange(points), cols)
    col = np.where(row % 2 == 1, cols - 1 - col, col) if snake else col
    surplus = points - rows * cols
    remarks = (f"{surplus} points beyond the {rows} x {cols} pixels of the map are left out",) if surplus > 0 else ()
    return Placement(pixels=np.where(row < rows, row * cols + col, -1), shape=shape, order="assumed", remarks=remarks)


def checked(
    announced: Placement, slow: Float64Array, fast: Float64Array, names: tuple[str, str] = ("", "")
) -> Placement:
    """Check an announced order against measured positions (point,) of the row axis and the col axis.

    Where the positions contradict it, the order comes from them.

    Raises
    ------
    FileFormatError
        The positions contradict the order, and lie on no grid.
    """
    n = min(len(slow), len(fast), len(announced.pixels))
    slow, fast, pixels = slow[:n], fast[:n], announced.pixels[:n]
    good = np.isfinite(slow) & np.isfinite(fast) & (pixels >= 0)
    if good.sum() < 2:
        return announced
    row, col = np.divmod(pixels, announced.shape[1])
    right = _agree(row, slow, good) & _agree(col, fast, good)
    if right[good].mean() >= 1 - _FEW:
        bad = int((good & ~right).sum())
        pixels = np.where(good & ~right, -1, pixels)
        remarks = (f"{bad} points are not where the scan should have been, and are not measured",) if bad else ()
        placed = replace(announced, pixels=pixels, order="verified", remarks=announced.remarks + remarks)
        return replace(placed, axes=_axes(placed, slow, fast, names))
    found = by_positions(slow, fast, names)
    return replace(
        found,
        remarks=("the order of the points was not as announced: it was taken from their positions", *found.remarks),
    )


def _agree(index: npt.NDArray[np.intp], position: Float64Array, good: BoolArray) -> BoolArray:
    """Return which points lie within half a step of the others of their row (or column)."""
    used, centres = _groups(index[good], position[good], 0.5)
    if len(used) < 2:
        return np.ones(len(index), bool)
    steps = np.abs(np.diff(centres))
    if not steps.any():
        return np.zeros(len(index), bool)
    reach = np.fmin(np.append(steps, np.inf), np.append(np.inf, steps)) / 2 * (1 + 1e-6)
    at = np.clip(np.searchsorted(used, index), 0, len(used) - 1)
    with np.errstate(invalid="ignore"):
        return np.asarray(np.abs(position - centres[at]) <= reach[at])


def _groups(
    index: npt.NDArray[np.intp], values: Float64Array, share: float
) -> tuple[npt.NDArray[np.intp], Float64Array]:
    """Return the indices that occur, and for each the value below which so large a share of its values lie."""
    used, starts, number = np.unique(np.sort(index), return_index=True, return_counts=True)
    ordered = values[np.lexsort((values, index))]
    return used, ordered[starts + ((number - 1) * share).astype(np.intp)]


def by_positions(slow: Float64Array, fast: Float64Array, names: tuple[str, str] = ("", "")) -> Placement:
    """Place points by their positions along the row axis and the col axis.

    On a grid, also one of uneven steps or with missing points, each point has a pixel of its own. Else a grid is laid
    over the points: a cell is as wide as points are usually apart, and holds their sum.

    Raises
    ------
    FileFormatError
        The positions are not finite, all the same, or too scattered for a map.
    """
    good = np.isfinite(slow) & np.isfinite(fast)
    if not good.any():
        raise FileFormatError("the positions are not numbers")
    grid = _grid(slow[good], fast[good])
    remarks: tuple[str, ...] = ()
    if grid is None:
        grid = _cells(slow[good], fast[good])
        remarks = (
            f"the points lie on no grid: each of the {grid[1][0]} x {grid[1][1]} pixels is the sum of the points in it",
        )
    inside, shape = grid
    pixels = np.full(len(good), -1, np.intp)
    pixels[good] = inside
    if not good.all():
        remarks += (f"{int((~good).sum())} points have no position and are left out",)
    placed = Placement(pixels=pixels, shape=shape, order="from_positions", remarks=remarks)
    return replace(placed, axes=_axes(placed, slow, fast, names))


def _grid(slow: Float64Array, fast: Float64Array) -> tuple[npt.NDArray[np.intp], tuple[int, int]] | None:
    """Return pixels and shape where every point has a pixel of its own, else None."""
    row = _index(slow)
    if row is None:
        return None
    rows, best = int(row.max()) + 1, None
    for col in _columns(fast, row):
        cols = int(col.max()) + 1
        pixels = row * cols + col
        one_each = rows * cols <= 4 * len(pixels) + 8 and len(np.unique(pixels)) == len(pixels)
        if one_each and (best is None or cols < best[1][1]):
            best = pixels, (rows, cols)
    return best


def _index(position: Float64Array) -> npt.NDArray[np.intp] | None:
    """Return the row of each position, counted in the direction of the scan; None where positions make no levels."""
    n = len(position)
    if np.ptp(position) == 0:
        return np.zeros(n, np.intp)
    levels = levels_of(position, max((n + 1) // 2, 2))
    index = None if levels is None else nearest(levels, position)
    if index is None or (index < 0).any():
        return None
    trend = np.corrcoef(np.arange(n), position)[0, 1]
    return index.max() - index if trend < -_TREND else index


def _columns(position: Float64Array, row: npt.NDArray[np.intp]) -> list[npt.NDArray[np.intp]]:
    """Return the possible columns of points, counted in the direction of the first row.

    On levels, which may be uneven; or on even steps, where positions may shift from row to row.
    """
    n = len(position)
    if np.ptp(position) == 0:
        return [np.zeros(n, np.intp)]
    levels = levels_of(position, max((n + 1) // 2, 2) if row.any() else n)
    found = [None if levels is None else nearest(levels, position), _even_index(position, row)]
    first = np.diff(position[row == row[0]])
    falls = len(first) > 0 and bool((first <= 0).mean() > _TREND) and bool(first.any())
    return [index.max() - index if falls else index for index in found if index is not None and not (index < 0).any()]


def _even_index(position: Float64Array, row: npt.NDArray[np.intp]) -> npt.NDArray[np.intp] | None:
    """Return levels of even steps, by the usual distance of neighbours in a row."""
    same = np.diff(row) == 0
    steps = np.abs(np.diff(position))[same]
    if not steps.size or np.median(steps) <= 0:
        return None
    step = float(np.median(steps))
    place = (position - float(np.median(_groups(row, position, 0.0)[1]))) / step
    index = np.rint(place)
    if np.abs(place - index).max() > _OFF_CENTRE:
        return None
    return np.asarray(index - index.min(), np.intp)


def _cells(slow: Float64Array, fast: Float64Array) -> tuple[npt.NDArray[np.intp], tuple[int, int]]:
    """Lay a grid over points; a cell is as wide as points are usually apart."""
    positions = np.stack([slow, fast], axis=1)
    apart, _ = KDTree(positions).query(positions, k=2)
    step = float(np.median(apart[:, 1])) or float(apart[np.isfinite(apart[:, 1]), 1].max(initial=0.0))
    if not np.isfinite(step) or step <= 0:
        raise FileFormatError("all points have the same position")
    place = np.rint((positions - positions.min(axis=0)) / step).astype(np.intp)
    rows, cols = (int(n) + 1 for n in place.max(axis=0))
    if rows * cols > _MOST_CELLS * len(positions):
        raise FileFormatError(
            f"{len(positions)} points would be spread over {rows} x {cols} cells; give counts or spectra on a grid"
        )
    return place[:, 0] * cols + place[:, 1], (rows, cols)


def _axes(placed: Placement, slow: Float64Array, fast: Float64Array, names: tuple[str, str]) -> Axes:
    """Return where the pixels of a map lie; of several points in a pixel the last counts."""
    rows, cols = placed.shape
    positions = np.full((2, rows * cols), np.nan)
    n = min(len(placed.pixels), len(slow), len(fast))
    placed_points = placed.pixels[:n] >= 0
    positions[0, placed.pixels[:n][placed_points]], positions[1, placed.pixels[:n][placed_points]] = (
        slow[:n][placed_points],
        fast[:n][placed_points],
    )
    return axes_of(positions.reshape(2, rows, cols), names)


def axes_of(positions: Float64Array, names: tuple[str, str] = ("", ""), units: str = "") -> Axes:
    """Return origin and step of a map from the positions (2, row, col) of its pixels."""
    with np.errstate(invalid="ignore"):
        found = [
            even_step(np.array([np.nan if np.isnan(v).all() else np.nanmedian(v) for v in lines]))
            for lines in (positions[0], positions[1].T)
        ]
    first = [
        float(np.nanmedian(line)) if not np.isnan(line).all() else np.nan
        for line in (positions[0][0], positions[1][:, 0])
    ]
    steps = [0.0 if axis is None else axis[1] for axis in found]
    origin = [start if axis is None else axis[0] for start, axis in zip(first, found, strict=True)]
    even = all(axis is not None or length == 1 for axis, length in zip(found, positions.shape[1:], strict=True))
    return Axes(
        origin=(origin[0], origin[1]) if np.isfinite(origin).all() else None,
        step=(steps[0], steps[1]) if even and any(steps) else None,
        units=units,
        names=names,
        positions=positions,
    )


def find_axes(columns: dict[str, Float64Array]) -> tuple[str, str] | None:
    """Return the names of (row axis, col axis) among positions (point,) of motors; None when no two make a grid.

    The slow axis stands on a level for many points; the fast axis runs along each of these rows in one direction.
    """
    rows: dict[str, npt.NDArray[np.intp]] = {}
    for name, values in columns.items():
        if len(values) < 4 or not np.isfinite(values).all() or np.ptp(values) == 0:
            continue
        index = _index(values)
        if index is not None and index.any() and 2 * np.count_nonzero(np.diff(index)) <= len(values):
            rows[name] = index
    for slow, row in rows.items():
        for fast, values in columns.items():
            if fast == slow or len(values) != len(row) or not np.isfinite(values).all() or np.ptp(values) == 0:
                continue
            if _runs_along(values, row) and _grid(columns[slow], values) is not None:
                return slow, fast
    return None


def _runs_along(position: Float64Array, row: npt.NDArray[np.intp]) -> bool:
    """Tell whether an axis moves in one direction within each row."""
    same = np.diff(row) == 0
    steps = np.diff(position)[same]
    along = row[:-1][same]
    up = np.bincount(along, steps > 0, minlength=int(row.max()) + 1)
    total = np.maximum(np.bincount(along, minlength=int(row.max()) + 1), 1)
    share = up / total
    return bool((np.maximum(share, 1 - share) > _TREND).mean() > _TREND) and bool((steps != 0).mean() > _TREND)
