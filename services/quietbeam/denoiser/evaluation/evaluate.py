"""Judge every estimate of a run on its held-out photons, choose, and write down what they say."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np

from quietbeam.core.model.evidence import LineEvidence
from quietbeam.core.model.types import Float64Array, FloatArray

from ..checks.common_mode import common_mode
from ..checks.false_structure import false_structure
from ..checks.line_checks import LineChecks, check_line
from ..data.area_noise import NoiseModel
from ..data.counts import RunCounts
from ..data.sums import Sums
from ..estimators.smoother import WIDTHS
from ..options import never
from .combination import Weights
from .fold_errors import (
    CONTROL,
    Estimate,
    Judged,
    best_widths,
    controlled,
    judge,
    judge_combination,
    judge_nonlocal,
    total,
)
from .gate import Choice, choose, gain_interval, keep_raw, not_tested
from .risk import FOLDS, Blocks, counting_variance
from .single_detector import judge_single
from .user_notes import notes_of

RESIDUAL_LIMIT = 1.6
RESIDUAL_P = 1e-3
EXPOSURE_EXPONENT = 0.35
"""Dwell gain falls with exposure as ``exposure**-0.35`` (simulations: 0.23 to 0.45): carries a gain that was measured
at three quarters of the exposure over to the published map, which uses all counts. A constant keeps its gain."""
LIKE_RAW = 0.02
"""Share of a map's squared error that is spread like raw's variance: no pixel's error is nothing."""


@dataclass(frozen=True, slots=True)
class Part:
    """One estimate of one line.

    Attributes
    ----------
    rate
        (row, col).
    expected
        How it expects its squared error to be spread, (row, col); None where it does not know.
    least
        Variance below which no pixel's error lies: that of the counts which were averaged, (row, col).
    """

    rate: FloatArray
    expected: FloatArray | None = None
    least: FloatArray | None = None


@dataclass(slots=True)
class Evaluation:
    """Result of :func:`evaluate`; see :class:`LineEvidence` for the meaning of the figures.

    Attributes
    ----------
    choices
        What is published, per line.
    widths
        Width of the smoother, per line; ``inf`` is a constant.
    weights
        Weights of the combination, per line.
    errors
        Squared held-out error by estimator, (line, block).
    counting
        What counting alone adds to the variance of their sums, by estimator, (line,).
    variants, guide
        Of the non-local means: which of `VARIANTS`, per line, and the network in whose map patches are compared.
    jitter
        Common-mode noise that is left, of pixels and of rows.
    """

    choices: list[Choice]
    widths: list[float]
    weights: list[Weights]
    errors: dict[str, Blocks]
    counting: dict[str, Blocks]
    scales: dict[str, FloatArray]
    seed: int
    checks: list[LineChecks]
    printed: Float64Array
    variants: list[int] = field(default_factory=list)
    guide: str = ""
    jitter: tuple[float | None, float | None] = (None, None)
    notes: list[str] = field(default_factory=list)

    def scale(self, name: str) -> FloatArray:
        """Return the factors that give a network's maps the total of the counts, (line,)."""
        return self.scales.get(name, np.ones(len(self.choices), np.float32))

    def parts(self, j: int) -> Weights:
        """Return the estimates that the published map of line ``j`` is made of, with their weights."""
        choice = self.choices[j]
        return self.weights[j] if choice.estimator == "combined" else {choice.estimator: 1.0}

    def error_share(self, j: int) -> float:
        """Return the published map's squared error over raw's, kept to a sane range."""
        raw, choice = self.errors["raw"][j], self.choices[j]
        if choice.estimator == "raw" or raw.sum() <= 0:
            return 1.0
        return float(np.clip(1.0 / self._interval(j)[0], 1e-4, 1.0))

    def deviation(self, j: int, part: Part, exposure: FloatArray, noise: NoiseModel) -> FloatArray:
        """Return one standard error of the published rate (row, col).

        Its mean square is raw's own times the error ratio that held-out photons gave. How it is spread over the map is
        what the network expects; without that it follows raw's variance.
        """
        rate, expected, lit = part.rate, part.expected, exposure > 0
        floor = 0.1 * float(rate[lit].mean()) if lit.any() else 0.0
        variance = noise.factor[j] * np.maximum(rate, floor) + noise.constant[j]
        variance = np.divide(variance, exposure, out=np.zeros_like(rate), where=lit)
        variance = np.maximum(variance, 0) * self.error_share(j)
        if expected is not None and lit.any() and (mean := float(expected[lit].mean())) > 0:
            spread = expected * (float(variance[lit].mean()) / mean)
            variance = LIKE_RAW * variance + (1.0 - LIKE_RAW) * spread
        return np.sqrt(variance if part.least is None else np.maximum(variance, part.least * lit))

    def line_evidence(self, data: RunCounts) -> tuple[LineEvidence, ...]:
        """Return the figures of every line."""
        sums = data.sums("all")
        lit = np.maximum((sums.exposure > 0).sum((1, 2)), 1)
        mean = sums.rate.sum((1, 2)) / lit * data.unit
        return tuple(self._line(j, name, data, float(mean[j])) for j, name in enumerate(data.lines))

    def _line(self, j: int, name: str, data: RunCounts, mean: float) -> LineEvidence:
        raw, choice, checks, carry = self.errors["raw"][j], self.choices[j], self.checks[j], carry_over(data)
        gain: float | None = 1.0
        low: float | None = None
        high: float | None = None
        if choice.verdict == "not_tested":
            gain = None
        elif choice.verdict == "improved":
            factor = carry_over(data, constant=choice.constant)
            gain, low, high = (None if v is None else v * factor for v in self._interval(j))
        row, col = checks.residual_worst or (None, None)
        return LineEvidence(
            line=name,
            estimator=choice.estimator,
            verdict=choice.verdict,
            verdict_reason=choice.reason,
            dwell_gain=rounded(gain, 3),
            dwell_gain_low=rounded(low, 3),
            dwell_gain_high=rounded(high, 3),
            candidates={
                key: round(carry * self._interval(j, key)[0], 3)
                for key, value in self.errors.items()
                if key not in ("raw", "constant") and raw.sum() > 0
            },
            weights={key: round(w, 3) for key, w in self.parts(j).items()},
            total_ratio=rounded(checks.total_ratio),
            slope=rounded(checks.slope),
            mean_counts=float(f"{mean:.6g}"),
            residual_chi2=rounded(checks.residual_chi2),
            residual_flag=checks.structure > RESIDUAL_LIMIT or (checks.residual_p or 1.0) < RESIDUAL_P,
            residual_p=rounded(checks.residual_p, 6),
            residual_worst_row=row,
            residual_worst_col=col,
            frc_pixels=checks.frc[0],
            frc_raw_pixels=checks.frc_raw[0],
            frc_half_bit_pixels=checks.frc[1],
            frc_raw_half_bit_pixels=checks.frc_raw[1],
            false_structure=rounded(float(self.printed[j]), 4),
            coverage_68=rounded(checks.coverage_68, 4),
            excluded_detectors=dict(data.gains.reasons[j]),
        )

    def _interval(self, j: int, name: str = "") -> tuple[float, float, float | None]:
        """Return dwell gain and interval of an estimate, of the published one where none is named."""
        name = name or ("constant" if self.choices[j].constant else self.choices[j].estimator)
        return gain_interval(self.errors["raw"][j], self.errors[name][j], self.seed, float(self.counting[name][j]))


def evaluate(
    data: RunCounts,
    noise: NoiseModel,
    estimate: Estimate,
    networks: Sequence[str],
    seed: int,
    folds: int = FOLDS,
    *,
    thorough: bool = False,
    yield_callback: Callable[[], object] = never,
) -> Evaluation:
    """Judge raw, smoother and the named networks.

    What trained on this run (``fine_tuned``) is judged only on the fold that never trains; its error on the other
    folds is the pretrained network's plus the difference between the two on the first, which has far less variance.
    ``thorough`` also tries non-local means and the combination, and counts false structure: for finished maps, which
    may take longer.
    """
    n = len(data.lines)
    pieces = judge(data, noise, estimate, networks, seed, folds)
    if not pieces:
        return _nothing_held_out(data, noise, seed)
    widths = best_widths(pieces)
    errors = {"raw": total(pieces, "raw"), "constant": total(pieces, str(np.inf))}
    smoothers = {str(w): total(pieces, str(w)) for w in WIDTHS}
    errors["smoother"] = np.stack([smoothers[str(w)][j] for j, w in enumerate(widths)])
    counting = sum((counting_variance(p.fold) for p in pieces), np.zeros(n)) * (data.kind == "counts")
    more: dict[str, Blocks] = {}
    for name in networks:
        if name == "fine_tuned":
            errors[name], more[name] = controlled(pieces, name, CONTROL)
        else:
            errors[name] = total(pieces, name)
    weights: list[Weights] = [{} for _ in range(n)]
    variants, guide = [0] * n, ""
    if thorough and networks:
        guide = networks[-1]
        variants = judge_nonlocal(pieces, noise, guide, data.kind, yield_callback)
        weights = judge_combination(pieces, widths, (*networks, "nonlocal"), data.kind)
        errors["nonlocal"], more["nonlocal"] = controlled(pieces, "nonlocal", "alike")
        errors["combined"], more["combined"] = controlled(pieces, "combined", CONTROL)
    result = Evaluation(
        choices=[],
        widths=widths,
        weights=weights,
        errors=errors,
        counting={name: counting * more.get(name, 1.0) for name in errors},
        scales=dict(pieces[0].scales),
        variants=variants,
        guide=guide,
        seed=seed,
        checks=[LineChecks()] * n,
        printed=np.full(n, np.nan),
    )
    sums = data.sums("all")
    for j in range(n):
        mine = {key: value[j] for key, value in errors.items()}
        if len(weights[j]) < 2:
            mine.pop("combined", None)
        result.choices.append(_untested(data, sums, mine["raw"], j) or choose(mine, carry_over(data)))
        if result.choices[j].constant:
            widths[j] = float("inf")
        carry = carry_over(data, constant=result.choices[j].constant)
        if result.choices[j].estimator != "raw" and carry * result._interval(j)[1] < 1.0:
            result.choices[j] = keep_raw("The interval of the dwell gain begins below 1, so raw is published.")
    first = [p for p in pieces if p.index == 0]
    result.checks = [_check(result, j, first[0], noise) for j in range(n)]
    if thorough and data.kind == "counts":
        _count_false_structure(result, estimate, networks, first[0].fold.seen)
    result.jitter = common_mode(sums)
    result.notes = notes_of(data, result.choices, result.jitter[1])
    return result


def _untested(data: RunCounts, sums: Sums, raw: Blocks, j: int) -> Choice | None:
    """Return raw with the reason where nothing of line ``j`` is held out: ``raw`` is its squared error (block,)."""
    if not sums.exposure[j].any():
        return not_tested("Nothing was measured of this line.")
    if raw.any():
        return None
    if data.kind == "counts":
        return not_tested("The line has no counts that could be held out.")
    return not_tested("Only one detector has usable areas of this line: nothing can be held out.")


def _check(result: Evaluation, j: int, piece: Judged, noise: NoiseModel) -> LineChecks:
    """Check line ``j`` on the first window of the fold that never trains."""
    seen, held = (Sums(s.counts[j], s.exposure[j]) for s in (piece.fold.seen, piece.fold.held))
    width = str(result.widths[j])
    part = mix(
        result.parts(j),
        {
            name: Part(
                piece.rates[width if name == "smoother" else name][j],
                _of(piece.variances, name, j),
                _of(piece.least, name, j),
            )
            for name in result.parts(j)
        },
    )
    deviation = result.deviation(j, part, seen.exposure, noise)
    published_raw = result.choices[j].estimator == "raw"
    factor, constant = float(noise.factor[j]), float(noise.constant[j])
    return check_line(seen, held, part.rate, deviation, factor, constant, published_raw=published_raw)


def _of(maps: dict[str, FloatArray], name: str, j: int) -> FloatArray | None:
    return maps[name][j] if name in maps else None


def mix(weights: Weights, parts: dict[str, Part]) -> Part:
    """Return the weighted estimate of a line; of what its parts expect, that of those that know it."""
    rate = np.asarray(sum(w * parts[name].rate for name, w in weights.items()), np.float32)
    known = [(w, expected) for name, w in weights.items() if (expected := parts[name].expected) is not None]
    noise = [w**2 * least for name, w in weights.items() if (least := parts[name].least) is not None]
    whole = sum(w for w, _ in known)
    return Part(
        rate,
        np.asarray(sum(w / whole * expected for w, expected in known), np.float32) if known else None,
        np.asarray(sum(noise), np.float32) if noise else None,
    )


def _count_false_structure(result: Evaluation, estimate: Estimate, networks: Sequence[str], seen: Sums) -> None:
    """Note the structure that each line's network prints; a constant prints none, raw and smoothers do not invent.

    Non-local means can print what the network does in whose map they look.
    """
    for name in networks:
        prints = {name, "nonlocal"} if name == result.guide else {name}
        mine = [j for j in range(len(result.choices)) if prints & set(result.parts(j))]
        if mine:
            printed = false_structure(partial(_rate_of, estimate, name), seen, result.seed)
            result.printed[mine] = np.fmax(result.printed[mine], printed[mine])
    for j, choice in enumerate(result.choices):
        if choice.constant:
            result.printed[j] = 0.0


def _rate_of(estimate: Estimate, name: str, sums: Sums) -> FloatArray:
    return estimate(name, sums)[0]


def carry_over(data: RunCounts, *, constant: bool = False) -> float:
    """Return what a dwell gain measured on the training share is worth with all counts: of a constant, as much."""
    return float((1.0 - data.share) ** EXPOSURE_EXPONENT) if data.kind == "counts" and not constant else 1.0


def _nothing_held_out(data: RunCounts, noise: NoiseModel, seed: int) -> Evaluation:
    n, measured = len(data.lines), bool(data.measured.any())
    choices, weights, widths = judge_single(data, noise, seed) if measured else ([], [], [])
    why = "one detector of fitted areas: nothing can be held out, so what is published is not tested"
    return Evaluation(
        choices=choices or [not_tested("Nothing is measured yet.")] * n,
        widths=widths or [float("inf")] * n,
        weights=weights or [{} for _ in range(n)],
        errors={"raw": np.zeros((n, 1)), "constant": np.zeros((n, 1))},
        counting={},
        scales={},
        seed=seed,
        checks=[replace(LineChecks()) for _ in range(n)],
        printed=np.full(n, np.nan),
        notes=[why if measured else "nothing is measured yet"],
    )


def rounded(value: float | None, digits: int = 5) -> float | None:
    """Return a figure as it is written down; None for what is not finite."""
    return None if value is None or not np.isfinite(value) else round(float(value), digits)
