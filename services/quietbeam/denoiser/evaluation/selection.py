"""Which estimator is published for each line, and how large its error is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from quietbeam.core.model.types import FloatArray

from ..data.area_noise import NoiseModel
from .combination import Weights
from .gate import Choice, bootstrap_sums, gain_interval
from .line_estimate import LineEstimate
from .risk import Blocks

LIKE_RAW = 0.02
"""Share of a map's squared error that is spread like raw's variance, so that no pixel's error is 0."""


@dataclass(frozen=True, slots=True)
class Scores:
    """Errors of every estimator on held-out data.

    Attributes
    ----------
    errors
        Squared error by estimator, (line, block); ``constant`` is the smoother's flat map.
    counting
        Variance that counting alone adds to the sum of the errors, by estimator, (line,).
    """

    errors: Mapping[str, Blocks]
    counting: Mapping[str, Blocks]
    seed: int
    _sums: dict[str, Blocks] = field(default_factory=dict, compare=False)  # bootstrap draws by estimator

    def of_line(self, j: int) -> dict[str, Blocks]:
        """Return the errors of line ``j`` by estimator, (block,)."""
        return {name: errors[j] for name, errors in self.errors.items()}

    def interval(self, j: int, name: str) -> tuple[float, float, float | None]:
        """Return dwell gain and 95 % interval of an estimator for line ``j``."""
        sums = self._draws("raw")[j], self._draws(name)[j]
        counting = float(self.counting[name][j])
        return gain_interval(self.errors["raw"][j], self.errors[name][j], self.seed, counting, sums)

    def _draws(self, name: str) -> Blocks:
        if name not in self._sums:
            self._sums[name] = bootstrap_sums(self.errors[name], self.seed)
        return self._sums[name]


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """What is published for each line.

    Attributes
    ----------
    choices
        Estimator and verdict, per line.
    widths
        Width of the smoother, per line; ``inf`` is a constant.
    weights
        Weights of the combination, per line.
    variants, guide
        Of the non-local means: which of `VARIANTS`, per line, and the network in whose map patches are compared.
    scales
        Factors that give an estimator's maps the total of the counts, by estimator, (line,).
    """

    choices: tuple[Choice, ...]
    widths: tuple[float, ...]
    weights: tuple[Weights, ...]
    variants: tuple[int, ...]
    guide: str
    scores: Scores
    scales: Mapping[str, FloatArray]

    def scale(self, name: str) -> FloatArray:
        """Return the factors that give an estimator's maps the total of the counts, (line,)."""
        return self.scales.get(name, np.ones(len(self.choices), np.float32))

    def estimators(self, j: int) -> Weights:
        """Return the estimators that the published map of line ``j`` is made of, with their weights."""
        choice = self.choices[j]
        return self.weights[j] if choice.estimator == "combined" else {choice.estimator: 1.0}

    def interval(self, j: int) -> tuple[float, float, float | None]:
        """Return dwell gain and 95 % interval of the published map of line ``j``."""
        return self.scores.interval(j, scored_name(self.choices[j]))

    def uncertainty(self, j: int, estimate: LineEstimate, exposure: FloatArray, noise: NoiseModel) -> FloatArray:
        """Return one standard error of the published rate (row, col).

        Its mean square is raw's own times the error ratio that held-out photons gave. It is spread over the map as the
        estimate expects, or like raw's variance.
        """
        rate, valid = estimate.rate, exposure > 0
        floor = 0.1 * float(rate[valid].mean()) if valid.any() else 0.0
        variance = noise.factor[j] * np.maximum(rate, floor) + noise.constant[j]
        variance = np.divide(variance, exposure, out=np.zeros_like(rate), where=valid)
        variance = np.maximum(variance, 0) * self._error_share(j)
        expected = estimate.variance
        if expected is not None and valid.any() and (mean := float(expected[valid].mean())) > 0:
            spread = expected * (float(variance[valid].mean()) / mean)
            variance = LIKE_RAW * variance + (1.0 - LIKE_RAW) * spread
        if estimate.least_variance is not None:
            variance = np.maximum(variance, estimate.least_variance * valid)
        return np.sqrt(variance)

    def _error_share(self, j: int) -> float:
        """Return the published map's squared error over raw's, between 1e-4 and 1."""
        if self.choices[j].estimator == "raw" or self.scores.errors["raw"][j].sum() <= 0:
            return 1.0
        return float(np.clip(1.0 / self.interval(j)[0], 1e-4, 1.0))


def scored_name(choice: Choice) -> str:
    """Return the name under which a choice was scored."""
    return "constant" if choice.constant else choice.estimator
