"""A denoised map in the unit that its file is to have."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from quietbeam.core.errors import InputError

if TYPE_CHECKING:
    from quietbeam.core.settings import Settings
    from quietbeam.denoiser.offline import DenoiseResult
    from quietbeam.files import MapFile


def in_units(
    result: DenoiseResult, file: MapFile, units: str, areal_calibration: str, site: Settings
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
    from quietbeam.quantify import convert, densities_of, per_second, read_calibration
    from quietbeam.quantify.checks import absorption_notes

    dwell = file.metadata.get("dwell_s")
    if units == "counts/s":
        if result.evidence.kind != "counts":
            raise InputError("fitted areas may be per second already: --units counts/s is for counts")
        lines, notes, about = per_second(result.lines, result.evidence, dwell), [], {}
    else:
        wanted = areal_calibration or site.quantify.calibration
        if not wanted:
            raise InputError(
                "areal densities need a calibration", remedy="name it: --areal-calibration, or quantify.calibration"
            )
        calibration = read_calibration(wanted, site.calibrations_dir)
        found = densities_of(
            calibration, result.lines, result.evidence, dwell_s=dwell, metadata=file.metadata.get("start")
        )
        lines, about = found.lines, {"calibration": calibration.to_dict()}
        notes = list(found.notes)
    if all(by.factor is None for by in lines):
        raise InputError(f"no line has {units}: {lines[0].reason}")
    notes += [f"{by.line} has no {units}: {by.reason}" for by in lines if by.factor is None]
    inside = result.measured
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
    if units == "ug/cm2":
        of_lines = {line: denoised[j] for j, line in enumerate(result.lines) if lines[j].factor is not None}
        notes = [*absorption_notes(of_lines, found.run_energy_kev or found.energy_kev, lines), *notes]
    shown = replace(result, raw=raw, denoised=denoised, uncertainty=error)
    return shown, {"units": units, "notes": notes, **about}, notes
