"""Beamline profiles (YAML): which runs, which data keys have the counts of which detector and line, which geometry."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError, field_validator, model_validator

from quietbeam.core.errors import InputError, ProfileError
from quietbeam.core.mistakes import explain
from quietbeam.core.model.evidence import CountKind
from quietbeam.core.sections import expanded
from quietbeam.core.settings import configs_dir
from quietbeam.core.yaml_file import read_yaml

from .sections import CountsSection, GeometrySection, I0Section, LiveTimeSection, check_groups
from .source import MISSING, Section, lookup


class BeamlineProfile(Section):
    """How the documents of one beamline are read."""

    name: str
    description: str = ""
    match: Mapping[str, Any] = Field(default_factory=dict)
    stream: str = Field(default="primary", description="Name of the stream with the counts, or a pattern for names.")
    kind: CountKind = "counts"
    counts: CountsSection
    i0: I0Section | None = None
    live_time_s: LiveTimeSection | None = None
    geometry: GeometrySection
    detector_positions: Mapping[str, tuple[float, float]] = Field(
        default_factory=dict,
        description="[x, y] of each detector seen from the sample, y upwards, any unit. For the dashboard.",
    )

    @model_validator(mode="after")
    def _kind_of_fit(self) -> BeamlineProfile:
        if self.counts.spectra is not None and (self.counts.spectra.method == "fit") != (self.kind == "areas"):
            raise ValueError("kind: areas and counts.spectra.method: fit go together, counts and windows too")
        return self

    @field_validator("stream")
    @classmethod
    def _stream(cls, pattern: str) -> str:
        check_groups((pattern,), ())
        return pattern

    def mismatch(self, start: Mapping[str, Any]) -> str:
        """Return why this profile is not for a run with this start document; '' when it is."""
        for path, wanted in self.match.items():
            found = lookup(start, path)
            if found is MISSING:
                return f"start[{path!r}] is missing, wanted {wanted!r}"
            if found != wanted:
                return f"start[{path!r}] is {str(found)[:60]!r}, wanted {wanted!r}"
        return ""

    def reads(self, stream: str) -> bool:
        """Return whether counts are in a stream of this name."""
        return re.fullmatch(self.stream, stream) is not None

    def line_name(self, matched: str) -> str:
        """Return the name of a line for what the pattern's group `line` matched (``Fe``, ``Pt_L``, ``01``)."""
        return self.counts.line_names.get(matched) or spell_line(matched)


_ELEMENT = re.compile(r"^([A-Z][a-z]?)(?:_?([KLM])([a-z]\d?)?)?$")


def spell_line(text: str) -> str:
    """Return the standard spelling: ``Fe``, ``Fe_ka`` give ``Fe_Ka``; ``Pt_L`` ``Pt_La``; ``01`` ``roi01``."""
    if text.isdigit():
        return f"roi{text}"
    normal = re.sub(r"_([klm])", lambda m: "_" + m[1].upper(), text)
    found = _ELEMENT.match(normal)
    return f"{found[1]}_{found[2] or 'K'}{found[3] or 'a'}" if found else text


def shipped_profiles() -> list[str]:
    """Return the names of all shipped profiles; the one that matches every run is last."""
    names = sorted(path.stem for path in (configs_dir() / "beamlines").glob("*.yaml"))
    return sorted(names, key=lambda name: name == "generic")


def load_profile(name_or_path: str | Path) -> BeamlineProfile:
    """Read a beamline profile: a name in ``configs/beamlines`` or the path of a YAML file.

    Raises
    ------
    ProfileError
        Missing, not YAML, or an entry that is wrong; the message names it.
    """
    path = expanded(Path(name_or_path))
    if not path.is_file():
        path = configs_dir() / "beamlines" / f"{name_or_path}.yaml"
    if not path.is_file():
        shipped = ", ".join(shipped_profiles())
        raise ProfileError(f"no beamline profile {str(name_or_path)!r}: give a YAML file or one of {shipped}")
    try:
        data = read_yaml(path)
    except InputError as error:
        raise ProfileError(f"profile {error.message}", remedy=error.remedy) from error
    if not isinstance(data, dict):
        raise ProfileError(f"profile {path} must be a mapping; see docs/how-to/beamline-profile.md")
    try:
        return BeamlineProfile(**{str(key): value for key, value in data.items()})
    except ValidationError as error:
        raise ProfileError(f"profile {path}: {explain(error, BeamlineProfile)}") from error
