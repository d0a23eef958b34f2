"""Smooth gain fields: detectors whose sensitivity varies slowly over the map."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from quietbeam.core.model.types import Float64Array, FloatArray

BLOCKS = 96
"""The field is estimated on at most so many blocks of pixels along an axis."""
SMOOTHING = 0.1
"""Width of the smoothing in shares of the shorter side."""
LEAST_FIELD = 0.02
"""Weaker fields (relative, 1 sigma) are not corrected."""


def gain_field(
    counts: NDArray[np.floating], exposure: NDArray[np.floating], values: NDArray[np.floating]
) -> FloatArray | None:
    """Return each detector's relative sensitivity over the map, (detector, row, col), about 1; None where even.

    On rough specimens the ratio of two detectors varies smoothly and alike for all lines (relief shades one of them).
    The pixels of a checkerboard give two independent estimates of the same smooth field: their covariance is the
    field's own variance whatever the noise, their difference is the noise by which the estimate is drawn towards 1.

    Parameters
    ----------
    counts
        (detector, line, row, col), counts or areas, 0 where not measured.
    exposure
        (detector, row, col), 0 where not measured.
    values
        Gains (detector, line), 0 for excluded detectors.
    """
    n_det, _, rows, cols = counts.shape
    if n_det < 2 or min(rows, cols) < 8:
        return None
    seen, expected, size = _blocks(counts, exposure, values)
    width = max(1.0, SMOOTHING * min(seen.shape[-2:]))
    seen, expected = (ndimage.gaussian_filter(a, (0, 0, width, width), mode="constant") for a in (seen, expected))
    field = np.ones((n_det, *seen.shape[-2:]))
    independent = max(seen[0, 0].size / (4 * np.pi * width**2), 1.0)
    for k in range(n_det):
        valid = (expected[:, k] > 1e-3 * expected[:, k].max()).all(0) & (expected[:, k] > 0).all(0)
        if valid.sum() < 9:
            continue
        halves = seen[:, k][:, valid] / expected[:, k][:, valid] - 1.0
        excess = float((halves[0] * halves[1]).mean())
        noise = float(((halves[0] - halves[1]) ** 2).mean()) / 4
        if excess > LEAST_FIELD**2 and excess > 3.0 * noise / np.sqrt(independent):
            both = seen[:, k].sum(0)[valid] / expected[:, k].sum(0)[valid] - 1.0
            field[k][valid] = np.clip(1.0 + excess / (excess + noise) * both, 0.1, 10.0)
    if (field == 1.0).all():
        return None
    fine = [ndimage.zoom(f, size, order=1, mode="nearest", grid_mode=True)[:rows, :cols] for f in field]
    return np.stack(fine).astype(np.float32)


def _blocks(
    counts: NDArray[np.floating], exposure: NDArray[np.floating], values: NDArray[np.floating]
) -> tuple[Float64Array, Float64Array, int]:
    """Return measured and expected counts of each detector, (half, detector, row, col), and the block edge.

    The halves are those of a checkerboard of pixels.
    """
    n_det, _, rows, cols = counts.shape
    size = -(-max(rows, cols) // BLOCKS)
    shape = (2, n_det, -(-rows // size), -(-cols // size))
    seen, expected = np.zeros(shape), np.zeros(shape)
    used = (values > 0).astype(np.float64)
    for block in range(shape[2]):
        rows_in = slice(block * size, min((block + 1) * size, rows))
        part = counts[:, :, rows_in].astype(np.float64) * used[:, :, None, None]
        weight = values[:, :, None, None] * exposure[:, None, rows_in]
        share = np.divide(weight, weight.sum(0), out=np.zeros_like(weight), where=weight.sum(0) > 0)
        board = np.add.outer(np.arange(rows_in.start, rows_in.stop), np.arange(cols)) % 2
        for total, image in ((seen, part.sum(1)), (expected, (part.sum(0) * share).sum(1))):
            image = image * (exposure[:, rows_in] > 0)
            for half in (0, 1):
                wide = np.pad((image * (board == half)).sum(1), ((0, 0), (0, -cols % size)))
                total[half, :, block] = wide.reshape(n_det, -1, size).sum(2)
    return seen, expected, size
