"""Relative exposure maps: beam intensity, dead time, rows that stopped, pixels that never came."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage


def draw_exposure(rng: np.random.Generator, rows: int, cols: int) -> NDArray[np.float32]:
    """Draw an exposure map (row, col), about 1 where measured and 0 where not."""
    exposure = np.ones((rows, cols), np.float32)
    kind = rng.random()
    if kind < 0.15:
        exposure *= np.exp(rng.normal(0, rng.uniform(0.01, 0.2), (rows, cols)))
    elif kind < 0.3:
        drift = ndimage.gaussian_filter1d(rng.normal(0, 1, rows * cols), rng.uniform(2, cols))
        drift /= drift.std() + 1e-6
        exposure *= np.exp(rng.uniform(0.02, 0.3) * drift).reshape(rows, cols).astype(np.float32)
    if rng.random() < 0.12:
        gap = rng.random()
        if gap < 0.4:
            exposure[:, rng.integers(cols) :][rng.integers(rows) :] = 0
        elif gap < 0.7:
            exposure[rng.random((rows, cols)) < rng.uniform(0, 0.2)] = 0
        else:
            exposure[rng.integers(rows) :] = 0
        if exposure.sum() < rows * cols * 0.2:
            exposure[:] = 1
    return exposure
