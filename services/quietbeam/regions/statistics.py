"""What one line shows in a region: mean, median, sum, extremes, quantiles and histogram, each with its error.

Raw counts are independent. Neighbouring denoised pixels are not (one network saw both): the error of their mean is the
mean of their errors, an upper bound, and no quantile of theirs is better known.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from quietbeam.quantify import LineDensity

QUANTILES = (0.05, 0.25, 0.75, 0.95)
BINS = 32
_NARROWEST = 1e-9
"""Least width of a histogram, as a share of its values."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """A value with one standard error; None where there is none: a single area has no known raw error."""

    value: float | None
    error: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Histogram:
    """Pixels by value, of those whose value is finite.

    Attributes
    ----------
    edges
        One more than there are bins.
    pixels, errors
        In each bin, and one standard error of that (binomial).
    """

    edges: list[float]
    pixels: list[int]
    errors: list[float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Statistics:
    """Of the pixels of one kind of map.

    Attributes
    ----------
    n
        Pixels with a value.
    spread
        Standard deviation between pixels.
    quantiles
        By share, as ``0.25``.
    """

    n: int
    mean: Figure
    median: Figure
    sum: Figure
    minimum: Figure
    maximum: Figure
    spread: float | None
    quantiles: dict[str, Figure]
    histogram: Histogram | None


@dataclass(frozen=True, slots=True, kw_only=True)
class LineStatistics:
    """Of one line."""

    raw: Statistics
    denoised: Statistics


def line_statistics(
    raw: npt.NDArray[np.floating],
    denoised: npt.NDArray[np.floating],
    uncertainty: npt.NDArray[np.floating],
    *,
    counts: bool,
    by: LineDensity | None = None,
) -> LineStatistics:
    """Return the statistics of one line's pixels, each (pixel,); NaN is not measured.

    Parameters
    ----------
    counts
        Whole counts, whose raw error is known; areas have the scatter between pixels.
    by
        Converts to another unit; its error, which all pixels share, is in every figure's.
    """
    seen, done = np.isfinite(raw), np.isfinite(denoised) & np.isfinite(uncertainty)
    values = raw[seen].astype(np.float64)
    scatter = float(values.std(ddof=1)) if values.size > 1 else np.nan  # of one pixel nothing is known
    own = np.sqrt(np.maximum(values, 1.0)) if counts else np.full(values.size, scatter)
    total = float(np.sqrt(max(values.sum(), 1.0))) if counts else scatter * np.sqrt(values.size)
    of_raw = _statistics(values, own, total / max(values.size, 1), 0.0, by)
    errors = uncertainty[done].astype(np.float64)
    shared = float(errors.mean()) if errors.size else 0.0
    return LineStatistics(
        raw=of_raw, denoised=_statistics(denoised[done].astype(np.float64), errors, shared, shared, by)
    )


def _statistics(
    values: npt.NDArray[np.float64],
    own: npt.NDArray[np.float64],
    of_mean: float,
    least: float,
    by: LineDensity | None,
) -> Statistics:
    """Return statistics; `own` are the errors of the pixels, `least` the least error of a quantile."""
    none, n = Figure(value=None, error=None), int(values.size)
    if by is not None and by.factor is None:
        values, n = values[:0], 0
    if not n:
        empty = {f"{share:g}": none for share in QUANTILES}
        return Statistics(
            n=0,
            mean=none,
            median=none,
            sum=none,
            minimum=none,
            maximum=none,
            spread=None,
            quantiles=empty,
            histogram=None,
        )
    factor, offset, relative = (1.0, 0.0, 0.0) if by is None else (by.factor or 0.0, by.background, by.relative_error)

    def figure(value: float, error: float, pixels: int = 1) -> Figure:
        converted = (value - pixels * offset) * factor
        return Figure(value=_finite(converted), error=_finite(np.hypot(error * factor, relative * converted)))

    def quantile(share: float) -> Figure:
        reach = np.sqrt(share * (1 - share) / n)  # of the rank, by the binomial distribution
        low, at, high = np.quantile(values, [max(share - reach, 0.0), share, min(share + reach, 1.0)])
        return figure(float(at), float(own[0]) if n == 1 else max(float(high - low) / 2, least))

    lowest, highest = int(values.argmin()), int(values.argmax())
    mean = float(values.mean())
    return Statistics(
        n=n,
        mean=figure(mean, of_mean),
        median=quantile(0.5),
        sum=figure(float(values.sum()), of_mean * n, n),
        minimum=figure(float(values[lowest]), float(own[lowest])),
        maximum=figure(float(values[highest]), float(own[highest])),
        spread=_finite(values.std(ddof=1) * factor) if n > 1 else None,
        quantiles={f"{share:g}": quantile(share) for share in QUANTILES},
        histogram=_histogram((values - offset) * factor),
    )


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _histogram(values: npt.NDArray[np.float64]) -> Histogram | None:
    values = values[np.isfinite(values)]
    if not values.size:
        return None
    low, high = float(values.min()), float(values.max())
    if not high - low > _NARROWEST * max(abs(low), abs(high)):  # bins would have no width
        half = max(0.5, _NARROWEST * abs(high))
        low, high = low - half, high + half
    if not np.isfinite(high - low):
        return None
    pixels, edges = np.histogram(values, BINS, (low, high))
    share = pixels / values.size
    errors = np.sqrt(pixels * (1 - share))
    return Histogram(edges=edges.tolist(), pixels=pixels.tolist(), errors=errors.tolist())
