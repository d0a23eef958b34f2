"""The gate: per line, the estimate with the least error on held-out photons; raw unless another is proven better."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy.stats import norm, truncnorm

from quietbeam.core.model.evidence import Estimator, Verdict

from .risk import Blocks

PROOF_Z = 1.96
"""Standard errors of the paired difference by which the published estimate must beat raw: 95 %, as the interval."""
INTERVAL_Z = 2.24
"""Half width of the bootstrap's interval in standard errors. With 1.96 it held 130 of 144 true gains (90 %)."""
CAREFUL_Z = 0.75
"""Standard errors by which an estimate that was chosen among several on one fold must beat every other one."""
_CAREFUL = ("nonlocal", "combined")
_DRAWS, _BLOCKS_AT_ONCE = 800, 512
STRUCTURE_Z = 1.0
"""Standard errors by which a published estimate must be better than a constant."""
CAREFUL_STRUCTURE_Z = 2.0
"""The same for an estimate that was chosen among several, of which noise alone makes one the best."""
LEAST_BLOCKS = 4
"""Blocks of pixels with held-out photons, below which nothing is tested."""
LEAST_STRUCTURE = 0.003
"""Structure worth less than this share of raw's squared error is not shown: the line is published as a constant."""


@dataclass(frozen=True, slots=True)
class Choice:
    """What is published for one line.

    Attributes
    ----------
    estimator
        The winner.
    verdict
        Whether held-out photons prove that it beats raw, as in :class:`~quietbeam.core.model.evidence.LineEvidence`.
    reason
        The verdict's reason in one sentence; empty for the usual one.
    constant
        True when the smoother won as a constant: no structure was proven.
    """

    estimator: Estimator
    verdict: Verdict
    reason: str = ""
    constant: bool = False


def keep_raw(reason: str = "") -> Choice:
    """Return the choice of raw after a test that no estimate passed."""
    return Choice("raw", "kept_raw", reason)


def not_tested(reason: str, estimator: Estimator = "raw", *, constant: bool = False) -> Choice:
    """Return the choice of an estimate that no held-out data could test."""
    return Choice(estimator, "not_tested", reason, constant)


def paired(better: Blocks, worse: Blocks) -> float:
    """Return by how many standard errors ``better`` has the smaller error (each (block,))."""
    difference = worse - better
    used = (worse != 0) | (better != 0)
    n = int(used.sum())
    if n < LEAST_BLOCKS:
        return 0.0
    spread = float(np.sqrt(n * difference[used].var(ddof=1)))
    total = float(difference.sum())
    return total / spread if spread > 0 else float(np.sign(total)) * 10.0


def choose(errors: Mapping[str, Blocks], carry: float = 1.0) -> Choice:
    """Choose among the estimates of one line.

    A constant also wins when nothing is measurably better than it, so that lines without signal come out flat.
    Non-local means and the combination must be better than all others by `CAREFUL_Z`: their variant and their weights
    are chosen by the photons' noise, too.

    Parameters
    ----------
    errors
        Squared error per block, (block,), by estimator name; ``raw`` must be among them, ``constant`` is the smoother's
        flat map.
    carry
        Factor from a dwell gain at the exposure of the training share to that at the whole exposure, which must be
        above 1.
    """
    raw = errors["raw"]
    others = [name for name in errors if name not in ("raw", *_CAREFUL)]
    if not others or not np.any(raw):
        return not_tested("Nothing of this line could be held out.")
    best = min(others, key=lambda name: float(errors[name].sum()))
    for careful in _CAREFUL:
        if careful in errors and paired(errors[careful], errors[best]) > CAREFUL_Z:
            best = careful
    if "constant" in errors and best != "constant":
        gained = float(errors["constant"].sum() - errors[best].sum())
        enough = CAREFUL_STRUCTURE_Z if best in _CAREFUL else STRUCTURE_Z
        if gained < LEAST_STRUCTURE * float(raw.sum()) or paired(errors[best], errors["constant"]) < enough:
            best = "constant"
    carried = errors[best] if best == "constant" else errors[best] / carry
    if int(((raw != 0) | (carried != 0)).sum()) < LEAST_BLOCKS:
        return not_tested(f"Too few pixels for a test: fewer than {LEAST_BLOCKS} blocks have held-out counts.")
    if float(carried.sum()) < float(raw.sum()) and paired(carried, raw) > PROOF_Z:
        name: Estimator = "smoother" if best == "constant" else best  # type: ignore[assignment]
        return Choice(name, "improved", constant=best == "constant")
    return keep_raw()


def gain_interval(
    raw: Blocks, chosen: Blocks, seed: int, counting: float = 0.0, sums: tuple[Blocks, Blocks] | None = None
) -> tuple[float, float, float | None]:
    """Return dwell gain with its 95 % interval, by bootstrap over blocks.

    ``counting`` is the variance of the chosen error's sum that counting alone gives it. Where hardly a pixel has two
    held-out counts the bootstrap does not see it. ``sums`` are the :func:`bootstrap_sums` of raw and chosen, where they
    are known.

    The bootstrap is taken at `INTERVAL_Z`: the photons that measure the gain have chosen the estimate, too.
    The error ratio can come out negative where the gain is too large to be resolved by the photons held out; the
    gain is then the inverse of the mean of the ratio's distribution above 0, and the upper end is None.
    """
    if int(((raw != 0) | (chosen != 0)).sum()) < LEAST_BLOCKS or raw.sum() <= 0:
        return 1.0, 0.0, None
    raw_sums, chosen_sums = sums or (bootstrap_sums(raw, seed), bootstrap_sums(chosen, seed))
    ratio = chosen_sums / np.maximum(raw_sums, 1e-12 * raw.sum())
    middle = float(chosen.sum() / raw.sum())
    spread = max(float(ratio.std()), float(np.sqrt(counting) / raw.sum()))
    tail = float(norm.sf(INTERVAL_Z))
    low, high = (float(q) for q in np.quantile(ratio, [tail, 1.0 - tail]))
    low, high = min(low, middle - INTERVAL_Z * spread), max(high, middle + INTERVAL_Z * spread)
    high = max(high, INTERVAL_Z * spread)  # an error cannot be negative, so neither is its upper limit
    point = middle if middle > 2 * spread else _mean_above_zero(max(middle, -2.0 * spread), spread)
    upper = 1.0 / low if low > 0.05 * max(high, 1e-12) else None
    lower = 1.0 / max(high, 1e-6)
    return float(np.clip(1.0 / max(point, 1e-6), lower, upper or np.inf)), lower, upper


def bootstrap_sums(errors: Blocks, seed: int) -> Blocks:
    """Return the sum of errors (..., block) in every bootstrap draw, (..., draw)."""
    blocks = errors.shape[-1]
    return errors @ _resampled(-(-blocks // _BLOCKS_AT_ONCE) * _BLOCKS_AT_ONCE, seed)[:blocks]


@lru_cache(maxsize=2)
def _resampled(blocks: int, seed: int) -> Blocks:
    """Return how often each bootstrap draw has each block, (block, draw); the same for all lines.

    The numbers are independent Poisson numbers of mean 1 instead of one multinomial draw (Hanley and MacGibbon 2006,
    doi:10.1016/j.cmpb.2006.04.006): of a ratio that is the same, and those of a block do not change as a map grows.
    """
    return np.random.default_rng([seed, 5]).poisson(1.0, size=(blocks, _DRAWS)).astype(np.float64)


def _mean_above_zero(mean: float, spread: float) -> float:
    """Return the mean of a normal distribution cut off below 0."""
    if spread <= 0:
        return max(mean, 1e-6)
    return float(truncnorm.mean(-mean / spread, np.inf, loc=mean, scale=spread))
