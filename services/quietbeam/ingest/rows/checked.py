"""Rows of pixels in the announced order, which the measured positions of the motors check before a row is written."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from quietbeam.buffer import RunBuffer
from quietbeam.core.model.types import Float64Array, RowBlock

from ..documents.delivery import Pending
from ..frames.values import Frames
from ..profile.geometry import Geometry
from .assembler import RowAssembler
from .open_row import Columns, OpenRow
from .order import OrderCheck


class OrderContradictedError(Exception):
    """The measured positions contradict the announced order of the pixels."""


class CheckedRows(RowAssembler):
    """A :class:`RowAssembler` that masks single frames off their place; its flush raises when the order is wrong.

    What came since a row was last written is checked at once: frame by frame took a tenth of ingest's time.

    Parameters
    ----------
    buffer
        The run's buffer; positions that it holds are checked first.
    geometry
        Announced shape and order.
    step
        Announced (row, col) pixel size in the unit of the positions, None when unknown.
    without_flux
        No I0 of the rows that the buffer has is positive.
    checks
        False: positions are stored, but the order is only assumed.

    Raises
    ------
    OrderContradictedError
        The rows that are on disk contradict the announced order.
    """

    def __init__(
        self,
        buffer: RunBuffer,
        geometry: Geometry,
        step: tuple[float, float] | None,
        *,
        without_flux: bool = False,
        checks: bool = True,
    ) -> None:
        super().__init__(buffer, geometry, without_flux=without_flux)
        self.checks = checks
        self.order = OrderCheck(geometry.shape, step)
        self._off: dict[int, set[int]] = {}
        self._unchecked: dict[int, list[int]] = {}
        """Columns by row."""
        for row in self.rows_begun if checks else ():
            block = buffer.read_row(row)
            if block.positions is not None:
                cols = geometry.columns(row, 0, geometry.shape[1])
                self.order.check(row, cols, *block.positions[:, cols])
        if self.order.contradicted:
            raise OrderContradictedError

    @property
    def off(self) -> int:
        """Frames that are not measured because they are not where the announced order puts them."""
        return 0 if self.order.scatters else sum(len(cols) for cols in self._off.values())

    def _merge(self, number: int, cols: Columns, frames: Frames, pending: Pending, now: float) -> None:
        super()._merge(number, cols, frames, pending, now)
        if frames.slow is None and frames.fast is None:
            return
        unchecked = self._unchecked.setdefault(number, [])
        if isinstance(cols, slice):
            unchecked.append(cols.start)
        else:
            unchecked += cols.tolist()

    def _write(self, number: int, part: int, row: OpenRow, *, final: bool) -> None:
        self._check(number, row.positions)
        super()._write(number, part, row, final=final)

    def _make_room(self, stop: int) -> None:
        """Refuse frames beyond the map, unless positions show that the order is wrong or that a row came twice."""
        for (number, _), row in self._rows.items():
            self._check(number, row.positions)
        if self.checks and not self.order.contradicted and self.order.repeats_rows:
            self.order.contradicted = True
            raise OrderContradictedError
        super()._make_room(stop)

    def _check(self, row: int, positions: Float64Array | None) -> None:
        """Remember which frames that came since the last check are off their place.

        Raises
        ------
        OrderContradictedError
            So many are off that the order is wrong; raised once, the rows can be written after it.
        """
        unchecked = self._unchecked.pop(row, None)
        if not unchecked or positions is None or self.order.contradicted or not self.checks:
            return
        cols: npt.NDArray[np.intp] = np.array(sorted(set(unchecked)))
        agrees = self.order.check(row, cols, *positions[:, cols])
        if self.order.contradicted:
            raise OrderContradictedError
        off = self._off.setdefault(row, set())
        off.difference_update(cols[agrees].tolist())
        off.update(cols[~agrees].tolist())

    def _block_of(self, number: int, row: OpenRow) -> RowBlock:
        """Return a row, the frames off their place not measured; all of them once the order is known to be wrong."""
        block = super()._block_of(number, row)
        off = self._off.get(number)
        if not off or self.order.contradicted or self.order.scatters:
            return block
        measured = block.measured.copy()
        measured[list(off)] = False
        return replace(block, measured=measured, counts=np.where(measured, block.counts, 0).astype(block.counts.dtype))
