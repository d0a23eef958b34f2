"""Score of weights on held-out counts: which weights of a fine-tuning burst are the best."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from quietbeam.core.model.types import Float64Array
from quietbeam_models.network import Denoiser

from ..data.sums import Sums
from ..estimators.networks import predict
from .patch_sampler import trainable_lines

_PIXELS = 96
"""Rows and columns of the part of the map that is scored."""
_LINES = 8


class HeldOutScore:
    """Mean over lines of the squared error on held-out counts, relative to that of the weights at the start.

    Parameters
    ----------
    train, held
        Counts that train and counts that never do, (line, row, col).
    start
        Weights that score 1.
    yield_callback
        See :func:`~quietbeam.denoiser.estimators.networks.yield_between_layers`.
    """

    def __init__(
        self,
        train: Sums,
        held: Sums,
        start: Denoiser,
        device: torch.device,
        yield_callback: Callable[[], object] | None,
    ) -> None:
        measured_rows = np.flatnonzero((held.exposure > 0).any((0, 2)))
        lines = trainable_lines(train)
        lines = lines[np.linspace(0, lines.size - 1, min(lines.size, _LINES)).astype(int)]
        middle, cols = int(measured_rows[measured_rows.size // 2]), held.counts.shape[2]
        r = slice(max(0, middle - _PIXELS // 2), middle + _PIXELS // 2)
        c = slice(max(0, cols // 2 - _PIXELS // 2), cols // 2 + _PIXELS // 2)
        self._train = Sums(train.counts[lines, r, c], train.exposure[lines, r, c])
        self._held = Sums(held.counts[lines, r, c], held.exposure[lines, r, c])
        self._device, self._yield_callback = device, yield_callback
        # scored only when needed: most bursts of a live run are interrupted before their first check
        self._start: Denoiser | None = start
        self._start_errors = self._unit = np.zeros(0)

    def __call__(self, network: Denoiser) -> float:
        """Return the score; below 1 the network is better than the weights at the start."""
        if self._start is not None:
            self._start_errors, spread = self._errors(self._start)
            self._unit = np.maximum(self._start_errors, 2 * spread) + 1e-9
            self._start = None
        return float(1.0 + ((self._errors(network)[0] - self._start_errors) / self._unit).mean())

    def _errors(self, network: Denoiser) -> tuple[Float64Array, Float64Array]:
        """Return each line's squared error, unbiased, and its standard error, both summed over pixels."""
        rate, _ = predict(network, self._train, self._device, yield_callback=self._yield_callback)
        error = (self._held.exposure * rate - self._held.counts).astype(np.float64) ** 2 - self._held.counts
        return error.sum((1, 2)), error.std((1, 2)) * np.sqrt(error[0].size)
