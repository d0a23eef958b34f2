"""The published maps of a run, composed from the estimators that were chosen for its lines."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from quietbeam.core.model.types import BoolArray, FloatArray

from .checks.hot_pixels import beyond_counting
from .checks.line_checks import local_chi2
from .cooperative import CooperativeSchedule
from .data.area_noise import NoiseModel
from .data.counts import RunCounts
from .data.sums import Sums
from .estimators.networks import NetworkEstimator, part_of_progress
from .estimators.nonlocal_means import averaged_noise, one_variant
from .estimators.smoother import smooth
from .evaluation.fold_errors import calibrated
from .evaluation.line_estimate import LineEstimate, combine_estimates
from .evaluation.selection import Selection
from .options import MapUpdate, ignore_progress

HALO = 12
"""Rows above and below new rows that are computed with them; a quarter of them is published again."""
SPARE_HALO = 4
"""Rows of a halo that are left out where the network would pad them to its next multiple of rows."""
Rows = tuple[int, int]


@dataclass(frozen=True, slots=True)
class MapComposer:
    """Composes maps of the rows so far.

    Attributes
    ----------
    selection
        Which estimator each line gets; None publishes raw.
    """

    data: RunCounts
    noise: NoiseModel
    selection: Selection | None
    networks: NetworkEstimator
    schedule: CooperativeSchedule

    def compose_map(self, flips: int = 1, on_progress: Callable[[float], object] = ignore_progress) -> MapUpdate:
        """Return the maps of all rows, averaged over ``flips`` flips and turns."""
        whole = (0, self.data.shape[0])
        return self._compose(whole, whole, flips, on_progress)

    def compose_strip(self, rows: Rows) -> MapUpdate:
        """Return the maps of the rows that change when ``rows`` are new."""
        measured = [*np.flatnonzero(self.data.measured.any(1)).tolist(), *range(*rows)]
        first, stop = min(measured), max(measured) + 1
        published = max(rows[0] - HALO // 4, first), min(rows[1] + HALO // 4, stop)
        window = max(published[0] - HALO, first), min(published[1] + HALO, stop)
        return self._compose(published, self._trimmed(window, published), 1, ignore_progress)

    def _trimmed(self, window: Rows, published: Rows) -> Rows:
        """Return a window that the network need not pad, where a few rows of its halo decide that."""
        spare = (window[1] - window[0]) % self.networks.multiple
        above = min(spare, SPARE_HALO, published[0] - window[0])
        below = min(spare - above, SPARE_HALO, window[1] - published[1])
        return (window[0] + above, window[1] - below) if above + below == spare else window

    def _compose(self, rows: Rows, window: Rows, flips: int, on_progress: Callable[[float], object]) -> MapUpdate:
        """Return the maps of ``rows``, computed from the rows of ``window``."""
        sums = self.data.sums("all", window)
        denoised, error = sums.rate.copy(), self._counting_error(sums)
        if self.selection is not None:
            whole = window == (0, self.data.shape[0])
            estimates = _WindowEstimates(self, self.selection, sums, whole, flips, on_progress)
            for j, choice in enumerate(self.selection.choices):
                if choice.estimator != "raw":
                    self._insert(j, estimates, denoised, error)
        measured = (sums.exposure > 0) & self.data.measured[window[0] : window[1]]
        expected = self.noise.variance(Sums(sums.exposure * denoised, sums.exposure))
        expected = np.maximum(expected, 1e-6 * self._count_variance)
        unit = self.data.unit[:, None, None]
        maps = (sums.rate * unit, denoised * unit, error * unit, local_chi2(sums, denoised, expected))
        inside = slice(rows[0] - window[0], rows[1] - window[0])
        raw, denoised, error, chi2 = (
            np.where(measured, np.nan_to_num(image), 0).astype(np.float32)[:, inside] for image in maps
        )
        return MapUpdate(rows=rows, raw=raw, denoised=denoised, uncertainty=error, chi2=chi2)

    @property
    def _count_variance(self) -> FloatArray:
        """Variance of one effective count, (line, 1, 1)."""
        return self.noise.factor[:, None, None] ** 2

    def _counting_error(self, sums: Sums) -> FloatArray:
        """Return one standard error of raw, (line, row, col)."""
        variance = np.maximum(self.noise.variance(sums), self._count_variance)
        return np.divide(np.sqrt(variance), sums.exposure, out=np.zeros_like(variance), where=sums.exposure > 0)

    def _insert(self, j: int, estimates: _WindowEstimates, denoised: FloatArray, error: FloatArray) -> None:
        """Put the chosen estimate of line ``j`` into the maps (line, row, col), in place.

        Pixels where raw lies far outside of the estimate's error (hot pixels) keep their raw value and its error.
        """
        sums, selection = estimates.sums, estimates.selection
        weights = selection.estimators(j)
        estimate = combine_estimates(weights, {name: estimates.of_line(name, j) for name in weights})
        kept_raw = self._beyond_counting(estimate.rate, sums, j)
        denoised[j] = np.where(kept_raw, denoised[j], estimate.rate)
        error[j] = np.where(kept_raw, error[j], selection.uncertainty(j, estimate, sums.exposure[j], self.noise))
        if kept_raw.any() and estimates.whole:
            denoised[j] = calibrated(denoised[j : j + 1], sums.line(j))[0][0]

    def _beyond_counting(self, rate: FloatArray, sums: Sums, j: int) -> BoolArray:
        """Return where the counts of line ``j`` cannot come from ``rate``, (row, col); never for fitted areas."""
        if self.data.kind == "areas":
            return np.zeros(rate.shape, bool)
        return beyond_counting(rate, sums.counts[j], sums.exposure[j])


class _WindowEstimates:
    """What the estimators that are published for any line make of one window of the map.

    Parameters
    ----------
    whole
        True when the window is the whole map: only then its own totals calibrate the estimates.
    """

    def __init__(
        self,
        composer: MapComposer,
        selection: Selection,
        sums: Sums,
        whole: bool,
        flips: int,
        on_progress: Callable[[float], object],
    ) -> None:
        self.sums, self.selection, self.whole = sums, selection, whole
        self._noise, self._schedule = composer.noise, composer.schedule
        wanted = {name for j in range(len(selection.choices)) for name in selection.estimators(j)}
        guide = {selection.guide} if "nonlocal" in wanted else set()
        names = sorted(wanted & {"pretrained", "fine_tuned"} | guide)
        self._maps: dict[str, tuple[FloatArray, FloatArray | None]] = {"raw": (sums.rate, None)}
        for k, name in enumerate(names):
            rate, expected = composer.networks.estimate(name, sums, flips, part_of_progress(on_progress, k, len(names)))
            factor = calibrated(rate, sums)[1] if whole else selection.scale(name)
            self._maps[name] = rate * factor[:, None, None], expected
        constant = any(choice.constant for choice in selection.choices)
        self._levels = (sums if whole else composer.data.sums("all")).level if constant else np.zeros(0)

    def of_line(self, name: str, j: int) -> LineEstimate:
        """Return the estimate of line ``j`` by an estimator."""
        if name == "smoother":
            return LineEstimate(self._smoothed(j))
        if name == "nonlocal":
            return self._nonlocal_means(j)
        rate, expected = self._maps[name]
        return LineEstimate(rate[j], None if expected is None else expected[j])

    def _smoothed(self, j: int) -> FloatArray:
        width = self.selection.widths[j]
        if np.isinf(width):
            return np.full(self.sums.counts[j].shape, self._levels[j], np.float32)
        return smooth(self.sums.counts[j], self.sums.exposure[j], width)

    def _nonlocal_means(self, j: int) -> LineEstimate:
        guide, expected = self._maps[self.selection.guide]
        variant = self.selection.variants[j]
        rate, exposure = one_variant(self.sums, guide, self._noise, variant, j, self._schedule.yield_now)
        factor = calibrated(rate[None], self.sums.line(j))[1][0] if self.whole else self.selection.scale("nonlocal")[j]
        least = averaged_noise(rate, exposure, self._noise, j)
        return LineEstimate(rate * factor, None if expected is None else expected[j], least)
