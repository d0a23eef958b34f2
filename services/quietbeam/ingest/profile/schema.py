"""Beamline profiles: which runs, which keys hold counts of which (detector, line), which geometry. YAML, no code."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt
import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from quietbeam.core.errors import ProfileError
from quietbeam.core.model.evidence import Kind
from quietbeam.core.settings import configs_dir

MISSING: Final = object()
"""What :func:`lookup` returns where nothing is; None is a value."""

Axis = Literal["frame", "row", "col", "detector", "line", "channel"]


def lookup(data: Mapping[str, Any], path: str) -> Any:
    """Return the entry at a dotted path (``scan.shape``, ``scan.scan_input.3``), or :data:`MISSING`."""
    value: Any = data
    for part in path.split("."):
        if isinstance(value, list | tuple | np.ndarray) and part.isdigit() and int(part) < len(value):
            value = value[int(part)]
        elif isinstance(value, Mapping) and part in value:
            value = value[part]
        else:
            return MISSING
    return value


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Source(_Section):
    """A value given here (``literal``), in the start document (``start``) or in a descriptor's configuration.

    A literal list may hold such sources itself: ``[[{start: scan.scan_input.3}, 0.0], [0, 1]]``.
    """

    literal: Any = None
    start: str | None = None
    configuration: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _plain_value(cls, data: Any) -> Any:
        return data if isinstance(data, dict) else {"literal": data}

    @model_validator(mode="after")
    def _one(self) -> Source:
        if sum(v is not None for v in (self.literal, self.start, self.configuration)) != 1:
            raise ValueError("give a value, {start: dotted.path} or {configuration: key}")
        return self

    def value(self, start: Mapping[str, Any], configuration: Mapping[str, Any] | None = None) -> Any:
        """Return the value, or :data:`MISSING`."""
        if self.start is not None:
            return lookup(start, self.start)
        if self.configuration is not None:
            return (configuration or {}).get(self.configuration, MISSING)
        return _resolved(self.literal, start, configuration)

    def describe(self) -> str:
        """Return where the value comes from, for messages."""
        if self.start is not None:
            return f"start[{self.start!r}]"
        return f"configuration {self.configuration!r}" if self.configuration is not None else "the profile's value"


def _resolved(value: Any, start: Mapping[str, Any], configuration: Mapping[str, Any] | None) -> Any:
    """Return a literal with the sources inside it replaced; MISSING when one of them is."""
    if isinstance(value, dict) and set(value) <= {"start", "configuration"} and len(value) == 1:
        return Source(**value).value(start, configuration)
    if isinstance(value, list | tuple):
        values = [_resolved(one, start, configuration) for one in value]
        return MISSING if any(one is MISSING for one in values) else values
    return value


class Dataset(_Section):
    """One array with several detectors (or pixels): in an Event, behind a datum, or announced by stream documents.

    With the axis ``channel`` instead of ``line`` it holds spectra.
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


def _check_groups(patterns: tuple[str, ...], groups: Iterable[str]) -> None:
    for pattern in patterns:
        try:
            compiled = re.compile(pattern)
        except re.error as error:
            raise ValueError(f"{pattern!r} is not a regular expression: {error}") from error
        missing = [g for g in groups if g not in compiled.groupindex]
        if missing:
            raise ValueError(f"{pattern!r} lacks the named group(s) {', '.join(missing)}, e.g. (?P<{missing[0]}>...)")


class SpectraSection(_Section):
    """How spectra become counts of lines: windows, or a fit, in each detector's own energy calibration."""

    lines: Source = Field(description="Wanted lines, e.g. [P_Ka, Fe_Ka]; for a fit all that the sample has.")
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


class IndexSection(_Section):
    """Keys that say where a value belongs, when every key has a stream of its own (time series that are monitored)."""

    row: str = "reset_count"
    col: str = "index_count"


class CountsSection(_Section):
    """Where counts are."""

    keys: tuple[str, ...] = Field(
        default=(), description="Patterns of data keys, named groups detector and line (spectra: detector only)."
    )
    line_names: Mapping[str, str] = Field(
        default_factory=dict, description="Names of lines for what the group `line` matched, e.g. {'01': Fe_Ka}."
    )
    dataset: Dataset | None = None
    spectra: SpectraSection | None = None
    index: IndexSection | None = None

    _to_tuple = field_validator("keys", mode="before")(_patterns)

    @model_validator(mode="after")
    def _checked(self) -> CountsSection:
        _check_groups(self.keys, ("detector",) if self.spectra is not None else ("detector", "line"))
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


class I0Section(_Section):
    """Where the incident flux is."""

    key: str | None = None
    dataset: Dataset | None = None


class LiveTimeSection(_Section):
    """Where the live time per detector is, or what gives it: dead-time percentages, output and input count rates."""

    keys: tuple[str, ...] = ()
    dataset: Dataset | None = None
    reading: Literal["time", "live_fraction", "dead_percent"] = Field(
        default="time", description="What the keys hold; fractions are of the dwell (of 1 s where that is unknown)."
    )
    over: tuple[str, ...] = Field(
        default=(), description="Patterns of keys to divide by: keys are output count rates, these the input ones."
    )
    scale: float = Field(default=1.0, gt=0, description="Factor to seconds: 1e-3 for ms, 12.5e-9 for 80 MHz ticks.")

    _to_tuple = field_validator("keys", "over", mode="before")(_patterns)

    @model_validator(mode="after")
    def _checked(self) -> LiveTimeSection:
        _check_groups((*self.keys, *self.over), ("detector",))
        if self.over and (self.reading != "live_fraction" or not self.keys):
            raise ValueError("over needs keys, and reading: live_fraction")
        return self

    def seconds(self, values: npt.NDArray[Any], dwell_s: float | None) -> npt.NDArray[Any]:
        """Return live times in seconds for what the keys hold."""
        if self.reading == "dead_percent":
            return (1 - values / 100.0) * (dwell_s or 1.0)
        return values * (self.scale if self.reading == "time" else self.scale * (dwell_s or 1.0))


class AxisPosition(_Section):
    """Where the measured position of one axis is."""

    key: str | None = None
    dataset: Dataset | None = None
    scale: float = Field(default=1.0, description="Factor to geometry.units.")

    @model_validator(mode="before")
    @classmethod
    def _plain_key(cls, data: Any) -> Any:
        return {"key": data} if isinstance(data, str) else data

    @model_validator(mode="after")
    def _one(self) -> AxisPosition:
        if (self.key is None) == (self.dataset is None):
            raise ValueError("give a data key, or {dataset: ...}")
        return self


class PositionsSection(_Section):
    """Measured positions: samples are summed in the cells of a grid (encoders, spirals, points in any order)."""

    slow: AxisPosition
    fast: AxisPosition
    step: Source | None = Field(
        default=None,
        description="Size of a cell, one number or [slow, fast]; default: what `shape` or the points give.",
    )


class GeometrySection(_Section):
    """Shape and order of the map."""

    shape: Source | None = None
    most_rows: int | None = Field(
        default=None, gt=0, description="Rows of the map where the plan does not know how many there will be."
    )
    more_rows: int = Field(default=0, ge=0, description="Rows that a plan may add to those that it announces.")
    order: Literal["slow_fast", "fast_slow"] = "slow_fast"
    snake: Source | None = None
    extents: Source | None = None
    units: str = "um"
    dwell_s: Source | None = None
    positions: PositionsSection | None = None
    repeat: Literal["replace", "add"] = Field(
        default="replace", description="What pixels do that are measured again after the last one: replace, or add."
    )

    @model_validator(mode="after")
    def _checked(self) -> GeometrySection:
        if self.shape is None and self.positions is None:
            raise ValueError("give shape, or positions with extents")
        if self.shape is None and self.extents is None:
            raise ValueError("positions without shape need extents")
        return self


class Profile(_Section):
    """One beamline's way of writing documents."""

    name: str
    description: str = ""
    match: Mapping[str, Any] = Field(default_factory=dict)
    stream: str = Field(default="primary", description="Name of the stream with the counts, or a pattern for names.")
    kind: Kind = "counts"
    counts: CountsSection
    i0: I0Section | None = None
    live_time_s: LiveTimeSection | None = None
    geometry: GeometrySection
    detector_positions: Mapping[str, tuple[float, float]] = Field(
        default_factory=dict,
        description="Where each detector sits: [x, y] seen from the sample, y upwards, any unit. For the dashboard.",
    )

    @model_validator(mode="after")
    def _kind_of_fit(self) -> Profile:
        if self.counts.spectra is not None and (self.counts.spectra.method == "fit") != (self.kind == "areas"):
            raise ValueError("kind: areas and counts.spectra.method: fit go together, counts and windows too")
        return self

    @field_validator("stream")
    @classmethod
    def _stream(cls, pattern: str) -> str:
        _check_groups((pattern,), ())
        return pattern

    def mismatch(self, start: Mapping[str, Any]) -> str:
        """Return why a start document does not belong to this profile; '' when it does."""
        for path, wanted in self.match.items():
            there = lookup(start, path)
            if there is MISSING:
                return f"start[{path!r}] is missing, wanted {wanted!r}"
            if there != wanted:
                return f"start[{path!r}] is {str(there)[:60]!r}, wanted {wanted!r}"
        return ""

    def reads(self, stream: str) -> bool:
        """Return whether counts are in a stream of this name."""
        return re.fullmatch(self.stream, stream) is not None

    def line_name(self, matched: str) -> str:
        """Return the name of a line for what the pattern's group `line` matched (``Fe``, ``Pt_L``, ``01``)."""
        return self.counts.line_names.get(matched) or spell_line(matched)


_ELEMENT = re.compile(r"^([A-Z][a-z]?)(?:_?([KLM])([a-z]\d?)?)?$")


def spell_line(text: str) -> str:
    """Spell a line as quietbeam does: ``Fe``, ``Fe_ka`` give ``Fe_Ka``; ``Pt_L`` ``Pt_La``; ``01`` ``roi01``."""
    if text.isdigit():
        return f"roi{text}"
    normal = re.sub(r"_([klm])", lambda m: "_" + m[1].upper(), text)
    found = _ELEMENT.match(normal)
    return f"{found[1]}_{found[2] or 'K'}{found[3] or 'a'}" if found else text


def shipped_profiles() -> list[str]:
    """Return the names of all shipped profiles, the one that takes every run last."""
    names = sorted(path.stem for path in (configs_dir() / "beamlines").glob("*.yaml"))
    return sorted(names, key=lambda name: name == "generic")


def load_profile(name_or_path: str | Path) -> Profile:
    """Read a profile: a name in ``configs/beamlines`` or the path of a YAML file.

    Raises
    ------
    ProfileError
        Missing, not YAML, or an entry that is wrong; the message names it.
    """
    path = Path(name_or_path)
    if not path.is_file():
        path = configs_dir() / "beamlines" / f"{name_or_path}.yaml"
    if not path.is_file():
        shipped = ", ".join(shipped_profiles())
        raise ProfileError(f"no beamline profile {str(name_or_path)!r}: give a YAML file or one of {shipped}")
    try:
        data = yaml.safe_load(path.read_text())
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ProfileError(f"profile {path} is not YAML: {error}") from error
    if not isinstance(data, dict):
        raise ProfileError(f"profile {path} must be a mapping; see docs/how-to/beamline-profile.md")
    try:
        return Profile(**data)
    except (ValidationError, TypeError) as error:
        problems = error.errors() if isinstance(error, ValidationError) else [{"loc": (), "msg": str(error)}]
        where = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'profile'}: {e['msg']}" for e in problems)
        raise ProfileError(f"profile {path}: {where}") from error
