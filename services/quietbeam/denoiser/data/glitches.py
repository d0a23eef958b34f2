"""Pixels that one detector alone saw: diffraction peaks, electronics. The other detectors give the expected counts."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from quietbeam.core.model.types import BoolArray

BEYOND = 12.0
"""Factor by which a glitch exceeds the expected counts at the upper end of their noise."""
MOST = 0.01
"""Largest share of pixels that are masked as glitches; a detector with more has another fault."""
_LEAST = 5.0


def find_glitches(counts: NDArray[np.floating], exposure: NDArray[np.floating]) -> Iterator[tuple[int, BoolArray]]:
    """Yield (detector, (row, col) bool) with the glitches of one line; nothing with fewer than three detectors.

    Parameters
    ----------
    counts
        (detector, row, col) of one line, 0 where not measured.
    exposure
        (detector, row, col), 0 where not measured.
    """
    alive = np.flatnonzero(counts.any((1, 2)))
    if alive.size < 3:
        return
    everything, usual = counts.sum(0), np.median(counts[alive], 0)
    totals = np.minimum(counts, _limit(usual, usual)).sum((1, 2), dtype=np.float64)  # of which glitches have no part
    n_measuring = (exposure > 0).sum(0)
    for k in alive.tolist():
        high = (counts[k] > BEYOND * _LEAST) & (n_measuring > 2)  # the others must have measured
        share = totals[k] / (totals.sum() - totals[k])
        expected = share * (everything[high] - counts[k][high])
        glitch = np.zeros(high.shape, bool)
        glitch[high] = counts[k][high] > _limit(expected, (1.0 + share) * expected)
        if 0 < glitch.sum() <= max(1.0, MOST * n_measuring.astype(bool).sum()):
            yield k, glitch


def _limit(expected: NDArray[np.floating], variance: NDArray[np.floating]) -> NDArray[np.floating]:
    return BEYOND * (expected + 3.0 * np.sqrt(variance) + _LEAST)
