"""Which pixels of a map are measured. What people see is counted along: the cost follows what is measured."""

from __future__ import annotations

import numpy as np

from quietbeam.core.model.types import BoolArray


class MeasuredPixels:
    """The measured pixels of a map, as on disk.

    Parameters
    ----------
    mask
        (row, col) bool.
    rows
        Rows that may hold a measured pixel.

    Attributes
    ----------
    mask
        (row, col) bool.
    pixels
        Number of measured pixels.
    """

    def __init__(self, mask: BoolArray, rows: list[int]) -> None:
        self.mask = mask
        self._counts = {row: n for row in rows if (n := int(np.count_nonzero(mask[row])))}
        self.pixels = sum(self._counts.values())
        self.whole_rows = sum(n == mask.shape[1] for n in self._counts.values())
        """Rows in which every pixel is measured."""

    @property
    def rows(self) -> list[int]:
        """Rows that hold a measured pixel, in order."""
        return sorted(self._counts)

    @property
    def rows_begun(self) -> int:
        """Number of rows that hold a measured pixel."""
        return len(self._counts)

    def set(self, row: int, cols: slice, values: BoolArray) -> None:
        """Replace columns of a row."""
        width, before = self.mask.shape[1], self._counts.get(row, 0)
        after = before + int(np.count_nonzero(values)) - int(np.count_nonzero(self.mask[row, cols]))
        self.mask[row, cols] = values
        self.pixels += after - before
        self.whole_rows += (after == width) - (before == width)
        if after:
            self._counts[row] = after
        else:
            self._counts.pop(row, None)

    def add_rows(self, rows: int) -> None:
        """Make room for rows."""
        self.mask = np.pad(self.mask, ((0, rows - len(self.mask)), (0, 0)))
