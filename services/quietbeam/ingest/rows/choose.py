"""Which assembler makes the rows of a run."""

from __future__ import annotations

from quietbeam.buffer import RunBuffer

from ..profile.layout import Layout
from .assembler import RowAssembler
from .grid import GridAssembler
from .positioned import PositionedRows

MOST_CHECKED = 65_536
"""Rows, or columns, of a map above which positions do not check the announced order."""

Assembler = RowAssembler | GridAssembler | PositionedRows


def assembler_of(buffer: RunBuffer, layout: Layout, max_samples: int) -> Assembler:
    """Return what makes the rows of a run: its pixels, checked by positions where it has them, or sums of samples."""
    geometry, has_live_time = layout.geometry, layout.has_live_time
    if geometry.sums:
        return GridAssembler(buffer, geometry, has_live_time=has_live_time, max_samples=max_samples)
    without_flux = buffer.info.has_i0 and bool(buffer.state().get("without_flux", not buffer.measured().any()))
    if buffer.info.has_positions and max(geometry.shape) <= MOST_CHECKED:
        return PositionedRows(
            buffer,
            geometry,
            layout.motors,
            has_live_time=has_live_time,
            max_samples=max_samples,
            without_flux=without_flux,
        )
    return RowAssembler(buffer, geometry, without_flux=without_flux)
