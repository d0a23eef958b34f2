"""Detectors of many elements are summed in groups where their counts apart do not fit in memory.

The denoiser needs the detectors apart for their gains, for bad ones, and of fitted areas for what it holds out. A few
groups serve for that as well; photons are held out of sums as of single detectors.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from quietbeam.core.model.types import RowBlock, RunInfo

_BYTES = 8
"""Counts and held-out counts, float32 each."""
_SHARE = 4
"""The groups may take this part of the limit: sums and temporary copies come on top."""
_LEAST_OF_AREAS = 4
"""Fitted areas are held out by whole detectors: fewer groups are not denoised."""


@dataclass(frozen=True, slots=True)
class DetectorGroups:
    """How the detectors of a run are summed.

    Attributes
    ----------
    names
        Of the groups; those of the detectors where every one stays apart.
    starts
        First detector of every group.
    note
        Sentence for the evidence; empty where every detector stays apart.
    """

    names: tuple[str, ...]
    starts: tuple[int, ...]
    note: str = ""

    @classmethod
    def apart(cls, info: RunInfo) -> DetectorGroups:
        """Return every detector by itself."""
        return cls(tuple(info.detectors), tuple(range(len(info.detectors))))

    @classmethod
    def fitting(cls, info: RunInfo, limit_bytes: int) -> DetectorGroups | None:
        """Return groups that fit in memory; None where the sums of a run are too large, too."""
        n_line, (rows, cols) = len(info.lines), info.shape
        names, values = tuple(info.detectors), n_line * rows * cols
        if 4 * len(names) * values <= limit_bytes:
            return cls.apart(info)
        number = limit_bytes // (_SHARE * _BYTES * values)
        if number < (_LEAST_OF_AREAS if info.kind == "areas" else 1):
            return None
        parts = np.array_split(np.arange(len(names)), min(number, len(names)))
        return cls(
            names=tuple(_name(names, part.tolist()) for part in parts),
            starts=tuple(int(part[0]) for part in parts),
            note=(
                f"the {len(names)} detectors are summed in {len(parts)} groups to fit in memory "
                "(denoise.max_live_bytes): a bad detector is left out only with its group"
            ),
        )

    def summed(self, row: RowBlock) -> RowBlock:
        """Return a row with the groups as detectors; a group lacks a pixel that one of its detectors lacks.

        The live time of a group is the mean over its detectors that counted.
        """
        if not self.note:
            return row
        whole = row.counts.dtype.kind in "iu"
        counts = np.add.reduceat(row.counts, self.starts, axis=0, dtype=np.uint64 if whole else np.float64)
        live = row.live_time_s
        if live is not None:
            counting = np.add.reduceat(live > 0, self.starts, axis=0, dtype=np.int64)
            total = np.add.reduceat(live, self.starts, axis=0, dtype=np.float64)
            live = (total / np.maximum(counting, 1)).astype(np.float32)
        return replace(row, counts=counts, live_time_s=live)


def _name(names: Sequence[str], part: Sequence[int]) -> str:
    first, last = names[part[0]], names[part[-1]]
    return first if first == last else f"{first} to {last}"
