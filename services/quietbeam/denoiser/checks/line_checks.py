"""Checks of the published map on the fold that never trains: totals, residual, resolution, error bars."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, stats

from quietbeam.core.model.types import BoolArray, Float64Array, FloatArray

from ..data.sums import Sums
from .resolution import resolution

BOX = 5
"""Edge of the boxes over which the residual is summed, in pixels."""


@dataclass(slots=True)
class LineChecks:
    """Figures of one line; None where they cannot be measured. See :class:`LineEvidence` for their meaning."""

    total_ratio: float | None = None
    slope: float | None = None
    residual_chi2: float | None = None
    structure: float = 0.0
    residual_p: float | None = None
    residual_worst: tuple[int, int] | None = None
    frc: tuple[float | None, float | None] = (None, None)
    frc_raw: tuple[float | None, float | None] = (None, None)
    coverage_68: float | None = None


def check_line(
    seen: Sums,
    held: Sums,
    rate: FloatArray,
    deviation: FloatArray,
    factor: float,
    constant: float,
    *,
    published_raw: bool,
) -> LineChecks:
    """Compare one line's estimate with counts that it did not see.

    Parameters
    ----------
    seen, held
        One line, (row, col); ``rate`` and ``deviation`` [rate] were computed from ``seen`` alone.
    factor, constant
        Noise model of the line: variance = factor * counts + constant * exposure.
    """
    out = LineChecks()
    used = (held.exposure > 0) & (seen.exposure > 0)
    m = (rate * held.exposure)[used].astype(np.float64)
    h = held.counts[used].astype(np.float64)
    if m.size == 0:
        return out
    out.total_ratio = float(m.sum() / h.sum()) if h.sum() > 0 else None
    spread = m.var() * m.size
    if spread > 1e-3 * max(float((m * m).sum()), 1e-12) and h.sum() > 50:
        out.slope = float(((m - m.mean()) * (h - h.mean())).sum() / spread)
    out.frc = resolution(rate, held.rate)
    out.frc_raw = resolution(seen.rate, held.rate)
    if published_raw:
        return out
    expected = rate * seen.exposure
    noise = np.maximum(factor * expected + constant * seen.exposure, 1e-6)
    difference = np.where(used, seen.counts - expected, 0)
    out.residual_chi2 = float((difference[used] ** 2 / noise[used]).mean())
    boxes = _box(difference) ** 2 / np.maximum(_box(np.where(used, noise, 0)), 1e-9)
    ok = used & (_box(np.where(used, noise, 0)) > BOX**2)
    out.structure = float(boxes[ok].mean()) if int(ok.sum()) > 50 else 0.0
    _worst_spot(out, held, rate, deviation, used, factor, constant)
    out.coverage_68 = _coverage(held, rate, deviation, used, factor, constant)
    return out


def _box(image: NDArray[np.floating]) -> Float64Array:
    """Return the sum over a box around every pixel."""
    return ndimage.uniform_filter(image.astype(np.float64), BOX, mode="constant") * BOX**2


def local_chi2(sums: Sums, rate: FloatArray, variance: FloatArray) -> FloatArray:
    """Return the chi-square of each 5 x 5 box of the residual (line, row, col): about 1 where only noise is left.

    ``(sum (n - E f))**2 / sum var``: the residual is summed before it is squared, so that what was erased or invented
    over several pixels stands out, where noise averages out. Below 1 where the map follows these very counts.

    Parameters
    ----------
    rate
        The published map (line, row, col).
    variance
        Variance of the counts that the map and the noise model expect, same axes.
    """
    used = sums.exposure > 0
    out = np.zeros(rate.shape, np.float32)
    for j, valid in enumerate(used):
        residual = np.where(valid, sums.counts[j] - sums.exposure[j] * rate[j], 0)
        spread = _box(np.where(valid, variance[j], 0))
        out[j] = np.where(valid, _box(residual) ** 2 / np.maximum(spread, 1e-9), 0)
    return out


def _worst_spot(
    out: LineChecks,
    held: Sums,
    rate: FloatArray,
    deviation: FloatArray,
    used: BoolArray,
    factor: float,
    constant: float,
) -> None:
    """Find the box in which held-out counts differ most from the estimate, and the probability of that by chance."""
    expected = np.where(used, rate * held.exposure, 0)
    variance = np.where(used, factor * expected + constant * held.exposure, 0)
    # the estimate's own error is shared by the pixels of a box: it adds up before it is squared
    estimate_error = _box(np.where(used, deviation * held.exposure, 0)) ** 2
    counting = _box(variance)
    ok = used & (counting > 10.0)
    if not ok.any():
        return
    z = np.where(
        ok, np.abs(_box(np.where(used, held.counts - expected, 0))) / np.sqrt(counting + estimate_error + 1e-9), 0
    )
    row, col = np.unravel_index(int(z.argmax()), z.shape)
    independent = max(1.0, 4.0 * float(ok.sum()) / BOX**2)
    out.residual_worst = int(row), int(col)
    out.residual_p = float(-np.expm1(independent * np.log1p(-min(2 * stats.norm.sf(z[row, col]), 1 - 1e-12))))


def _coverage(
    held: Sums, rate: FloatArray, deviation: FloatArray, used: BoolArray, factor: float, constant: float
) -> float | None:
    """Return the share of held-out counts within one combined standard error of the estimate (0.683 is right)."""
    expected = (rate * held.exposure)[used].astype(np.float64)
    variance = factor * expected + constant * held.exposure[used] + (deviation * held.exposure)[used] ** 2
    if expected.mean() < 3 * factor:
        return None  # counts are too coarse to have a 68 % range
    # whole counts are spread evenly over their step, which belongs to the spread
    step = np.random.default_rng(0).uniform(-0.5, 0.5, expected.size)
    inside = np.abs(held.counts[used] + step - expected) <= np.sqrt(variance + 1 / 12)
    return float(inside.mean())
