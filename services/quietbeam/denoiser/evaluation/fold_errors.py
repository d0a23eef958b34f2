"""Every estimate on every fold and window: squared errors on photons that it did not see."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from quietbeam.core.model.types import FloatArray

from ..data.area_noise import NoiseModel
from ..data.counts import RunCounts
from ..data.sums import Sums
from ..estimators.nonlocal_means import averaged_noise, every_variant, one_variant
from ..estimators.smoother import WIDTHS, smooth
from .combination import combine, cross_errors
from .risk import Blocks, Fold, area_folds, block_size, count_folds, error, raw_error, windows

CONTROL = "pretrained"
"""Has seen no photon of this run, and may be judged on all of them."""
Estimate = Callable[[str, Sums], tuple[FloatArray, FloatArray | None]]
"""Return a network's rate and its expected squared error (line, row, col)."""


@dataclass(slots=True)
class Judged:
    """One fold of one window.

    Attributes
    ----------
    index
        0 is the fold that never trains.
    errors
        Squared error by estimate, (line, block).
    rates
        (line, row, col); of the other folds only raw's and the control's.
    variances, least
        What an estimate expects its squared error to be, and the noise below which it is not; of the first fold only,
        (line, row, col).
    """

    fold: Fold
    index: int
    block: int
    errors: dict[str, Blocks] = field(default_factory=dict)
    rates: dict[str, FloatArray] = field(default_factory=dict)
    variances: dict[str, FloatArray] = field(default_factory=dict)
    least: dict[str, FloatArray] = field(default_factory=dict)
    scales: dict[str, FloatArray] = field(default_factory=dict)


def calibrated(rate: FloatArray, sums: Sums) -> tuple[FloatArray, FloatArray]:
    """Scale each line's rate to the total of its counts; return it with the factors (line,)."""
    total = sums.counts.sum((1, 2), dtype=np.float64)
    expected = (rate * sums.exposure).sum((1, 2), dtype=np.float64)
    scale = np.divide(total, expected, out=np.ones_like(total), where=(expected > 0) & (total > 0))
    scale = np.clip(scale, 0.5, 2.0).astype(np.float32)
    return rate * scale[:, None, None], scale


def judge(
    data: RunCounts,
    noise: NoiseModel,
    estimate: Estimate,
    networks: Sequence[str],
    seed: int,
    folds: int,
) -> list[Judged]:
    """Judge raw, smoothers and the named networks; nothing can be held out of one detector of areas: an empty list."""
    block = block_size((data.rows_measured, data.shape[1]))
    pieces = []
    for window in windows(data):
        made = count_folds(data, window, folds, seed) if data.kind == "counts" else area_folds(data, window, folds)
        for index, fold in enumerate(made):
            pieces.append(Judged(fold, index, block))
            _judge(pieces[-1], noise, estimate, networks, data.kind)
    return pieces


def _judge(piece: Judged, noise: NoiseModel, estimate: Estimate, networks: Sequence[str], kind: str) -> None:
    fold = piece.fold
    raw = piece.errors["raw"] = raw_error(fold, noise, kind, piece.block)
    found: dict[str, FloatArray] = {}
    for name in networks:
        if name == "fine_tuned" and piece.index > 0:
            continue
        rate, variance = estimate(name, fold.seen)
        found[name], piece.scales[name] = calibrated(rate, fold.seen)
        if piece.index == 0 and variance is not None:
            piece.variances[name] = variance
    for width in WIDTHS:
        found[str(width)] = np.stack(
            [smooth(c, e, width) for c, e in zip(fold.seen.counts, fold.seen.exposure, strict=True)]
        )
    for name, rate in found.items():
        piece.errors[name] = error(fold, rate, raw, kind, piece.block)
    kept = found if piece.index == 0 else {name: found[name] for name in networks if name == CONTROL}
    piece.rates = {"raw": fold.seen.rate, **kept}


def total(pieces: list[Judged], name: str) -> Blocks:
    """Sum a candidate's errors over folds; windows stand side by side."""
    bands: list[Blocks] = []
    for piece in pieces:
        if piece.index == 0:
            bands.append(piece.errors[name].copy())
        else:
            bands[-1] += piece.errors[name]
    return np.concatenate(bands, 1)


def controlled(pieces: list[Judged], name: str, control: str) -> tuple[Blocks, Blocks]:
    """Return the error over all folds of what may be judged on the first only, and its counting noise.

    That is the variance that counting gives the sum, over what it gives to an error judged on all folds, (line,).

    The control's error on the other folds stands in, by the share to which the two errors go together block by block
    (a control variate); not at all where the control itself is worse than raw.
    """
    folds = max(p.index for p in pieces) + 1
    first = [p for p in pieces if p.index == 0]
    own, beside, raw = (np.concatenate([p.errors[key] for p in first], 1) for key in (name, control, "raw"))
    a, b = own - own.mean(1, keepdims=True), beside - beside.mean(1, keepdims=True)
    share = np.clip((a * b).sum(1) / np.maximum((b * b).sum(1), 1e-12), 0, 1) * (beside.sum(1) < raw.sum(1))
    errors = folds * own + share[:, None] * (total(pieces, control) - folds * beside)
    return errors, folds * (1.0 - share) ** 2 + share**2


def best_widths(pieces: list[Judged]) -> list[float]:
    """Return the smoother's best width of every line; ``inf`` is a constant."""
    totals = np.stack([total(pieces, str(w)).sum(1) for w in WIDTHS])
    return [float(WIDTHS[i]) for i in totals.argmin(0)]


def judge_nonlocal(
    pieces: list[Judged], noise: NoiseModel, guide: str, kind: str, between: Callable[[], object]
) -> list[int]:
    """Judge non-local means on the first fold; return every line's best variant.

    That variant in the pretrained network's map is judged on every fold, as ``alike``: the control of the first.
    """
    first = [p for p in pieces if p.index == 0]
    tried = []
    for piece in first:
        averages = every_variant(piece.fold.seen, piece.rates[guide], noise, between)
        tried.append([_missed(piece, rate, kind)[1].sum(1) for rate, _ in averages])
    best = [int(v) for v in np.sum(tried, 0).argmin(0)]

    def averaged(piece: Judged, name: str) -> list[tuple[FloatArray, FloatArray]]:
        looked_at = piece.fold.seen, piece.rates[name], noise
        return [one_variant(*looked_at, v, j, between) for j, v in enumerate(best)]

    for piece in first:
        made = averaged(piece, guide)
        rate, piece.errors["nonlocal"], piece.scales["nonlocal"] = _missed(piece, np.stack([r for r, _ in made]), kind)
        piece.rates["nonlocal"] = rate
        if guide in piece.variances:
            piece.variances["nonlocal"] = piece.variances[guide]
        piece.least["nonlocal"] = np.stack([averaged_noise(r, e, noise, j) for j, (r, e) in enumerate(made)])
    for piece in pieces:
        piece.errors["alike"] = _missed(piece, np.stack([r for r, _ in averaged(piece, CONTROL)]), kind)[1]
    return best


def _missed(piece: Judged, rate: FloatArray, kind: str) -> tuple[FloatArray, Blocks, FloatArray]:
    """Return a rate brought to the total of the counts, its error, and the factors (line,)."""
    rate, scale = calibrated(rate, piece.fold.seen)
    return rate, error(piece.fold, rate, piece.errors["raw"], kind, piece.block), scale


def judge_combination(
    pieces: list[Judged], widths: list[float], others: Sequence[str], kind: str
) -> list[dict[str, float]]:
    """Fit the combination of raw, smoother and others on the first fold and note its error there.

    Return the weights of every line.
    """
    first = [p for p in pieces if p.index == 0]
    names = ["raw", "smoother", *(name for name in others if name in first[0].rates)]
    parts, columns = [], []
    for piece in first:
        rates = {name: piece.rates[name] for name in names if name != "smoother"}
        smoother = np.stack([piece.rates[str(w)][j] for j, w in enumerate(widths)])
        ordered = {name: smoother if name == "smoother" else rates[name] for name in names}
        parts.append(cross_errors(piece.fold, ordered, piece.errors["raw"], kind, piece.block))
        columns.append(-(-piece.fold.seen.counts.shape[2] // piece.block))
    weights, errors = combine(np.concatenate(parts, 1), columns[0])
    start = 0
    for piece, part in zip(first, parts, strict=True):
        piece.errors["combined"] = errors[:, start : start + part.shape[1]]
        start += part.shape[1]
    return [{name: float(w) for name, w in zip(names, line, strict=True) if w > 0} for line in weights]
