"""Energy calibration and lines of runs that bring spectra."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from quietbeam.core.errors import InputError, ProfileError
from quietbeam.core.model.types import Float64Array, NumericArray
from quietbeam.spectra import line_energy, overlaps, scatter_begins
from quietbeam.spectra.fit import LinearFit

from ..documents.model import Descriptor
from .resolve import ResolvedProfile
from .source import MISSING


@dataclass(slots=True)
class SpectrumSums:
    """The sum spectra (detector, channel) of all frames so far; None before the first."""

    counts: Float64Array | None = None
    checked: bool = False

    def add(self, spectra: NumericArray) -> None:
        """Add (frame, detector, channel)."""
        total = spectra.sum(axis=0, dtype=np.float64)
        if self.counts is None or self.counts.shape != total.shape:
            self.counts = np.zeros(total.shape)
        self.counts += total


@dataclass(frozen=True, slots=True, kw_only=True)
class Spectra:
    """How lines are cut out of spectra.

    Attributes
    ----------
    calibration
        (detector, 2) keV of channel 0, keV per channel.
    below_kev
        Energy at which the scattered beam begins; infinity where the beam's energy is not known.
    windows, fits
        (first, stop) channel by detector and line, and the fit, by number of channels; filled at the first spectrum.
    """

    calibration: Float64Array
    sums: SpectrumSums
    method: Literal["windows", "fit"] = "windows"
    below_kev: float = np.inf
    windows: dict[int, list[list[tuple[int, int]]]] = field(default_factory=dict)
    fits: dict[int, LinearFit] = field(default_factory=dict)


def spectra_of(resolved: ResolvedProfile, detectors: int, descriptor: Descriptor, beam_kev: float) -> Spectra:
    """Return calibration and method for a run with this many detectors.

    Raises
    ------
    ProfileError
        The calibration is missing, has another number of detectors, or is not a plausible one.
    """
    section, setting = resolved.profile.counts.spectra, resolved.calibration
    assert section is not None and setting is not None
    value = setting.with_configuration(descriptor.configuration)
    try:
        pairs = np.broadcast_to(np.atleast_2d(np.asarray(value, dtype=np.float64)), (detectors, 2))
    except (ValueError, TypeError) as error:
        raise ProfileError(
            f"profile {resolved.name!r}: counts.spectra.calibration wants [keV of channel 0, keV per channel], one "
            f"pair or one for each of {detectors} detectors, in {setting.origin}; there is "
            f"{'nothing' if value is MISSING else str(value)[:80]}"
        ) from error
    if not np.isfinite(pairs).all() or (pairs[:, 1] <= 0).any() or (pairs[:, 1] > 1).any():
        raise ProfileError(
            f"profile {resolved.name!r}: counts.spectra.calibration says {pairs[:, 1].max():g} keV per channel; "
            "it must be above 0 and at most 1 (0.01 means 10 eV per channel)"
        )
    return Spectra(
        calibration=np.array(pairs), sums=SpectrumSums(), method=section.method, below_kev=scatter_begins(beam_kev)
    )


def excited_lines(
    resolved: ResolvedProfile, lines: tuple[str, ...], beam_kev: float
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the lines that the beam can excite, and notes on the others and on overlapping windows.

    Raises
    ------
    ProfileError
        A name is not an emission line, or no line is left.
    """
    section = resolved.profile.counts.spectra
    assert section is not None
    try:
        energies = {line: line_energy(line) for line in lines}
    except InputError as error:
        raise ProfileError(f"profile {resolved.name!r}: counts.spectra.lines: {error}") from error
    notes = [
        f"{line} ({energies[line]:.2f} keV) lies above the incident energy of {beam_kev:g} keV and is left out"
        for line in lines
        if energies[line] >= beam_kev
    ]
    excited = tuple(line for line in lines if energies[line] < beam_kev)
    if not excited:
        raise ProfileError(f"profile {resolved.name!r}: {'; '.join(notes)}; no line is left")
    if section.method == "windows":
        notes += [f"the window of {line} holds peak of {other}" for line, other in overlaps(excited)]
    return excited, tuple(notes)


def beam_energy_kev(resolved: ResolvedProfile, descriptor: Descriptor) -> float:
    """Return the energy of the incident beam in keV; infinity where it is not known."""
    energy: Any = MISSING
    if resolved.incident_energy_kev is not None:
        energy = resolved.incident_energy_kev.with_configuration(descriptor.configuration)
    is_number = isinstance(energy, int | float) and not isinstance(energy, bool)
    return float(energy) if is_number and energy > 0 else np.inf
