"""How two lines go together: their correlation without what counting noise takes from it, and their joint histogram.

Noise lowers the correlation of two measured maps. With independent errors of known variance in both (counts of two
lines are independent), the correlation of what was measured is::

    r = cov(x, y) / sqrt((var(x) - mean(noise_x)) (var(y) - mean(noise_y)))

(Spearman 1904, Am. J. Psychol. 15, 72: correction for attenuation), and the slope of y on x is ``cov(x, y) / (var(x) -
mean(noise_x))`` (Fuller 1987, Measurement Error Models, section 1.2). Raw counts are taken for both: errors of denoised
maps are not independent between lines, since one network saw all of them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from quietbeam.core.model.types import BoolArray

BINS = 64
_BLOCK = 8
_LEAST_BLOCKS = 16
_DRAWS = 400
_LEAST_PIXELS = 30
_SURE = 3.0
"""Standard errors by which a variance must stand above that of a line that holds nothing but counting noise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Correlation:
    """Of two raw maps.

    Attributes
    ----------
    n
        Pixels.
    measured
        Pearson's correlation of the raw maps, which noise lowers.
    corrected
        Without noise; None where it cannot be told, `reason` says why.
    low, high
        95 % interval of `corrected`: bootstrap over blocks of 8 x 8 pixels, smaller where there are fewer than 16. A
        draw in which a line varies less than noise tells nothing, so it widens the interval at both ends.
    slope
        Counts of y for each count of x, corrected for the noise of x.
    """

    n: int
    measured: float | None = None
    corrected: float | None = None
    low: float | None = None
    high: float | None = None
    slope: float | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class JointHistogram:
    """Pixels by the values of two maps.

    Attributes
    ----------
    pixels
        (bin of x, bin of y).
    """

    x_edges: list[float]
    y_edges: list[float]
    pixels: list[list[int]]


def correlate(
    x: npt.NDArray[np.floating],
    y: npt.NDArray[np.floating],
    inside: BoolArray,
    names: tuple[str, str] = ("x", "y"),
) -> Correlation:
    """Return the correlation of two raw maps of counts, (row, col), over the pixels `inside`; NaN is not measured.

    The variance of counting noise in a pixel is its counts.

    Parameters
    ----------
    names
        Of the two lines, for `reason`.
    """
    used = inside & np.isfinite(x) & np.isfinite(y)
    n = int(used.sum())
    if n < _LEAST_PIXELS:
        return Correlation(n=n, reason=f"{n} pixels are too few: it takes {_LEAST_PIXELS}")
    sums = _block_sums(x, y, used)
    var_x, var_y, noise_x, noise_y, cov = (float(one[0]) for one in _moments(sums.sum(0, keepdims=True)))
    both = ((names[0], var_x, noise_x), (names[1], var_y, noise_y))
    if flat := [name for name, var, _ in both if var <= 0]:
        return Correlation(n=n, reason=f"{flat[0]} has the same counts in every pixel")
    measured = cov / float(np.sqrt(var_x * var_y))
    for name, var, noise in both:
        chance = noise * float(np.sqrt(2.0 / n))  # of the variance less the mean, of counts with one expectation
        if not var - noise > _SURE * chance:
            reason = f"{name} varies no more than counting noise does: variance {var:.3g}, mean {noise:.3g}"
            return Correlation(n=n, measured=measured, reason=reason)
    low, high = _interval(sums)
    return Correlation(
        n=n,
        measured=measured,
        corrected=float(np.clip(cov / np.sqrt((var_x - noise_x) * (var_y - noise_y)), -1.0, 1.0)),
        low=low,
        high=high,
        slope=cov / (var_x - noise_x),
    )


def _interval(sums: npt.NDArray[np.float64]) -> tuple[float, float]:
    """Return the 95 % interval of the corrected correlation from the sums of blocks."""
    weights = np.random.default_rng(0).poisson(1.0, (_DRAWS, len(sums))).astype(np.float64)
    var_x, var_y, noise_x, noise_y, cov = _moments(weights[weights.sum(1) > 0] @ sums)
    known = (var_x > noise_x) & (var_y > noise_y)
    drawn = cov[known] / np.sqrt((var_x - noise_x)[known] * (var_y - noise_y)[known])
    drawn, unknown = np.clip(drawn, -1.0, 1.0), np.ones(int((~known).sum()))
    return float(np.quantile([*drawn, *-unknown], 0.025)), float(np.quantile([*drawn, *unknown], 0.975))


def _block_sums(x: npt.NDArray[np.floating], y: npt.NDArray[np.floating], used: BoolArray) -> npt.NDArray[np.float64]:
    """Return sums over the pixels of each block, (block, [1, x, y, xx, yy, xy]), about the means of the whole."""
    rows, cols = np.nonzero(used)
    edge, blocks = 2 * _BLOCK, rows[:0]
    while edge > 1 and len(blocks) < _LEAST_BLOCKS:
        edge //= 2
        blocks, label = np.unique((rows // edge) * (used.shape[1] // edge + 1) + cols // edge, return_inverse=True)
    a, b = x[used].astype(np.float64), y[used].astype(np.float64)
    columns = (np.ones(a.size), a, b, a * a, b * b, a * b)
    return np.stack([np.bincount(label, column) for column in columns], axis=1)


def _moments(sums: npt.NDArray[np.float64]) -> tuple[npt.NDArray[np.float64], ...]:
    """Return variances of x and y, their noise (the mean counts), and the covariance, for each row of sums."""
    n = sums[:, 0]
    mean_x, mean_y = sums[:, 1] / n, sums[:, 2] / n
    free = n / np.maximum(n - 1, 1)
    var_x, var_y = free * (sums[:, 3] / n - mean_x**2), free * (sums[:, 4] / n - mean_y**2)
    return var_x, var_y, np.maximum(mean_x, 0), np.maximum(mean_y, 0), free * (sums[:, 5] / n - mean_x * mean_y)


def joint_histogram(
    x: npt.NDArray[np.floating], y: npt.NDArray[np.floating], inside: BoolArray
) -> JointHistogram | None:
    """Return the joint histogram of two maps over the pixels `inside`; None where there is none."""
    used = inside & np.isfinite(x) & np.isfinite(y)
    if not used.any():
        return None
    pixels, x_edges, y_edges = np.histogram2d(x[used], y[used], BINS)
    return JointHistogram(x_edges=x_edges.tolist(), y_edges=y_edges.tolist(), pixels=pixels.astype(int).tolist())
