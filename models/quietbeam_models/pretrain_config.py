"""How weights are pretrained: network, specimens, time and the course of the learning rate."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from quietbeam_models.network import NetworkConfig
from quietbeam_models.patches import PatchConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class PretrainConfig:
    """How the weights are made.

    Attributes
    ----------
    budget_s
        Training time; the learning rate follows elapsed time over budget, so it always reaches its end.
    floor
        Loss added before weighting: lines are weighted by ``1 / (floor + their present error)``, so that every dose and
        difficulty counts by its relative improvement (the geometric mean of dwell gains), not by its size.
    error_weight
        Weight of the error head's loss.
    teacher
        Name of weights whose maps are mixed into the targets; empty for none.
    teacher_share
        Share of the teacher's rate in the target, where there is a teacher; the rest is the truth.
    redraw
        Share of the steps that draw a new batch, where there is a teacher; the others learn from an earlier one.
    """

    network: NetworkConfig = field(default_factory=NetworkConfig)
    patches: PatchConfig = field(default_factory=PatchConfig)
    budget_s: float = 5_000.0
    lr: float = 1e-3
    muon_lr: float = 0.006
    weight_decay: float = 0.3
    average: float = 0.998
    floor: float = 5e-4
    error_weight: float = 0.05
    teacher: str = ""
    teacher_share: float = 0.75
    redraw: float = 0.25
    seed: int = 0


def learning_progress(progress: float, warmup: float = 0.01) -> float:
    """Return the learning-rate factor: short warm-up, constant, then cosine down to nearly 0."""
    if progress < warmup:
        return max(progress / warmup, 0.02)
    start = 0.1
    if progress < start:
        return 1.0
    return 0.005 + 0.995 * 0.5 * (1 + math.cos(math.pi * min((progress - start) / (1 - start), 1.0)))
