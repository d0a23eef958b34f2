"""From the map of a thin-film standard to a calibration."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

import numpy as np

from quietbeam.core.errors import InputError
from quietbeam.core.model.types import Float64Array
from quietbeam.spectra import line_energy, parse_line

from .calibration import Calibration, LineCalibration, check, check_energy
from .cross_sections import DetectorPath, relative_yield
from .exposure import Normalised, exposure_of
from .standard_map import StandardCounts
from .standards import Standard

SIGNIFICANT = 5.0
"""Least significance of a line of the standard, in standard errors."""
_SOFTEST_KEV = 1.0
_FAMILIES = ("Ka", "La", "Ma")


@dataclass(frozen=True, slots=True, kw_only=True)
class Conditions:
    """How a standard was measured.

    Attributes
    ----------
    energy_kev
        Of the beam.
    standard_error
        Relative standard error of the standard's densities.
    distance_mm
        From sample to detector, or None.
    """

    energy_kev: float
    normalised: Normalised = "i0"
    standard_error: float = 0.0
    distance_mm: float | None = None
    i0_name: str = ""
    path: DetectorPath = field(default_factory=DetectorPath)


def lines_of_standard(standard: Standard, energy_kev: float, path: DetectorPath) -> tuple[str, ...]:
    """Return the lines of a standard's elements that the beam excites and a detector can see, one a family."""
    found = []
    for element in standard.densities:
        for family in _FAMILIES:
            line = f"{element}_{family}"
            try:
                parse_line(line)
                relative_yield(line, energy_kev, "counts", path)
            except InputError:
                continue
            if line_energy(line) >= _SOFTEST_KEV:
                found.append(line)
    return tuple(found)


def calibrate(
    found: StandardCounts, standard: Standard, conditions: Conditions, *, name: str, source: str
) -> Calibration:
    """Return the calibration of a standard's map.

    Parameters
    ----------
    name
        Under which the calibration is kept.
    source
        File or run of the standard.

    Raises
    ------
    InputError
        No beam, no time, no line of the standard, or figures that are not finite; the message says which.
    """
    check_energy(conditions.energy_kev)
    doses = _doses(found, conditions.normalised)
    lines, notes = [], list(found.notes)
    for j, line in enumerate(found.lines):
        density = standard.densities.get(line.partition("_")[0])
        one = _of_line(found, j, density, doses, conditions.standard_error)
        if density is not None and one is None:
            notes.append(f"{line} of the standard is not seen: {density:g} ug/cm2 give no peak")
        elif one is not None:
            lines.append(one)
    if not any(one.density is not None for one in lines):
        raise InputError(
            f"none of the standard's elements ({', '.join(standard.densities)}) shows a line in {source}, "
            f"which has {', '.join(found.lines) or 'none'}: is it this standard, and is its energy calibration right?"
        )
    dead = [name for d, name in enumerate(found.detectors) if not any(one.sensitivity[d] for one in lines)]
    notes += [f"{name} sees nothing of the standard" for name in dead]
    if not found.background_known and found.kind == "counts":
        notes.append(
            "windows hold background, which nobody measured: areal densities of weak lines come out too high. "
            "Calibrate with spectra, a fit (--fit), or a blank film (--blank)"
        )
    exposure = exposure_of(found.inside, found.i0, found.live_time_s, len(found.detectors), found.dwell_s)
    calibration = Calibration(
        name=name,
        standard=standard.name,
        serial=standard.serial,
        description=standard.description,
        energy_kev=conditions.energy_kev,
        detectors=found.detectors,
        normalised=conditions.normalised,
        kind=found.kind,
        lines=tuple(lines),
        i0=exposure.i0,
        i0_name=conditions.i0_name,
        distance_mm=conditions.distance_mm,
        path=conditions.path,
        background_known=found.background_known or found.kind == "areas",
        source=source,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        notes=tuple(notes),
    )
    made = _with_extra_lines(calibration)
    check(made)
    return made


def with_blank(found: StandardCounts, blank: StandardCounts, normalised: Normalised) -> StandardCounts:
    """Return the standard's counts with the background that a blank film shows in the same windows.

    Raises
    ------
    InputError
        The blank has other lines or detectors.
    """
    if blank.detectors != found.detectors or not set(found.lines) <= set(blank.lines) or blank.kind != found.kind:
        raise InputError(
            f"the blank has {', '.join(blank.lines)} of {', '.join(blank.detectors)}, the standard "
            f"{', '.join(found.lines)} of {', '.join(found.detectors)}: measure and read both alike"
        )
    at = [blank.lines.index(line) for line in found.lines]
    own, other = _doses(found, normalised), _doses(blank, normalised)
    rate = _totals(blank, other)[:, at] / np.maximum(other.sum((1, 2)), 1e-300)[:, None]
    total = _totals(found, own)
    share = np.divide(rate * own.sum((1, 2))[:, None], total, out=np.zeros_like(total), where=total > 0)
    return replace(found, background=np.clip(share, 0.0, 1.0), background_known=True)


def _totals(found: StandardCounts, doses: Float64Array) -> Float64Array:
    """Return the counts of every detector and line, (detector, line)."""
    return np.asarray(np.where((doses > 0)[:, None], np.nan_to_num(found.counts), 0.0).sum((2, 3)), float)


def _doses(found: StandardCounts, normalised: Normalised) -> Float64Array:
    """Return the dose of every detector and pixel, (detector, row, col), 0 outside."""
    n_det = len(found.detectors)
    exposure = exposure_of(found.inside, found.i0, found.live_time_s, n_det, found.dwell_s)
    if normalised != "time" and found.i0 is not None and exposure.i0 is None:
        raise InputError("I0 of the standard is nowhere positive: no beam, or another scaler (--i0 NAME)")
    if normalised != "time" and exposure.i0 is None:
        raise InputError("the standard's file has no I0", remedy="name it (--i0 NAME), or take --normalise time")
    doses = np.ones((n_det, *found.inside.shape)) * exposure.doses(normalised)[:, None, None]
    if normalised != "time" and found.i0 is not None and exposure.i0 is not None:
        doses = doses * np.nan_to_num(found.i0) / exposure.i0
    for d, live in enumerate(exposure.live_time_s):
        if live is not None and found.live_time_s is not None:
            doses[d] *= np.nan_to_num(found.live_time_s[d]) / live
    return np.where(found.inside & (doses > 0), doses, 0.0)


def _of_line(
    found: StandardCounts, j: int, density: float | None, doses: Float64Array, standard_error: float
) -> LineCalibration | None:
    """Return the sensitivity for line `j` (0 where its density is not known); None where nothing is seen."""
    used = doses > 0
    counts = np.where(used, np.nan_to_num(found.counts[:, j]), 0.0)
    dose = doses.sum((1, 2))
    total = counts.sum((1, 2))
    background = total * found.background[:, j]
    net = np.maximum(total - background, 0.0)
    rate = np.divide(background, dose, out=np.zeros_like(dose), where=dose > 0)
    if density is None:
        return LineCalibration(
            line=found.lines[j], sensitivity=(0.0,) * len(dose), background=tuple(rate.tolist()), relative_error=0.0
        )
    both, signal = counts.sum(0), float(net.sum())
    inside = doses.sum(0) > 0
    ratio = both[inside] / doses.sum(0)[inside] * float(doses.sum(0)[inside].mean())
    uneven = float(ratio.std(ddof=1) * np.sqrt(ratio.size)) if ratio.size > 1 else 0.0
    poisson = float(np.sqrt(total.sum() + background.sum())) if found.kind == "counts" else 0.0
    error = max(uneven, poisson)
    if signal <= SIGNIFICANT * error or signal <= 0:
        return None
    sensitivity = np.divide(net, dose * density, out=np.zeros_like(dose), where=dose > 0)
    return LineCalibration(
        line=found.lines[j],
        sensitivity=tuple(sensitivity.tolist()),
        background=tuple(rate.tolist()),
        relative_error=float(np.hypot(error / signal, standard_error)),
        density=density,
    )


def _with_extra_lines(calibration: Calibration) -> Calibration:
    """Compute the sensitivity of lines that the standard does not have; their background was measured."""
    of_standard = replace(calibration, lines=tuple(one for one in calibration.lines if one.density is not None))
    lines, notes = [], list(calibration.notes)
    for one in calibration.lines:
        if one.density is not None:
            lines.append(one)
            continue
        try:
            computed, _ = of_standard.line(one.line)
        except InputError as error:
            notes.append(str(error))
            continue
        lines.append(replace(computed, background=one.background))
    return replace(calibration, lines=tuple(lines), notes=tuple(notes))
