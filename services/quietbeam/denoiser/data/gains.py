"""Sensitivity of every detector for every line, and detectors that must be left out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from quietbeam.core.model.types import BoolArray, Float64Array

DEAD, SHADOWED, RUNAWAY = 0.005, 0.08, 12.0
NOISY_CHI2 = 4.0
ODD = 1.8
"""Largest factor between a detector's share in one line and its share in the others."""
PRIOR_COUNTS = 400.0
EVEN_COUNTS = 10.0
"""Prior counts that make a detector with hardly any counts like the others."""


@dataclass(frozen=True, slots=True)
class Gains:
    """Gains and exclusions of the detectors.

    Attributes
    ----------
    values
        (detector, line); the included detectors of a line sum to 1, excluded ones are 0.
    included
        (detector, line) bool.
    reasons
        Per line, the excluded detectors with the reason.
    scatter
        (detector, line) variance of each detector's small-scale residual over that of photon counting; NaN if unknown.
    drift
        (detector,) smooth relative variation of the detector against the others over the map (1 sigma), beyond noise.
    """

    values: Float64Array
    included: BoolArray
    reasons: tuple[dict[str, str], ...]
    scatter: Float64Array
    drift: Float64Array

    @property
    def usable(self) -> BoolArray:
        """Detectors that are included in any line, (detector,)."""
        return np.asarray(self.included.any(1))


def estimate_gains(counts: NDArray[np.floating], exposure: NDArray[np.floating], detectors: Sequence[str]) -> Gains:
    """Estimate gains and exclude bad detectors, line by line.

    A line with few counts borrows the detector's gain over all lines (a Gamma prior worth 400 counts): gains differ
    by a few per cent from line to line, which the prior allows for.

    Parameters
    ----------
    counts
        (detector, line, row, col), 0 where not measured.
    exposure
        (detector, row, col), 0 where not measured.
    """
    n_det, n_line = counts.shape[:2]
    totals = np.clip(counts.sum((-2, -1), dtype=np.float64), 0, None)
    time = exposure.sum((-2, -1), dtype=np.float64)[:, None]
    rate = totals / np.maximum(time, 1e-9)
    included = np.broadcast_to(time > 0, rate.shape).copy()
    reasons: list[dict[str, str]] = [{} for _ in range(n_line)]
    for k in np.flatnonzero(time[:, 0] <= 0).tolist():
        for line in reasons:
            line[detectors[k]] = "no exposure"
    _runaway(rate, included, reasons, detectors, totals)
    # compared within a line with the upper median, so that two dead ones of four are still found
    reference = _upper_median(rate * included)
    expected = reference * time
    for k in range(n_det):
        for j in range(n_line):
            if not included[k, j] or expected[k, j] < 40:
                continue
            share = rate[k, j] / reference[j]
            if share < DEAD:
                reason = "dead: no counts" if totals[k, j] == 0 else "dead"
            elif share < SHADOWED:
                reason = f"shadowed: {share:.2g} of the others"
            else:
                continue
            included[k, j] = False
            reasons[j][detectors[k]] = reason
    _odd_lines(rate, included, reasons, detectors, expected)
    _exclude_from_weak_lines(included, reasons, detectors, expected)
    scatter = _scatter(counts, exposure, rate * included)
    _noisy(scatter, included, reasons, detectors)
    values = _shrunk(totals, time, included)
    return Gains(
        values=values,
        included=included,
        reasons=tuple(reasons),
        scatter=scatter,
        drift=_drift(counts, exposure, values),
    )


def _upper_median(rate: Float64Array) -> Float64Array:
    """Return, per line, the median of the better half of the detectors."""
    ordered = np.sort(rate, axis=0)[::-1]
    return np.median(ordered[: (len(ordered) + 1) // 2], axis=0)


def _runaway(
    rate: Float64Array,
    included: BoolArray,
    reasons: list[dict[str, str]],
    detectors: Sequence[str],
    totals: Float64Array,
) -> None:
    """Exclude a single detector that counts many times more than all others (noise peak, wrong calibration).

    The others must agree with each other; where they do not, it is they who are shadowed or dead.
    """
    for j in range(rate.shape[1]):
        alive = np.flatnonzero(included[:, j])
        if alive.size < 3:
            continue
        top = int(alive[np.argmax(rate[alive, j])])
        others = alive[alive != top]
        usual = float(np.median(rate[others, j]))
        if totals[top, j] <= 100 or np.median(totals[others, j]) < 10:
            continue
        agree = np.abs(rate[others, j] / usual - 1) < 0.5
        far = rate[top, j] > RUNAWAY * usual and rate[top, j] > 0.5 * RUNAWAY * rate[others, j].max()
        if far and agree.mean() > 0.6:
            included[top, j] = False
            reasons[j][detectors[top]] = f"runaway: {rate[top, j] / usual:.2g} times the others"


def _odd_lines(
    rate: Float64Array,
    included: BoolArray,
    reasons: list[dict[str, str]],
    detectors: Sequence[str],
    expected: Float64Array,
) -> None:
    """Exclude a detector from lines in which it is far off its own share in its other lines: windows beside the peak.

    Shares differ by some per cent from line to line, by ten for soft lines; a wrong energy calibration costs most of a
    peak. This needs three lines and three detectors.
    """
    shares = np.full(rate.shape, np.nan)
    for j in range(rate.shape[1]):
        alive = included[:, j]
        if alive.sum() >= 3 and expected[:, j].max() >= 400:
            shares[alive, j] = rate[alive, j] / np.median(rate[alive, j])
    for k in range(rate.shape[0]):
        measurable = np.flatnonzero(np.isfinite(shares[k]))
        if measurable.size < 3:
            continue
        usual = float(np.median(shares[k, measurable]))
        for j in measurable.tolist():
            share = shares[k, j] / usual
            if not 1 / ODD < share < ODD:
                included[k, j] = False
                reasons[j][detectors[k]] = (
                    f"off its line: {share:.2g} of its share in other lines (energy calibration?)"
                )


def _exclude_from_weak_lines(
    included: BoolArray, reasons: list[dict[str, str]], detectors: Sequence[str], expected: Float64Array
) -> None:
    """Exclude a detector from lines too weak to tell as soon as every stronger line excludes it."""
    for k in range(included.shape[0]):
        measurable = expected[k] >= 40
        if measurable.any() and not included[k, measurable].any():
            for j in np.flatnonzero(~measurable).tolist():
                included[k, j] = False
                reasons[j].setdefault(detectors[k], "dead or shadowed in every line with enough counts")
    for j in range(included.shape[1]):
        if not included[:, j].any():
            included[:, j] = True
            reasons[j].clear()


def _scatter(counts: NDArray[np.floating], exposure: NDArray[np.floating], rate: Float64Array) -> Float64Array:
    """Return the high-pass variance of each detector against the others, over the binomial one."""
    n_det, n_line = counts.shape[:2]
    out = np.full((n_det, n_line), np.nan)
    if n_det < 2:
        return out
    weight = rate[:, :, None, None] * exposure[:, None]
    everything = (counts * (rate > 0)[:, :, None, None]).sum(0, dtype=np.float64)
    shares = weight.sum(0)
    for k in range(n_det):
        p = np.divide(weight[k], shares, out=np.zeros_like(shares), where=shares > 0)
        variance = everything * p * (1 - p)
        spread = np.sqrt(np.maximum(variance, 0.25))
        z = np.where(variance > 0.5, (counts[k] - everything * p) / spread, 0.0)
        used = variance > 0.5
        for j in range(n_line):
            pairs = used[j, :, 1:] & used[j, :, :-1]
            if pairs.sum() >= 30:
                # differences of neighbours: blind to smooth gain fields; median: blind to a few bad pixels
                steps = np.abs(z[j, :, 1:] - z[j, :, :-1])[pairs]
                out[k, j] = (np.median(steps) / 0.9539) ** 2
    return out


def _noisy(scatter: Float64Array, included: BoolArray, reasons: list[dict[str, str]], detectors: Sequence[str]) -> None:
    """Exclude a detector whose scatter is far above that of the others; needs three detectors to find the wrong one."""
    for j in range(scatter.shape[1]):
        alive = np.flatnonzero(included[:, j] & np.isfinite(scatter[:, j]))
        if alive.size < 3:
            continue
        worst = int(alive[np.argmax(scatter[alive, j])])
        others = np.median(scatter[alive[alive != worst], j])
        if scatter[worst, j] > NOISY_CHI2 and scatter[worst, j] > 2.5 * others:
            included[worst, j] = False
            reasons[j][detectors[worst]] = f"noisy: scatter {scatter[worst, j]:.1f} times that of photon counting"


def _shrunk(totals: Float64Array, time: Float64Array, included: BoolArray) -> Float64Array:
    """Return gains normalised over the included detectors of each line, weak lines drawn to the detector's own."""
    values = np.zeros_like(totals)
    shares = np.zeros(totals.shape[0])
    for j in range(totals.shape[1]):  # detector shares over all lines, each line seen through its own included set
        shares += totals[:, j] * included[:, j]
    shares += EVEN_COUNTS * time[:, 0] / max(float(time.max()), 1e-9)
    common = np.where(time[:, 0] > 0, shares / np.maximum(time[:, 0], 1e-9), 0.0)
    for j in range(totals.shape[1]):
        use = included[:, j]
        if not use.any():
            continue
        prior = common * use / max(float((common * use).sum()), 1e-12)
        n = float(totals[use, j].sum())
        t = time[use, 0] / max(float(time[use, 0].mean()), 1e-9)
        shares_of_line = totals[use, j] / np.maximum(t, 1e-9)
        shares_of_line = shares_of_line / max(float(shares_of_line.sum()), 1e-12)
        g = (n * shares_of_line + PRIOR_COUNTS * prior[use]) / (n + PRIOR_COUNTS)
        values[use, j] = g / g.sum() if g.sum() > 0 else 1.0 / use.sum()
    return values


def _drift(counts: NDArray[np.floating], exposure: NDArray[np.floating], values: Float64Array) -> Float64Array:
    """Return the smooth relative variation of each detector against the sum, beyond counting noise (1 sigma)."""
    n_det = counts.shape[0]
    if n_det < 2 or min(counts.shape[-2:]) < 4:
        return np.zeros(n_det)
    size = max(3, min(counts.shape[-2:]) // 5)
    weight = values[:, :, None, None] * exposure[:, None]
    total = (counts * (values > 0)[:, :, None, None]).sum(0)
    share = np.divide(weight, weight.sum(0), out=np.zeros_like(weight), where=weight.sum(0) > 0)
    out = np.zeros(n_det)
    for k in range(n_det):
        seen = ndimage.uniform_filter((counts[k] * (values[k] > 0)[:, None, None]).sum(0), size, mode="constant")
        expected = ndimage.uniform_filter((total * share[k]).sum(0), size, mode="constant")
        use = expected * size**2 > 30
        if use.sum() < size**2 * 4:
            continue
        noise = float(np.mean(1 / (expected[use] * size**2)))
        excess = float(np.mean((seen[use] / expected[use] - 1) ** 2)) - noise
        if excess > 3.0 * noise * np.sqrt(2.0 * size**2 / use.sum()):
            out[k] = np.sqrt(excess)
    return out
