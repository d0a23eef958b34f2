"""Held-out photons: binomial thinning of every detector's counts, always the same for the same pixel and counts.

Thinning a Poisson count gives two independent Poisson counts, whatever the rate. Every detector serves on both sides,
so one or two detectors are enough, and systematic differences between detectors fall on both sides alike: the target is
what these very detectors would have counted in a longer dwell.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from quietbeam.core.model.types import BoolArray, FloatArray

HELD_OUT_SHARE = 0.25
"""Share of every pixel's counts that never trains."""
FOLDS = 4


def hold_out(counts: NDArray[np.floating], share: float, seed: int, row: int) -> FloatArray:
    """Draw the held-out part of one row.

    Parameters
    ----------
    counts
        (detector, line, col) integers, NaN or 0 where not measured.
    share
        Probability of a count to be held out.
    seed, row
        The draw depends on nothing else, so that rows may arrive in any order, and again.
    """
    rng = np.random.Generator(np.random.Philox(key=[seed & 0xFFFF_FFFF_FFFF_FFFF, row]))
    n = np.nan_to_num(counts, nan=0.0)
    return rng.binomial(np.clip(n, 0, None).astype(np.int64), share).astype(np.float32)


def split_evenly(counts: NDArray[np.floating], parts: int, rng: np.random.Generator) -> list[FloatArray]:
    """Split integer counts into ``parts`` independent parts of equal expectation (multinomial thinning)."""
    left = np.clip(counts, 0, None).astype(np.int64)
    out = []
    for remaining in range(parts, 1, -1):
        part = rng.binomial(left, 1.0 / remaining)
        out.append(part.astype(np.float32))
        left = left - part
    out.append(left.astype(np.float32))
    return out


def held_detectors(usable: BoolArray, folds: int = FOLDS) -> list[BoolArray]:
    """Return the detectors that are held out in each fold, (detector,) bool; unusable detectors are in none.

    The first group never trains. The group of a detector does not change when others turn out to be unusable.
    """
    group_of = np.arange(usable.size) % folds
    groups = [usable & (group_of == g) for g in range(folds) if (usable & (group_of == g)).any()]
    return groups if len(groups) > 1 else []
