"""Values of all lines at a pixel, along a line and in a box, with their errors.

The dashboard computes the same in the browser: ``dashboard/js/base/stats.js``. Raw counts are independent: the error of
a mean over n pixels is ``sqrt(sum) / n``. Errors of neighbouring denoised pixels are not (one network saw both), so the
error of their mean is taken as the mean of their errors: an upper bound.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from quietbeam.quantify import LineDensity

Pixels = tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Means:
    """Means of one line over some pixels, each with one standard error; None where nothing is measured.

    Attributes
    ----------
    n
        Measured pixels.
    raw, denoised
        Mean counts per pixel.
    raw_error
        None for fitted areas, whose raw error is not known here.
    """

    n: int
    raw: float | None
    raw_error: float | None
    denoised: float | None
    denoised_error: float | None


def means(
    raw: npt.NDArray[np.floating],
    denoised: npt.NDArray[np.floating],
    uncertainty: npt.NDArray[np.floating],
    *,
    counts: bool,
) -> Means:
    """Return the means of one line's pixels, each (pixel,); NaN is not measured."""
    valid = np.isfinite(raw)
    done = valid & np.isfinite(denoised)
    n, m = int(valid.sum()), int(done.sum())
    total = float(raw[valid].sum(dtype=np.float64))
    return Means(
        n=n,
        raw=total / n if n else None,
        raw_error=max(total, 1.0) ** 0.5 / n if n and counts else None,
        denoised=float(denoised[done].mean(dtype=np.float64)) if m else None,
        denoised_error=float(uncertainty[done].mean(dtype=np.float64)) if m else None,
    )


def scaled(found: Means, by: LineDensity) -> Means:
    """Return means in another unit, with the error of the factor in theirs; None for a line that has no such unit."""
    if by.factor is None:
        return Means(n=found.n, raw=None, raw_error=None, denoised=None, denoised_error=None)
    factor = by.factor

    def value(mean: float | None) -> float | None:
        return None if mean is None else (mean - by.background) * factor

    def error(mean: float | None, own: float | None) -> float | None:
        shared = None if mean is None else by.relative_error * (mean - by.background) * factor
        return None if own is None or shared is None else float(np.hypot(own * factor, shared))

    return Means(
        n=found.n,
        raw=value(found.raw),
        raw_error=error(found.raw, found.raw_error),
        denoised=value(found.denoised),
        denoised_error=error(found.denoised, found.denoised_error),
    )


def profile_pixels(start: tuple[int, int], stop: tuple[int, int], width: int, shape: tuple[int, int]) -> list[Pixels]:
    """Return the pixels of each sample of a profile: one sample a pixel from ``start`` to ``stop`` (row, col).

    Each sample takes the ``width`` nearest pixels across the profile that are inside ``shape``.
    """
    delta = np.subtract(stop, start).astype(float)
    length = float(np.hypot(*delta))
    steps = max(1, int(np.floor(length + 0.5)))
    across = np.array([-delta[1], delta[0]]) / (length or 1.0)
    offsets = np.arange(width) - (width - 1) / 2
    samples = []
    for i in range(steps + 1):
        # halves are rounded up, as JavaScript does
        at = np.floor(np.add(start, delta * i / steps)[:, None] + across[:, None] * offsets + 0.5).astype(np.intp)
        inside = (at >= 0).all(0) & (at[0] < shape[0]) & (at[1] < shape[1])
        samples.append((at[0][inside], at[1][inside]))
    return samples
