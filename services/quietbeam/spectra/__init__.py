"""Spectra and emission lines: energies, windows in each detector's own calibration, counts per line."""

from .energies import line_energy, parse_line, resolution_fwhm
from .maps import LineMap, MapInfo, SpectralMap
from .windows import find_lines, overlaps, scatter_begins, spectra_to_lines, window

__all__ = [
    "LineMap",
    "MapInfo",
    "SpectralMap",
    "find_lines",
    "line_energy",
    "overlaps",
    "parse_line",
    "resolution_fwhm",
    "scatter_begins",
    "spectra_to_lines",
    "window",
]
