"""PyXRF's JSON of a measured standard.

The form is that of ``_xrf_quant_fluor_schema`` in ``pyxrf/core/quant_analysis.py`` of PyXRF 1.0.31. PyXRF knows one
detector channel for each file, ``sum`` or ``det1``, and no error. Its fluorescence is the mean of the fitted map over
that of the scaler.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from quietbeam.core.errors import InputError
from quietbeam.spectra import parse_line

from .calibration import Calibration, LineCalibration, check

_NEEDED = ("name", "element_lines", "incident_energy", "scaler_name")


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
    missing = [name for name in _NEEDED if name not in data]
    if missing or not isinstance(data["element_lines"], Mapping):
        raise InputError(f"a calibration of PyXRF has {', '.join(_NEEDED)}; {', '.join(missing)} is missing")
    lines = []
    for label, entry in data["element_lines"].items():
        density, seen = entry.get("density"), entry.get("fluorescence")
        if seen is None:  # the line was not in the map of the standard
            continue
        line = _line_of_label(label)
        if not (isinstance(density, int | float) and isinstance(seen, int | float) and density > 0 and seen > 0):
            raise InputError(f"{label}: density {density!r} and fluorescence {seen!r} must be positive numbers")
        lines.append(
            LineCalibration(
                line=line, sensitivity=(seen / density,), background=(0.0,), relative_error=0.0, density=float(density)
            )
        )
    if not lines:
        raise InputError("none of its lines has a fluorescence")
    channel, scaler = str(data.get("detector_channel") or "sum"), data["scaler_name"]
    distance = data.get("distance_to_sample")
    found = Calibration(
        name=str(data["name"]),
        standard=str(data["name"]),
        serial=str(data.get("serial") or ""),
        description=str(data.get("description") or ""),
        energy_kev=float(data["incident_energy"]),
        detectors=(channel,),
        normalised="i0" if scaler else "time",
        i0_name=str(scaler or ""),
        kind="areas",
        lines=tuple(lines),
        distance_mm=None if not distance else float(distance),
        background_known=True,
        source=str(data.get("source_scan_uid") or ""),
        created=str(data.get("creation_time_local") or ""),
        notes=("PyXRF's calibrations have no errors: error bars hold counting statistics alone",),
    )
    check(found)
    return found


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
        lines[one.line[:-1]] = {"density": one.density, "fluorescence": sensitivity * one.density}
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
