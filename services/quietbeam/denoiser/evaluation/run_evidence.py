"""The evidence of a whole run, from an evaluation and what was learned."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from quietbeam.core.model.evidence import DetectorEvidence, RunEvidence
from quietbeam_models.weights import Pretrained

from ..data.counts import RunCounts
from ..data.exposure import reference
from .evaluate import Evaluation
from .line_evidence import line_evidence, rounded


@dataclass(frozen=True, slots=True)
class TrainingRecord:
    """Fine-tuning so far: steps, seconds, and the running mean of the loss."""

    steps: int = 0
    seconds: float = 0.0
    loss: float | None = None


def run_evidence(
    data: RunCounts,
    evaluation: Evaluation,
    weights: Pretrained,
    training: TrainingRecord,
    *,
    rows: int,
    final: bool,
    notes: Sequence[str] = (),
) -> RunEvidence:
    """Return the evidence; ``rows`` are those evaluated, ``notes`` are added to those of the evaluation."""
    return RunEvidence(
        rows=rows,
        lines=line_evidence(evaluation, data),
        detectors=_detectors(data),
        kind=data.kind,
        model=weights.name,
        model_sha256=weights.sha256,
        fine_tune_steps=training.steps,
        fine_tune_s=round(training.seconds, 2),
        loss=rounded(training.loss),
        final=final,
        i0=reference(data.i0, data.measured),
        jitter_pixels=rounded(evaluation.jitter[0]),
        jitter_rows=rounded(evaluation.jitter[1]),
        notes=(*evaluation.notes, *notes),
    )


def _detectors(data: RunCounts) -> tuple[DetectorEvidence, ...]:
    gains = data.gains
    totals = data.counts.sum((2, 3), dtype=np.float64) @ data.unit
    return tuple(
        DetectorEvidence(
            detector=name,
            gains={
                line: round(float(gains.values[k, j]), 5) for j, line in enumerate(data.lines) if gains.included[k, j]
            },
            total_counts=float(totals[k]),
            drift=round(float(np.nan_to_num(gains.drift[k])), 5),
            live_time_s=None if data.live_time_s is None else reference(data.live_time_s[k], data.measured),
        )
        for k, name in enumerate(data.detectors)
    )
