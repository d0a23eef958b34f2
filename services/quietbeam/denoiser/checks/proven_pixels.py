"""Pixels of which raw itself proves that the estimate is wrong: whatever won, they are shown as they were counted."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from quietbeam.core.model.types import BoolArray

CHANCE = 3e-7
"""Of a pixel to be taken for one by counting noise alone, on either side: 5 sigma."""


def beyond_counting(
    rate: NDArray[np.floating], counts: NDArray[np.floating], exposure: NDArray[np.floating]
) -> BoolArray:
    """Return where the counts of one line cannot come from ``rate``: single hot pixels that it erased.

    All are (row, col).
    """
    lit = exposure > 0
    usual = float(rate[lit].mean()) if lit.any() else 0.0
    expected = exposure * np.maximum(rate, 0.1 * usual) + 0.01
    # twice the difference of roots is in standard errors, near enough to leave out most pixels
    far = lit & (np.abs(np.sqrt(counts + 0.375) - np.sqrt(expected + 0.375)) > 1.5)
    seen, mean = counts[far].astype(np.float64), expected[far].astype(np.float64)
    far[far] = np.where(seen > mean, stats.poisson.sf(seen - 1, mean), stats.poisson.cdf(seen, mean)) < CHANCE
    return far
