"""The evidence of every line, from an evaluation."""

from __future__ import annotations

import numpy as np

from quietbeam.core.model.evidence import LineEvidence

from ..data.counts import RunCounts
from .evaluate import Evaluation, carry_over

RESIDUAL_LIMIT = 1.6
RESIDUAL_P = 1e-3


def line_evidence(evaluation: Evaluation, data: RunCounts) -> tuple[LineEvidence, ...]:
    """Return the figures of every line."""
    sums = data.sums("all")
    valid = np.maximum((sums.exposure > 0).sum((1, 2)), 1)
    mean = sums.rate.sum((1, 2)) / valid * data.unit
    return tuple(_line(evaluation, j, data, float(mean[j])) for j in range(len(data.lines)))


def _line(evaluation: Evaluation, j: int, data: RunCounts, mean: float) -> LineEvidence:
    selection, checks = evaluation.selection, evaluation.checks[j]
    choice, scores = selection.choices[j], selection.scores
    gain, low, high = _dwell_gain(evaluation, j, data)
    row, col = checks.residual_worst or (None, None)
    return LineEvidence(
        line=data.lines[j],
        estimator=choice.estimator,
        verdict=choice.verdict,
        verdict_reason=choice.reason,
        dwell_gain=rounded(gain, 3),
        dwell_gain_low=rounded(low, 3),
        dwell_gain_high=rounded(high, 3),
        candidates={
            name: round(carry_over(data) * scores.interval(j, name)[0], 3)
            for name in scores.errors
            if name not in ("raw", "constant") and scores.errors["raw"][j].sum() > 0
        },
        weights={name: round(weight, 3) for name, weight in selection.estimators(j).items()},
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
        false_structure=rounded(float(evaluation.false_structure[j]), 4),
        coverage_68=rounded(checks.coverage_68, 4),
        excluded_detectors=dict(data.gains.reasons[j]),
    )


def _dwell_gain(evaluation: Evaluation, j: int, data: RunCounts) -> tuple[float | None, float | None, float | None]:
    """Return dwell gain and interval of the published map with all counts; None where they are not known."""
    choice = evaluation.selection.choices[j]
    if choice.verdict == "not_tested":
        return None, None, None
    if choice.verdict == "kept_raw":
        return 1.0, None, None
    carry = carry_over(data, constant=choice.constant)
    gain, low, high = evaluation.selection.interval(j)
    return carry * gain, carry * low, None if high is None else carry * high


def rounded(value: float | None, digits: int = 5) -> float | None:
    """Return a figure as it is written down; None for what is not finite."""
    return None if value is None or not np.isfinite(value) else round(float(value), digits)
