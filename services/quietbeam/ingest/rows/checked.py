"""Rows of pixels in the announced order, which the measured positions of the motors check frame by frame."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

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
    """A :class:`RowAssembler` that masks single frames off their place, and raises when the order itself is wrong.

    Parameters
    ----------
    buffer
        The run's buffer; positions that it holds are checked first.
    geometry
        Announced shape and order.
    without_flux
        No I0 of the rows that the buffer has is positive.

    Raises
    ------
    OrderContradictedError
        The rows that are on disk contradict the announced order.
    """

    def __init__(self, buffer: RunBuffer, geometry: Geometry, *, without_flux: bool = False) -> None:
        super().__init__(buffer, geometry, without_flux=without_flux)
        self.order = OrderCheck(geometry.shape, geometry.step)
        self._off: dict[int, set[int]] = {}
        for row in np.flatnonzero(self.measured.any(axis=1)):
            block = buffer.read_row(int(row))
            if block.positions is not None:
                cols = geometry.columns(int(row), 0, geometry.shape[1])
                self.order.check(int(row), cols, *block.positions[:, cols])
        if self.order.contradicted:
            raise OrderContradictedError

    @property
    def off(self) -> int:
        """Frames that are not measured because they are not where the announced order puts them."""
        return 0 if self.order.scatters else sum(len(cols) for cols in self._off.values())

    def _merge(self, number: int, cols: Columns, frames: Frames, pending: Pending, now: float) -> None:
        if frames.slow is not None and frames.fast is not None:
            self._check(number, cols, frames.slow, frames.fast)
        super()._merge(number, cols, frames, pending, now)

    def _check(self, row: int, cols: Columns, slow: Float64Array, fast: Float64Array) -> None:
        """Remember which frames are off their place.

        Raises
        ------
        OrderContradictedError
            So many are off that the order is wrong.
        """
        if isinstance(cols, slice):
            if self.order.check_frame(row, cols.start, float(slow[0]), float(fast[0])):
                if row in self._off:
                    self._off[row].discard(cols.start)
                return
            columns, agrees = np.array([cols.start]), np.zeros(1, bool)
        else:
            columns, agrees = cols, self.order.check(row, cols, slow, fast)
        if self.order.contradicted:
            raise OrderContradictedError
        off = self._off.setdefault(row, set())
        off.difference_update(columns[agrees].tolist())
        off.update(columns[~agrees].tolist())

    def _block_of(self, number: int, row: OpenRow) -> RowBlock:
        """Return a row, the frames off their place not measured; all of them once the order is known to be wrong."""
        block = super()._block_of(number, row)
        off = self._off.get(number)
        if not off or self.order.contradicted or self.order.scatters:
            return block
        measured = block.measured.copy()
        measured[list(off)] = False
        return replace(block, measured=measured, counts=np.where(measured, block.counts, 0).astype(block.counts.dtype))
