"""Checks the announced order of a map's pixels against measured positions, row by row.

The announced order (raster or snake) says which row and column a frame has. In a map all frames of a column have the
same position of the fast axis, and all frames of a row the same position of the slow axis, up to half a step. When the
frames of a row disagree, the announced order is wrong.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from quietbeam.core.model.types import BoolArray, Float64Array

Ints = npt.NDArray[np.intp]

_DISAGREE = 0.3
"""Share of a row's frames beyond which the announced order is wrong; fewer frames are single bad readings."""
_FEW = 3
_ENOUGH = 8
"""Readings of a row that are needed to tell scatter from another order."""
_FOLLOWS = 0.9
"""Correlation of readings and columns from which the order is right, whatever the scatter."""
_STILL_FOLLOWS = 0.5
_ON_LEVEL = 0.25
"""Part of a step within which a reading is that of a row or column."""
_EQUAL, _REPEATS = 0.1, 0.4
"""Readings closer than this share of their mean distance are equal; more than this share of equal ones repeat."""


class OrderCheck:
    """The positions of rows and columns that came so far, and whether frames agree with them.

    Parameters
    ----------
    shape
        (row, col) of the map.
    step
        Announced (row, col) pixel size, the sign is ignored; None when unknown.

    Attributes
    ----------
    slow, fast
        Position of each row and of each column; NaN before its first frame.
    checked
        Frames that brought both positions.
    contradicted
        True once the announced order is known to be wrong.
    scatters
        True once the readings follow the announced order, but scatter by more than half a step: they cannot check it.
    """

    def __init__(self, shape: tuple[int, int], step: tuple[float, float] | None = None) -> None:
        self.slow, self.fast = np.full(shape[0], np.nan), np.full(shape[1], np.nan)
        self.checked = 0
        self.contradicted = self.scatters = False
        self._step = (abs(step[0]), abs(step[1])) if step else (np.inf, np.inf)
        self._low, self._high = np.full(shape[0], np.inf), np.full(shape[0], -np.inf)
        self._n_read, self._off = [0] * shape[0], [0] * shape[0]
        self._read_row, self._read = -1, np.full(shape[1], np.nan)
        self._reach_of_fast: Float64Array | None = None

    def check(self, row: int, cols: Ints, slow: Float64Array, fast: Float64Array) -> BoolArray:
        """Return which frames of a row lie where the announced order puts them.

        Frames without a position count as right: nothing contradicts them.

        Parameters
        ----------
        row
            Row of the frames in the announced order.
        cols
            (frame,) columns in the announced order.
        slow, fast
            (frame,) measured positions.
        """
        if self._is_as_expected(row, cols, slow, fast):
            return np.ones(len(cols), bool)
        good = np.isfinite(slow) & np.isfinite(fast)
        if not good.any():
            return np.ones(len(cols), bool)
        self._learn(row, cols[good], slow[good], fast[good])
        if self.scatters:
            self._n_read[row] += int(np.count_nonzero(good))
            self.contradicted = self._n_read[row] >= len(self.fast) and not self._follows(row, self._columns_read())
            return np.ones(len(cols), bool)
        off = good & (np.abs(fast - self.fast[cols]) > self._reach(self.fast, cols, self._step[1]))
        off |= good & (np.abs(slow - self.slow[row]) > self._reach(self.slow, np.array([row]), self._step[0]))
        self.checked += int(np.count_nonzero(good))
        self._n_read[row] += int(np.count_nonzero(good))
        self._off[row] += int(np.count_nonzero(off))
        self._decide(row)
        return ~off

    def _is_as_expected(self, row: int, cols: Ints, slow: Float64Array, fast: Float64Array) -> bool:
        """Return whether a row that comes whole is where it should be, and count it; False: look at it closely.

        Most rows of most scans are; this takes a tenth of the time of the close look.
        """
        if len(cols) != len(self.fast) or row == 0 or self._n_read[row] or self.scatters or self._n_read[row - 1] == 0:
            return False
        if self._reach_of_fast is None:
            if np.isnan(self.fast).any():
                return False
            self._reach_of_fast = self._reach(self.fast, np.arange(len(self.fast)), self._step[1])
        low, high, level = float(slow.min()), float(slow.max()), float(np.median(slow))
        if not np.isfinite(level):
            return False
        others = np.abs(self.slow - level)
        others[row] = np.inf
        nearest = float(np.fmin.reduce(others))
        width = max(high - low, float(self._high[row - 1] - self._low[row - 1]))
        if not (width < nearest / 2 and bool((np.abs(fast - self.fast[cols]) <= self._reach_of_fast[cols]).all())):
            return False
        self.slow[row], self._low[row], self._high[row] = level, low, high
        self._read_row = row
        self._read[cols] = fast
        self.checked += len(cols)
        self._n_read[row] += len(cols)
        return True

    def _learn(self, row: int, cols: Ints, slow: Float64Array, fast: Float64Array) -> None:
        """Take the positions of a row and of columns that had none."""
        if np.isnan(self.slow[row]):
            self.slow[row] = np.median(slow)
        new = np.isnan(self.fast[cols])
        self.fast[cols[new]] = fast[new]
        if row != self._read_row:
            self._read_row = row
            self._read[:] = np.nan
        self._read[cols] = fast
        self._low[row] = min(self._low[row], float(slow.min()))
        self._high[row] = max(self._high[row], float(slow.max()))

    def _reach(self, levels: Float64Array, at: Ints, step: float) -> Float64Array:
        """Return half the distance of each level to the nearest other one; without another, half the announced step."""
        known = np.flatnonzero(np.isfinite(levels))
        order = known[np.argsort(levels[known])]
        gaps = np.concatenate(([np.inf], np.diff(levels[order]), [np.inf]))
        apart = np.full(len(levels), np.inf)
        apart[order] = np.minimum(gaps[:-1], gaps[1:])
        return np.where(np.isinf(apart[at]), step, apart[at]) / 2

    def _decide(self, row: int) -> None:
        """Find the announced order wrong when the frames of a row disagree, unless they follow it with scatter."""
        if not self._disagrees(row):
            return
        columns_read = self._columns_read()
        if len(columns_read) < min(_ENOUGH, len(self.fast)):
            return  # the next frames of the row tell
        self.scatters = self._follows(row, columns_read) and not self._in_other_columns(columns_read)
        self.contradicted = not self.scatters

    def _columns_read(self) -> Ints:
        """Return the columns of the present row that have a reading."""
        return np.flatnonzero(np.isfinite(self._read) & np.isfinite(self.fast))

    def _disagrees(self, row: int) -> bool:
        width = len(self.fast)
        n, off = self._n_read[row], self._off[row]
        if off >= min(max(_FEW, _DISAGREE * width), width) or (n >= width and off > _DISAGREE * n):
            return True
        # The first row has no neighbour: it is checked once there is one. The slow axis must not move along a row.
        for near in (row - 1, row):
            if near < 0 or np.isnan(self.slow[near]):
                continue
            reach = self._reach(self.slow, np.array([near]), self._step[0])[0]
            moved = self._high[near] - self._low[near]
            if self._n_read[near] >= min(2, width) and moved > 2 * reach:
                return True
        here = self.fast[np.isfinite(self.fast)]
        return len(here) >= min(_FEW, width) > 1 and bool(np.ptp(here) == 0)

    def _in_other_columns(self, columns_read: Ints) -> bool:
        """Return whether all readings of the row are positions of known columns: frames lack, nothing scatters."""
        levels = np.sort(self.fast[np.isfinite(self.fast)])
        readings = np.sort(self._read[columns_read])
        if len(levels) < 2:
            return False
        nearest = np.clip(np.searchsorted((levels[1:] + levels[:-1]) / 2, readings), 0, len(levels) - 1)
        near = _ON_LEVEL * np.diff(levels).min()
        placed = bool((np.abs(readings - levels[nearest]) < near).all()) and len(np.unique(nearest)) == len(readings)
        return placed and bool((np.abs(self._read[columns_read] - self.fast[columns_read]) > near).any())

    @property
    def repeats_rows(self) -> bool:
        """True when two rows have the same position of the slow axis: one was measured again as another row."""
        slow = np.sort(self.slow[np.isfinite(self.slow)])
        gaps = np.diff(slow)
        return len(gaps) > 1 and bool(gaps.min() < _ON_LEVEL * np.median(gaps))

    def _follows(self, row: int, columns_read: Ints) -> bool:
        """Return whether the readings of a row rise and fall with the positions of their columns."""
        columns = self.fast[columns_read] if row else columns_read.astype(np.float64)
        if len(columns_read) < _ENOUGH or np.ptp(columns) == 0 or np.ptp(self._read[columns_read]) == 0:
            return False
        gaps = np.diff(np.sort(self._read[columns_read]))
        if np.mean(gaps < _EQUAL * gaps.mean()) > _REPEATS:
            return False  # readings that repeat are steps of an axis that waits for the other one, not scatter
        agreement = float(np.corrcoef(columns, self._read[columns_read])[0, 1])
        return (agreement if row else abs(agreement)) > (_STILL_FOLLOWS if self.scatters else _FOLLOWS)
