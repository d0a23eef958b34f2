"""Spectra in documents and files become counts of lines."""

from __future__ import annotations

import numpy as np

from quietbeam.core.errors import DocumentError, InputError
from quietbeam.core.model.types import NumericArray
from quietbeam.spectra import window
from quietbeam.spectra.fit import LinearFit, linear_fit
from quietbeam.spectra.windows import strongest_peaks

from ..profile.layout import Layout
from ..profile.spectra_layout import Spectra


def counts_of_lines(spectra: NumericArray, layout: Layout) -> NumericArray:
    """Return (frame, detector, line) counts in the windows of the run's lines, or their fitted areas.

    Parameters
    ----------
    spectra
        (frame, detector, channel).

    Raises
    ------
    DocumentError
        A window or the fitted range lies outside the spectra.
    """
    assert layout.spectra is not None
    layout.spectra.sums.add(spectra)
    n, n_det, channels = spectra.shape
    if layout.spectra.method == "fit":
        try:
            return _fit(layout.lines, layout.spectra, channels).areas(spectra)
        except InputError as error:
            raise DocumentError(str(error)) from error
    counts = np.zeros((n, n_det, len(layout.lines)), spectra.dtype if spectra.dtype.kind == "f" else np.int64)
    for d, windows in enumerate(_windows(layout.lines, layout.spectra, channels)):
        for k, (low, stop) in enumerate(windows):
            if stop <= low:
                raise DocumentError(f"{layout.lines[k]} is outside the {channels} channels of {layout.detectors[d]}")
            counts[:, d, k] = spectra[:, d, low:stop].sum(-1)
    return counts


def _windows(lines: tuple[str, ...], spectra: Spectra, channels: int) -> list[list[tuple[int, int]]]:
    if channels not in spectra.windows:
        spectra.windows.clear()
        spectra.windows[channels] = [[window(line, pair, channels) for line in lines] for pair in spectra.calibration]
    return spectra.windows[channels]


def _fit(lines: tuple[str, ...], spectra: Spectra, channels: int) -> LinearFit:
    if channels not in spectra.fits:
        spectra.fits.clear()
        spectra.fits[channels] = linear_fit(lines, spectra.calibration, channels, spectra.below_kev)
    return spectra.fits[channels]


def check_windows(layout: Layout, *, least: float = 1000.0) -> str:
    """Return a warning with the peaks that were found when the windows hold less than 1 % of the counts.

    The check is made once, as soon as `least` counts have come; the result is '' otherwise.
    """
    if layout.spectra is None or layout.spectra.sums.checked or layout.spectra.sums.counts is None:
        return ""
    sums, calibration = layout.spectra.sums.counts, layout.spectra.calibration
    if sums.sum() < least:
        return ""
    layout.spectra.sums.checked = True
    inside = 0.0
    for spectrum, pair in zip(sums, calibration, strict=True):
        inside += sum(spectrum[slice(*window(line, pair, len(spectrum)))].sum() for line in layout.lines)
    if inside > 0.01 * sums.sum():
        return ""
    peaks = "; ".join(
        f"{name}: {', '.join(f'{energy:.2f}' for energy in strongest_peaks(spectrum, pair)) or 'none'}"
        for name, spectrum, pair in zip(layout.detectors[:4], sums, calibration, strict=False)
    )
    return (
        f"the windows of {', '.join(layout.lines)} hold {inside / sums.sum():.1%} of the counts; peaks found, in keV: "
        f"{peaks}; correct counts.spectra.calibration or counts.spectra.lines of the profile"
    )
