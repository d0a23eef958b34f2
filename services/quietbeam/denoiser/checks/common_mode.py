"""Residual common-mode noise: beam and dwell jitter shared by all detectors and lines, which denoising cannot remove.

Counting noise is independent from line to line, so what two groups of lines share at the finest scale is either the
specimen's own finest structure or jitter of the exposure. The figures are therefore upper limits for pixels; for rows
the specimen's share is taken from the columns, across which nothing jitters.
"""

from __future__ import annotations

import numpy as np

from quietbeam.core.model.types import BoolArray, Float64Array

from ..data.finest_scale import finest_scale
from ..data.sums import Sums

_LEAST_COUNTS = 100.0


def common_mode(sums: Sums) -> tuple[float | None, float | None]:
    """Return the relative jitter (1 sigma) of pixels and of rows that all lines share; None where not measurable.

    Parameters
    ----------
    sums
        Counts or areas of two or more lines, (line, row, col).
    """
    rate = sums.rate.astype(np.float64)
    valid: BoolArray = np.all(sums.exposure > 0, axis=0)
    bright = np.flatnonzero(sums.counts.sum((1, 2)) > _LEAST_COUNTS)
    if bright.size < 2 or min(valid.shape) < 8 or valid.sum() < 64:
        return None, None
    order = bright[np.argsort([-rate[j][valid].sum() for j in bright])]
    # lines of like strength side by side, each with weight by its mean: no single line decides
    groups = [sum(rate[j] / rate[j][valid].mean() for j in order[i::2]) / len(order[i::2]) for i in (0, 1)]
    return _pixels(groups, valid), _rows(groups, valid)


def _pixels(groups: list[Float64Array], valid: BoolArray) -> float:
    """Robust covariance of the two groups' finest scale: that of the sum less that of the difference."""
    a, b = (finest_scale(g, valid)[0] for g in groups)
    if a.size < 30:
        return 0.0
    spread = [(np.median(np.abs(x - np.median(x))) / 0.6745) ** 2 for x in (a + b, a - b)]
    return float(np.sqrt(max(spread[0] - spread[1], 0.0) / 4))


def _rows(groups: list[Float64Array], valid: BoolArray) -> float:
    """Covariance of the two groups' second differences from row to row, beyond that from column to column."""
    figures, errors = [], []
    for axis in (1, 0):
        weight = valid.sum(axis)
        used = weight > 0.5 * weight.max()
        means = [(g * valid).sum(axis)[used] / weight[used] for g in groups]
        if used.sum() < 8:
            return 0.0
        a, b = (np.diff(m, 2) / np.sqrt(6.0) for m in means)
        figures.append(float((a * b).mean()))
        errors.append(float(np.sqrt((a * a).mean() * (b * b).mean() / max(a.size / 2, 1))))  # neighbours share terms
    excess = figures[0] - max(figures[1], 0.0)
    return float(np.sqrt(excess)) if excess > 2.5 * errors[0] else 0.0
