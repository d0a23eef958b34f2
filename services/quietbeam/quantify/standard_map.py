"""The counts in the map of a thin-film standard: of spectra with their background, or of lines."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from quietbeam.core.errors import InputError
from quietbeam.core.model.evidence import CountKind
from quietbeam.core.model.types import BoolArray, Float64Array
from quietbeam.spectra import LineMap, SpectralMap, find_lines, overlaps, window
from quietbeam.spectra.windows import peak_of


@dataclass(frozen=True, slots=True, kw_only=True)
class StandardCounts:
    """What a standard's map holds.

    Attributes
    ----------
    counts
        (detector, line, row, col), counts in windows or fitted areas.
    background
        (detector, line): share of the counts that is not of the line.
    background_known
        False where windows may hold background that `background` does not say.
    i0, live_time_s
        (row, col) and (detector, row, col), or None.
    """

    counts: NDArray[np.floating] | NDArray[np.integer]
    lines: tuple[str, ...]
    detectors: tuple[str, ...]
    kind: CountKind
    inside: BoolArray
    background: Float64Array
    background_known: bool
    i0: Float64Array | None = None
    live_time_s: Float64Array | None = None
    dwell_s: float | None = None
    notes: tuple[str, ...] = ()


def inner_pixels(measured: BoolArray, margin: int) -> BoolArray:
    """Return the measured pixels (row, col) that are more than `margin` pixels away from the edge of what is measured.

    Raises
    ------
    InputError
        None is left.
    """
    inside = ndimage.binary_erosion(measured, np.ones((3, 3)), iterations=margin) if margin else measured
    if not inside.any():
        rows, cols = measured.shape
        raise InputError(f"{margin} pixels at each edge of {rows} x {cols} leave none: take a smaller --margin")
    return np.asarray(inside)


def counts_of_spectra(measured: SpectralMap, lines: Sequence[str], margin: int) -> StandardCounts:
    """Return the counts in the lines' windows, with the background that the windows beside them show.

    Raises
    ------
    InputError
        No pixel is left.
    """
    info, n_det = measured.info, len(measured.info.detectors)
    pixels = info.shape[0] * info.shape[1]
    windows = [[window(line, pair, measured.channels) for line in lines] for pair in measured.calibration]
    counts, seen = np.zeros((n_det, len(lines), pixels)), np.zeros(pixels, bool)
    for block in measured.blocks():
        seen[block.pixels[block.valid]] = True
        for d, ranges in enumerate(windows):
            for j, (low, stop) in enumerate(ranges):
                np.add.at(counts[d, j], block.pixels, block.counts[:, d, low:stop].sum(-1))
    valid = seen.reshape(info.shape) & (info.measured if info.measured is not None else True)
    inside = inner_pixels(np.asarray(valid, bool), margin)
    sums = np.zeros((n_det, measured.channels))
    for block in measured.blocks():
        sums += block.counts[inside.ravel()[block.pixels] & block.valid].sum(0, dtype=np.float64)
    background = np.zeros((n_det, len(lines)))
    for d, spectrum in enumerate(sums):
        for j, line in enumerate(lines):
            total = float(spectrum[slice(*windows[d][j])].sum())
            net = peak_of(line, spectrum, measured.calibration[d]).net
            background[d, j] = 0.0 if total <= 0 else np.clip(1 - net / total, 0.0, 1.0)
    return StandardCounts(
        counts=counts.reshape(n_det, len(lines), *info.shape),
        lines=tuple(lines),
        detectors=info.detectors,
        kind="counts",
        inside=inside,
        background=background,
        background_known=True,
        notes=_overlap_notes(lines, sums, measured.calibration),
        i0=info.i0,
        live_time_s=info.live_time_s,
        dwell_s=info.dwell_s,
    )


def counts_of_lines(found: LineMap, kind: CountKind, margin: int) -> StandardCounts:
    """Return the counts of lines as they were measured; nothing is known of their background.

    Raises
    ------
    InputError
        No pixel is left.
    """
    info = found.info
    return StandardCounts(
        counts=found.counts,
        lines=found.lines,
        detectors=info.detectors,
        kind=kind,
        inside=inner_pixels(found.measured, margin),
        background=np.zeros(found.counts.shape[:2]),
        background_known=False,
        i0=info.i0,
        live_time_s=info.live_time_s,
        dwell_s=info.dwell_s,
    )


def _overlap_notes(lines: Sequence[str], sums: Float64Array, calibration: Float64Array) -> tuple[str, ...]:
    every = tuple(dict.fromkeys((*lines, *find_lines(sums, calibration))))
    pairs = sorted({(line, other) for line, other in overlaps(every) if line in lines})
    return tuple(f"the window of {line} also holds part of {other}: fit the spectra (--fit)" for line, other in pairs)
