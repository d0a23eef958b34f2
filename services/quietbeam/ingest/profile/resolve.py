"""A beamline profile is resolved once, when the start document of a run arrives."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from quietbeam.core.errors import ProfileError

from ..documents.model import Start
from .geometry import Geometry, geometry_of
from .motors import motor_names
from .schema import BeamlineProfile
from .source import Setting


@dataclass(frozen=True, slots=True, kw_only=True)
class ResolvedProfile:
    """A beamline profile with the values of one start document.

    Attributes
    ----------
    profile
        The entries that are the same for every run: data keys and patterns.
    geometry
        Shape and scan order of the map.
    motors
        Names of the slow and the fast motor; () where the plan does not announce them, ``("", name)`` for one motor.
    detectors, lines
        Names along the axes of the counts; None where the data keys (or the shape of the array) give them.
    calibration, incident_energy_kev
        Of the spectra; None where the profile has no such entry.
    """

    profile: BeamlineProfile
    geometry: Geometry
    motors: tuple[str, str] | tuple[()] = ()
    detectors: Setting | None = None
    lines: Setting | None = None
    calibration: Setting | None = None
    incident_energy_kev: Setting | None = None

    @property
    def name(self) -> str:
        """Name of the beamline profile."""
        return self.profile.name

    @property
    def split_streams(self) -> bool:
        """True when every key of the counts comes in a stream of its own."""
        return self.profile.counts.index is not None

    def reads(self, stream: str) -> bool:
        """Return whether the counts are in a stream of this name."""
        return self.profile.reads(stream)


def resolve(profile: BeamlineProfile, start: Start) -> ResolvedProfile:
    """Return a beamline profile with the values of a start document.

    Raises
    ------
    ProfileError
        The profile is for other runs, or finds no usable shape; the message says why.
    """
    mismatch = profile.mismatch(start.doc)
    if mismatch:
        raise ProfileError(f"profile {profile.name!r} is for other runs ({mismatch})")
    array, spectra = profile.counts.dataset, profile.counts.spectra
    sources = {
        "detectors": array.detectors if array is not None else None,
        "lines": array.lines if array is not None else None,
        "calibration": None,
        "incident_energy_kev": None,
    }
    if spectra is not None:
        sources |= {
            "lines": spectra.lines,
            "calibration": spectra.calibration,
            "incident_energy_kev": spectra.incident_energy_kev,
        }
    settings = {name: source.resolve(start.doc) for name, source in sources.items() if source is not None}
    geometry = geometry_of(profile, start.doc)
    motors = ("", str(start.doc["motors"][0])) if geometry.one_axis else motor_names(start.doc, geometry.maps)
    return ResolvedProfile(profile=profile, geometry=geometry, motors=motors, **settings)


def choose(profiles: Sequence[BeamlineProfile], start: Start) -> list[ResolvedProfile]:
    """Return the profiles that fit a start document, resolved, in their order.

    Raises
    ------
    ProfileError
        None fits; the message says why for each, and what to do.
    """
    fitting: list[ResolvedProfile] = []
    reasons: list[str] = []
    for profile in profiles:
        try:
            fitting.append(resolve(profile, start))
        except ProfileError as error:
            reasons.append(str(error))
    if not fitting:
        raise ProfileError(
            f"run {start.run} matches no beamline profile: {' | '.join(reasons) or 'no profile is configured'}"
        )
    return fitting
