"""Answers about the evidence: verdicts, advice, earlier states of the maps, detectors."""

from __future__ import annotations

from pydantic import BaseModel, Field

from quietbeam.buffer import MapState
from quietbeam.core.model.advice import RunAdvice
from quietbeam.core.model.evidence import RunEvidence

from .envelope import Answer, Resource


class EvidenceMeta(BaseModel):
    """Which maps the evidence is about."""

    denoise_state: str
    maps_version: int
    reason: str = Field(default="", description="Why there is no evidence.")


class EvidenceAnswer(Answer[RunEvidence | None, EvidenceMeta]):
    """Evidence of a run; null before the first evaluation."""


class AdviceAnswer(Answer[RunAdvice | None, EvidenceMeta]):
    """How long to count; null before the first evaluation."""


class HistoryMeta(BaseModel):
    """How many states there are, and the newest version of the maps."""

    count: int
    maps_version: int


class HistoryAnswer(Answer[list[Resource[MapState]], HistoryMeta]):
    """Earlier states of the maps, the oldest first."""


class DetectorLine(BaseModel):
    """What a detector gives to one line."""

    gain: float | None = Field(description="Its share of the detector sum.")
    excluded: str | None = Field(description="Why it is left out; null where it is used.")


class DetectorInfo(BaseModel):
    """One detector."""

    index: int
    position: tuple[float, float] | None = Field(description="(x, y) seen from the sample, y upwards.")
    lines: dict[str, DetectorLine]
    total_counts: float | None
    drift: float | None = Field(description="Smooth relative variation against the other detectors (1 sigma).")


class DetectorsMeta(BaseModel):
    """How many detectors there are, and which maps the figures are about."""

    count: int
    maps_version: int
    reason: str = Field(default="", description="Why there is no evidence.")


class DetectorsAnswer(Answer[list[Resource[DetectorInfo]], DetectorsMeta]):
    """All detectors of a run."""
