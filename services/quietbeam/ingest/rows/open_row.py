"""A row in memory: frames are merged into it until it is written."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from quietbeam.core.model.types import BoolArray, Float64Array, FloatArray, NumericArray, RowBlock, RunInfo

from ..documents.delivery import Retained
from ..frames.values import Frames

COUNTS, I0, LIVE, SLOW, FAST = 1, 2, 4, 8, 16
"""Bits of the parts of a frame."""
NO_FLUX = 128
"""Bit of a pixel that only its I0 spoils."""
IDLE_S = 1.0
"""A row in which nothing changed for so long is written although it is not whole."""
OPEN_S = 2.0
"""A row that grows is written at least so often."""
CHANGED_S = 0.25
"""A whole row that changed (rewind) is written again after so long."""

Columns = slice | npt.NDArray[np.intp]


def needed_parts(info: RunInfo, *, gridded: bool) -> int:
    """Return the bits of the parts that a pixel needs before it is measured."""
    needed = COUNTS
    if info.has_i0:
        needed |= I0
    if info.has_live_time:
        needed |= LIVE
    if gridded:
        needed |= SLOW | FAST
    return needed


@dataclass(slots=True, kw_only=True)
class OpenRow:
    """The frames of a row.

    Attributes
    ----------
    counts
        (detector, line, col).
    i0, live_time_s, positions
        (col,), (detector, col) and (slow or fast, col), or None where the run has none.
    needed
        Bits of the parts that a pixel needs.
    seen, bad
        (col,) bits of the parts that came, and of those that cannot be used.
    n_whole
        Pixels of which every part came.
    was_whole
        True when the row on disk has every part of every pixel.
    dirty_since, changed_at
        Monotonic times of the first change that is not on disk (None: all is on disk), and of the last one.
    documents
        The documents whose data are in this row only.
    """

    counts: NumericArray
    i0: FloatArray | None
    live_time_s: FloatArray | None
    positions: Float64Array | None
    needed: int
    seen: npt.NDArray[np.uint8]
    bad: npt.NDArray[np.uint8]
    n_whole: int = 0
    was_whole: bool = False
    dirty_since: float | None = None
    changed_at: float = 0.0
    documents: Retained = field(default_factory=Retained)

    @classmethod
    def create(cls, info: RunInfo, measured: BoolArray, needed: int) -> OpenRow:
        """Return a row of zeros in which the measured (col,) pixels are whole; :meth:`restore` gives their values."""
        n_det, width = len(info.detectors), len(measured)
        return cls(
            counts=np.zeros((n_det, len(info.lines), width), np.uint32 if info.kind == "counts" else np.float32),
            i0=np.zeros(width, np.float32) if info.has_i0 else None,
            live_time_s=np.zeros((n_det, width), np.float32) if info.has_live_time else None,
            positions=np.full((2, width), np.nan) if needed & SLOW or info.has_positions else None,
            needed=needed,
            seen=np.where(measured, needed, 0).astype(np.uint8),
            bad=np.zeros(width, np.uint8),
            n_whole=int(np.count_nonzero(measured)),
            was_whole=bool(measured.all()),
        )

    def restore(self, block: RowBlock) -> None:
        """Copy the values of a row that is on disk."""
        self.counts = np.array(block.counts)
        if block.i0 is not None:
            self.i0 = np.array(block.i0)
        if block.live_time_s is not None:
            self.live_time_s = np.array(block.live_time_s)
        if block.positions is not None:
            self.positions = np.array(block.positions)

    def merge(self, cols: Columns, frames: Frames, now: float) -> None:
        """Put the values of `frames` into the columns; equal values change nothing."""
        bits = _parts_of(frames) & self.needed
        seen, bad = self.seen[cols].copy(), self.bad[cols]
        now_bad = np.where(frames.good, 0, bits).astype(np.uint8)
        if frames.no_flux is not None:
            now_bad[frames.no_flux] = NO_FLUX
        clear = bits | (NO_FLUX if frames.i0 is not None else 0)
        changed = bool(((seen & bits) != bits).any() or ((bad & clear) != now_bad).any())
        for target, values in self._targets(frames):
            if changed or not np.array_equal(target[..., cols], values):
                changed = True
                target[..., cols] = values
        if not changed:
            return
        self.bad[cols] = (bad & ~np.uint8(clear)) | now_bad
        self.seen[cols] = seen | bits
        self.n_whole += int(np.count_nonzero(self.seen[cols] == self.needed) - np.count_nonzero(seen == self.needed))
        self.changed_at = now
        if self.dirty_since is None:
            self.dirty_since = now

    def _targets(self, frames: Frames) -> Iterator[tuple[NumericArray, NumericArray]]:
        """Yield the arrays of the row with the values that belong there, columns last."""
        if frames.counts is not None:
            yield self.counts, frames.counts.transpose(1, 2, 0)
        if self.i0 is not None and frames.i0 is not None:
            yield self.i0, frames.i0
        if self.live_time_s is not None and frames.live_time_s is not None:
            yield self.live_time_s, frames.live_time_s.T
        if self.positions is not None and frames.slow is not None:
            yield self.positions[0], frames.slow
        if self.positions is not None and frames.fast is not None:
            yield self.positions[1], frames.fast

    @property
    def whole(self) -> bool:
        """True when every part of every pixel came."""
        return self.n_whole == len(self.seen)

    @property
    def has_partial_pixels(self) -> bool:
        """True when only some parts of a pixel came."""
        return bool(((self.seen != 0) & (self.seen != self.needed)).any())

    def is_due(self, now: float) -> bool:
        """Return whether the row should be written now."""
        if self.dirty_since is None:
            return False
        age = now - self.dirty_since
        if self.whole and not self.was_whole:
            return True
        if self.was_whole and age >= CHANGED_S:
            return True
        return now - self.changed_at >= IDLE_S or age >= OPEN_S

    def to_block(self, *, without_flux: bool = False) -> RowBlock:
        """Return the row as it is written: counts are 0 where a pixel is not measured.

        Parameters
        ----------
        without_flux
            No I0 of the run is positive so far: I0 is 1 everywhere, and masks no pixel.
        """
        bad = self.bad & ~np.uint8(NO_FLUX) if without_flux else self.bad
        measured = (self.seen == self.needed) & (bad == 0)
        counts = np.where(measured, self.counts, 0).astype(self.counts.dtype)
        i0 = np.ones_like(self.i0) if without_flux and self.i0 is not None else self.i0
        return RowBlock(counts=counts, measured=measured, i0=i0, live_time_s=self.live_time_s, positions=self.positions)


def _parts_of(frames: Frames) -> int:
    """Return the bits of the parts that frames have."""
    bits = 0
    if frames.counts is not None:
        bits |= COUNTS
    if frames.i0 is not None:
        bits |= I0
    if frames.live_time_s is not None:
        bits |= LIVE
    if frames.slow is not None:
        bits |= SLOW
    if frames.fast is not None:
        bits |= FAST
    return bits
