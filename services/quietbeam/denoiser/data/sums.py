"""Gain-weighted sums over detectors."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from quietbeam.core.model.types import FloatArray


@dataclass(frozen=True, slots=True)
class Sums:
    """Sum over the included detectors of each line.

    Attributes
    ----------
    counts
        (line, row, col).
    exposure
        (line, row, col); ``counts ~ Poisson(exposure * rate)``, rate in summed-detector counts. 0 where not measured.
    """

    counts: FloatArray
    exposure: FloatArray

    @property
    def rate(self) -> FloatArray:
        """Counts over exposure, 0 where not measured."""
        return np.divide(self.counts, self.exposure, out=np.zeros_like(self.counts), where=self.exposure > 0)

    @property
    def level(self) -> FloatArray:
        """Mean rate of every line, (line,)."""
        exposure = np.maximum(self.exposure.sum((1, 2), dtype=np.float64), 1e-9)
        return (self.counts.sum((1, 2), dtype=np.float64) / exposure).astype(np.float32)

    def line(self, j: int) -> Sums:
        """Return the sums of line ``j`` alone, (1, row, col)."""
        return Sums(self.counts[j : j + 1], self.exposure[j : j + 1])
