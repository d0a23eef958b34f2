"""A calibration: how many counts each detector sees per areal density and dose, line by line."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, get_args

import numpy as np

from quietbeam.core.errors import InputError
from quietbeam.core.model.evidence import CountKind
from quietbeam.spectra import parse_line

from .cross_sections import DetectorPath, relative_yield
from .exposure import Normalised
from .form import of_form

SINGLE_REFERENCE_ERROR = 0.3
"""Relative error of a line that is computed from a single reference: on a real film of Ca, Fe and Cu at 10 keV,
cross-sections carried the sensitivity from Fe to Ca with an error of 32 % and to Cu with one of 9 %."""
FORMAT = "quietbeam calibration 1"


@dataclass(frozen=True, slots=True, kw_only=True)
class LineCalibration:
    """Sensitivity for one line.

    Attributes
    ----------
    sensitivity
        For each detector, counts per ug/cm2 and unit of dose.
    background
        For each detector, counts in the line's window that are not of the line, per unit of dose. 0 where not known.
    relative_error
        One standard error of the sensitivity of the sum: counting, unevenness and the standard's own.
    density
        Of the standard in ug/cm2; None where the line was computed from others.
    """

    line: str
    sensitivity: tuple[float, ...]
    background: tuple[float, ...]
    relative_error: float
    density: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """All of a calibration.

    Attributes
    ----------
    energy_kev
        Of the beam.
    detectors
        Names; ``sum`` alone where only the sum of all detectors is known.
    normalised
        What the dose is; see :class:`quietbeam.quantify.exposure.Exposure`.
    kind
        ``counts`` in windows around the lines, or fitted ``areas``.
    i0
        Median I0 of the standard, or None.
    background_known
        False where windows hold background that nobody measured.
    """

    name: str
    standard: str
    energy_kev: float
    detectors: tuple[str, ...]
    normalised: Normalised
    kind: CountKind
    lines: tuple[LineCalibration, ...]
    serial: str = ""
    description: str = ""
    i0: float | None = None
    i0_name: str = ""
    distance_mm: float | None = None
    path: DetectorPath = field(default_factory=DetectorPath)
    background_known: bool = False
    source: str = ""
    created: str = ""
    notes: tuple[str, ...] = ()

    def measured_line(self, line: str) -> LineCalibration | None:
        """Return the calibration of a line that is in it."""
        return next((one for one in self.lines if one.line == line), None)

    def line(self, line: str) -> tuple[LineCalibration, bool]:
        """Return the calibration of a line, and whether it was computed by cross-sections.

        The factor between measured sensitivities and cross-sections is interpolated in energy between the standard's
        lines of the same family. Its error is how far off the same interpolation is at lines of the standard.

        Raises
        ------
        InputError
            The beam does not excite the line, or the standard has no line of its family.
        """
        found = self.measured_line(line)
        if found is not None:
            return found, found.density is None
        family = line.partition("_")[2][:1]
        references = [one for one in self.lines if one.density is not None and one.line.partition("_")[2][:1] == family]
        if not references:
            have = ", ".join(one.line for one in self.lines if one.density is not None)
            raise InputError(f"{line} cannot be computed: the standard has no {family} line, only {have}")
        sensitivity = np.exp(_log_factor(self, line, references)) * relative_yield(
            line, self.energy_kev, self.kind, self.path
        )
        return (
            LineCalibration(
                line=line,
                sensitivity=tuple(float(value) for value in sensitivity),
                background=(0.0,) * len(self.detectors),
                relative_error=math.hypot(
                    _model_error(self, references), max(one.relative_error for one in references)
                ),
            ),
            True,
        )

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON types."""
        return {"format": FORMAT, **asdict(self)}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Calibration:
        """Build from :meth:`to_dict`.

        Raises
        ------
        InputError
            It does not have that form, or its figures cannot be a calibration's.
        """
        found = of_form(cls, data)
        check(found)
        return found


def check_energy(energy_kev: float) -> None:
    """Raise InputError where a number cannot be the energy of an X-ray beam in keV."""
    if not 0.1 < energy_kev < 200:
        raise InputError(f"a beam of {energy_kev:g} keV cannot be right: give it in keV")


def check(calibration: Calibration) -> None:
    """Raise InputError where the figures cannot be a calibration's."""
    if calibration.normalised not in get_args(Normalised) or calibration.kind not in get_args(CountKind):
        raise InputError(f"it is normalised by {calibration.normalised!r} and of kind {calibration.kind!r}: not known")
    check_energy(calibration.energy_kev)
    if not calibration.lines or not calibration.detectors:
        raise InputError("it has no line, or no detector")
    for name, value in (("i0", calibration.i0), ("distance_mm", calibration.distance_mm)):
        if value is not None and not _is_positive(value):
            raise InputError(f"{name} is {value:g}: it must be a positive number, or null")
    calibration.path.check()
    for line in calibration.lines:
        _check_line(line, len(calibration.detectors))
    for what, names in (("line", [one.line for one in calibration.lines]), ("detector", list(calibration.detectors))):
        twice = [name for name, times in Counter(names).items() if times > 1]
        if twice:
            raise InputError(f"it has the {what} {', '.join(twice)} more than once: keep one")


def _check_line(line: LineCalibration, detectors: int) -> None:
    parse_line(line.line)
    values = (*line.sensitivity, *line.background)
    if len(line.sensitivity) != detectors or len(line.background) != detectors or not all(map(math.isfinite, values)):
        raise InputError(f"{line.line} needs a finite sensitivity and background of each of {detectors} detectors")
    if min(line.sensitivity) < 0 or not _is_positive(sum(line.sensitivity)):
        raise InputError(f"{line.line} has a sensitivity that is not positive")
    if not (line.relative_error >= 0 and math.isfinite(line.relative_error)):
        raise InputError(f"{line.line} has a relative error of {line.relative_error:g}: it must be 0 or more")
    if line.density is not None and not _is_positive(line.density):
        raise InputError(f"{line.line} has a density of {line.density:g} ug/cm2: it must be positive, or null")


def _is_positive(value: float) -> bool:
    return value > 0 and math.isfinite(value)


def _log_factor(calibration: Calibration, line: str, references: list[LineCalibration]) -> np.ndarray:
    """Return the logarithm of sensitivity over cross-section, (detector,), interpolated to a line's energy."""
    from quietbeam.spectra import line_energy

    ordered = sorted(references, key=lambda one: line_energy(one.line))
    energies = [line_energy(one.line) for one in ordered]
    yields = [relative_yield(one.line, calibration.energy_kev, calibration.kind, calibration.path) for one in ordered]
    factors = np.log(np.maximum([one.sensitivity for one in ordered], 1e-300) / np.array(yields)[:, None])
    return np.array([np.interp(line_energy(line), energies, factors[:, d]) for d in range(factors.shape[1])])


def _model_error(calibration: Calibration, references: list[LineCalibration]) -> float:
    """Return how far off interpolation is at the standard's own lines (root mean square), each left out once."""
    if len(references) < 2:
        return SINGLE_REFERENCE_ERROR
    off = []
    for one in references:
        others = [other for other in references if other is not one]
        yielded = relative_yield(one.line, calibration.energy_kev, calibration.kind, calibration.path)
        predicted = float((np.exp(_log_factor(calibration, one.line, others)) * yielded).sum())
        off.append(predicted / sum(one.sensitivity) - 1)
    return float(np.sqrt(np.mean(np.square(off))))
