"""Random batches of patches, their counts split into input and target."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from quietbeam.core.model.types import FloatArray

from ..data.sums import Sums
from ..estimators.networks import apply_symmetry
from .pairs import Pairs

PATCH_PIXELS = 64
"""Most rows and columns of a patch."""
LINES_PER_STEP = 8
"""Most lines of a patch; more lines take turns."""
BATCH_PIXELS = 32_768
LEAST_COUNTS = 8
"""Lines with fewer counts teach nothing."""


def trainable_lines(sums: Sums) -> np.ndarray:
    """Return the indices of the lines with enough counts to train on."""
    return np.flatnonzero(sums.counts.sum((1, 2)) > LEAST_COUNTS)


class PatchSampler:
    """Draws batches; every line is drawn once before any is drawn again."""

    def __init__(self, seed: int) -> None:
        self._rng = np.random.default_rng([seed, 11])
        self._next_lines = np.arange(0)

    def draw(self, pairs: Pairs) -> dict[str, Tensor]:
        """Return ``counts``, ``target``, ``exposure`` and ``target_exposure``, each (batch, line, row, col) float32.

        Exposures are in units of the input's mean, so that the network sees about 1 where the patch is measured.
        """
        data, rng = pairs.sums, self._rng
        lines = self._draw_lines(trainable_lines(data))
        measured_rows = np.flatnonzero((data.exposure[lines] > 0).any((0, 2)))
        first, stop = int(measured_rows[0]), int(measured_rows[-1]) + 1
        cols_in_map = data.counts.shape[2]
        rows, cols = min(PATCH_PIXELS, stop - first), min(PATCH_PIXELS, cols_in_map)
        batch = int(np.clip(BATCH_PIXELS // (lines.size * rows * cols), 1, 8))
        patches = []
        for _ in range(batch):
            r = int(rng.integers(first, stop - rows + 1))
            c = int(rng.integers(cols_in_map - cols + 1))
            code = int(rng.integers(8)) if rows == cols or batch == 1 else int(rng.integers(4))
            seen, target = pairs.split(lines, (slice(r, r + rows), slice(c, c + cols)), rng)
            patches.append([apply_symmetry(image, code) for image in _scaled(seen, target)])
        names = ("counts", "target", "exposure", "target_exposure")
        return {
            name: torch.from_numpy(np.ascontiguousarray(np.stack(images), dtype=np.float32))
            for name, images in zip(names, zip(*patches, strict=True), strict=True)
        }

    def _draw_lines(self, trainable: np.ndarray) -> np.ndarray:
        n = min(LINES_PER_STEP, trainable.size)
        if self._next_lines.size < n or not np.isin(self._next_lines, trainable).all():
            self._next_lines = self._rng.permutation(trainable)
        lines, self._next_lines = self._next_lines[:n], self._next_lines[n:]
        return lines


def _scaled(seen: Sums, target: Sums) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
    measured = seen.exposure > 0
    mean = seen.exposure.sum((1, 2), keepdims=True) / np.maximum(measured.sum((1, 2), keepdims=True), 1)
    mean = np.maximum(mean, 1e-9)
    return seen.counts, target.counts, seen.exposure / mean, target.exposure * measured / mean
