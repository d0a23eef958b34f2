"""Measured maps as values: spectra of every detector and pixel, or counts of every line."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class MapInfo:
    """What is known of a measured map besides its counts.

    Attributes
    ----------
    source
        Name of the file.
    detectors
        Names, ``det1`` and so on.
    shape
        (row, col) pixels.
    live_time_s
        (detector, row, col) seconds, or None.
    i0
        (row, col) counts of the incident beam's monitor, or None.
    dwell_s
        Real time per pixel (the median), or None.
    measured
        (row, col) bool; None: every pixel.
    """

    source: str
    detectors: tuple[str, ...]
    shape: tuple[int, int]
    live_time_s: Floats | None = None
    i0: Floats | None = None
    dwell_s: float | None = None
    measured: npt.NDArray[np.bool_] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SpectralMap:
    """A measured map of spectra.

    Attributes
    ----------
    spectra
        (row, col, detector, channel) integer counts.
    calibration
        (detector, 2): energy of channel 0 and width of a channel, keV.
    """

    info: MapInfo
    spectra: npt.NDArray[Any]
    calibration: Floats


@dataclass(frozen=True, slots=True, kw_only=True)
class LineMap:
    """A measured map of counts per line.

    Attributes
    ----------
    counts
        (detector, line, row, col) integer counts, or fitted areas as floats.
    measured
        (row, col) bool.
    """

    info: MapInfo
    lines: tuple[str, ...]
    counts: npt.NDArray[Any]
    measured: npt.NDArray[np.bool_]
