"""Frames become rows: a row is written when it is whole, and only then are its documents acknowledged.

Documents of a run are acknowledged strictly in the order in which they came. So whatever is delivered again after a
kill is a suffix of what was delivered before, and "the last one wins" gives the same bytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from itertools import pairwise
from typing import Protocol

import numpy as np
import numpy.typing as npt
import structlog

from quietbeam.core.errors import DamagedRunError, DocumentError
from quietbeam.core.model.not_measured import I0_NOT_POSITIVE
from quietbeam.core.model.types import BoolArray, RowBlock, RunInfo

from ..documents.delivery import Pending
from ..frames.values import SHORT, Frames
from ..profile.geometry import Geometry
from .measured import MeasuredPixels
from .open_row import NO_FLUX, Columns, OpenRow, needed_parts

log = structlog.get_logger()

_ROWS_IN_MEMORY = 4
"""Rows that stay in memory after they were written: frames of a rewind change them."""


class RowStore(Protocol):
    """Where rows are written: a run's buffer, or the samples of a run whose map is a sum of them."""

    info: RunInfo

    @property
    def segment(self) -> int:
        """Columns that are written together."""
        ...

    def measured(self) -> BoolArray:
        """Return (row, col) bool."""
        ...

    def rows_written(self) -> list[int]:
        """Return the rows that were written, in order."""
        ...

    def read_row(self, row: int, cols: slice = slice(None)) -> RowBlock:
        """Return a row, or a part of it."""
        ...

    def write_row(self, row: int, block: RowBlock, first_col: int = 0) -> None:
        """Write a row, or a part of it, its commit mark last."""
        ...


class RowAssembler:
    """Collects the frames of one run and writes its rows.

    Parameters
    ----------
    buffer
        The run's buffer; rows that it has already can be changed by later frames.
    geometry
        Shape and scan order of the map.
    without_flux
        No I0 of the rows that the buffer has is positive.

    Attributes
    ----------
    without_flux
        True while no I0 of the run is positive: I0 then masks no pixel, and the map is not normalised.
    """

    def __init__(self, buffer: RowStore, geometry: Geometry, *, without_flux: bool = False) -> None:
        self._buffer, self._geometry, self.without_flux = buffer, geometry, without_flux
        self._row_came = self._short_came = False
        self._needed = needed_parts(buffer.info, gridded=geometry.gridded)
        self._rows: dict[tuple[int, int], OpenRow] = {}
        self._segment = buffer.segment
        self._pixels = MeasuredPixels(buffer.measured(), buffer.rows_written())
        self._written: list[int] = []

    @property
    def measured(self) -> BoolArray:
        """(row, col) bool, as on disk."""
        return self._pixels.mask

    @property
    def pixels_measured(self) -> int:
        """Number of measured pixels."""
        return self._pixels.pixels

    @property
    def rows_measured(self) -> int:
        """Rows in which every pixel is measured."""
        return self._pixels.whole_rows

    whole_rows = rows_measured

    @property
    def rows_begun(self) -> list[int]:
        """Rows that hold a measured pixel, in order."""
        return self._pixels.rows

    @property
    def dirty(self) -> bool:
        """True when something is not yet on disk."""
        return any(row.dirty_since is not None for row in self._rows.values())

    def stride(self, n: int) -> int:
        """Return the distance between the first frames of two events of `n` frames: a pixel, a row or the map.

        Raises
        ------
        DocumentError
            `n` is neither, by more than a few frames.
        """
        width = self._geometry.shape[1]
        announced = (self._geometry.least_rows or self._geometry.shape[0]) * width
        if n in (1, announced, self._geometry.pixels):
            return n
        if abs(n - width) <= SHORT * width:
            self._row_came = True
            return width
        if n < width and (self._row_came or not self._short_came):
            self._short_came = True  # a scan that was stopped in a row; the shape is wrong where every row is short
            return width
        raise DocumentError(
            f"arrays of {n} values are neither a pixel nor a row of {width} pixels; "
            "is geometry.order of the profile right?"
        )

    def _make_room(self, stop: int) -> None:
        raise DocumentError(
            f"frames up to number {stop} lie outside the map of {'x'.join(map(str, self._geometry.shape))} pixels: the "
            "shape in the start document is too small (geometry.more_rows leaves room for rows that a plan adds), or "
            "geometry.shape of the profile points at the wrong entry"
        )

    def put(self, index: int, frames: Frames, pending: Pending, now: float) -> Mapping[str, int]:
        """Put frames number `index`, `index` + 1 ... (in the order of acquisition) into their rows.

        Returns
        -------
        problems
            Why frames are not measured, with their number.

        Raises
        ------
        DocumentError
            Frames outside the map; none of the frames is used.
        """
        n, width = len(frames.good), self._geometry.shape[1]
        if index + n > self._geometry.pixels:
            self._make_room(index + n)
        if n == 1:
            row, col = self._geometry.place(index)
            self._merge(row, slice(col, col + 1), frames, pending, now)
            return self._problems(frames)
        first = 0
        while first < n:
            row, start = divmod(index + first, width)
            stop = min(start + n - first, width)
            columns = self._geometry.columns(row, start, stop)
            self._merge_parts(row, columns, frames.part(first, first + stop - start), pending, now)
            first += stop - start
        return self._problems(frames)

    def _problems(self, frames: Frames) -> Mapping[str, int]:
        if not (self.without_flux and frames.problems):
            return frames.problems
        return {reason: n for reason, n in frames.problems.items() if reason != I0_NOT_POSITIVE}

    def _begin_flux(self, now: float) -> None:
        """Mask the pixels so far: the run has an I0, which was not positive there."""
        self.without_flux = False
        for row in self._rows.values():
            row.dirty_since = row.dirty_since or now
        for number in self._pixels.rows:
            for cols in self._parts(number):
                block = self._buffer.read_row(number, cols)
                nothing = np.zeros_like(block.measured)
                self._buffer.write_row(number, replace(block, measured=nothing), cols.start)
                self._pixels.set(number, cols, nothing)
            self._written.append(number)

    def _parts(self, number: int) -> list[slice]:
        """Return the parts of a row that hold a measured pixel."""
        width, step = self._geometry.shape[1], self._segment
        return [
            slice(first, min(first + step, width))
            for first in range(0, width, step)
            if self.measured[number, first : first + step].any()
        ]

    def _merge_parts(
        self, number: int, cols: npt.NDArray[np.intp], frames: Frames, pending: Pending, now: float
    ) -> None:
        """Merge frames of a row, of which each part that is written together has its own columns."""
        part = cols // self._segment
        edges = [0, *(np.flatnonzero(np.diff(part)) + 1).tolist(), len(cols)]
        for first, stop in pairwise(edges):
            some = frames if stop - first == len(cols) else frames.part(first, stop)
            self._merge(number, cols[first:stop], some, pending, now)

    def _merge(self, number: int, cols: Columns, frames: Frames, pending: Pending, now: float) -> None:
        """Merge frames of one part of a row."""
        if self.without_flux and frames.i0 is not None and bool((frames.i0 > 0).any()):
            self._begin_flux(now)
        part = int(cols.start if isinstance(cols, slice) else cols[0]) // self._segment
        row = self._rows.get((number, part)) or self._open(number, part)
        if part:
            before = part * self._segment
            cols = slice(cols.start - before, cols.stop - before) if isinstance(cols, slice) else cols - before
        row.merge(cols, frames, now)
        if row.dirty_since is not None:
            row.documents.add(pending)

    def _columns_of(self, part: int) -> slice:
        return slice(part * self._segment, min((part + 1) * self._segment, self._geometry.shape[1]))

    def _open(self, number: int, part: int) -> OpenRow:
        cols = self._columns_of(part)
        measured = self.measured[number, cols]
        row = OpenRow.create(self._buffer.info, measured, self._needed)
        if measured.any():
            try:
                row.restore(self._buffer.read_row(number, cols))
            except DamagedRunError as error:
                log.error("row_damaged", run=self._buffer.info.uid, row=number, error=str(error))
                row = OpenRow.create(self._buffer.info, np.zeros_like(measured), self._needed)
            else:
                if self.without_flux:
                    row.bad[measured] |= NO_FLUX
        self._rows[number, part] = row
        return row

    def flush(self, now: float, *, everything: bool = False) -> list[int]:
        """Write the rows that are due; return the numbers of the rows that were written since the last return.

        Parameters
        ----------
        everything
            Write every changed row, and release the documents of pixels that lack a part: no more data will come.

        Raises
        ------
        OSError
            The disk cannot be written; no data are lost, call again.
        """
        for (number, part), row in self._rows.items():
            if row.dirty_since is None:
                if everything:
                    row.documents.release()
            elif everything or row.is_due(now):
                self._write(number, part, row, final=everything)
                self._written.append(number)
        for key in list(self._rows)[:-_ROWS_IN_MEMORY]:
            row = self._rows[key]
            if row.dirty_since is None and not row.documents:
                del self._rows[key]
        written, self._written = self._written, []
        return written

    def _block_of(self, _number: int, row: OpenRow) -> RowBlock:
        """Return a row as it is written."""
        return row.to_block(without_flux=self.without_flux)

    def _write(self, number: int, part: int, row: OpenRow, *, final: bool) -> None:
        block, cols = self._block_of(number, row), self._columns_of(part)
        self._buffer.write_row(number, block, cols.start)
        self._pixels.set(number, cols, block.measured)
        row.dirty_since = None
        row.was_whole = row.whole
        # A pixel of which only a part came is not restored from disk after a kill: its documents must come again.
        if final or not row.has_partial_pixels:
            row.documents.release()
