"""Squared errors of every estimator on photons that it did not see, for every fold and window."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from quietbeam.core.model.types import FloatArray

from ..data.area_noise import NoiseModel
from ..data.counts import RunCounts
from ..data.sums import Sums
from ..estimators.nonlocal_means import Average, averaged_noise, every_variant, one_variant
from ..estimators.smoother import WIDTHS, smooth
from .combination import Weights, combine, cross_errors
from .risk import (
    Blocks,
    Fold,
    Window,
    area_folds,
    block_size,
    count_folds,
    counting_variance,
    error,
    raw_error,
    windows,
)

CONTROL = "pretrained"
"""Has seen no photon of this run, and may be scored on all of them."""
NONLOCAL_CONTROL = "nonlocal_control"
"""Non-local means in the control's map: the control of non-local means."""
NetworkEstimate = Callable[[str, Sums], tuple[FloatArray, FloatArray | None]]
"""Returns a network's rate and its expected squared error, each (line, row, col)."""


@dataclass(slots=True)
class FoldErrors:
    """Estimates and their errors on one fold of one window.

    Attributes
    ----------
    index
        0 is the fold that never trains.
    block
        Edge of the blocks of pixels.
    errors
        Squared error by estimator, (line, block).
    rates
        (line, row, col); of folds other than the first only those of raw and of the control.
    variances, least_variances
        Expected squared error of an estimate, and the variance below which no pixel's error lies, (line, row, col); on
        the first fold only.
    scales
        Factors that give an estimate's maps the total of the counts, (line,).
    """

    fold: Fold
    index: int
    block: int
    kind: str
    errors: dict[str, Blocks] = field(default_factory=dict)
    rates: dict[str, FloatArray] = field(default_factory=dict)
    variances: dict[str, FloatArray] = field(default_factory=dict)
    least_variances: dict[str, FloatArray] = field(default_factory=dict)
    scales: dict[str, FloatArray] = field(default_factory=dict)

    def error_of(self, rate: FloatArray) -> Blocks:
        """Return the squared error of a rate (line, row, col)."""
        return error(self.fold, rate, self.errors["raw"], self.kind, self.block)


def calibrated(rate: FloatArray, sums: Sums) -> tuple[FloatArray, FloatArray]:
    """Scale each line's rate to the total of its counts; return it with the factors (line,)."""
    total = sums.counts.sum((1, 2), dtype=np.float64)
    expected = (rate * sums.exposure).sum((1, 2), dtype=np.float64)
    scale = np.divide(total, expected, out=np.ones_like(total), where=(expected > 0) & (total > 0))
    scale = np.clip(scale, 0.5, 2.0).astype(np.float32)
    return rate * scale[:, None, None], scale


def score_folds(
    data: RunCounts, noise: NoiseModel, estimate: NetworkEstimate, networks: Sequence[str], seed: int, n_folds: int
) -> list[FoldErrors]:
    """Score raw, smoothers and the named networks.

    An empty list where nothing can be held out: one detector of areas.
    """
    block = block_size((data.rows_measured, data.shape[1]))
    scored = []
    for window in windows(data):
        for index, fold in enumerate(folds_of(data, window, n_folds, seed)):
            scored.append(score_fold(FoldErrors(fold, index, block, data.kind), fold.seen, noise, estimate, networks))
    return scored


def folds_of(data: RunCounts, window: Window, n_folds: int, seed: int) -> Iterator[Fold]:
    """Yield the folds of one window."""
    return count_folds(data, window, n_folds, seed) if data.kind == "counts" else area_folds(data, window, n_folds)


def score_fold(
    scored: FoldErrors,
    seen: Sums,
    noise: NoiseModel,
    estimate: NetworkEstimate,
    networks: Sequence[str],
    rows: slice = slice(None),
) -> FoldErrors:
    """Score raw, smoothers and the named networks on one fold; return ``scored``.

    Parameters
    ----------
    seen
        What the estimates are made of: the fold's own ``seen``, or more rows around it.
    rows
        Rows of ``seen`` that are the fold's.
    """
    scored.errors["raw"] = raw_error(scored.fold, noise, scored.kind, scored.block)
    rates: dict[str, FloatArray] = {}
    for width in WIDTHS:
        lines = zip(seen.counts, seen.exposure, strict=True)
        rates[str(width)] = np.stack([smooth(counts, exposure, width) for counts, exposure in lines])[:, rows]
    scored.errors |= {name: scored.error_of(rate) for name, rate in rates.items()}
    scored.rates = {"raw": scored.fold.seen.rate, **(rates if scored.index == 0 else {})}
    for name in networks:
        score_network(scored, seen, estimate, name, rows)
    return scored


def score_network(
    scored: FoldErrors, seen: Sums, estimate: NetworkEstimate, name: str, rows: slice = slice(None)
) -> None:
    """Score a network on one fold; what trained on this run only on the fold that never trains."""
    first = scored.index == 0
    if name == "fine_tuned" and not first:
        return
    rate, variance = estimate(name, seen)
    rate, scored.scales[name] = calibrated(rate[:, rows], scored.fold.seen)
    scored.errors[name] = scored.error_of(rate)
    if first or name == CONTROL:
        scored.rates[name] = rate
    if first and variance is not None:
        scored.variances[name] = variance[:, rows]


def first_folds(folds: Sequence[FoldErrors]) -> list[FoldErrors]:
    """Return the folds that never train, one for each window."""
    return [scored for scored in folds if scored.index == 0]


def fold_weights(folds: Sequence[FoldErrors]) -> list[float]:
    """Return weights of the windows, by which those with fewer folds count like the others."""
    numbers: list[int] = []
    for scored in folds:
        if scored.index == 0:
            numbers.append(0)
        numbers[-1] += 1
    return [max(numbers) / n for n in numbers]


def total_error(folds: Sequence[FoldErrors], name: str) -> Blocks:
    """Sum an estimator's errors over folds, (line, block); windows stand side by side."""
    bands: list[Blocks] = []
    for scored in folds:
        if scored.index == 0:
            bands.append(scored.errors[name].copy())
        else:
            bands[-1] += scored.errors[name]
    weights = fold_weights(folds)
    return np.concatenate([weight * band for weight, band in zip(weights, bands, strict=True)], 1)


def total_counting_variance(folds: Sequence[FoldErrors]) -> Blocks:
    """Return the variance that counting alone gives to the sum of :func:`total_error`, (line,); 0 for fitted areas."""
    weights, total, window = fold_weights(folds), np.zeros(len(folds[0].fold.seen.counts)), -1
    for scored in folds:
        window += scored.index == 0
        total += weights[window] ** 2 * counting_variance(scored.fold) * (scored.kind == "counts")
    return total


def controlled_error(folds: Sequence[FoldErrors], name: str, control: str) -> tuple[Blocks, Blocks]:
    """Return the error over all folds of an estimator that may be scored on the first only.

    With it comes the variance that counting alone gives to its sum, (line,).

    The control's error on the other folds stands in, by the share to which the two errors go together block by block
    (a control variate); not at all where the control itself is worse than raw.
    """
    n_folds = max(scored.index for scored in folds) + 1
    first = first_folds(folds)
    errors, control_errors, raw = (np.concatenate([f.errors[key] for f in first], 1) for key in (name, control, "raw"))
    a, b = errors - errors.mean(1, keepdims=True), control_errors - control_errors.mean(1, keepdims=True)
    share = np.clip((a * b).sum(1) / np.maximum((b * b).sum(1), 1e-12), 0, 1)
    share = share * (control_errors.sum(1) < raw.sum(1))
    total = n_folds * errors + share[:, None] * (total_error(folds, control) - n_folds * control_errors)
    counting = (
        n_folds**2 * total_counting_variance(first) * (1.0 - share) ** 2 + total_counting_variance(folds) * share**2
    )
    return total, counting


def best_widths(folds: Sequence[FoldErrors]) -> list[float]:
    """Return the smoother's best width of every line; ``inf`` is a constant."""
    totals = np.stack([total_error(folds, str(width)).sum(1) for width in WIDTHS])
    return [float(WIDTHS[i]) for i in totals.argmin(0)]


def score_nonlocal_means(
    folds: Sequence[FoldErrors], noise: NoiseModel, guide: str, yield_callback: Callable[[], object]
) -> list[int]:
    """Score non-local means on the first fold, in the map of the network ``guide``; return every line's best variant.

    That variant in the control's map is scored on every fold, as `NONLOCAL_CONTROL`.
    """
    first = first_folds(folds)
    totals = []
    for scored in first:
        averages = every_variant(scored.fold.seen, scored.rates[guide], noise, yield_callback)
        rates = (calibrated(rate, scored.fold.seen)[0] for rate, _ in averages)
        totals.append([scored.error_of(rate).sum(1) for rate in rates])
    variants = [int(v) for v in np.sum(totals, 0).argmin(0)]

    def averages_of(scored: FoldErrors, name: str) -> tuple[FloatArray, FloatArray, list[Average]]:
        """Return the calibrated rate, its factors and the averages of every line."""
        seen, rates = scored.fold.seen, scored.rates[name]
        made = [one_variant(seen, rates, noise, v, j, yield_callback) for j, v in enumerate(variants)]
        return *calibrated(np.stack([rate for rate, _ in made]), seen), made

    for scored in first:
        rate, scale, made = averages_of(scored, guide)
        scored.errors["nonlocal"] = scored.error_of(rate)
        scored.rates["nonlocal"], scored.scales["nonlocal"] = rate, scale
        if guide in scored.variances:
            scored.variances["nonlocal"] = scored.variances[guide]
        least = [averaged_noise(r, exposure, noise, j) for j, (r, exposure) in enumerate(made)]
        scored.least_variances["nonlocal"] = np.stack(least)
    for scored in folds:
        scored.errors[NONLOCAL_CONTROL] = scored.error_of(averages_of(scored, CONTROL)[0])
    return variants


def score_combination(folds: Sequence[FoldErrors], widths: Sequence[float], others: Sequence[str]) -> list[Weights]:
    """Fit and score the combination of raw, smoother and ``others`` on the first fold; return its weights per line."""
    first = first_folds(folds)
    names = ["raw", "smoother", *(name for name in others if name in first[0].rates)]
    matrices = []
    for scored in first:
        smoother = np.stack([scored.rates[str(width)][j] for j, width in enumerate(widths)])
        rates = {name: smoother if name == "smoother" else scored.rates[name] for name in names}
        matrices.append(cross_errors(scored.fold, rates, scored.errors["raw"], scored.kind, scored.block))
    columns = -(-first[0].fold.seen.counts.shape[2] // first[0].block)
    weights, errors = combine(np.concatenate(matrices, 1), columns)
    start = 0
    for scored, matrix in zip(first, matrices, strict=True):
        scored.errors["combined"] = errors[:, start : start + matrix.shape[1]]
        start += matrix.shape[1]
    return [{name: float(w) for name, w in zip(names, line, strict=True) if w > 0} for line in weights]
