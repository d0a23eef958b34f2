"""Fitted areas: noise beyond Poisson, measured from the scatter between detectors.

Areas of the same pixel from different detectors differ with variance ``factor * area + constant``. Divided by the
factor and shifted, they have the mean-variance relation of counts: ``n = area / factor + constant / factor**2``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage
from scipy.optimize import nnls

from quietbeam.core.model.types import BoolArray, FloatArray

from .counts import RunCounts
from .finest_scale import finest_scale
from .sums import Sums


@dataclass(frozen=True, slots=True)
class NoiseModel:
    """Variance of a line's summed areas: ``factor * area + constant * exposure``; each (line,).

    Counts have factor 1 and constant 0.
    """

    factor: FloatArray
    constant: FloatArray

    def variance(self, sums: Sums) -> FloatArray:
        """Return the variance of the sums (line, row, col)."""
        area = np.clip(sums.counts, 0, None)
        return self.factor[:, None, None] * area + self.constant[:, None, None] * sums.exposure

    def to_counts(self, sums: Sums, *, clip: bool = True) -> Sums:
        """Return effective Poisson counts; without `clip` also negative ones, so that the mean is unbiased."""
        offset = (self.constant / self.factor**2)[:, None, None] * sums.exposure
        counts = sums.counts / self.factor[:, None, None] + offset
        counts = np.clip(counts, 0, None) if clip else counts
        return Sums(counts=counts.astype(np.float32), exposure=sums.exposure)

    def from_rate(self, rate: FloatArray) -> FloatArray:
        """Return the rate in areas of an effective Poisson rate."""
        return (rate - (self.constant / self.factor**2)[:, None, None]) * self.factor[:, None, None]

    @classmethod
    def poisson(cls, lines: int) -> NoiseModel:
        """Return the model of photon counts."""
        return cls(factor=np.ones(lines, np.float32), constant=np.zeros(lines, np.float32))


def measure_noise(data: RunCounts) -> NoiseModel:
    """Fit the noise model, line by line, to differences between detectors (small scales only).

    With one usable detector the finest scale of its own map stands in; see :func:`_by_level`.
    """
    n_line = len(data.lines)
    factor, constant = np.ones(n_line, np.float32), np.zeros(n_line, np.float32)
    gains, exposure = data.gains, data.exposure
    for j in range(n_line):
        used = np.flatnonzero(gains.included[:, j])
        total = data.counts[used, j].sum(0)
        weights = data.weights(j)[used]
        share = np.divide(weights, weights.sum(0), out=np.zeros_like(weights), where=weights.sum(0) > 0)
        squares: list[FloatArray] = []
        levels: list[FloatArray] = []
        level = _local_mean(total, weights.sum(0) > 0)
        for i, k in enumerate(used if used.size > 1 else ()):
            p = share[i]
            scaled = np.divide(
                data.counts[k, j] - p * total, np.sqrt(p * (1 - p)), out=np.zeros_like(total), where=(p > 0) & (p < 1)
            )
            good = (p > 0) & (p < 1)
            if data.missing is not None:
                good &= ~data.missing[used, j].any(0)
            _collect(scaled, level, good, squares, levels)
        if used.size == 1:
            _by_level(total, exposure[used[0]] > 0, squares, levels)
        if squares:
            factor[j], constant[j] = _fit(np.concatenate(squares), np.concatenate(levels), keep_sum=used.size > 1)
    return NoiseModel(factor=factor, constant=constant)


def _collect(
    values: FloatArray, level: FloatArray, good: BoolArray, squares: list[FloatArray], levels: list[FloatArray]
) -> None:
    """Add half squared differences of neighbours along a row: an unbiased variance, blind to smooth gain fields."""
    pair = good[:, 1:] & good[:, :-1]
    squares.append(0.5 * (values[:, 1:] - values[:, :-1])[pair] ** 2)
    levels.append(0.5 * (level[:, 1:] + level[:, :-1])[pair])


def _local_mean(image: FloatArray, valid: BoolArray) -> FloatArray:
    """Return the mean over 5 x 5 pixels: a level with little of the pixel's own noise, which would bias the fit."""
    weight = ndimage.uniform_filter(valid.astype(np.float32), 5, mode="constant")
    mean = ndimage.uniform_filter(np.where(valid, image, 0).astype(np.float32), 5, mode="constant")
    return np.divide(mean, weight, out=np.zeros_like(mean), where=weight > 0)


def _by_level(values: FloatArray, good: BoolArray, squares: list[FloatArray], levels: list[FloatArray]) -> None:
    """Add the variance of the finest scale, robustly, at several levels.

    It is blind to slopes and to straight edges, and the median within a bin of levels to rare sharp structure; what is
    left of the structure still counts as noise, so this is an upper limit.
    """
    if min(values.shape) < 5:
        return
    high, whole = finest_scale(values, good)
    level = ndimage.uniform_filter(values.astype(np.float64), 3)[whole]
    if high.size < 8:
        return
    for part in np.array_split(np.argsort(level), max(1, min(8, high.size // 60))):
        sigma = np.median(np.abs(high[part])) / 0.6745
        squares.append(np.full(part.size, sigma**2))
        levels.append(level[part])


def _fit(square: FloatArray, level: FloatArray, *, keep_sum: bool) -> tuple[float, float]:
    """Fit ``square = factor * level + constant``, both >= 0, to means over bins of level.

    ``keep_sum`` scales the fit to the mean square: the risk of raw, and with it every gain, hangs on that. Not for
    figures that are upper limits.
    """
    if square.size < 8:
        return 1.0, 0.0
    bins = np.array_split(np.argsort(level), max(1, min(12, square.size // 40)))
    y = np.array([square[b].mean() for b in bins]) + 1e-12
    x = np.array([level[b].mean() for b in bins])
    w = 1.0 / y
    design = np.stack([np.clip(x, 0, None), np.ones_like(x)], 1) * w[:, None]
    (factor, constant), _ = nnls(design, y * w)
    model = float(factor * np.clip(level, 0, None).mean() + constant)
    if keep_sum and model > 0:
        factor, constant = (v * float(square.mean()) / model for v in (factor, constant))
    # a factor near 0 would give endless effective counts
    least = max(float(np.sqrt(constant / 1e5)), 1e-6 * float(np.abs(x).max() + 1e-9), 1e-12)
    return max(float(factor), least), float(constant)
