"""Measured maps as values: spectra of every detector and pixel, or counts of every line."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

from quietbeam.core.model.not_measured import known_seconds, usable_counts
from quietbeam.core.model.types import Float64Array

Order = Literal["", "verified", "from_positions", "assumed"]
ORDERS: tuple[Order, ...] = ("verified", "from_positions", "assumed")
BLOCK_BYTES = 16 * 2**20
"""Spectra are read in pieces of about this size."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Axes:
    """Where the pixels of a map lie.

    Attributes
    ----------
    origin
        Position (row axis, col axis) of pixel (0, 0).
    step
        Distance of neighbours (row axis, col axis); negative where the axis falls.
    units
        Of both, empty where unknown.
    names
        Motors of (row axis, col axis), empty where unknown.
    positions
        (2, row, col): measured positions along the row axis and the col axis, NaN where there is none; or None.
    """

    origin: tuple[float, float] | None = None
    step: tuple[float, float] | None = None
    units: str = ""
    names: tuple[str, str] = ("", "")
    positions: Float64Array | None = None


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
    axes
        Where the pixels lie, or None.
    order
        Where the order of the pixels comes from: ``verified`` by positions, ``from_positions``, or ``assumed``.
    remarks
        Sentences for people: what was chosen, and what was left out and why.
    """

    source: str
    detectors: tuple[str, ...]
    shape: tuple[int, int]
    live_time_s: Float64Array | None = None
    i0: Float64Array | None = None
    dwell_s: float | None = None
    measured: npt.NDArray[np.bool_] | None = None
    axes: Axes | None = None
    order: Order = ""
    remarks: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "dwell_s", known_seconds(self.dwell_s))


class SpectrumSource(Protocol):
    """Spectra in the order in which they were measured, read in pieces."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """(point, detector, channel)."""

    @property
    def itemsize(self) -> int:
        """Bytes of one value."""

    @property
    def grain(self) -> int:
        """Points that are best read together: a chunk of the file, or a row."""

    def read(self, start: int, stop: int) -> npt.NDArray[Any]:
        """Return numbers (point, detector, channel) as they lie in the file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """A piece of a map of spectra.

    Attributes
    ----------
    pixels
        (point,) row * columns + col.
    counts
        (point, detector, channel) uint32, 0 where a point cannot be used.
    valid
        (point,) bool.
    problems
        Number of points for every reason why one cannot be used.
    """

    pixels: npt.NDArray[np.intp]
    counts: npt.NDArray[np.uint32]
    valid: npt.NDArray[np.bool_]
    problems: dict[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class SpectralMap:
    """A measured map of spectra.

    Attributes
    ----------
    spectra
        (row, col, detector, channel) counts; or a source of points, which is read in pieces.
    calibration
        (detector, 2): energy of channel 0 and width of a channel, keV.
    pixels
        (point,) row * columns + col of every point, -1 where a point has no place; None: one after the other.
    whole_scan
        The points are the whole scan, so that a long run of zeros at its end is the padding of one that was stopped.
    """

    info: MapInfo
    spectra: npt.NDArray[Any] | SpectrumSource
    calibration: Float64Array
    pixels: npt.NDArray[np.intp] | None = None
    whole_scan: bool = True

    @property
    def channels(self) -> int:
        """Number of channels of a spectrum."""
        return int(self.spectra.shape[-1])

    def blocks(self, size: int = BLOCK_BYTES) -> Iterator[Block]:
        """Yield the map piece by piece, about `size` bytes each."""
        source = _ArraySource(self.spectra) if isinstance(self.spectra, np.ndarray) else self.spectra
        points, detectors, channels = source.shape
        n = max(size // max(detectors * channels * source.itemsize, 1), 1)
        n = -(-n // source.grain) * source.grain
        pixels = np.arange(points) if self.pixels is None else self.pixels
        for start in range(0, points, n):
            stop = min(start + n, points)
            placed = pixels[start:stop] >= 0
            values = source.read(start, stop)
            counts, valid, problems = usable_counts(values if placed.all() else values[placed], spectra=True)
            yield Block(pixels=pixels[start:stop][placed], counts=counts, valid=valid, problems=problems)


class _ArraySource:
    """An array (row, col, detector, channel) as points."""

    grain = 1

    def __init__(self, array: npt.NDArray[Any]) -> None:
        self._points = array.reshape(-1, *array.shape[2:]) if array.ndim == 4 else array
        self.shape: tuple[int, int, int] = self._points.shape
        self.itemsize = array.dtype.itemsize

    def read(self, start: int, stop: int) -> npt.NDArray[Any]:
        return self._points[start:stop]


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
