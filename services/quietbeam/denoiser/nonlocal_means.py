"""Non-local means that look for like places in the network's map and average what was counted there.

A network knows what specimens usually look like; sharp flat grains, copies of one pattern and structure finer than
what it has learned it blurs a little at high counts. Where the same surroundings return nearby, the mean of the *raw*
counts of these places has no such bias. Patches are compared in a map that is nearly free of noise, so that few counts
are enough (non-local means: Buades, Coll and Morel 2005, doi:10.1137/040616024; comparing patches in a first estimate,
as BM3D's second step does: Dabov et al. 2007, doi:10.1109/TIP.2007.901238).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from .areas import NoiseModel
from .counts import Sums
from .options import never

Array = NDArray[np.float32]

REACH = 7
"""Places up to so many rows and columns away are compared."""


@dataclass(frozen=True, slots=True)
class Variant:
    """One way to look for like places.

    Attributes
    ----------
    guided
        True when patches are compared in the network's map, False when in the raw map itself.
    patch
        Edge of a patch in pixels, odd.
    strength
        Difference of patches at which a place has the weight 1/e, in units of raw's noise.
    """

    guided: bool
    patch: int
    strength: float


VARIANTS = (
    Variant(True, 3, 0.4),
    Variant(True, 3, 0.8),
    Variant(True, 3, 1.6),
    Variant(True, 3, 3.2),
    Variant(False, 5, 1.0),
    Variant(False, 5, 1.5),
)


def levels(rate: Array, sums: Sums, noise: NoiseModel) -> Array:
    """Return rates of ``sums`` as levels in which raw's noise is 1 everywhere (Anscombe 1948), (line, row, col)."""
    lit = np.maximum((sums.exposure > 0).sum((1, 2)), 1)
    usual = (sums.exposure.sum((1, 2)) / lit)[:, None, None] * np.ones_like(rate)
    return np.asarray(2.0 * np.sqrt(noise.to_counts(Sums(rate * usual, usual)).counts + 0.375), np.float32)


def average_alike(
    counts: Array,
    exposure: Array,
    level: Array,
    patch: int,
    strengths: list[float],
    between: Callable[[], object] = never,
) -> list[Array]:
    """Return, for each strength, the rate of one line from pixels whose surroundings are alike, (row, col).

    Parameters
    ----------
    counts, exposure
        (row, col), 0 where not measured.
    level
        Where patches are compared, see :func:`levels`.
    between
        Called every few milliseconds.
    """
    rows, cols = counts.shape
    sums = [(counts.astype(np.float32), exposure.astype(np.float32)) for _ in strengths]
    shifts = [(r, c) for r in range(REACH + 1) for c in range(-REACH, REACH + 1) if (r or c > 0)]
    for r, c in shifts:
        if r >= rows or abs(c) >= cols:
            continue
        between()
        here = slice(0, rows - r), slice(max(0, -c), cols - max(0, c))
        there = slice(r, rows), slice(max(0, c), cols + min(0, c))
        apart = ndimage.uniform_filter((level[here] - level[there]) ** 2, patch, mode="reflect")
        for (top, bottom), strength in zip(sums, strengths, strict=True):
            weight = np.exp(apart * np.float32(-(strength**-2)))
            # both ways at once: from copies, as the two windows may overlap
            for total, image in ((top, counts), (bottom, exposure)):
                total[here] += weight * image[there]
                total[there] += weight * image[here]
    return [np.divide(t, b, out=np.zeros_like(t), where=b > 1e-6) for t, b in sums]


def every_variant(sums: Sums, guide: Array, noise: NoiseModel, between: Callable[[], object] = never) -> list[Array]:
    """Return the rates (line, row, col) of every variant."""
    found: list[Array] = [np.zeros_like(sums.counts) for _ in VARIANTS]
    for guided in (True, False):
        level = levels(guide if guided else sums.rate, sums, noise)
        mine = [i for i, variant in enumerate(VARIANTS) if variant.guided == guided]
        for j in range(len(level)):
            strengths = [VARIANTS[i].strength for i in mine]
            patch = VARIANTS[mine[0]].patch
            rates = average_alike(sums.counts[j], sums.exposure[j], level[j], patch, strengths, between)
            for i, rate in zip(mine, rates, strict=True):
                found[i][j] = rate
    return found


def one_variant(
    sums: Sums, guide: Array, noise: NoiseModel, variant: int, j: int, between: Callable[[], object] = never
) -> Array:
    """Return the rate (row, col) of line ``j`` by one variant."""
    chosen = VARIANTS[variant]
    line = Sums(sums.counts[j : j + 1], sums.exposure[j : j + 1])
    mine = NoiseModel(noise.factor[j : j + 1], noise.constant[j : j + 1])
    level = levels(guide[j : j + 1] if chosen.guided else line.rate, line, mine)[0]
    return average_alike(line.counts[0], line.exposure[0], level, chosen.patch, [chosen.strength], between)[0]
