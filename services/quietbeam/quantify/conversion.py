"""Maps in other units: counts per second, and areal densities by a calibration."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from quietbeam.core.errors import InputError
from quietbeam.core.model.evidence import CountKind, RunEvidence

from .calibration import Calibration
from .exposure import Exposure

Unit = Literal["counts", "counts/s", "ug/cm2"]
SAME_ENERGY = 0.005
"""Relative difference up to which two beam energies are the same."""
OTHER_I0 = 3.0
"""Factor between the I0 of run and standard from which an amplifier may have been set differently."""
NOT_CORRECTED = "Self-absorption is not corrected: areal densities are those of a thin sample."


@dataclass(frozen=True, slots=True, kw_only=True)
class LineDensity:
    """How a line's maps become another unit: ``(counts - background) * factor``.

    Attributes
    ----------
    factor
        Unit per count of the published maps; None where the line cannot be converted, `reason` says why.
    background
        Counts of the published maps that are not of the line.
    relative_error
        One standard error of the factor, which all pixels share.
    computed
        By cross-sections from other lines: the standard does not have it.
    """

    line: str
    factor: float | None = None
    background: float = 0.0
    relative_error: float = 0.0
    computed: bool = False
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunDensity:
    """How the maps of a run become areal densities, and what must be known about it.

    Attributes
    ----------
    notes
        Warnings for people: another energy, another geometry, what is not corrected.
    """

    calibration: str
    standard: str
    energy_kev: float
    run_energy_kev: float | None
    lines: tuple[LineDensity, ...]
    notes: tuple[str, ...]
    units: Unit = "ug/cm2"

    def line(self, name: str) -> LineDensity:
        """Return the conversion of a line.

        Raises
        ------
        InputError
            It cannot be converted; the message says why.
        """
        found = next((one for one in self.lines if one.line == name), None)
        if found is None or found.factor is None:
            raise InputError(f"{name} has no areal density: {found.reason if found else 'there is no such line'}")
        return found

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON types."""
        return asdict(self)


def run_exposure(evidence: RunEvidence, dwell_s: float | None) -> Exposure:
    """Return the exposure to which the maps of a run are normalised."""
    return Exposure(i0=evidence.i0, live_time_s=tuple(one.live_time_s for one in evidence.detectors), dwell_s=dwell_s)


def densities_of(
    calibration: Calibration,
    lines: Sequence[str],
    evidence: RunEvidence,
    *,
    dwell_s: float | None = None,
    metadata: Mapping[str, Any] | None = None,
) -> RunDensity:
    """Return how the maps of a run become areal densities.

    Parameters
    ----------
    evidence
        Says which detectors are in the maps, their live time and I0.
    metadata
        Start document of the run: its beam energy and distance are compared with the calibration's.

    Raises
    ------
    InputError
        The calibration does not fit this run: other detectors, fits in place of windows, no I0.
    """
    _check_kind(calibration, evidence.kind)
    at = _matching_detectors(calibration, [one.detector for one in evidence.detectors])
    exposure = run_exposure(evidence, dwell_s)
    doses = exposure.doses(calibration.normalised)
    included = np.array([[line in one.gains for line in lines] for one in evidence.detectors], bool)
    gains = [[one.gains.get(line, 0.0) for line in lines] for one in evidence.detectors]
    found = tuple(
        _of_line(calibration, line, included[:, j], doses, np.array([row[j] for row in gains]), at)
        for j, line in enumerate(lines)
    )
    metadata = metadata or {}
    energy = beam_energy_kev(metadata)
    return RunDensity(
        calibration=calibration.name,
        standard=calibration.standard,
        energy_kev=calibration.energy_kev,
        run_energy_kev=energy,
        lines=found,
        notes=(*_notes(calibration, exposure, energy, metadata, found), *calibration.notes, NOT_CORRECTED),
    )


def _check_kind(calibration: Calibration, kind: CountKind) -> None:
    if calibration.kind == kind:
        return
    words = {"counts": "counts in windows", "areas": "fitted areas"}
    raise InputError(
        f"calibration {calibration.name} is of {words[calibration.kind]}, and this map holds {words[kind]}",
        remedy="calibrate with the standard measured and read in the same way",
    )


def _matching_detectors(calibration: Calibration, names: Sequence[str]) -> list[int] | None:
    """Return which detector of the calibration each of the run's is; None: the calibration knows their sum alone."""
    have = calibration.detectors
    if have == ("sum",):
        return None
    if set(names) <= set(have):
        return [have.index(name) for name in names]
    raise InputError(
        f"calibration {calibration.name} has detectors {', '.join(have)}; this run has {', '.join(names)}",
        remedy="calibrate with a run of these detectors",
    )


def _of_line(
    calibration: Calibration,
    line: str,
    included: NDArray[np.bool_],
    doses: NDArray[np.floating],
    gains: NDArray[np.floating],
    at: list[int] | None,
) -> LineDensity:
    try:
        known, computed = calibration.line(line)
    except InputError as error:
        return LineDensity(line=line, reason=error.message)
    if at is None:
        if not included.all():
            return LineDensity(
                line=line, reason="a detector is left out of its map, and the calibration knows the sum of all alone"
            )
        dose = float(gains @ doses)  # shares of the detector sum, which add up to 1
        sensitivity, background = known.sensitivity[0] * dose, known.background[0] * dose
    else:
        sensitivity = float((np.array(known.sensitivity)[at] * doses)[included].sum())
        background = float((np.array(known.background)[at] * doses)[included].sum())
    if not sensitivity > 0:
        return LineDensity(line=line, reason="the detectors in its map saw nothing of the standard")
    if not (math.isfinite(sensitivity) and math.isfinite(1.0 / sensitivity) and math.isfinite(background)):
        return LineDensity(line=line, reason="its sensitivity or the dose of the run cannot be right: not finite")
    return LineDensity(
        line=line,
        factor=1.0 / sensitivity,
        background=background,
        relative_error=known.relative_error,
        computed=computed,
    )


def _notes(
    calibration: Calibration,
    exposure: Exposure,
    energy: float | None,
    metadata: Mapping[str, Any],
    found: Sequence[LineDensity],
) -> list[str]:
    notes = []
    at = f"{calibration.energy_kev:g} keV"
    if energy is None:
        notes.append(f"The beam energy of this run is not recorded: areal densities are right at {at} alone.")
    elif abs(energy / calibration.energy_kev - 1) > SAME_ENERGY:
        notes.append(f"WRONG ENERGY: this run has {energy:g} keV, the standard was measured at {at}.")
    distance = _number(metadata, ("distance_to_sample", "detector_distance", "detector_distance_mm"))
    if distance is not None and calibration.distance_mm and abs(distance / calibration.distance_mm - 1) > 0.01:
        notes.append(
            f"WRONG GEOMETRY: the detector is at {distance:g} mm, with the standard it was at "
            f"{calibration.distance_mm:g} mm."
        )
    if exposure.i0 and calibration.i0 and not 1 / OTHER_I0 < exposure.i0 / calibration.i0 < OTHER_I0:
        notes.append(
            f"I0 is {exposure.i0 / calibration.i0:.3g} times that of the standard: is its amplifier set as it was?"
        )
    timed = [live is not None for live in exposure.live_time_s]
    if calibration.normalised == "i0" and any(timed) and not exposure.dwell_s:
        notes.append("The dwell is not known, so dead time is not corrected.")
    computed = [one.line for one in found if one.computed and one.factor]
    if computed:
        notes.append(f"{', '.join(computed)}: not in the standard, computed by cross-sections from its other lines.")
        unknown = [name for name in computed if calibration.measured_line(name) is None]
        if unknown and calibration.kind == "counts":
            notes.append(f"The background of {', '.join(unknown)} is not known, and not subtracted.")
    return notes


def per_second(lines: Sequence[str], evidence: RunEvidence, dwell_s: float | None) -> tuple[LineDensity, ...]:
    """Return how the maps of a run become counts per second of live time (of the dwell where that is not known).

    Raises
    ------
    InputError
        Neither live time nor dwell is known.
    """
    seconds = run_exposure(evidence, dwell_s).seconds()
    if seconds is None:
        raise InputError("counts/s need the live time or the dwell of the run, and neither is known")
    found = []
    for line in lines:
        shares = np.array([one.gains.get(line, 0.0) for one in evidence.detectors])
        rate = float((shares / seconds).sum())
        found.append(LineDensity(line=line, factor=rate or None, reason="" if rate else "no detector is used"))
    return tuple(found)


def convert(
    values: NDArray[np.floating], by: LineDensity, *, error_of: NDArray[np.floating] | None = None
) -> NDArray[np.float32]:
    """Return a map in another unit; NaN where the line has none.

    Parameters
    ----------
    values
        Counts, or one standard error of them where `error_of` is given.
    error_of
        The counts to which the error belongs: that of the factor is added.
    """
    if by.factor is None:
        return np.full(np.shape(values), np.nan, np.float32)
    if error_of is None:
        return np.asarray((values - by.background) * by.factor, np.float32)
    common = by.relative_error * (error_of - by.background) * by.factor
    return np.asarray(np.hypot(values * by.factor, common), np.float32)


_ENERGY_NAMES = (
    "incident_energy",
    "beam_energy",
    "photon_energy",
    "instrument_mono_incident_energy",
    "mono_energy",
    "energy",
)
_PLACES = ("scan", "beam", "beamline", "instrument", "mono")


def beam_energy_kev(metadata: Mapping[str, Any]) -> float | None:
    """Return the beam energy that a start document says, in keV; numbers above 200 are eV. None where it says none."""
    value = _number(metadata, _ENERGY_NAMES)
    return None if value is None else value / 1000 if value > 200 else value


def _number(metadata: Mapping[str, Any], names: Sequence[str]) -> float | None:
    places = [metadata, *(metadata[name] for name in _PLACES if isinstance(metadata.get(name), Mapping))]
    for name in names:
        for place in places:
            value = place.get(name)
            if isinstance(value, int | float) and not isinstance(value, bool) and np.isfinite(value) and value > 0:
                return float(value)
    return None
