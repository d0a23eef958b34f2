"""Answers about the units in which maps can be shown."""

from __future__ import annotations

from pydantic import BaseModel, Field

from .envelope import Answer


class UnitLine(BaseModel):
    """How the counts of a line become the unit: ``(counts - background) * factor``."""

    line: str
    factor: float | None = Field(description="Null where the line has no such unit; `reason` says why.")
    background: float = Field(description="Counts of the published maps that are not of the line.")
    relative_error: float = Field(description="One standard error of the factor, shared by all pixels.")
    computed: bool = Field(description="By cross-sections: the standard does not have this line.")
    reason: str
    limit_raw: float | None = Field(description="Detection limit of one pixel of the raw map, in the unit.")
    limit_denoised: float | None = Field(description="The same of the denoised map.")


class UnitInfo(BaseModel):
    """A unit, and how to come to it."""

    units: str
    available: bool
    reason: str = Field(description="Why it is not available.")
    calibration: str
    standard: str
    energy_kev: float | None = Field(description="Of the beam when the standard was measured.")
    run_energy_kev: float | None = Field(description="Of the beam of this run, where its start document says it.")
    lines: list[UnitLine]
    notes: list[str] = Field(description="Warnings for people.")


class UnitsMeta(BaseModel):
    """Which maps the figures are about."""

    maps_version: int


class UnitsAnswer(Answer[list[UnitInfo], UnitsMeta]):
    """The units of a run's maps."""
