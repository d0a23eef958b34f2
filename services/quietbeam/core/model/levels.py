"""Positions of an axis as levels: the rows or columns of a grid, found from measured positions alone."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from .types import BoolArray, Float64Array

_NOISE = 1e-9
"""Positions that differ by less than this share of the largest value are equal: rounding of floating-point numbers."""
_JUMP = 3.0
"""Distances between levels are at least so many times the largest distance within a level."""
_CLEAR_JUMP = 10.0
"""A jump that scatter of a few values does not have by chance."""
_EVEN = 0.1
"""Levels are evenly spaced when none lies further than this share of a step from its place."""


def levels_of(positions: npt.ArrayLike, most: int) -> Float64Array | None:
    """Return the levels that positions of one axis lie on, in rising order; None when they lie on no such grid.

    Positions of one level scatter (encoders, backlash), those of two levels are further apart: the sorted distances
    between neighbours have a jump, and the levels are separated where they are above it.

    Parameters
    ----------
    positions
        Measured positions; NaN is ignored.
    most
        Number of levels of the whole axis.
    """
    values = np.asarray(positions, float)
    values = np.sort(values[np.isfinite(values)])
    if not len(values):
        return np.zeros(0)
    apart = np.diff(values)
    equal = max(_NOISE * max(float(np.abs(values[[0, -1]]).max()), float(np.ptp(values))), 1e-300)
    falling = np.sort(np.maximum(apart, equal))[::-1]
    if not len(falling) or falling[0] == equal:
        return _centres(values, apart > equal)
    if len(values) <= most and falling[-1] > equal:
        return values  # too few to tell scatter from levels: each is one
    # With k levels the k - 1 largest distances separate them, all others lie within one. Scatter within a level can
    # have jumps too, but they part single values from the others; only the newest level may have one value yet.
    ratios = falling[: most - 1] / np.append(falling, equal)[1:most]
    possible = [k for k in np.flatnonzero(ratios >= _CLEAR_JUMP)[::-1] if _single_values(apart >= falling[k]) <= 1]
    k = possible[0] if possible else int(np.argmax(ratios)) if len(ratios) else 0
    return _centres(values, apart >= falling[k]) if len(ratios) and ratios[k] >= _JUMP else None


def _single_values(split: BoolArray) -> int:
    """Return how many groups of sorted values have one member."""
    edges = np.concatenate(([True], split, [True]))
    return int(np.count_nonzero(edges[1:] & edges[:-1]))


def _centres(values: Float64Array, split: BoolArray) -> Float64Array:
    """Return the median of each group of sorted values."""
    return np.array([np.median(group) for group in np.split(values, np.flatnonzero(split) + 1)])


def nearest(levels: Float64Array, positions: npt.ArrayLike) -> npt.NDArray[np.intp]:
    """Return the index of the level that each position belongs to; -1 where it is further than half a step from all."""
    values = np.asarray(positions, float)
    found = np.full(values.shape, -1, np.intp)
    good = np.isfinite(values)
    if not len(levels) or not good.any():
        return found
    order = np.argsort(levels)
    rising = levels[order]
    if len(levels) == 1:
        found[good] = 0
        return found
    middle = (rising[1:] + rising[:-1]) / 2
    at = np.searchsorted(middle, values[good])
    steps = np.diff(rising)
    reach = np.minimum(np.append(steps, np.inf), np.append(np.inf, steps))
    inside = np.abs(values[good] - rising[at]) <= 0.5 * reach[at] * (1 + 1e-6)
    found[good] = np.where(inside, order[at], -1)
    return found


def even_step(levels: Sequence[float] | Float64Array) -> tuple[float, float] | None:
    """Return (origin, step) of evenly spaced levels in scan order; None when they are uneven or fewer than two."""
    values = np.asarray(levels, float)
    known = np.flatnonzero(np.isfinite(values))
    if len(known) < 2:
        return None
    step, origin = np.polyfit(known, values[known], 1)
    if step == 0 or np.abs(values[known] - (origin + step * known)).max() > _EVEN * abs(step):
        return None
    return float(origin), float(step)
