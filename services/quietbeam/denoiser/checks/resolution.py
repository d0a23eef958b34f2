"""Resolution by Fourier ring correlation (FRC) between an estimate and raw counts that it did not see.

Never between two outputs of one network: they share its inventions. Thresholds: 1/7 and half a bit of information per
Fourier pixel (van Heel and Schatz 2005).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from quietbeam.core.model.types import Float64Array

LEAST_PIXELS = 16


def ring_correlation(
    a: NDArray[np.floating], b: NDArray[np.floating]
) -> tuple[Float64Array, Float64Array, Float64Array]:
    """Return the rings' frequency [cycles per pixel], correlation and number of Fourier pixels.

    Parameters
    ----------
    a, b
        (row, col) maps; a Hann window keeps their borders out.
    """
    window = np.multiply.outer(np.hanning(a.shape[0] + 2)[1:-1], np.hanning(a.shape[1] + 2)[1:-1])
    fa, fb = (np.fft.rfft2((image - np.average(image, weights=window)) * window) for image in (a, b))
    frequency = np.hypot(np.fft.fftfreq(a.shape[0])[:, None], np.fft.rfftfreq(a.shape[1])[None, :])
    rings = min(a.shape) // 2
    index = np.minimum((frequency * 2 * rings).astype(int), rings)  # the last one is beyond Nyquist
    index[0, 0] = rings

    def total(values: Float64Array) -> Float64Array:
        return np.bincount(index.ravel(), values.ravel(), rings + 1)[:rings].astype(np.float64)

    power = np.sqrt(total(np.abs(fa) ** 2) * total(np.abs(fb) ** 2))
    correlation = np.divide(total((fa * fb.conj()).real), power, out=np.zeros_like(power), where=power > 0)
    return (np.arange(rings) + 0.5) / (2 * rings), correlation, total(np.ones_like(frequency))


def resolution(a: NDArray[np.floating], b: NDArray[np.floating]) -> tuple[float | None, float | None]:
    """Return the resolution [pixels per period] at 1/7 and at half a bit; None where even the coarsest ring fails.

    2 pixels (Nyquist) is the best there can be.
    """
    if min(a.shape) < LEAST_PIXELS or not np.ptp(a) or not np.ptp(b):
        return None, None
    frequency, correlation, pixels = ring_correlation(a, b)
    root = np.sqrt(np.maximum(pixels, 1))
    half_bit = (0.2071 + 1.9102 / root) / (1.2071 + 0.9102 / root)
    return _crossing(frequency, correlation, np.full_like(root, 1 / 7)), _crossing(frequency, correlation, half_bit)


def _crossing(frequency: Float64Array, correlation: Float64Array, threshold: Float64Array) -> float | None:
    """Return the period at which the correlation stays below the threshold for two rings."""
    below = correlation < threshold
    lost = np.flatnonzero(below & np.append(below[1:], True))
    if lost.size == 0:
        return 2.0
    return None if lost[0] == 0 else round(float(1.0 / frequency[lost[0]]), 2)
