"""Hot-pixel guard: pixels more than 5 sigma from the estimate keep their raw value."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from quietbeam.core.model.types import BoolArray

CHANCE = 3e-7
"""Probability that counting noise alone makes a pixel a hot one, on either side: 5 sigma."""


def beyond_counting(
    rate: NDArray[np.floating], counts: NDArray[np.floating], exposure: NDArray[np.floating]
) -> BoolArray:
    """Return where the counts of one line cannot come from ``rate``: single hot pixels that it erased.

    All are (row, col).
    """
    valid = exposure > 0
    mean_rate = float(rate[valid].mean()) if valid.any() else 0.0
    expected = exposure * np.maximum(rate, 0.1 * mean_rate) + 0.01
    # twice the difference of roots is in standard errors, near enough to leave out most pixels
    hot = valid & (np.abs(np.sqrt(counts + 0.375) - np.sqrt(expected + 0.375)) > 1.5)
    seen, mean = counts[hot].astype(np.float64), expected[hot].astype(np.float64)
    hot[hot] = np.where(seen > mean, stats.poisson.sf(seen - 1, mean), stats.poisson.cdf(seen, mean)) < CHANCE
    return hot
