"""Maps whose pixels are sums of samples: encoder positions, spirals, points in any order, passes over the same area.

Counts are summed per cell and so are the live times, so that a cell's counts stay Poisson with a known exposure. Cells
without samples are not measured.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import binned_statistic_2d

from quietbeam.buffer import RunBuffer
from quietbeam.core.errors import DocumentError
from quietbeam.core.model.types import FloatArray, RowBlock, RunInfo

from ..frames.values import SHORT, UINT32_MAX, Frames
from ..profile.geometry import Geometry
from ..profile.layout import Layout
from .assembler import Pending, RowAssembler
from .sample_buffer import SampleBuffer

CACHED_BYTES = 256 * 2**20
SHARE = 5.0
"""The map is summed again after so many times what the last summing took."""


@dataclass(slots=True)
class _Cells:
    """Where the samples of a block lie, in the order of the block; -1: nowhere."""

    rows: npt.NDArray[np.int32]
    cols: npt.NDArray[np.int32]

    def touched(self) -> set[int]:
        return {int(row) for row in np.unique(self.rows) if row >= 0}


class GridAssembler:
    """Does for sums of samples what :class:`RowAssembler` does for pixels: the same calls, the same promises.

    Samples are written first, and only then may their documents be acknowledged; the map follows from them and is made
    again from all of them after a restart.

    Parameters
    ----------
    buffer
        The run's buffer.
    geometry
        Where samples lie.
    has_live_time
        True when samples have live times of their own; else the dwell counts.
    max_samples
        More are refused.
    """

    def __init__(self, buffer: RunBuffer, geometry: Geometry, *, has_live_time: bool, max_samples: int) -> None:
        self._buffer, self._geometry, self._max = buffer, geometry, max_samples
        self._info = replace(buffer.info, has_live_time=has_live_time)
        self.measured = buffer.measured()
        self.pixels_measured = int(np.count_nonzero(self.measured))
        self.outside = 0
        """Samples outside the grid."""
        self._cells: dict[int, _Cells] = {}
        self._values: OrderedDict[int, RowBlock] = OrderedDict()
        self._changed: set[int] = set()
        self._fresh: list[int] = []
        self._next_sum = 0.0
        self._store: SampleBuffer | None = None
        self._samples: _Samples | None = None
        if SampleBuffer.exists(buffer.path):
            self._begin(0)
            assert self._samples is not None
            for block in np.flatnonzero(self._samples.measured.any(axis=1)):
                self._locate(int(block))

    def _begin(self, stride: int) -> None:
        self._store = SampleBuffer(self._buffer.path, self._info, stride=stride, gridded=self._geometry.gridded)
        blocks = replace(self._geometry, shape=self._store.info.shape, snake=False)
        self._samples = _Samples(self._store, blocks, self._max)

    @property
    def rows_measured(self) -> int:
        """Rows that hold samples: few rows of a spiral ever have all their cells."""
        return int(np.count_nonzero(self.measured.any(axis=1)))

    @property
    def samples_measured(self) -> int:
        """Samples that can be used."""
        return self._samples.pixels_measured if self._samples is not None else 0

    @property
    def dirty(self) -> bool:
        """True when something is not yet on disk."""
        return bool(self._changed or self._fresh) or (self._samples is not None and self._samples.dirty)

    def stride(self, n: int) -> int:
        """Return the distance between the first samples of two events; the first event of a run decides.

        Raises
        ------
        DocumentError
            An event has more samples than there is room for.
        """
        if self._store is None:
            width = self._geometry.shape[1]
            exact = not self._geometry.gridded and abs(n - width) <= SHORT * width
            self._begin(1 if n == 1 else width if exact else n + int(np.ceil(SHORT * n)))
        assert self._store is not None
        if n > self._store.stride and not (n == 1 or self._geometry.adds):
            raise DocumentError(f"{n} samples, the events of this run have at most {self._store.stride}")
        return self._store.stride

    def put(self, index: int, frames: Frames, pending: Pending, now: float) -> None:
        """Put samples measured as number `index`, `index` + 1 ... where they belong."""
        if self._samples is None:
            self.stride(1)
        assert self._samples is not None
        self._samples.put(index, frames, pending, now)

    def flush(self, now: float, *, everything: bool = False) -> list[int]:
        """Write the samples that are due, then the rows of the map that they change."""
        if self._samples is None:
            return []
        self._fresh += self._samples.flush(now, everything=everything)
        while self._fresh:
            self._locate(self._fresh[-1])
            self._fresh.pop()
        if not self._changed or (now < self._next_sum and not everything):
            return []
        started = time.monotonic()
        rows = sorted(self._changed)
        self._sum(rows)
        self._next_sum = now + SHARE * (time.monotonic() - started)
        return rows

    def _block(self, number: int) -> RowBlock:
        assert self._store is not None
        if number not in self._values:
            self._values[number] = self._store.read_row(number)
            size = sum(a.nbytes for a in (self._values[number].counts, self._values[number].measured))
            while len(self._values) > max(1, CACHED_BYTES // size):
                self._values.popitem(last=False)
        self._values.move_to_end(number)
        return self._values[number]

    def _locate(self, number: int) -> None:
        """Find the cells of a block that was written."""
        self._values.pop(number, None)
        block = self._block(number)
        before = self._cells.get(number)
        if self._geometry.gridded:
            assert block.positions is not None and self._geometry.origin is not None and self._geometry.step is not None
            origin, step = np.array(self._geometry.origin), np.array(self._geometry.step)
            rows, cols = np.rint((block.positions - origin[:, None]) / step[:, None])
        else:
            width = self._geometry.shape[1]
            index = (number * len(block.measured) + np.arange(len(block.measured))) % self._geometry.pixels
            rows, cols = np.divmod(index, width)
            if self._geometry.snake:
                cols = np.where(rows % 2 == 1, width - 1 - cols, cols)
        inside = (rows >= 0) & (rows < self._geometry.shape[0]) & (cols >= 0) & (cols < self._geometry.shape[1])
        cells = _Cells(*(np.where(inside & block.measured, at, -1).astype(np.int32) for at in (rows, cols)))
        self.outside += int(np.count_nonzero(block.measured & ~inside))
        self._cells[number] = cells
        self._changed |= cells.touched() | (before.touched() if before is not None else set())

    def _sum(self, rows: list[int]) -> None:
        """Sum the samples of these rows and write them."""
        low, high = rows[0], rows[-1] + 1
        parts: list[tuple[npt.NDArray[Any], ...]] = []
        for number, cells in self._cells.items():
            inside = np.flatnonzero((cells.rows >= low) & (cells.rows < high))
            if len(inside):
                block = self._block(number)
                live = block.live_time_s[:, inside] if block.live_time_s is not None else None
                i0 = block.i0[inside] if block.i0 is not None else None
                parts.append((cells.rows[inside], cells.cols[inside], block.counts[:, :, inside], live, i0))  # type: ignore[arg-type]
        sums = _Sums(parts, (low, high), self._geometry, self._info)
        for row in rows:
            self._write(row, sums.row(row))
            self._changed.discard(row)

    def _write(self, row: int, block: RowBlock) -> None:
        self._buffer.write_row(row, block)
        self.pixels_measured += int(np.count_nonzero(block.measured)) - int(np.count_nonzero(self.measured[row]))
        self.measured[row] = block.measured


def assembler_of(buffer: RunBuffer, layout: Layout, max_samples: int) -> RowAssembler | GridAssembler:
    """Return what makes the rows of a run: its pixels, or sums of its samples."""
    if not layout.geometry.sums:
        return RowAssembler(buffer, layout.geometry)
    return GridAssembler(buffer, layout.geometry, has_live_time=layout.has_live_time, max_samples=max_samples)


class _Samples(RowAssembler):
    """Rows are blocks of samples; there is always room for more."""

    def __init__(self, store: SampleBuffer, geometry: Geometry, max_samples: int) -> None:
        super().__init__(store, geometry)
        self._store, self._max = store, max_samples

    def _make_room(self, stop: int) -> None:
        if stop > self._max:
            raise DocumentError(f"{stop} samples are more than ingest.max_pixels ({self._max}); raise the limit")
        width = self._geometry.shape[1]
        self._store.grow(-(-stop // width))
        rows = self._store.info.shape[0]
        self.measured = np.pad(self.measured, ((0, rows - len(self.measured)), (0, 0)))
        self._geometry = replace(self._geometry, shape=(rows, width))


class _Sums:
    """Counts, live time and I0 of the cells in rows ``[low, high)``."""

    def __init__(
        self,
        parts: list[tuple[npt.NDArray[Any], ...]],
        band: tuple[int, int],
        geometry: Geometry,
        info: RunInfo,
    ) -> None:
        self._low, self._kind, width = band[0], info.kind, geometry.shape[1]
        n_det, n_line = len(info.detectors), len(info.lines)
        rows, cols = (np.concatenate([p[k] for p in parts]) if parts else np.zeros(0) for k in (0, 1))
        n = len(rows)
        dwell = geometry.dwell_s or 1.0
        bins = [np.arange(band[0], band[1] + 1) - 0.5, np.arange(width + 1) - 0.5]

        def summed(values: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
            """Return (value, row, col) sums of (value, sample)."""
            if not n:
                return np.zeros((len(values), band[1] - band[0], width))
            return np.asarray(binned_statistic_2d(rows, cols, values, "sum", bins=bins).statistic)

        self._counts = np.zeros((n_det, n_line, band[1] - band[0], width))
        live = np.zeros((n_det, n))
        for d in range(n_det):
            mine = np.concatenate([p[2][d] for p in parts], axis=1) if parts else np.zeros((n_line, 0))
            self._counts[d] = summed(mine.astype(np.float64))
            live[d] = np.concatenate(
                [p[3][d] if p[3] is not None else np.full(len(p[0]), dwell) for p in parts] or [[]]
            )
        self._live = summed(live)
        self._measured = summed(np.ones((1, n)))[0] > 0
        self._i0: npt.NDArray[np.float64] | None = None
        if parts and parts[0][4] is not None:
            # The exposure of a cell is the sum of i0 times live time; the product of sum and mean must give it.
            weight = live.mean(axis=0)
            weighted, total = summed(np.stack([np.concatenate([p[4] for p in parts]) * weight, weight]))
            self._i0 = np.divide(weighted, total, out=np.zeros_like(weighted), where=total > 0)

    def row(self, number: int) -> RowBlock:
        """Return one row."""
        r = number - self._low
        counts = self._counts[:, :, r]
        exact = (
            np.minimum(counts, UINT32_MAX).astype(np.uint32) if self._kind == "counts" else counts.astype(np.float32)
        )
        i0: FloatArray | None = self._i0[r].astype(np.float32) if self._i0 is not None else None
        return RowBlock(
            counts=exact, measured=self._measured[r], i0=i0, live_time_s=self._live[:, r].astype(np.float32)
        )
