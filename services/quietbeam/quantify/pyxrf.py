"""PyXRF's JSON of a measured standard.

The form is that of ``_xrf_quant_fluor_schema`` in ``pyxrf/core/quant_analysis.py`` of PyXRF 1.0.31. PyXRF knows one
detector channel for each file, ``sum`` or ``det1``, and no error. Its fluorescence is the mean of the fitted map over
that of the scaler.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from quietbeam.core.errors import InputError
from quietbeam.spectra import parse_line

from .calibration import Calibration, LineCalibration, check
from .form import of_form


@dataclass(frozen=True, slots=True, kw_only=True)
class _Seen:
    density: float | None = None
    fluorescence: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _File:
    """What is read of PyXRF's file."""

    name: str
    element_lines: dict[str, _Seen]
    incident_energy: float
    scaler_name: str | None
    serial: str | None = None
    description: str | None = None
    detector_channel: str | None = None
    distance_to_sample: float | None = None
    source_scan_uid: str | None = None
    creation_time_local: str | None = None


def is_pyxrf(data: Mapping[str, Any]) -> bool:
    """True for the content of PyXRF's file."""
    return "element_lines" in data and "incident_energy" in data


def calibration_from_pyxrf(data: Mapping[str, Any]) -> Calibration:
    """Return a calibration of fitted areas.

    Raises
    ------
    InputError
        The content is not of PyXRF's form.
    """
    file = of_form(_File, data)
    lines, labels = [], dict[str, str]()
    for label, entry in file.element_lines.items():
        if entry.fluorescence is None:  # the line was not in the map of the standard
            continue
        one = _line(label, entry.density, entry.fluorescence)
        if one.line in labels:
            raise InputError(
                f"{labels[one.line]} and {label} are the same line, {one.line}", remedy="leave one of them out"
            )
        labels[one.line] = label
        lines.append(one)
    if not lines:
        raise InputError("none of its lines has a fluorescence")
    found = Calibration(
        name=file.name,
        standard=file.name,
        serial=file.serial or "",
        description=file.description or "",
        energy_kev=file.incident_energy,
        detectors=(file.detector_channel or "sum",),
        normalised="i0" if file.scaler_name else "time",
        i0_name=file.scaler_name or "",
        kind="areas",
        lines=tuple(lines),
        distance_mm=file.distance_to_sample or None,
        background_known=True,
        source=file.source_scan_uid or "",
        created=file.creation_time_local or "",
        notes=("PyXRF's calibrations have no errors: error bars hold counting statistics alone",),
    )
    check(found)
    return found


def _line(label: str, density: float | None, seen: float) -> LineCalibration:
    if density is None or not (0 < density < math.inf and 0 < seen < math.inf):
        raise InputError(f"{label}: density {density!r} and fluorescence {seen!r} must be positive numbers")
    return LineCalibration(
        line=_line_of_label(label),
        sensitivity=(seen / density,),
        background=(0.0,),
        relative_error=0.0,
        density=density,
    )


def calibration_to_pyxrf(calibration: Calibration, detector: str = "sum") -> dict[str, Any]:
    """Return the content of PyXRF's file for one detector or the sum of all.

    Raises
    ------
    InputError
        There is no such detector, or PyXRF has no such normalisation.
    """
    if calibration.normalised == "i0_rate":
        raise InputError("PyXRF takes I0 as counted over each pixel: calibrate with --normalise i0 for it")
    if detector != "sum" and detector not in calibration.detectors:
        raise InputError(f"there is no detector {detector!r}; there are sum, {', '.join(calibration.detectors)}")
    at = None if detector == "sum" else calibration.detectors.index(detector)
    lines = {}
    for one in calibration.lines:
        if one.density is None:
            continue
        sensitivity = sum(one.sensitivity) if at is None else one.sensitivity[at]
        label = one.line.removesuffix("a")  # Fe_K is the family, of which Fe_Kb is a part
        lines[label] = {"density": one.density, "fluorescence": sensitivity * one.density}
    return {
        "name": calibration.standard,
        "serial": calibration.serial,
        "description": calibration.description,
        "element_lines": lines,
        "incident_energy": calibration.energy_kev,
        "detector_channel": detector,
        "scaler_name": (calibration.i0_name or "i0") if calibration.normalised == "i0" else None,
        "distance_to_sample": calibration.distance_mm,
        "creation_time_local": calibration.created or None,
        "source_scan_id": None,
        "source_scan_uid": calibration.source or None,
    }


def _line_of_label(label: str) -> str:
    """Return ``Fe_Ka`` for ``Fe``, ``Fe_K``, ``Fe_Ka`` and ``Fe_Ka1``.

    Raises
    ------
    InputError
        No known element or line.
    """
    element, _, family = label.partition("_")
    line = f"{element}_{(family or 'K')[0]}{(family[1:2] or 'a')}"
    parse_line(line)
    return line
