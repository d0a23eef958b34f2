"""One detector of fitted areas: nothing can be held out, so the choice is careful and its verdict `not_tested`."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from quietbeam.core.model.types import BoolArray

from ..data.area_noise import NoiseModel
from ..data.counts import RunCounts
from .combination import Weights
from .gate import Choice, not_tested

NOISY_SHARE = 0.3
"""Share of noise in a map's variance from which on the network is taken as it is."""
LEAST_NETWORK = 0.3
"""Share of the network where the map is nearly all structure: its noise may then be overestimated."""
PERMUTATIONS = 60
REASON = "One detector of fitted areas: nothing can be held out."


def choose_untested(data: RunCounts, noise: NoiseModel, seed: int) -> tuple[list[Choice], list[Weights]]:
    """Return choice and weights of every line.

    A line whose neighbouring pixels are no more alike than those of a shuffled map is a constant; the others get the
    pretrained network, mixed with raw where the finest scale leaves little room for noise.
    """
    sums = data.sums("all")
    choices: list[Choice] = []
    weights: list[Weights] = []
    for j in range(len(data.lines)):
        valid = sums.exposure[j] > 0
        values = sums.rate[j]
        if valid.sum() < 16 or not np.ptp(values[valid]):
            choices.append(not_tested(REASON))
            weights.append({})
            continue
        if not _is_structured(values, valid, np.random.default_rng([seed, 51, j])):
            choices.append(not_tested(REASON, "smoother", constant=True))
            weights.append({})
            continue
        variance = noise.factor[j] * max(float(values[valid].mean()), 0.0) + noise.constant[j]
        share = float(np.clip(variance / values[valid].var() / NOISY_SHARE, LEAST_NETWORK, 1.0))
        choices.append(not_tested(REASON, "pretrained" if share == 1.0 else "combined"))
        weights.append({"pretrained": share, **({"raw": 1 - share} if share < 1 else {})})
    return choices, weights


def _is_structured(values: NDArray[np.floating], valid: BoolArray, rng: np.random.Generator) -> bool:
    """Return True when smoothing leaves more variance than in nine of ten shuffled maps."""

    def left(image: NDArray[np.floating]) -> float:
        weight = ndimage.gaussian_filter(valid.astype(np.float64), 1.2)
        return float((ndimage.gaussian_filter(np.where(valid, image, 0), 1.2)[valid] / weight[valid]).var())

    centred = np.where(valid, values - values[valid].mean(), 0).astype(np.float64)
    shuffled = centred.copy()
    chance = []
    for _ in range(PERMUTATIONS):
        shuffled[valid] = rng.permutation(centred[valid])
        chance.append(left(shuffled))
    return left(centred) > float(np.quantile(chance, 0.9))
