"""Areal densities (micrograms per square centimetre) from counts: standards, calibrations, conversion of maps."""

from .calibration import Calibration, LineCalibration
from .conversion import LineDensity, RunDensity, Unit, convert, densities_of, per_second
from .exposure import Exposure
from .standards import Standard, read_standards
from .store import list_calibrations, read_calibration, write_calibration

__all__ = [
    "Calibration",
    "Exposure",
    "LineCalibration",
    "LineDensity",
    "RunDensity",
    "Standard",
    "Unit",
    "convert",
    "densities_of",
    "list_calibrations",
    "per_second",
    "read_calibration",
    "read_standards",
    "write_calibration",
]
