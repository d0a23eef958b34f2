"""Reads committed rows of a run from its buffer."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from quietbeam.buffer import RunBuffer
from quietbeam.core.model.types import BoolArray, FloatArray, NumericArray

from ..options import never
from .detector_groups import DetectorGroups


@dataclass(frozen=True, slots=True)
class RowsOfCounts:
    """Consecutive rows.

    Attributes
    ----------
    counts
        (detector, line, n, col).
    measured
        (n, col) bool.
    i0
        (n, col), or None.
    live_time_s
        (detector, n, col), or None.
    """

    counts: NumericArray
    measured: BoolArray
    i0: FloatArray | None
    live_time_s: FloatArray | None


def read_rows(
    buffer: RunBuffer, groups: DetectorGroups, start: int, stop: int, check: Callable[[], object] = never
) -> RowsOfCounts:
    """Return rows ``[start, stop)``, detectors summed in groups.

    `check()` is called before each row, and may raise to end it.
    """
    blocks = []
    for row in range(start, stop):
        check()
        blocks.append(groups.summed(buffer.read_row(row)))
    i0 = [block.i0 for block in blocks if block.i0 is not None]
    live_time_s = [block.live_time_s for block in blocks if block.live_time_s is not None]
    return RowsOfCounts(
        counts=np.stack([block.counts for block in blocks], axis=2),
        measured=np.stack([block.measured for block in blocks]),
        i0=np.stack(i0) if i0 else None,
        live_time_s=np.stack(live_time_s, axis=1) if live_time_s else None,
    )


def age_of_row_s(buffer: RunBuffer, row: int) -> float:
    """Return seconds since the row's commit mark was written (file time and wall clock of one machine)."""
    mark = buffer.path / "measured" / "c" / str(row) / "0"
    try:
        return max(0.0, time.time() - mark.stat().st_mtime)
    except FileNotFoundError:
        return 0.0
