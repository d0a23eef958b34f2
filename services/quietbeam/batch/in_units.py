"""A denoised map in the unit that its file is to have, and whether it can have it: known before it is computed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from quietbeam.core.errors import InputError
from quietbeam.core.model.evidence import DetectorEvidence, RunEvidence

if TYPE_CHECKING:
    from quietbeam.core.settings import Settings
    from quietbeam.denoiser.offline import DenoiseResult
    from quietbeam.files import MapFile
    from quietbeam.quantify import Calibration, LineDensity


def calibration_for(units: str, areal_calibration: str, site: Settings) -> Calibration | None:
    """Return the calibration that the unit takes; None where it takes none.

    Raises
    ------
    InputError
        None is named, or it cannot be read.
    """
    if units != "ug/cm2":
        return None
    from quietbeam.quantify import read_calibration

    wanted = areal_calibration or site.quantify.calibration
    if not wanted:
        raise InputError(
            "areal densities need a calibration", remedy="name it: --areal-calibration, or quantify.calibration"
        )
    return read_calibration(wanted, site.calibrations_dir)


def check_unit(file: MapFile, units: str, calibration: Calibration | None) -> None:
    """Raise InputError where a map that was read cannot have the unit: no I0, other detectors, no line of it."""
    if units == "counts":
        return
    from quietbeam.denoiser.map_input import check_map
    from quietbeam.quantify.exposure import exposure_of

    data = check_map(file.counts, file.lines, file.detectors, file.i0, file.live_time_s, file.measured, None)
    exposure = exposure_of(data.measured, data.i0, data.live_time_s, len(data.detectors))
    shares = dict.fromkeys(data.lines, 1.0 / len(data.detectors))
    detectors = tuple(
        DetectorEvidence(detector=name, gains=shares, live_time_s=live)
        for name, live in zip(data.detectors, exposure.live_time_s, strict=True)
    )
    seen = RunEvidence(rows=0, lines=(), kind=data.kind, i0=exposure.i0, detectors=detectors)
    _conversion(data.lines, seen, file, units, calibration)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Conversion:
    """How each line becomes the unit; sentences for people; the energy of the beam where it matters."""

    lines: tuple[LineDensity, ...]
    notes: tuple[str, ...] = ()
    energy_kev: float | None = None


def _conversion(
    lines: Sequence[str], evidence: RunEvidence, file: MapFile, units: str, calibration: Calibration | None
) -> _Conversion:
    from quietbeam.quantify import densities_of, per_second

    dwell = file.metadata.get("dwell_s")
    if calibration is None:
        if evidence.kind != "counts":
            raise InputError("fitted areas may be per second already: --units counts/s is for counts")
        how = _Conversion(lines=per_second(lines, evidence, dwell))
    else:
        found = densities_of(calibration, lines, evidence, dwell_s=dwell, metadata=file.metadata.get("start"))
        how = _Conversion(lines=found.lines, notes=found.notes, energy_kev=found.run_energy_kev or found.energy_kev)
    if all(by.factor is None for by in how.lines):
        raise InputError(f"no line has {units}: {how.lines[0].reason}")
    return how


def in_units(
    result: DenoiseResult, file: MapFile, units: str, calibration: Calibration | None
) -> tuple[DenoiseResult, dict[str, Any], list[str]]:
    """Return the result in the wanted unit, what is kept of the conversion, and sentences for people.

    Lines that have no such unit are NaN.

    Raises
    ------
    InputError
        The unit is not to be had; the message says why.
    """
    if units == "counts":
        return result, {}, []
    from quietbeam.quantify import convert

    how = _conversion(result.lines, result.evidence, file, units, calibration)
    lines, inside = how.lines, result.measured
    raw, denoised = (
        np.stack([np.where(inside, convert(stack[j], by), 0) for j, by in enumerate(lines)])
        for stack in (result.raw, result.denoised)
    )
    error = np.stack(
        [
            np.where(inside, convert(result.uncertainty[j], by, error_of=result.denoised[j]), 0)
            for j, by in enumerate(lines)
        ]
    )
    notes = [*how.notes, *(f"{by.line} has no {units}: {by.reason}" for by in lines if by.factor is None)]
    if how.energy_kev is not None:
        notes = [*_warnings(result, denoised, lines, how.energy_kev), *notes]
    about = {} if calibration is None else {"calibration": calibration.to_dict()}
    shown = replace(result, raw=raw, denoised=denoised, uncertainty=error)
    return shown, {"units": units, "notes": notes, **about}, notes


def _warnings(
    result: DenoiseResult, densities: np.ndarray, lines: Sequence[LineDensity], energy_kev: float
) -> list[str]:
    """Return warnings of areal densities that cannot be right."""
    from quietbeam.quantify.checks import absorption_notes, negative_notes

    of_lines = {by.line: densities[j] for j, by in enumerate(lines) if by.factor is not None}
    counted = np.where(result.measured, result.raw, np.float32(np.nan))
    return [
        *negative_notes(counted, result.evidence.kind, lines),
        *absorption_notes(of_lines, energy_kev, lines),
    ]
