"""Sections of a beamline profile: counts, incident flux, live time, geometry."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from importlib.util import find_spec
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from .source import Section, Source

Axis = Literal["frame", "row", "col", "detector", "line", "channel"]


class Dataset(Section):
    """An array with several detectors or pixels: in an Event, or in the file of a datum or stream_resource.

    An array with the axis ``channel`` instead of ``line`` has spectra.
    """

    data_key: str
    axes: tuple[Axis, ...] = Field(min_length=1)
    detectors: Source | None = None
    lines: Source | None = None

    @field_validator("axes")
    @classmethod
    def _axes(cls, axes: tuple[Axis, ...]) -> tuple[Axis, ...]:
        if axes[0] not in ("frame", "row") or len(set(axes)) != len(axes) or ("col" in axes) != (axes[0] == "row"):
            raise ValueError("axes start with 'frame', or with 'row' when there is a 'col'; each at most once")
        if {"line", "channel"} <= set(axes):
            raise ValueError("axes have 'line' (counts) or 'channel' (spectra), not both")
        return axes


def _patterns(value: Any) -> Any:
    return (value,) if isinstance(value, str) else value


def check_groups(patterns: tuple[str, ...], groups: Iterable[str]) -> None:
    """Raise ValueError for a pattern that is no regular expression, or lacks one of the named groups."""
    for pattern in patterns:
        try:
            compiled = re.compile(pattern)
        except re.error as error:
            raise ValueError(f"{pattern!r} is not a regular expression: {error}") from error
        missing = [g for g in groups if g not in compiled.groupindex]
        if missing:
            raise ValueError(f"{pattern!r} lacks the named group(s) {', '.join(missing)}, e.g. (?P<{missing[0]}>...)")


class SpectraSection(Section):
    """How spectra become counts of lines: by windows or a fit, with the energy calibration of each detector."""

    lines: Source = Field(description="Emission lines, e.g. [P_Ka, Fe_Ka]; for a fit all lines of the sample.")
    method: Literal["windows", "fit"] = Field(
        default="windows",
        description="Sum windows (counts), or fit peaks and background (areas: kind of the profile); needs PyMca.",
    )
    calibration: Source = Field(
        default=Source(literal=[0.0, 0.01]),
        description="[keV of channel 0, keV per channel]: one pair, or one per detector.",
    )
    incident_energy_kev: Source | None = Field(default=None, description="Lines above it are refused.")

    @field_validator("method")
    @classmethod
    def _installed(cls, method: str) -> str:
        if method == "fit" and find_spec("PyMca5") is None:
            raise ValueError("fitting needs PyMca: pip install 'quietbeam[fit]'")
        return method


class IndexSection(Section):
    """Keys of the row and column of a value, when every key has its own stream (monitored time series)."""

    row: str = "reset_count"
    col: str = "index_count"


class CountsSection(Section):
    """Data keys of the counts."""

    keys: tuple[str, ...] = Field(
        default=(), description="Patterns of data keys with named groups detector and line (spectra: detector only)."
    )
    line_names: Mapping[str, str] = Field(
        default_factory=dict, description="Names of lines for what the group `line` matched, e.g. {'01': Fe_Ka}."
    )
    dataset: Dataset | None = None
    spectra: SpectraSection | None = None
    index: IndexSection | None = None

    _to_tuple = field_validator("keys", mode="before")(_patterns)

    @model_validator(mode="after")
    def _is_consistent(self) -> CountsSection:
        check_groups(self.keys, ("detector",) if self.spectra is not None else ("detector", "line"))
        if not self.keys and self.dataset is None:
            raise ValueError("give keys, dataset or both")
        if self.dataset is None:
            return self
        axes = set(self.dataset.axes)
        if "detector" not in axes or not axes & {"line", "channel"}:
            raise ValueError("dataset.axes must have detector, and line or channel")
        if "channel" in axes and self.spectra is None:
            raise ValueError("dataset.axes has channel: add counts.spectra with lines and calibration")
        if "line" in axes and (self.dataset.detectors is None or self.dataset.lines is None):
            raise ValueError("dataset needs detectors and lines")
        return self


class I0Section(Section):
    """Data key of the incident flux."""

    key: str | None = None
    dataset: Dataset | None = None


class LiveTimeSection(Section):
    """Data keys of each detector's live time, or of its dead time, or of its output and input count rates."""

    keys: tuple[str, ...] = ()
    dataset: Dataset | None = None
    reading: Literal["time", "live_fraction", "dead_percent"] = Field(
        default="time", description="Unit of the values; fractions are of the dwell (of 1 s where it is unknown)."
    )
    over: tuple[str, ...] = Field(
        default=(), description="Patterns of keys to divide by: keys are output count rates, these the input ones."
    )
    scale: float = Field(default=1.0, gt=0, description="Factor to seconds: 1e-3 for ms, 12.5e-9 for 80 MHz ticks.")

    _to_tuple = field_validator("keys", "over", mode="before")(_patterns)

    @model_validator(mode="after")
    def _is_consistent(self) -> LiveTimeSection:
        check_groups((*self.keys, *self.over), ("detector",))
        if self.over and (self.reading != "live_fraction" or not self.keys):
            raise ValueError("over needs keys, and reading: live_fraction")
        return self


class AxisPosition(Section):
    """Data key of the measured position of one axis."""

    key: str | None = None
    dataset: Dataset | None = None
    scale: float = Field(default=1.0, description="Factor to geometry.units.")

    @model_validator(mode="before")
    @classmethod
    def _plain_key(cls, data: Any) -> Any:
        return {"key": data} if isinstance(data, str) else data

    @property
    def data_key(self) -> str:
        """Data key in the descriptor."""
        return self.dataset.data_key if self.dataset is not None else self.key or ""

    @model_validator(mode="after")
    def _key_or_dataset(self) -> AxisPosition:
        if (self.key is None) == (self.dataset is None):
            raise ValueError("give a data key, or {dataset: ...}")
        return self


class EncodersSection(Section):
    """Measured positions that check the announced order of the pixels, and replace it where they contradict it."""

    used: bool = Field(default=True, description="False: no encoder is looked for; the order is only assumed.")
    slow: AxisPosition | None = None
    fast: AxisPosition | None = None


class PositionsSection(Section):
    """Measured positions: samples are summed per cell of a grid (encoders, spirals, points in any order)."""

    slow: AxisPosition
    fast: AxisPosition
    step: Source | None = Field(
        default=None,
        description="Size of a cell, one number or [slow, fast]; default: from `shape`, or about one cell per point.",
    )


class DisplaySection(Section):
    """How dashboard and report show a map; the arrays stay in the order of the scan."""

    horizontal: str = Field(default="fast", description="Horizontal axis: fast, slow, or the name of its motor.")
    vertical: Literal["up", "down"] = Field(
        default="down", description="Where the positions of the vertical axis rise; horizontal ones rise to the right."
    )


class GeometrySection(Section):
    """Shape and order of the map."""

    shape: Source | None = None
    most_rows: int | None = Field(
        default=None, gt=0, description="Upper limit of the rows, for plans that do not announce their number."
    )
    more_rows: int = Field(default=0, ge=0, description="Rows that a plan may add to the announced ones.")
    order: Literal["slow_fast", "fast_slow"] = "slow_fast"
    snake: Source | None = None
    extents: Source | None = None
    units: str = "um"
    dwell_s: Source | None = None
    positions: PositionsSection | None = None
    encoders: EncodersSection | None = Field(
        default=None, description="Data keys that check the order; default: the motors' own, else keys named like them."
    )
    repeat: Literal["replace", "add"] = Field(
        default="replace",
        description="Pixels measured again after the last pixel: replace the earlier counts, or add.",
    )
    display: DisplaySection = Field(default_factory=DisplaySection)

    @model_validator(mode="after")
    def _is_consistent(self) -> GeometrySection:
        if self.shape is None and self.positions is None:
            raise ValueError("give shape, or positions with extents")
        if self.shape is None and self.extents is None:
            raise ValueError("positions without shape need extents")
        return self
