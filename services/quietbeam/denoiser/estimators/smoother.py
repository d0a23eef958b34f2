"""The classical estimate: a Gaussian of the width with the least held-out error, up to a constant."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from quietbeam.core.model.types import FloatArray

WIDTHS = (0.6, 1.0, 1.6, 2.5, 4.0, 7.0, np.inf)


def smooth(counts: NDArray[np.floating], exposure: NDArray[np.floating], width: float) -> FloatArray:
    """Smooth one line: normalised convolution of counts and exposure, linear and so unbiased in the total.

    Parameters
    ----------
    counts, exposure
        (row, col), 0 where not measured.
    width
        Standard deviation in pixels; ``inf`` gives the mean.
    """
    if np.isinf(width):
        return np.full(counts.shape, counts.sum() / max(float(exposure.sum()), 1e-9), np.float32)
    top = ndimage.gaussian_filter(counts.astype(np.float32), width, mode="constant", truncate=3.5)
    bottom = ndimage.gaussian_filter(exposure.astype(np.float32), width, mode="constant", truncate=3.5)
    return np.divide(top, bottom, out=np.zeros_like(top), where=bottom > 1e-6)
