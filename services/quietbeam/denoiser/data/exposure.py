"""Relative exposure of pixels from beam intensity and live time: a factor of the model, so that counts stay Poisson."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from quietbeam.core.model.types import BoolArray, FloatArray

LEAST = 0.02
"""Pixels below this share of the median exposure (beam lost) are treated as not measured."""


def relative_exposure(
    measured: BoolArray, i0: NDArray[np.floating] | None, live_time_s: NDArray[np.floating] | None, n_det: int
) -> FloatArray:
    """Return (detector, row, col) exposure, 1 at the median of the measured pixels, 0 where not measured.

    Parameters
    ----------
    measured
        (row, col).
    i0
        (row, col), any unit, or None.
    live_time_s
        (detector, row, col), or None.
    """
    exposure = np.broadcast_to(measured, (n_det, *measured.shape)).astype(np.float32)
    if i0 is not None:
        exposure *= _relative(i0, measured)
    if live_time_s is not None:
        recorded = [bool(_usable(live, measured).any()) for live in live_time_s]
        for k in range(n_det):
            exposure[k] *= _relative(live_time_s[k], measured) if recorded[k] or not any(recorded) else 0.0
    exposure[exposure < LEAST] = 0.0
    return exposure


def reference(values: NDArray[np.floating] | None, measured: BoolArray) -> float | None:
    """Return the value that stands for exposure 1, the median of what can be used; None where there is none."""
    if values is None or not (good := _usable(values, measured)).any():
        return None
    return float(np.median(values[good]))


def _relative(values: NDArray[np.floating], measured: BoolArray) -> FloatArray:
    """Return values over their median; ones when nothing usable was recorded."""
    good = _usable(values, measured)
    if not good.any():
        return np.ones(values.shape, np.float32)
    return np.where(good, values / np.median(values[good]), 0.0).astype(np.float32)


def _usable(values: NDArray[np.floating], measured: BoolArray) -> BoolArray:
    return measured & np.isfinite(values) & (values > 0)
