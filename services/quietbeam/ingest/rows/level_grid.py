"""A grid whose rows and columns follow from the positions of all samples: for scans that are not in announced order."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from quietbeam.core.model.levels import levels_of, nearest
from quietbeam.core.model.types import BoolArray, Float64Array

from .cell_sums import Cells


@dataclass(slots=True)
class _Block:
    positions: Float64Array
    measured: BoolArray


class LevelGrid:
    """Cells of samples, from positions alone; where two samples have one cell, the later one counts.

    Parameters
    ----------
    shape
        (row, col): more levels than these do not fit.

    Attributes
    ----------
    slow, fast
        Positions of the rows and of the columns that samples lie on, rising.
    misfit
        Why the positions are no grid of that shape; "" when they are.
    repeated
        Samples that a later one in the same cell replaces.
    """

    def __init__(self, shape: tuple[int, int]) -> None:
        self._shape = shape
        self._blocks: dict[int, _Block] = {}
        self.slow = self.fast = np.zeros(0)
        self.misfit = ""
        self.repeated = 0

    def put(self, number: int, positions: Float64Array, measured: BoolArray) -> None:
        """Add a block of samples, (slow or fast, sample), or replace it."""
        self._blocks[number] = _Block(positions, measured & np.isfinite(positions).all(axis=0))

    def cells(self) -> dict[int, Cells]:
        """Return the cells of all samples, by block."""
        numbers = sorted(self._blocks)
        positions = np.concatenate([np.zeros((2, 0)), *(self._blocks[n].positions for n in numbers)], axis=1)
        measured = np.concatenate([np.zeros(0, bool), *(self._blocks[n].measured for n in numbers)])
        rows, cols = self._places(positions, measured)
        found: dict[int, Cells] = {}
        first = 0
        for number in numbers:
            part = slice(first, first + len(self._blocks[number].measured))
            outside = int(np.count_nonzero(measured[part] & (rows[part] < 0))) if self.misfit else 0
            found[number] = Cells(rows=rows[part], cols=cols[part], outside=outside)
            first = part.stop
        return found

    def positions_of(self, row: int) -> Float64Array:
        """Return the (slow or fast, col) positions of the cells of a row, NaN beyond the levels."""
        cols = self._shape[1]
        fast = np.pad(self.fast, (0, cols - len(self.fast)), constant_values=np.nan)
        return np.stack((np.full(cols, self.slow[row] if row < len(self.slow) else np.nan), fast))

    def _places(
        self, positions: Float64Array, measured: BoolArray
    ) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]]:
        places = np.full((2, len(measured)), -1, np.int32)
        levels = [levels_of(axis[measured], n) for axis, n in zip(positions, self._shape, strict=True)]
        self.misfit = self._misfit(levels)
        self.repeated = 0
        slow, fast = levels
        if self.misfit or slow is None or fast is None:
            return places[0], places[1]
        self.slow, self.fast = slow, fast
        rows, cols = nearest(slow, positions[0]), nearest(fast, positions[1])
        on = np.flatnonzero(measured & (rows >= 0) & (cols >= 0))
        last = on[len(on) - 1 - np.unique((rows[on] * self._shape[1] + cols[on])[::-1], return_index=True)[1]]
        self.repeated = len(on) - len(last)
        places[0, last], places[1, last] = rows[last], cols[last]
        return places[0], places[1]

    def _misfit(self, levels: list[Float64Array | None]) -> str:
        wanted = f"a grid of {self._shape[0]} x {self._shape[1]} pixels"
        if any(level is None for level in levels):
            return f"the measured positions lie on no grid; the plan announces {wanted}"
        rows, cols = (len(level) for level in levels if level is not None)
        if rows > self._shape[0] or cols > self._shape[1]:
            return f"the measured positions lie on {rows} rows and {cols} columns; the plan announces {wanted}"
        return ""
