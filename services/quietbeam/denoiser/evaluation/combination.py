"""The risk-minimising combination of a line's estimates, fitted and scored on different held-out photons.

The squared error of ``sum w_i f_i`` is ``w' Q w`` with ``Q_ij = sum (f_i - r)(f_j - r)``, which held-out counts give
without bias, as they give a single error. Weights are fitted on half of the blocks of a checkerboard and scored on the
other half, and the other way round: the reported gain never comes from the photons that chose the weights.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations

import numpy as np

from quietbeam.core.model.types import Float64Array, FloatArray

from .risk import Blocks, Fold, block_sums

Weights = dict[str, float]

LEAST_SHARE = 0.05
"""An estimate with a smaller weight is left out: its inference would cost time and hardly change the map."""


def cross_errors(fold: Fold, rates: Mapping[str, FloatArray], raw: Blocks, kind: str, block: int) -> Float64Array:
    """Return ``Q`` block by block, (line, block, estimate, estimate).

    Parameters
    ----------
    rates
        Estimates that did not see the held-out counts, each (line, row, col), among them ``raw``.
    raw
        Squared error of the raw estimate, (line, block).
    """
    seen, held = fold.seen, fold.held
    used = (held.exposure > 0) & (seen.exposure > 0)
    miss = [((held.exposure * rate - held.counts) * used).astype(np.float32) for rate in rates.values()]
    if kind == "counts":
        noise = block_sums(held.counts * used, block)
    else:
        noise = block_sums(((held.exposure * seen.rate - held.counts) * used) ** 2, block) - raw
    n = len(miss)
    out = np.empty((*raw.shape, n, n))
    for i in range(n):
        for j in range(i, n):
            out[:, :, i, j] = out[:, :, j, i] = block_sums(miss[i] * miss[j], block) - noise
    return out


def best_weights(q: Float64Array) -> Float64Array:
    """Return the weights >= 0 that sum to 1 and minimise ``w' q w``, q (estimate, estimate), by trying every subset.

    Held-out noise moves all of ``q`` up or down, so that ``w' q w`` may come out negative. Differences between
    estimates have no noise: among weights that sum to 1 it is convex all the same.
    """
    n = q.shape[0]
    best, least = np.eye(n)[int(np.argmin(np.diag(q)))], float(np.diag(q).min())
    for size in range(2, n + 1):
        for subset in combinations(range(n), size):
            last, rest = subset[-1], list(subset[:-1])
            # the error of f_last + sum w_i (f_i - f_last)
            apart = q[np.ix_(rest, rest)] - q[rest, last][:, None] - q[last, rest] + q[last, last]
            if np.linalg.eigvalsh(apart)[0] <= 1e-9 * np.trace(apart):
                continue  # two of them are the same
            w = np.zeros(n)
            w[rest] = np.linalg.solve(apart, q[last, last] - q[rest, last])
            w[last] = 1.0 - w[rest].sum()
            if w[list(subset)].min() >= LEAST_SHARE and (value := float(w @ q @ w)) < least:
                best, least = w, value
    return best


def combine(q: Float64Array, columns: int) -> tuple[Float64Array, Blocks]:
    """Return weights (line, estimate) and the cross-validated error of the combination (line, block).

    Parameters
    ----------
    q
        From :func:`cross_errors`, (line, block, estimate, estimate).
    columns
        Blocks in a row of blocks, for the checkerboard.
    """
    n_block = q.shape[1]
    half = (np.arange(n_block) // columns + np.arange(n_block) % columns) % 2 == 0
    weights = np.stack([best_weights(line.sum(0)) for line in q])
    errors = np.empty(q.shape[:2])
    for fit, score in ((half, ~half), (~half, half)):
        for j, line in enumerate(q):
            w = best_weights(line[fit].sum(0)) if fit.any() else weights[j]
            errors[j, score] = line[score] @ w @ w
    return weights, errors
