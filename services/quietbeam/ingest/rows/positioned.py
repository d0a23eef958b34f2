"""Rows of a run whose motors are read: in the announced order while the positions agree, else by the positions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import structlog

from quietbeam.buffer import RunBuffer
from quietbeam.core.model.levels import even_step
from quietbeam.core.model.types import BoolArray, Float64Array, PixelOrder

from ..documents.delivery import Pending
from ..frames.values import Frames
from ..profile.geometry import Geometry
from ..profile.motors import Motors
from .checked import CheckedRows, OrderContradictedError
from .grid import GridAssembler
from .level_grid import LevelGrid

log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredAxes:
    """Where rows and columns are, from the readbacks.

    Attributes
    ----------
    rows, cols
        Positions in the order of the map; NaN where a row or column has none.
    """

    rows: Float64Array
    cols: Float64Array

    @property
    def grid(self) -> tuple[tuple[float, float], tuple[float, float]] | None:
        """(row, col) origin and (row, col) step of evenly spaced axes, else None."""
        rows, cols = even_step(self.rows), even_step(self.cols)
        if rows is None or cols is None:
            return None
        return (rows[0], cols[0]), (rows[1], cols[1])


class PositionedRows:
    """Has the methods of :class:`RowAssembler`; changes to a grid of the measured positions when these contradict.

    Parameters
    ----------
    buffer
        The run's buffer, which has room for positions.
    geometry
        Announced shape and order.
    motors
        Whose positions they are.
    has_live_time
        True when the run has live times.
    max_samples
        Largest number of samples.
    without_flux
        No I0 of the rows that the buffer has is positive.
    """

    def __init__(
        self,
        buffer: RunBuffer,
        geometry: Geometry,
        motors: Motors,
        *,
        has_live_time: bool,
        max_samples: int,
        without_flux: bool,
    ) -> None:
        self._buffer, self._geometry, self._motors, self._without_flux = buffer, geometry, motors, without_flux
        self._has_live_time, self._max = has_live_time, max_samples
        self._stride = 1
        self._is_swapped = self._swapped
        self._announces_rows = motors.keys[:1] == ("",)
        self._step = motors.step_of(geometry.step, geometry.units)
        self._levels = LevelGrid(geometry.shape)
        self._rows: CheckedRows | GridAssembler
        if buffer.state().get("order") == PixelOrder.FROM_POSITIONS:
            self._rows = self._grid()
            return
        try:
            self._rows = CheckedRows(buffer, geometry, self._step, without_flux=without_flux)
        except OrderContradictedError:
            self._rows = self._without_check() or self._with_swapped_axes() or self._regrid(0.0)

    @property
    def without_flux(self) -> bool:
        """True while no I0 of the run is positive."""
        return self._rows.without_flux if hasattr(self, "_rows") else self._without_flux

    @property
    def measured(self) -> BoolArray:
        """(row, col) bool, as on disk."""
        return self._rows.measured

    @property
    def pixels_measured(self) -> int:
        """Number of measured pixels."""
        return self._rows.pixels_measured

    @property
    def rows_measured(self) -> int:
        """Rows in which every pixel is measured."""
        return self._rows.whole_rows

    @property
    def dirty(self) -> bool:
        """True when something is not yet on disk."""
        return self._rows.dirty

    @property
    def order(self) -> PixelOrder:
        """How the order of the pixels is known."""
        if isinstance(self._rows, GridAssembler):
            return PixelOrder.FROM_POSITIONS
        checked = self._rows.checks and self._rows.order.checked and not self._rows.order.scatters
        return PixelOrder.VERIFIED if checked else PixelOrder.ASSUMED

    @property
    def axes(self) -> MeasuredAxes:
        """Positions of the rows and columns so far."""
        if isinstance(self._rows, GridAssembler):
            rows, cols = self._levels.slow, self._levels.fast
            missing = self._geometry.shape[0] - len(rows), self._geometry.shape[1] - len(cols)
            return MeasuredAxes(
                rows=np.pad(rows, (0, missing[0]), constant_values=np.nan),
                cols=np.pad(cols, (0, missing[1]), constant_values=np.nan),
            )
        return MeasuredAxes(rows=self._rows.order.slow, cols=self._rows.order.fast)

    @property
    def misfit(self) -> str:
        """Why the positions cannot be mapped; "" when they can."""
        return self._levels.misfit

    @property
    def notes(self) -> list[str]:
        """Sentences on how positions and announced order differ."""
        if isinstance(self._rows, GridAssembler):
            notes = ["the measured positions contradict the announced order; pixels lie where they were measured"]
            if self._levels.repeated:
                notes.append(
                    f"{self._levels.repeated} points were measured again at the same position; the last counts"
                )
            return notes
        if not self._rows.checks:
            keys = " and ".join(filter(None, self._motors.keys))
            return [
                f"the positions in {keys} contradict the announced order, which is kept: if they are of the axes, "
                "name them in geometry.encoders of the profile, else say there {used: false}"
            ]
        if self._rows.order.scatters:
            return ["the readings of the motors scatter by more than half a step: the announced order is not checked"]
        if self._motors.keys and not self._rows.order.checked and self._rows.measured.any():
            keys = " and ".join(filter(None, self._motors.keys))
            return [f"no reading in {keys} could be used (NaN, or not one for each frame): the order is not checked"]
        return [f"{self._rows.off} frames lie more than half a step off their pixel"] if self._rows.off else []

    def stride(self, n: int) -> int:
        """Return the distance between the first frames of two events of `n` frames.

        Raises
        ------
        DocumentError
            Events of `n` frames do not fit the map.
        """
        self._stride = self._rows.stride(n)
        return self._stride

    def put(self, index: int, frames: Frames, pending: Pending, now: float) -> Mapping[str, int]:
        """Put frames number `index`, `index` + 1 ... (in the order of acquisition) into their rows.

        Raises
        ------
        DocumentError
            Frames outside the map; none of the frames is used.
        OSError
            The disk cannot be written; put the frames again.
        """
        try:
            return self._rows.put(index, self._by_axis(index, frames), pending, now)
        except OrderContradictedError:
            self._follow_positions(now)
            return self.put(index, frames, pending, now)

    def flush(self, now: float, *, everything: bool = False) -> list[int]:
        """Write the rows that are due and return their numbers."""
        try:
            return self._rows.flush(now, everything=everything)
        except OrderContradictedError:
            self._follow_positions(now)
            return self.flush(now, everything=everything)

    def _follow_positions(self, now: float) -> None:
        """Write all rows in the announced order, which is wrong, and order them by their positions."""
        self._rows.flush(now, everything=True)
        self._rows = self._without_check() or self._with_swapped_axes() or self._regrid(now)

    @property
    def _swapped(self) -> bool:
        """True when the motor that is announced as the slow one moves along the rows."""
        return self._buffer.info.axes != self._buffer.info.position_axes

    def _by_axis(self, index: int, frames: Frames) -> Frames:
        """Return frames whose `slow` is the position of the row axis: the announced one where none is measured."""
        if self._announces_rows:
            rows = np.arange(index, index + len(frames.good)) // self._geometry.shape[1]
            return replace(frames, slow=self._announced_rows(rows))
        return replace(frames, slow=frames.fast, fast=frames.slow) if self._is_swapped else frames

    def _announced_rows(self, rows: npt.NDArray[np.intp]) -> Float64Array:
        if self._geometry.one_axis:
            return np.zeros(len(rows))
        return rows.astype(np.float64)

    def _without_check(self) -> CheckedRows | None:
        """Return rows whose order is only assumed, where the positions may belong to other axes."""
        if not self._motors.guessed:
            return None
        log.warning("encoders_not_used", run=self._buffer.info.uid, keys=self._motors.keys)
        return CheckedRows(self._buffer, self._geometry, self._step, without_flux=self.without_flux, checks=False)

    def _swap_axes(self) -> None:
        info = self._buffer.info
        self._buffer.update_info(replace(info, axes=info.axes[::-1]))
        self._is_swapped = self._swapped

    def _with_swapped_axes(self) -> CheckedRows | None:
        """Return rows with the motors the other way round, if what is on disk agrees with that; some plans list the
        fast motor first. The axes are as announced again when it does not.
        """
        if self._motors.encoders:
            return None
        if self._swapped:
            self._swap_axes()
            return None
        self._swap_axes()
        try:
            return CheckedRows(self._buffer, self._geometry, self._step, without_flux=self.without_flux)
        except OrderContradictedError:
            self._swap_axes()
            return None

    def _grid(self, *, fresh: bool = False) -> GridAssembler:
        geometry = replace(self._geometry, gridded=True)
        return GridAssembler(
            self._buffer,
            geometry,
            has_live_time=self._has_live_time,
            max_samples=self._max,
            levels=self._levels,
            fresh=fresh,
        )

    def _regrid(self, now: float) -> GridAssembler:
        """Put everything that came so far on a grid of its positions.

        All rows are on disk in the announced order, with their positions, so their documents are safe. They become
        samples, and the state says so once these are on disk.
        """
        grid = self._grid(fresh=True)
        grid.stride(self._stride)
        width = self._geometry.shape[1]
        for row in self._buffer.rows_written():
            block = self._buffer.read_row(row)
            cols = self._geometry.columns(row, 0, width)
            frames = Frames(
                good=block.measured[cols],
                counts=block.counts[:, :, cols].transpose(2, 0, 1),
                i0=None if block.i0 is None else block.i0[cols],
                live_time_s=None if block.live_time_s is None else block.live_time_s[:, cols].T,
                slow=None if block.positions is None else block.positions[0, cols],
                fast=None if block.positions is None else block.positions[1, cols],
            )
            grid.put_stored(row * width, frames, now)
        grid.store(now)
        self._buffer.update_state({"order": PixelOrder.FROM_POSITIONS.value})
        log.warning("order_contradicted", run=self._buffer.info.uid)
        return grid
