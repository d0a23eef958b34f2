"""Which rows of a run wait for their maps, and which are in the maps."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from quietbeam.buffer import RunBuffer
from quietbeam.core.model.types import BoolArray


class MapRows:
    """The rows of one run, from the buffer to the maps.

    Attributes
    ----------
    pending
        Rows that were committed (again) and wait for their maps; more do after :meth:`let_all_wait`.
    measured
        (row, col) bool: pixels that are in the maps.
    numbers
        Rows with such a pixel.
    """

    def __init__(self, buffer: RunBuffer) -> None:
        self._buffer, self._rows = buffer, buffer.info.shape[0]
        self.pending: set[int] = set()
        self.measured: BoolArray = np.zeros(buffer.info.shape, dtype=bool)
        self.numbers: set[int] = set()
        self._all_wait = False
        self._add_all()

    def __len__(self) -> int:
        """Return the number of rows in the maps that hold a measured pixel."""
        return len(self.numbers)

    def add(self, rows: Iterable[int]) -> None:
        """Add rows that wait."""
        self.pending.update(row for row in rows if 0 <= row < self._rows)

    @property
    def waits(self) -> bool:
        """True when :meth:`next_pending` may return rows."""
        return self._all_wait or bool(self.pending)

    def let_all_wait(self) -> None:
        """Let every row of the buffer wait that holds a measured pixel; the buffer is read when they are needed."""
        self._all_wait = True

    def _add_all(self) -> None:
        measured = self._buffer.measured()
        self.add(row for row in self._buffer.rows_written() if measured[row].any())

    def add_missed(self) -> bool:
        """Add rows of the buffer that differ from those in the maps; True when there are any."""
        missed = np.flatnonzero((self._buffer.measured() != self.measured).any(axis=1)).tolist()
        self.add(missed)
        return bool(missed)

    def next_pending(self) -> list[int]:
        """Return the rows that wait, in order; they wait no longer."""
        if self._all_wait:
            self._add_all()
            self._all_wait = False
        pending, self.pending = sorted(self.pending), set()
        return pending

    def mark(self, row: int, measured: BoolArray) -> None:
        """Note the pixels (col,) of a row that go into the maps."""
        self.measured[row] = measured
        if measured.any():
            self.numbers.add(row)
        else:
            self.numbers.discard(row)

    def begin_anew(self) -> None:
        """Take all rows out of the maps, and let them wait again."""
        for row in self.numbers:
            self.measured[row] = False
        self.numbers.clear()
        self.let_all_wait()

    def of_band(self, band: int, rows: int) -> range:
        """Return the rows in the maps of a band of ``rows`` rows, from its first row to the last measured one."""
        first = band * rows
        return range(first, max(row for row in range(first, first + rows) if row in self.numbers) + 1)
