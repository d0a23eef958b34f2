"""Block-wise squared error on held-out counts.

All sums are in counts of the held-out part. For Poisson counts ``(f - h)^2 - h`` has the expectation of the true
squared error of any ``f`` that did not see ``h``; the raw estimate's error is its own variance, known from its counts.
For fitted areas the difference to raw is measured on held-out detectors and needs no noise model.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from quietbeam.core.model.types import Float64Array, FloatArray

from ..data.area_noise import NoiseModel
from ..data.counts import RunCounts
from ..data.holdout import FOLDS, held_detectors, split_evenly
from ..data.sums import Sums

Blocks = Float64Array

BLOCK = 8
"""Edge of the blocks of pixels that the bootstrap draws."""


@dataclass(frozen=True, slots=True)
class Fold:
    """Input counts and the held-out counts they are scored with, both (line, row, col) :class:`Sums`."""

    seen: Sums
    held: Sums


Window = tuple[tuple[int, int], tuple[int, int]]
"""Half-open ranges of rows and columns that are scored together."""

LINE_PIXELS = 1_200_000
"""Larger maps are scored on a few square windows of this size together."""
_WINDOWS = 4


def windows(data: RunCounts) -> list[Window]:
    """Return all measured rows as one window, or several windows spread over the measured part of a large map."""
    valid = np.flatnonzero(data.measured.any(1))
    if valid.size == 0:
        return []
    first, stop, cols = int(valid[0]), int(valid[-1]) + 1, data.shape[1]
    pixels = max(LINE_PIXELS // len(data.lines), 128 * 128)
    if (stop - first) * cols <= pixels:
        return [((first, stop), (0, cols))]
    height = min(stop - first, max(64, int(np.sqrt(pixels / _WINDOWS))))
    width = min(cols, max(64, pixels // _WINDOWS // height))
    tops = np.linspace(first, stop - height, _WINDOWS).astype(int)
    lefts = np.linspace(0, cols - width, _WINDOWS).astype(int)[[1, 3, 0, 2]]
    return [((int(r), int(r) + height), (int(c), int(c) + width)) for r, c in zip(tops, lefts, strict=True)]


def count_folds(data: RunCounts, window: Window | None = None, folds: int = FOLDS, seed: int = 0) -> Iterator[Fold]:
    """Yield folds of photon counts. The first holds out what never trains; the others rotate."""
    rows, cols = window or (None, None)
    train, held = data.sums("train", rows, cols=cols), data.sums("held", rows, cols=cols)
    yield Fold(train, held)
    if folds < 2:
        return
    everything = Sums(train.counts + held.counts, train.exposure + held.exposure)
    parts = split_evenly(train.counts, folds - 1, np.random.default_rng([seed, 77]))
    share = (1.0 - data.share) / (folds - 1)
    for part in parts:
        yield Fold(
            Sums(everything.counts - part, everything.exposure * (1.0 - share)),
            Sums(part, everything.exposure * share),
        )


def area_folds(data: RunCounts, window: Window | None = None, folds: int = FOLDS) -> Iterator[Fold]:
    """Yield folds that hold out groups of detectors in rotation; none where a single detector is of use."""
    rows, cols = window or (None, None)
    for held in held_detectors(data.gains.usable, folds):
        yield Fold(data.sums("all", rows, ~held, cols), data.sums("all", rows, held, cols))


def block_sums(image: NDArray[np.floating], size: int) -> Blocks:
    """Sum over blocks of ``size`` x ``size`` pixels: (line, row, col) to (line, block)."""
    lines, rows, cols = image.shape
    padded = np.pad(image.astype(np.float64), ((0, 0), (0, -rows % size), (0, -cols % size)))
    r, c = padded.shape[1] // size, padded.shape[2] // size
    return padded.reshape(lines, r, size, c, size).sum((2, 4)).reshape(lines, r * c)


def raw_error(fold: Fold, noise: NoiseModel, kind: str, block: int) -> Blocks:
    """Return the squared error of the raw estimate (line, block)."""
    seen, held = fold.seen, fold.held
    scale = np.divide(held.exposure, seen.exposure, out=np.zeros_like(held.exposure), where=seen.exposure > 0)
    variance = seen.counts if kind == "counts" else noise.variance(seen)
    return block_sums(scale**2 * variance * (held.exposure > 0), block)


def error(fold: Fold, rate: FloatArray, raw: Blocks, kind: str, block: int) -> Blocks:
    """Return the unbiased squared error of ``rate`` (line, row, col), as (line, block)."""
    seen, held = fold.seen, fold.held
    used = (held.exposure > 0) & (seen.exposure > 0)
    miss = (held.exposure * rate - held.counts) ** 2
    if kind == "counts":
        return block_sums((miss - held.counts) * used, block)
    raw_miss = (held.exposure * seen.rate - held.counts) ** 2
    return block_sums((miss - raw_miss) * used, block) + raw


def counting_variance(fold: Fold) -> Blocks:
    """Return the variance that counting gives to the error of a perfect estimate, summed over pixels, (line,).

    ``(h - m)**2 - h`` of a Poisson count of mean m has variance ``2 m**2``; m is taken as the line's mean, which is the
    least that it can be.
    """
    mean = fold.held.exposure * fold.seen.level[:, None, None]
    return 2.0 * (mean.astype(np.float64) ** 2).sum((1, 2))


def block_size(shape: tuple[int, int]) -> int:
    """Return the edge of a block of pixels: `BLOCK`, smaller where that leaves less than about 24 blocks."""
    return int(max(1, min(BLOCK, np.sqrt(shape[0] * shape[1] / 24))))
