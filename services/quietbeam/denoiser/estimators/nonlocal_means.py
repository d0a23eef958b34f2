"""Non-local means: similar places are found in the network's map, and the raw counts of these places are averaged.

At high counts a network blurs sharp flat grains, copies of one pattern and structure finer than it has learned. Where
the same surroundings occur again nearby, the mean of the *raw* counts of these places has no such bias. Patches are
compared in a map that is nearly free of noise, so that few counts are enough (non-local means: Buades, Coll and Morel
2005, doi:10.1137/040616024; patches compared in a first estimate, as in BM3D's second step: Dabov et al. 2007,
doi:10.1109/TIP.2007.901238). A patch may be a single pixel: then all pixels of nearly one level are averaged, nearby or
in the whole map, for specimens of few levels (a joint bilateral filter, on the grid of Chen, Paris and Durand 2007,
doi:10.1145/1276377.1276506).

`skimage.restoration.denoise_nl_means` does not fit: it compares patches in the noisy image itself, has no exposure and
averages values instead of counts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

import numpy as np
from scipy import ndimage

from quietbeam.core.model.types import FloatArray

from ..data.area_noise import NoiseModel
from ..data.sums import Sums
from ..options import never

Average = tuple[FloatArray, FloatArray]
"""Rate and the exposure that it stands on, (row, col)."""

MAX_LEVELS = 192
"""Most levels of the grid; a finer strength is raised to this resolution."""


@dataclass(frozen=True, slots=True)
class Variant:
    """One way to find similar places.

    Attributes
    ----------
    guided
        True when patches are compared in the network's map, False when in the raw map itself.
    patch
        Edge of a patch in pixels, odd.
    reach
        Places up to so many rows and columns away are compared; None: all of the map.
    strength
        Difference of patches at which a place has the weight 1/e, in units of raw's noise; of single pixels: at which
        it has none.
    """

    guided: bool
    patch: int
    reach: int | None
    strength: float


VARIANTS = (
    *(Variant(True, 1, reach, strength) for reach in (7, 21, None) for strength in (0.8, 1.6, 3.2, 6.4)),
    *(Variant(True, 3, 7, strength) for strength in (0.8, 1.6, 3.2)),
    *(Variant(False, 5, 7, strength) for strength in (1.0, 1.5)),
)


def levels(rate: FloatArray, sums: Sums, noise: NoiseModel) -> FloatArray:
    """Return rates of ``sums`` as levels in which raw's noise is 1 everywhere (Anscombe 1948), (line, row, col)."""
    valid = np.maximum((sums.exposure > 0).sum((1, 2)), 1)
    mean = (sums.exposure.sum((1, 2)) / valid)[:, None, None] * np.ones_like(rate)
    return np.asarray(2.0 * np.sqrt(noise.to_counts(Sums(rate * mean, mean)).counts + 0.375), np.float32)


def average_levels(
    counts: FloatArray,
    exposure: FloatArray,
    level: FloatArray,
    reach: int | None,
    strengths: Sequence[float],
    yield_callback: Callable[[], object] = never,
) -> list[Average]:
    """Return, for each strength, the rate of one line from pixels of nearly one level.

    Parameters are those of :func:`average_patches`. Pixels are shared out between two neighbouring levels of a grid,
    averaged there, and read from it by the same shares. In the exposure that a rate stands on a pixel's own is whole.
    """
    averages: dict[float, Average] = {}
    height = level - level.min()
    steps = [max(strength, float(height.max()) / MAX_LEVELS) for strength in strengths]
    for step in dict.fromkeys(steps):
        place = height / np.float32(step)
        top, bottom, own_share = (np.zeros_like(place) for _ in range(3))
        below = np.unique(place.astype(int))
        for k in np.union1d(below, below + 1):
            yield_callback()
            share = np.maximum(1.0 - np.abs(place - np.float32(k)), 0.0)
            own_share += share**2
            for total, image in ((top, counts), (bottom, exposure)):
                part = share * image
                if reach is None:
                    total += share * part.sum()
                else:
                    edge = 2 * reach + 1
                    total += share * edge**2 * ndimage.uniform_filter(part, edge, mode="constant")
        averages[step] = _divided(top / own_share, bottom / own_share)
    return [averages[step] for step in steps]


def average_patches(
    counts: FloatArray,
    exposure: FloatArray,
    level: FloatArray,
    patch: int,
    reach: int,
    strengths: Sequence[float],
    yield_callback: Callable[[], object] = never,
) -> list[Average]:
    """Return, for each strength, the rate of one line from pixels with similar surroundings.

    Parameters
    ----------
    counts, exposure
        (row, col), 0 where not measured.
    level
        Where patches are compared, see :func:`levels`.
    yield_callback
        Called every few milliseconds.
    """
    rows, cols = counts.shape
    sums = [(counts.astype(np.float32), exposure.astype(np.float32)) for _ in strengths]
    shifts = [(r, c) for r in range(reach + 1) for c in range(-reach, reach + 1) if (r or c > 0)]
    for r, c in shifts:
        if r >= rows or abs(c) >= cols:
            continue
        yield_callback()
        base = slice(0, rows - r), slice(max(0, -c), cols - max(0, c))
        shifted = slice(r, rows), slice(max(0, c), cols + min(0, c))
        difference = ndimage.uniform_filter((level[base] - level[shifted]) ** 2, patch, mode="reflect")
        for (top, bottom), strength in zip(sums, strengths, strict=True):
            weight = np.exp(difference * np.float32(-(strength**-2)))
            # both ways at once: from copies, as the two windows may overlap
            for total, image in ((top, counts), (bottom, exposure)):
                total[base] += weight * image[shifted]
                total[shifted] += weight * image[base]
    return [_divided(top, bottom) for top, bottom in sums]


def _divided(top: FloatArray, bottom: FloatArray) -> Average:
    """Return the average; running sums leave rounding errors where nothing was measured."""
    return np.divide(top, bottom, out=np.zeros_like(top), where=bottom > 1e-5), bottom


def every_variant(
    sums: Sums, guide: FloatArray, noise: NoiseModel, yield_callback: Callable[[], object] = never
) -> Iterator[Average]:
    """Yield rate and exposure (line, row, col) of every variant, in their order; few are in memory at a time."""
    level = {guided: levels(guide if guided else sums.rate, sums, noise) for guided in (True, False)}
    for kind, variants in groupby(VARIANTS, key=lambda variant: replace(variant, strength=0.0)):
        group = list(variants)
        lines = [
            _average(sums.counts[j], sums.exposure[j], level[kind.guided][j], group, yield_callback)
            for j in range(len(sums.counts))
        ]
        for averages in zip(*lines, strict=True):
            yield np.stack([rate for rate, _ in averages]), np.stack([exposure for _, exposure in averages])


def one_variant(
    sums: Sums, guide: FloatArray, noise: NoiseModel, variant: int, j: int, yield_callback: Callable[[], object] = never
) -> Average:
    """Return rate and exposure (row, col) of line ``j`` by one variant."""
    chosen = VARIANTS[variant]
    line = sums.line(j)
    line_noise = NoiseModel(noise.factor[j : j + 1], noise.constant[j : j + 1])
    level = levels(guide[j : j + 1] if chosen.guided else line.rate, line, line_noise)[0]
    return _average(line.counts[0], line.exposure[0], level, [chosen], yield_callback)[0]


def averaged_noise(rate: FloatArray, exposure: FloatArray, noise: NoiseModel, j: int) -> FloatArray:
    """Return the noise variance of the averaged counts of line ``j``, (row, col): large where a level is rare."""
    return np.asarray((noise.factor[j] * rate + noise.constant[j]) / np.maximum(exposure, 1e-3), np.float32)


def _average(
    counts: FloatArray,
    exposure: FloatArray,
    level: FloatArray,
    variants: Sequence[Variant],
    yield_callback: Callable[[], object],
) -> list[Average]:
    """Return the averages of variants that differ in strength only."""
    patch, reach, strengths = variants[0].patch, variants[0].reach, [v.strength for v in variants]
    if patch == 1:
        return average_levels(counts, exposure, level, reach, strengths, yield_callback)
    return average_patches(counts, exposure, level, patch, reach or max(counts.shape), strengths, yield_callback)
