"""The rows of a large map that are in memory: as many as are measured need, however many are announced."""

from __future__ import annotations

from dataclasses import replace

from quietbeam.core.model.types import RunInfo

from ..options import MapUpdate
from .detector_groups import DetectorGroups

_WHOLE = 2**18
"""A map of so few pixels is in memory as a whole."""
_WIDEST = 16_384
"""Columns of a row that can be denoised live; a row is in memory as a whole."""
_SPARSE = 16
"""At least one row of so many in the window is measured, or the map is shown raw."""
_LEAST = 2**14
"""Pixels that a window has at least."""
_STEP = 8
TOO_FEW_ROWS_IN_MEMORY = "the map is too large to be refined while no run is live; quietbeam denoise refines its file"
"""Why the final maps of a large map are not refined."""


class RowWindow:
    """Rows ``[first, stop)`` of a map; grows with the rows that are measured, to twice as many at least.

    Parameters
    ----------
    info
        The run.

    Attributes
    ----------
    first, stop
        The rows in memory.
    """

    def __init__(self, info: RunInfo) -> None:
        self._rows, self._cols = info.shape
        self.first, self.stop = 0, self._rows if self._rows * self._cols <= _WHOLE else 0

    @property
    def is_whole(self) -> bool:
        """True when all rows of the map are in memory."""
        return self.rows == self._rows

    @property
    def rows(self) -> int:
        """Number of rows in memory."""
        return self.stop - self.first

    def holds(self, first: int, stop: int) -> bool:
        """Return whether rows ``[first, stop)`` are in memory."""
        return self.first <= first and stop <= self.stop

    def grow(self, first: int, stop: int) -> None:
        """Take rows ``[first, stop)`` in, and room for as many again."""
        low, high = (min(first, self.first), max(stop, self.stop)) if self.rows else (first, stop)
        room = max(2 * (high - low), _LEAST // self._cols, _STEP)
        if first < self.first and self.rows:
            low = max(0, high - room)
        else:
            high = min(self._rows, low + room)
        self.first, self.stop = low // _STEP * _STEP, min(self._rows, -(-high // _STEP) * _STEP)

    def is_sparse(self, measured_rows: int) -> bool:
        """Return whether the measured rows lie too far apart to be denoised together."""
        return self.rows * self._cols > _WHOLE and self.rows > _SPARSE * max(measured_rows, 64)

    def moved(self, update: MapUpdate) -> MapUpdate:
        """Return maps whose rows are counted from the first one in memory, with the rows of the whole map."""
        return replace(update, rows=(update.rows[0] + self.first, update.rows[1] + self.first))


def too_large(info: RunInfo, limit_bytes: int) -> str:
    """Return why a run cannot be denoised live; empty when its counts fit, of each detector or summed in groups."""
    n_line, (rows, cols) = len(info.lines), info.shape
    if cols > _WIDEST:
        return f"a map of {cols} columns is not denoised live (at most {_WIDEST}); its raw map is shown"
    if DetectorGroups.fitting(info, limit_bytes) is not None:
        return ""
    return (
        f"a map of {n_line} x {rows} x {cols} values is too large to denoise live (denoise.max_live_bytes: "
        f"{limit_bytes / 2**30:.1f} GiB); its raw map is shown, `quietbeam denoise` does it afterwards"
    )
