"""Frames become rows: a row is written when it is whole, and only then are its documents acknowledged.

Documents of a run are acknowledged strictly in the order in which they came. So whatever is delivered again after a
kill is a suffix of what was delivered before, and "the last one wins" gives the same bytes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from quietbeam.core.errors import DocumentError
from quietbeam.core.model.types import BoolArray, RowBlock, RunInfo

from ..documents.delivery import Pending, Retained
from ..frames.values import COUNTS, FAST, I0, LIVE, SHORT, SLOW, Frames
from ..profile.geometry import Geometry

IDLE_S = 1.0
"""A row in which nothing moved for so long is written although it is not whole."""
OPEN_S = 2.0
"""A row is written at least so often while it grows."""
CHANGED_S = 0.25
"""A row that was whole and changed (rewind) is written again after so long."""


@dataclass(slots=True)
class OpenRow:
    """A row in the making; `seen` and `bad` hold the bits COUNTS, I0, LIVE, SLOW, FAST per column."""

    counts: npt.NDArray[np.generic]
    i0: npt.NDArray[np.float32] | None
    live_time_s: npt.NDArray[np.float32] | None
    positions: npt.NDArray[np.float64] | None
    seen: npt.NDArray[np.uint8]
    bad: npt.NDArray[np.uint8]
    n_whole: int = 0
    was_whole: bool = False
    dirty_since: float | None = None
    changed_at: float = 0.0
    documents: Retained = field(default_factory=Retained)


class RowStore(Protocol):
    """Where rows are written: a run's buffer, or the samples of a run whose map is a sum of them."""

    info: RunInfo

    def measured(self) -> BoolArray:
        """Return (row, col) bool."""
        ...

    def read_row(self, row: int) -> RowBlock:
        """Return a row."""
        ...

    def write_row(self, row: int, block: RowBlock) -> None:
        """Write a row, its commit mark last."""
        ...


class RowAssembler:
    """Collects the frames of one run and writes its rows.

    Parameters
    ----------
    buffer
        The run's buffer; what it holds already is kept and can be changed by later frames.
    geometry
        Where frames lie.
    """

    def __init__(self, buffer: RowStore, geometry: Geometry) -> None:
        self._buffer, self._geometry = buffer, geometry
        info = buffer.info
        self._needed = COUNTS | (I0 if info.has_i0 else 0) | (LIVE if info.has_live_time else 0)
        if geometry.gridded:
            self._needed |= SLOW | FAST
        self._rows: dict[int, OpenRow] = {}
        self.measured = buffer.measured()
        self.pixels_measured = int(np.count_nonzero(self.measured))
        self.written: list[int] = []
        """Rows written and not yet told to others; whoever tells them empties it."""

    @property
    def rows_measured(self) -> int:
        """Rows in which every pixel is measured."""
        return int(np.count_nonzero(self.measured.all(axis=1)))

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

    def put(self, index: int, frames: Frames, pending: Pending, now: float) -> None:
        """Put frames measured as number `index`, `index` + 1 ... where they belong.

        Raises
        ------
        DocumentError
            Frames outside the map; the others are not kept either.
        """
        n, width = len(frames.good), self._geometry.shape[1]
        if index + n > self._geometry.pixels:
            self._make_room(index + n)
        if n == 1:
            row, col = self._geometry.place(index)
            self._put(row, slice(col, col + 1), slice(0, 1), frames, pending, now)
            return
        first = 0
        while first < n:
            row, within = divmod(index + first, width)
            take = min(width - within, n - first)
            columns = self._geometry.columns(row, within, within + take)
            self._put(row, columns, slice(first, first + take), frames, pending, now)
            first += take

    def _put(
        self,
        number: int,
        cols: slice | npt.NDArray[np.intp],
        part: slice,
        frames: Frames,
        pending: Pending,
        now: float,
    ) -> None:
        row = self._rows.get(number) or self._open(number)
        bits = (COUNTS * (frames.counts is not None)) | (I0 * (frames.i0 is not None))
        bits |= (LIVE * (frames.live_time_s is not None)) | (SLOW * (frames.slow is not None))
        bits = (bits | (FAST * (frames.fast is not None))) & self._needed
        good = frames.good[part]
        bad = np.where(good, 0, bits).astype(np.uint8)
        seen = row.seen[cols].copy()
        changed = bool(((seen & bits) != bits).any()) or bool(((row.bad[cols] & bits) != bad).any())
        for target, values in (
            (row.counts, frames.counts[part].transpose(1, 2, 0) if frames.counts is not None else None),
            (row.i0, frames.i0[part] if frames.i0 is not None else None),
            (row.live_time_s, frames.live_time_s[part].T if frames.live_time_s is not None else None),
            (row.positions[0] if row.positions is not None else None, _part(frames.slow, part)),
            (row.positions[1] if row.positions is not None else None, _part(frames.fast, part)),
        ):
            if target is None or values is None:
                continue
            if changed or not np.array_equal(target[..., cols], values):
                changed = True
                target[..., cols] = values
        if changed:
            row.seen[cols] = seen | bits
            row.bad[cols] = (row.bad[cols] & ~np.uint8(bits)) | bad
            row.n_whole += int(np.count_nonzero(row.seen[cols] == self._needed)) - int(
                np.count_nonzero(seen == self._needed)
            )
            row.changed_at = now
            if row.dirty_since is None:
                row.dirty_since = now
        if row.dirty_since is not None:
            row.documents.add(pending)

    def _open(self, number: int) -> OpenRow:
        info = self._buffer.info
        width = info.shape[1]
        shape = (len(info.detectors), len(info.lines), width)
        there = self.measured[number]
        seen = np.where(there, self._needed, 0).astype(np.uint8)
        row = OpenRow(
            counts=np.zeros(shape, np.uint32 if info.kind == "counts" else np.float32),
            i0=np.zeros(width, np.float32) if info.has_i0 else None,
            live_time_s=np.zeros((shape[0], width), np.float32) if info.has_live_time else None,
            positions=np.zeros((2, width)) if self._geometry.gridded else None,
            seen=seen,
            bad=np.zeros(width, np.uint8),
            n_whole=int(np.count_nonzero(there)),
            was_whole=bool(there.all()),
        )
        if there.any():
            block = self._buffer.read_row(number)
            row.counts = np.array(block.counts)
            if block.i0 is not None:
                row.i0 = np.array(block.i0)
            if block.live_time_s is not None:
                row.live_time_s = np.array(block.live_time_s)
            if block.positions is not None:
                row.positions = np.array(block.positions)
        self._rows[number] = row
        return row

    def flush(self, now: float, *, everything: bool = False) -> list[int]:
        """Write the rows that are due and return their numbers; with `everything`, nothing is waited for any more.

        Raises
        ------
        OSError
            The disk refuses; nothing of that row is given up, call again later.
        """
        written: list[int] = []
        for number in list(self._rows):
            row = self._rows[number]
            if row.dirty_since is None:
                if everything:
                    row.documents.release()
                continue
            whole = row.n_whole == len(row.seen)
            due = (
                everything
                or (whole and not row.was_whole)
                or (row.was_whole and now - row.dirty_since >= CHANGED_S)
                or now - row.changed_at >= IDLE_S
                or now - row.dirty_since >= OPEN_S
            )
            if due:
                self._write(number, row, final=everything)
                written.append(number)
                self.written.append(number)
        if len(self._rows) > 4:
            for number in list(self._rows)[:-4]:
                if self._rows[number].dirty_since is None and not self._rows[number].documents:
                    del self._rows[number]
        return written

    def _write(self, number: int, row: OpenRow, *, final: bool) -> None:
        measured = (row.seen == self._needed) & (row.bad == 0)
        counts = np.where(measured, row.counts, 0).astype(row.counts.dtype)
        block = RowBlock(
            counts=counts, measured=measured, i0=row.i0, live_time_s=row.live_time_s, positions=row.positions
        )
        self._buffer.write_row(number, block)
        self.pixels_measured += int(np.count_nonzero(measured)) - int(np.count_nonzero(self.measured[number]))
        self.measured[number] = measured
        row.dirty_since = None
        row.was_whole = row.n_whole == len(row.seen)
        # A pixel of which only a part came is not restored from disk after a kill: its documents must come again.
        partly = bool(((row.seen != 0) & (row.seen != self._needed)).any())
        if final or not partly:
            row.documents.release()


def _part(values: npt.NDArray[Any] | None, part: slice) -> npt.NDArray[Any] | None:
    return values[part] if values is not None else None
