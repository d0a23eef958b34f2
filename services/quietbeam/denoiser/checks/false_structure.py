"""False structure: what a network prints into lines without structure beside the real lines of the run."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from quietbeam.core.model.types import Float64Array, FloatArray

from ..data.sums import Sums


def false_structure(estimate: Callable[[Sums], FloatArray], sums: Sums, seed: int) -> Float64Array:
    """Return each line's printed structure in units of raw noise, (line,); 0 is a constant, 1 as bad as raw.

    Every second line is replaced by Poisson counts of a constant at its own dose while the others stay, then the other
    way round: chance patterns and leakage from other lines are both in the figure.

    Parameters
    ----------
    estimate
        Rate (line, row, col) of sums.
    sums
        Counts of the run, (line, row, col).
    """
    rng = np.random.default_rng([seed, 31])
    valid = sums.exposure > 0
    mean = sums.counts.sum((1, 2)) / np.maximum(sums.exposure.sum((1, 2)), 1e-9)
    out = np.full(len(mean), np.nan)
    turns = (0, 1) if len(mean) > 1 else (0,)
    for turn in turns:
        replaced = np.arange(turn, len(mean), len(turns))
        counts = sums.counts.copy()
        counts[replaced] = rng.poisson(mean[replaced, None, None] * sums.exposure[replaced])
        rate = estimate(Sums(counts, sums.exposure))
        for j in replaced:
            if mean[j] > 0 and valid[j].sum() > 1:
                raw = np.sqrt(mean[j] / sums.exposure[j][valid[j]].mean())
                out[j] = float(rate[j][valid[j]].std() / raw)
    return out
