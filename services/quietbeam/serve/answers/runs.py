"""Answers about runs: state, geometry and progress."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, Field

from quietbeam.core.model.display import orientation_of
from quietbeam.core.model.evidence import RunEvidence
from quietbeam.core.model.types import PixelOrder, RunState
from quietbeam.core.wire.runs import RunStatus

from .actions import ActionInfo
from .envelope import Answer, Count, Resource

_LONGEST_S = 30 * 24 * 3600
"""A scan that began earlier has a wrong clock: no estimate of the time left."""


class Progress(BaseModel):
    """How far the measurement is; only the measured figures where the geometry is not known."""

    rows: int = 0
    rows_measured: int
    pixels: int = 0
    pixels_measured: int
    fraction: float = 0.0
    eta_s: float | None = Field(default=None, description="Seconds left at the present speed.")

    @classmethod
    def from_status(cls, status: RunStatus) -> Progress:
        """Build from the state of a run."""
        if status.info is None:
            return cls(rows_measured=status.rows_measured, pixels_measured=status.pixels_measured)
        rows, cols = status.info.shape
        pixels = rows * cols
        elapsed = (status.last_document_at or 0.0) - status.info.time_start
        eta_s = None
        if status.state is RunState.RUNNING and 0 < elapsed < _LONGEST_S and 0 < status.pixels_measured < pixels:
            eta_s = round(elapsed / status.pixels_measured * (pixels - status.pixels_measured), 1)
        return cls(
            rows=rows,
            rows_measured=status.rows_measured,
            pixels=pixels,
            pixels_measured=status.pixels_measured,
            fraction=status.pixels_measured / pixels if pixels else 0.0,
            eta_s=eta_s,
        )


class DenoiseState(BaseModel):
    """State of a run's denoised maps."""

    state: str = Field(description="`waiting`, `live`, `final`, `raw_only` or `failed`.")
    reason: str
    refined: bool = Field(description="True for final maps that were improved afterwards, while no run was live.")
    rows: int = Field(description="Rows in the maps.")
    lag_s: float | None = Field(description="Seconds from the commit of the newest row to its denoised map.")
    model: str | None = Field(description="Pretrained weights.")
    unrefined: str = Field(
        default="", description="Why final maps are not refined; empty while they may still be, or when they are."
    )


class PublishState(BaseModel):
    """State of a run in Tiled."""

    state: str = Field(description="`waiting`, `live`, `final` or `failed`.")
    reason: str
    tiled_path: str


class RunSummary(BaseModel):
    """A run in a list. Geometry is null or empty where no start document says it, and for a run that is no map."""

    uid: str
    state: RunState
    reason: str = Field(description="Why the run ended so, or what is missing.")
    ended: bool = Field(description="No more rows are expected.")
    scan_id: int | None = None
    plan: str = ""
    sample: str = ""
    profile: str = Field(default="", description="Beamline profile.")
    shape: tuple[int, int] | None = Field(default=None, description="(row, col) in pixels.")
    lines: tuple[str, ...] = ()
    detectors: tuple[str, ...] = ()
    kind: str | None = Field(default=None, description="`counts`, or `areas` of fitted spectra.")
    time_start: float | None = Field(default=None, description="Seconds since 1970.")
    time_stop: float | None = Field(description="Seconds since 1970.")
    data_age_s: float | None = Field(description="Seconds since the last document.")
    progress: Progress
    denoise: DenoiseState
    maps_version: int = Field(description="Grows with every change of the maps.")
    warnings: tuple[str, ...]
    pinned: bool = Field(description="Never deleted by age.")
    damage: str = Field(default="", description="What of its files cannot be read; `quietbeam doctor --repair`.")

    @classmethod
    def from_status(cls, status: RunStatus) -> RunSummary:
        """Build from the state of a run."""
        return cls(**_defaults(cls) | _summary(status))


_OF_INFO = (
    "step", "origin", "units", "snake", "order", "axes", "row_positions", "col_positions", "dwell_s", "source",
)  # fmt: skip


class Display(BaseModel):
    """What turns a map (row, col) into the picture: first the flips, then the transposition."""

    transpose: bool = Field(description="The row axis is horizontal.")
    flip_rows: bool = Field(description="The last row is drawn first.")
    flip_cols: bool = Field(description="The last col is drawn first.")


class RunDetail(RunSummary):
    """Everything about a run but its maps."""

    step: tuple[float, float] | None = Field(default=None, description="(row, col) of a pixel in `units`.")
    origin: tuple[float, float] | None = Field(default=None, description="(row, col) of pixel (0, 0) in `units`.")
    units: str | None = None
    snake: bool | None = Field(default=None, description="Odd rows are scanned backwards.")
    order: PixelOrder | None = Field(
        default=None,
        description="How the order of the pixels is known: announced and confirmed by the motors' readings, taken from "
        "the readings, or announced only.",
    )
    axes: tuple[str, ...] = Field(default=(), description="Names of the (row, col) motors.")
    row_positions: tuple[float, ...] | None = Field(
        default=None, description="Positions of uneven rows in `units`; null where `origin` and `step` say them."
    )
    col_positions: tuple[float, ...] | None = Field(default=None, description="The same of columns.")
    display: Display | None = Field(default=None, description="How to show the maps, which are in scan order.")
    dwell_s: float | None = Field(default=None, description="Seconds per pixel.")
    source: str = Field(default="", description="Transport that delivered the documents.")
    publish: PublishState
    evidence: RunEvidence | None
    metadata: dict[str, Any] = Field(default={}, description="The start document without bulky entries.")

    @classmethod
    def from_status(cls, status: RunStatus) -> RunDetail:
        """Build from the state of a run."""
        values = _summary(status)
        if (info := status.info) is not None:
            values |= {name: getattr(info, name) for name in _OF_INFO}
            values["metadata"] = dict(info.metadata)
            shown = orientation_of(info)
            values["display"] = Display(transpose=shown.transpose, flip_rows=shown.flip_rows, flip_cols=shown.flip_cols)
        publish = PublishState(state=status.publish_state, reason=status.publish_reason, tiled_path=status.tiled_path)
        return cls(**_defaults(cls) | values, publish=publish, evidence=status.evidence)


def _defaults(model: type[BaseModel]) -> dict[str, Any]:
    """Return the values of fields that a run without geometry does not have: they are sent, too."""
    return {name: field.default for name, field in model.model_fields.items() if not field.is_required()}


def _summary(status: RunStatus) -> dict[str, Any]:
    """Return the fields of :class:`RunSummary`."""
    age = time.time() - status.last_document_at if status.last_document_at else None
    values: dict[str, Any] = {
        "uid": status.uid,
        "state": status.state,
        "reason": status.reason,
        "ended": status.state.ended,
        "time_stop": status.time_stop,
        "data_age_s": None if age is None else round(max(0.0, age), 3),
        "progress": Progress.from_status(status),
        "denoise": DenoiseState(
            state=status.denoise_state,
            reason=status.denoise_reason,
            refined=status.evidence is not None and status.evidence.refined,
            rows=status.denoise_rows,
            lag_s=status.denoise_lag_s,
            model=status.evidence.model if status.evidence else None,
            unrefined=_unrefined(status),
        ),
        "maps_version": status.maps_version,
        "warnings": status.all_warnings,
        "pinned": status.pinned,
        "damage": status.damage,
        "scan_id": status.scan_id,
        "plan": status.plan,
        "time_start": status.time_start,
    }
    if (info := status.info) is not None:
        names = ("scan_id", "plan", "profile", "shape", "lines", "detectors", "kind", "time_start")
        values |= {name: getattr(info, name) for name in names}
        values["sample"] = _sample(info.metadata)
    return values


def _unrefined(status: RunStatus) -> str:
    """Return why final maps are not refined; empty while they may still be."""
    if status.denoise_state == "final" and status.evidence is None:
        return status.denoise_reason or "nothing of the run is measured"
    return status.denoise_unrefined


def _sample(metadata: Mapping[str, Any]) -> str:
    """Return the name of the sample, which start documents give as text or as ``{"name": ...}``."""
    sample = metadata.get("sample")
    return str((sample.get("name") if isinstance(sample, Mapping) else sample) or "")


class RunsAnswer(Answer[list[Resource[RunSummary]], Count]):
    """A page of runs."""


class RunMeta(BaseModel):
    """Whether the state is live, and what is still to be done with the run."""

    redis: bool = Field(description="Redis answers: the state is live.")
    actions: list[Resource[ActionInfo]] = Field(description="Actions that are not done yet.")


class RunAnswer(Answer[Resource[RunDetail], RunMeta]):
    """One run."""
