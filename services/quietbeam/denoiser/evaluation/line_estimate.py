"""One estimate of one line, and weighted means of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from quietbeam.core.model.types import FloatArray

from .combination import Weights


@dataclass(frozen=True, slots=True)
class LineEstimate:
    """One estimate of one line.

    Attributes
    ----------
    rate
        (row, col).
    variance
        Expected squared error up to a factor: how it is spread over the map, (row, col); None where the estimator does
        not know.
    least_variance
        Variance below which no pixel's error lies: that of the averaged counts, (row, col).
    """

    rate: FloatArray
    variance: FloatArray | None = None
    least_variance: FloatArray | None = None


def combine_estimates(weights: Weights, estimates: Mapping[str, LineEstimate]) -> LineEstimate:
    """Return the weighted mean of estimates of one line; its expected error is that of the ones that have one."""
    rate = np.asarray(sum(w * estimates[name].rate for name, w in weights.items()), np.float32)
    variances = [(w, variance) for name, w in weights.items() if (variance := estimates[name].variance) is not None]
    least = [w**2 * v for name, w in weights.items() if (v := estimates[name].least_variance) is not None]
    total = sum(w for w, _ in variances)
    return LineEstimate(
        rate,
        np.asarray(sum(w / total * variance for w, variance in variances), np.float32) if variances else None,
        np.asarray(sum(least), np.float32) if least else None,
    )
