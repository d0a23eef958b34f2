"""The finest scale of a map, which is nearly all noise."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from quietbeam.core.model.types import BoolArray, Float64Array

_LAPLACIANS = np.outer([1, -2, 1], [1, -2, 1]) / 6.0


def finest_scale(image: NDArray[np.floating], valid: BoolArray) -> tuple[Float64Array, BoolArray]:
    """Return the difference of two Laplacians (Immerkaer 1996) where 3 x 3 pixels are valid, (n,), and that mask.

    White noise keeps its variance under it; slopes and straight edges vanish.

    Parameters
    ----------
    image, valid
        (row, col).
    """
    whole = ndimage.minimum_filter(valid, 3, mode="constant", cval=False)
    return ndimage.convolve(np.where(valid, image, 0).astype(np.float64), _LAPLACIANS)[whole], whole
