"""Maps whose pixels are sums of samples: encoder positions, spirals, points in any order, passes over the same area.

Counts are summed per cell and so are the live times, so that a cell's counts stay Poisson with a known exposure. Cells
without samples are not measured.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import replace
from functools import partial

import numpy as np

from quietbeam.buffer import RunBuffer
from quietbeam.buffer.sparse import spans
from quietbeam.core.errors import DocumentError
from quietbeam.core.model.types import BoolArray, RowBlock

from ..documents.delivery import Pending
from ..frames.values import SHORT, Frames
from ..profile.geometry import Geometry
from .assembler import RowAssembler
from .cell_sums import Cells, CellSamples, CellSums, locate
from .level_grid import LevelGrid
from .measured import MeasuredPixels
from .sample_buffer import SampleBuffer

CACHED_BYTES = 256 * 2**20
_CELLS_AT_ONCE = 1 << 20
SHARE = 5.0
"""The next sum of the map begins no earlier than so many times the duration of the last one."""


class GridAssembler:
    """Collects the samples of one run and writes the rows of their sums, with the methods of :class:`RowAssembler`.

    Samples are written before their documents are acknowledged. The map is computed from them, after a restart from
    all of them.

    Parameters
    ----------
    buffer
        The run's buffer.
    geometry
        Grid of the map.
    has_live_time
        True when samples have live times of their own; otherwise each lasts one dwell.
    max_samples
        Largest number of samples.
    levels
        Finds the cells from all positions together; None: from origin and step of the geometry.
    fresh
        Begin without the samples that are on disk.
    """

    without_flux = False

    def __init__(
        self,
        buffer: RunBuffer,
        geometry: Geometry,
        *,
        has_live_time: bool,
        max_samples: int,
        levels: LevelGrid | None = None,
        fresh: bool = False,
    ) -> None:
        self._buffer, self._geometry, self._max = buffer, geometry, max_samples
        self._levels, self._relocate = levels, False
        self._info = replace(buffer.info, has_live_time=has_live_time)
        self._pixels = MeasuredPixels(buffer.measured(), buffer.rows_written())
        self._cells: dict[int, Cells] = {}
        self._cached: OrderedDict[int, RowBlock] = OrderedDict()
        self._changed_rows: set[int] = set()
        self._new_blocks: list[int] = []
        if levels is not None:  # rows of before the samples: written in the announced order
            self._changed_rows |= set(self._pixels.rows)
        self._next_sum = 0.0
        self._store: SampleBuffer | None = None
        self._samples: _Samples | None = None
        if not fresh and SampleBuffer.exists(buffer.path):
            self._begin(0)
            assert self._samples is not None
            for block in self._samples.rows_begun:
                self._locate(block)

    def _begin(self, stride: int) -> None:
        self._store = SampleBuffer(
            self._buffer.path, self._info, stride=stride, gridded=self._geometry.gridded, writes=self._buffer.writes
        )
        blocks = replace(self._geometry, shape=self._store.info.shape, snake=False)
        self._samples = _Samples(self._store, blocks, self._max)

    @property
    def measured(self) -> BoolArray:
        """(row, col) bool: cells with samples, as on disk."""
        return self._pixels.mask

    @property
    def pixels_measured(self) -> int:
        """Number of cells with samples."""
        return self._pixels.pixels

    @property
    def rows_measured(self) -> int:
        """Rows that hold samples: few rows of a spiral ever have all their cells."""
        return self._pixels.rows_begun

    @property
    def whole_rows(self) -> int:
        """Rows in which every pixel is measured."""
        return self._pixels.whole_rows

    @property
    def samples_measured(self) -> int:
        """Samples that can be used."""
        return self._samples.pixels_measured if self._samples is not None else 0

    @property
    def outside(self) -> int:
        """Measured samples outside the grid."""
        return sum(cells.outside for cells in self._cells.values())

    @property
    def dirty(self) -> bool:
        """True when something is not yet on disk."""
        return bool(self._changed_rows or self._new_blocks or self._relocate) or (
            self._samples is not None and self._samples.dirty
        )

    def stride(self, n: int) -> int:
        """Return the distance between the first samples of two events; the first event of a run decides.

        Raises
        ------
        DocumentError
            An event has more samples than there is room for.
        """
        if self._store is None:
            width = self._geometry.shape[1]
            if n == 1:
                stride = 1
            elif not self._geometry.gridded and abs(n - width) <= SHORT * width:
                stride = width
            else:
                stride = n + int(np.ceil(SHORT * n))
            self._begin(stride)
        assert self._store is not None
        if n > self._store.stride and not (n == 1 or self._geometry.adds):
            raise DocumentError(f"{n} samples, the events of this run have at most {self._store.stride}")
        return self._store.stride

    def put(self, index: int, frames: Frames, pending: Pending, now: float) -> Mapping[str, int]:
        """Put samples measured as number `index`, `index` + 1 ... where they belong."""
        if self._samples is None:
            self.stride(1)
        assert self._samples is not None
        return self._samples.put(index, frames, pending, now)

    def put_stored(self, index: int, frames: Frames, now: float) -> None:
        """Put samples whose documents need not be retained: the samples are on disk in another form."""
        self.put(index, frames, Pending(0, b""), now)

    def store(self, now: float) -> None:
        """Write all samples, but no row of the map."""
        if self._samples is not None:
            self._locate_blocks(self._samples.flush(now, everything=True))
        self._changed_rows |= set(self._pixels.rows)

    def _locate_blocks(self, blocks: list[int]) -> None:
        """Find the cells of blocks that were written."""
        self._new_blocks += blocks
        while self._new_blocks:
            self._locate(self._new_blocks[-1])
            self._new_blocks.pop()

    def flush(self, now: float, *, everything: bool = False) -> list[int]:
        """Write the samples that are due, then the rows of the map that they change."""
        if self._samples is None:
            return []
        self._locate_blocks(self._samples.flush(now, everything=everything))
        if not (self._changed_rows or self._relocate) or (now < self._next_sum and not everything):
            return []
        started = time.monotonic()
        if self._relocate:
            self._locate_all()
        rows = sorted(self._changed_rows)
        if not rows:
            return []
        self._sum(rows)
        self._next_sum = now + SHARE * (time.monotonic() - started)
        return rows

    def _block(self, number: int) -> RowBlock:
        assert self._store is not None
        if number not in self._cached:
            self._cached[number] = self._store.read_row(number)
            size = sum(a.nbytes for a in (self._cached[number].counts, self._cached[number].measured))
            while len(self._cached) > max(1, CACHED_BYTES // size):
                self._cached.popitem(last=False)
        self._cached.move_to_end(number)
        return self._cached[number]

    def _locate(self, number: int) -> None:
        """Find the cells of a block that was written."""
        self._cached.pop(number, None)
        if self._levels is not None:
            block = self._block(number)
            assert block.positions is not None
            self._levels.put(number, block.positions, block.measured)
            self._relocate = True
            return
        before = self._cells.get(number)
        cells = self._cells[number] = locate(self._block(number), number, self._geometry)
        self._changed_rows |= cells.map_rows | (before.map_rows if before is not None else set())

    def _locate_all(self) -> None:
        """Find the cells of all blocks again: the levels of the grid may have changed."""
        assert self._levels is not None
        for number, cells in self._levels.cells().items():
            before = self._cells.get(number)
            if before is None or not (
                np.array_equal(before.rows, cells.rows) and np.array_equal(before.cols, cells.cols)
            ):
                self._changed_rows |= cells.map_rows | (before.map_rows if before is not None else set())
            self._cells[number] = cells
        self._relocate = False

    def _sum(self, rows: list[int]) -> None:
        """Sum the samples of these rows and write them, not too many at once."""
        most = max(1, _CELLS_AT_ONCE // self._geometry.shape[1])
        for low, high in spans(rows):
            for first in range(low, high, most):
                self._sum_span(first, min(first + most, high))

    def _sum_span(self, low: int, high: int) -> None:
        found = [
            CellSamples.in_rows(cells, low, high, partial(self._block, number)) for number, cells in self._cells.items()
        ]
        sums = CellSums([s for s in found if s is not None], low, high, self._geometry, self._info)
        for row in range(low, high):
            self._write(row, sums.row(row))
            self._changed_rows.discard(row)

    def _write(self, row: int, block: RowBlock) -> None:
        if self._levels is not None:
            block = replace(block, positions=self._levels.positions_of(row))
        self._buffer.write_row(row, block)
        self._pixels.set(row, slice(None), block.measured)


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
        self._pixels.add_rows(rows)
        self._geometry = replace(self._geometry, shape=(rows, width))
