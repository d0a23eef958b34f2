"""Cells of a grid: where samples lie, and the sums of counts, live time and I0 of each cell."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import binned_statistic_2d

from quietbeam.core.model.types import Float64Array, FloatArray, NumericArray, RowBlock, RunInfo

from ..frames.values import UINT32_MAX
from ..profile.geometry import Geometry


@dataclass(frozen=True, slots=True)
class Cells:
    """(row, col) of the samples of a block, in the order of the block; -1: outside the grid, or not measured.

    `outside` is the number of measured samples outside the grid.
    """

    rows: npt.NDArray[np.int32]
    cols: npt.NDArray[np.int32]
    outside: int

    @property
    def map_rows(self) -> set[int]:
        """The rows of the map that hold samples of the block."""
        return {int(row) for row in np.unique(self.rows) if row >= 0}


def locate(block: RowBlock, number: int, geometry: Geometry) -> Cells:
    """Return the cells of the samples of block `number`."""
    n_rows, width = geometry.shape
    if geometry.gridded:
        assert block.positions is not None and geometry.origin is not None and geometry.step is not None
        origin, step = np.array(geometry.origin), np.array(geometry.step)
        rows, cols = np.rint((block.positions - origin[:, None]) / step[:, None])
    else:
        samples = len(block.measured)
        rows, cols = np.divmod((number * samples + np.arange(samples)) % geometry.pixels, width)
        if geometry.snake:
            cols = np.where(rows % 2 == 1, width - 1 - cols, cols)
    inside = (rows >= 0) & (rows < n_rows) & (cols >= 0) & (cols < width)
    placed = inside & block.measured
    return Cells(
        rows=np.where(placed, rows, -1).astype(np.int32),
        cols=np.where(placed, cols, -1).astype(np.int32),
        outside=int(np.count_nonzero(block.measured & ~inside)),
    )


@dataclass(frozen=True, slots=True)
class CellSamples:
    """Samples with their cells.

    Attributes
    ----------
    rows, cols
        (sample,) cell.
    counts
        (detector, line, sample).
    live_time_s
        (detector, sample), or None: every sample lasted one dwell.
    i0
        (sample,), or None.
    """

    rows: npt.NDArray[np.int32]
    cols: npt.NDArray[np.int32]
    counts: NumericArray
    live_time_s: FloatArray | None
    i0: FloatArray | None

    @classmethod
    def in_rows(cls, cells: Cells, low: int, high: int, read: Callable[[], RowBlock]) -> CellSamples | None:
        """Return the samples of a block in the rows ``[low, high)`` of the map; None, and nothing read, without any."""
        inside = np.flatnonzero((cells.rows >= low) & (cells.rows < high))
        if not len(inside):
            return None
        block = read()
        return cls(
            rows=cells.rows[inside],
            cols=cells.cols[inside],
            counts=block.counts[:, :, inside],
            live_time_s=block.live_time_s[:, inside] if block.live_time_s is not None else None,
            i0=block.i0[inside] if block.i0 is not None else None,
        )


class CellSums:
    """Sums of samples in the rows ``[low, high)`` of a map.

    Parameters
    ----------
    samples
        All samples of these rows.
    low, high
        First row, and the one after the last.
    """

    def __init__(self, samples: Sequence[CellSamples], low: int, high: int, geometry: Geometry, info: RunInfo) -> None:
        self._low, self._kind = low, info.kind
        n_det, n_line = len(info.detectors), len(info.lines)
        self._shape = (high - low, geometry.shape[1])
        self._bins = [np.arange(low, high + 1) - 0.5, np.arange(geometry.shape[1] + 1) - 0.5]
        self._rows = np.concatenate([np.zeros(0), *(s.rows for s in samples)])
        self._cols = np.concatenate([np.zeros(0), *(s.cols for s in samples)])
        live = np.concatenate(
            [np.zeros((n_det, 0)), *(_live_time(s, n_det, geometry.dwell_s or 1.0) for s in samples)], axis=1
        )
        self._counts = np.zeros((n_det, n_line, *self._shape))
        for d in range(n_det):
            counts = np.concatenate([np.zeros((n_line, 0)), *(s.counts[d] for s in samples)], axis=1)
            self._counts[d] = self._sum(counts)
        self._live = self._sum(live)
        self._measured = self._sum(np.ones((1, len(self._rows))))[0] > 0
        self._i0 = self._mean_i0(samples, live)

    def _sum(self, values: NumericArray) -> Float64Array:
        """Return (value, row, col) sums of (value, sample)."""
        if not len(self._rows):
            return np.zeros((len(values), *self._shape))
        found = binned_statistic_2d(self._rows, self._cols, np.asarray(values, np.float64), "sum", bins=self._bins)
        return np.asarray(found.statistic)

    def _mean_i0(self, samples: Sequence[CellSamples], live: Float64Array) -> Float64Array | None:
        """Return (row, col) mean of I0, weighted by live time.

        The exposure of a cell is the sum of I0 x live time, and is computed as this mean x the sum of the live times.
        """
        i0 = [s.i0 for s in samples if s.i0 is not None]
        if not i0:
            return None
        weight = live.mean(axis=0)
        weighted, total = self._sum(np.stack([np.concatenate(i0) * weight, weight]))
        return np.divide(weighted, total, out=np.zeros_like(weighted), where=total > 0)

    def row(self, number: int) -> RowBlock:
        """Return one row of the map."""
        r = number - self._low
        counts = self._counts[:, :, r]
        if self._kind == "counts":
            exact: NumericArray = np.minimum(counts, UINT32_MAX).astype(np.uint32)
        else:
            exact = counts.astype(np.float32)
        return RowBlock(
            counts=exact,
            measured=self._measured[r],
            i0=self._i0[r].astype(np.float32) if self._i0 is not None else None,
            live_time_s=self._live[:, r].astype(np.float32),
        )


def _live_time(samples: CellSamples, n_det: int, dwell_s: float) -> NumericArray:
    if samples.live_time_s is not None:
        return samples.live_time_s
    return np.full((n_det, len(samples.rows)), dwell_s)
