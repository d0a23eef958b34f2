"""From spectra to counts per line: windows around the energies of the lines, in each detector's own calibration."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
import structlog
import xraylib
from scipy.signal import find_peaks

from quietbeam.core.errors import FileFormatError
from quietbeam.core.model.types import Float64Array

from .energies import line_energy, resolution_fwhm
from .maps import LineMap, SpectralMap
from .survey import survey_spectra

log = structlog.get_logger()

WINDOW_FWHM = 1.7
"""Full width of a window in units of the peak's FWHM: 95 % of the peak."""
SIGNIFICANT = 6.0
"""Least significance of a peak over its surroundings, in standard deviations."""
_SAME_FWHM = 0.35
"""A maximum farther than this from a line's energy is not its peak."""
_K_ELEMENTS = range(11, 43)
_L_ELEMENTS = (47, 48, 50, 51, 53, 55, 56, 57, 58, 60, 64, 72, 74, 78, 79, 80, 82, 83, 90, 92)


@dataclass(frozen=True, slots=True, kw_only=True)
class Peak:
    """A line's peak in one spectrum: counts above the surroundings, and how sure that is."""

    net: float
    significance: float


def spectra_to_lines(measured: SpectralMap, lines: Sequence[str] | None = None) -> LineMap:
    """Sum the channels around each line; spectra are read in pieces, once where the lines are given, else twice.

    The windows hold peak and background: counts stay integers with Poisson noise.

    Parameters
    ----------
    lines
        Lines to cut out; None takes every line with a peak.

    Raises
    ------
    FileFormatError
        No line shows a peak in any detector; the message lists the peaks that are there.
    """
    survey = survey_spectra(measured, _windows(measured, lines or ()))
    sums, chosen = survey.sums, tuple(lines) if lines else find_lines(survey.sums, measured.calibration)
    tops = [strongest_peaks(s, c, most=40) for s, c in zip(sums, measured.calibration, strict=True)]
    found = {
        line: [_shows(line, s, c, t) for s, c, t in zip(sums, measured.calibration, tops, strict=True)]
        for line in chosen
    }
    if not any(any(shown) for shown in found.values()):
        raise _no_peaks(measured, sums, chosen)
    for line, shown in found.items():
        without_peak = [name for name, sees in zip(measured.info.detectors, shown, strict=True) if not sees]
        if without_peak:
            log.warning("no_peak", line=line, detectors=without_peak, source=measured.info.source)
    for first, second in overlaps(chosen):
        log.warning("windows_overlap", line=first, with_line=second, source=measured.info.source)
    for name, s, c in zip(measured.info.detectors, sums, measured.calibration, strict=True):
        _check_position(chosen, name, s, c)
    if not lines:
        survey = survey_spectra(measured, _windows(measured, chosen))
    return LineMap(info=survey.info, lines=chosen, counts=survey.counts, measured=survey.measured)


def _windows(measured: SpectralMap, lines: Sequence[str]) -> list[list[tuple[int, int]]]:
    """Return the channels of every line for every detector."""
    return [[window(line, pair, measured.channels) for line in lines] for pair in measured.calibration]


def refuse_without_peaks(measured: SpectralMap, sums: Float64Array, lines: Sequence[str]) -> None:
    """Raise when none of the lines shows a peak in the sum spectra (detector, channel) of any detector."""
    for spectrum, calibration in zip(sums, measured.calibration, strict=True):
        tops = strongest_peaks(spectrum, calibration, most=40)
        if any(_shows(line, spectrum, calibration, tops) for line in lines):
            return
    raise _no_peaks(measured, sums, lines)


def _no_peaks(measured: SpectralMap, sums: Float64Array, lines: Sequence[str]) -> FileFormatError:
    peaks = "; ".join(
        f"{name}: {', '.join(f'{energy:.2f}' for energy in strongest_peaks(s, c)) or 'none'}"
        for name, s, c in zip(measured.info.detectors, sums, measured.calibration, strict=True)
    )
    return FileFormatError(
        f"{measured.info.source}: no peak at {', '.join(lines) or 'any line'}. Peaks found, in keV: {peaks}. "
        "Ask for other lines, or mend the energy calibration (--calibration)"
    )


def window(line: str, calibration: Float64Array, channels: int, *, shift_fwhm: float = 0.0) -> tuple[int, int]:
    """Return the first channel of a line's window and the one after its last.

    Parameters
    ----------
    calibration
        (2,) energy of channel 0 and channel width, keV.
    shift_fwhm
        Moves the window by so many FWHM, to look at the surroundings.
    """
    energy = line_energy(line)
    fwhm = resolution_fwhm(energy)
    offset, width = calibration
    low = np.ceil((energy + (shift_fwhm - WINDOW_FWHM / 2) * fwhm - offset) / width)
    stop = np.floor((energy + (shift_fwhm + WINDOW_FWHM / 2) * fwhm - offset) / width) + 1
    low, stop = np.clip([low, stop], 0, channels).astype(int)
    return int(low), int(stop)


def peak_of(line: str, spectrum: Float64Array, calibration: Float64Array) -> Peak:
    """Compare a line's window with the lower of the two windows beside it."""
    inside = slice(*window(line, calibration, len(spectrum)))
    width = inside.stop - inside.start
    if width < 2:
        return Peak(net=0.0, significance=0.0)
    sides = [spectrum[slice(*window(line, calibration, len(spectrum), shift_fwhm=shift))] for shift in (-1.6, 1.6)]
    levels = [float(side.mean()) for side in sides if len(side) >= 2]
    background = width * min(levels, default=0.0)
    total = float(spectrum[inside].sum())
    net = total - background
    return Peak(net=net, significance=net / np.sqrt(max(total + background, 1.0)))


def find_lines(sums: Float64Array, calibration: Float64Array) -> tuple[str, ...]:
    """Return the lines that show a peak of their own in at least one detector, by energy.

    Strong peaks are named first, K lines before L lines of about the same energy; a peak at the Kb (Lb) energy of a
    named element is not named again.

    Parameters
    ----------
    sums
        (detector, channel) counts of the whole map.
    calibration
        (detector, 2) keV.
    """
    best: dict[str, float] = {}
    tops_of = [strongest_peaks(s, c, most=40) for s, c in zip(sums, calibration, strict=True)]
    beam = min(scatter_from(s, c) for s, c in zip(sums, calibration, strict=True))
    for line in _candidates():
        if line_energy(line) > beam:
            continue
        for spectrum, pair, tops in zip(sums, calibration, tops_of, strict=True):
            if _shows(line, spectrum, pair, tops):
                best[line] = max(best.get(line, 0.0), peak_of(line, spectrum, pair).net)
    named: list[str] = []
    for line in sorted(best, key=lambda line: -best[line] * (1.5 if line.endswith("_Ka") else 1.0)):
        energy, reach = line_energy(line), 0.7 * resolution_fwhm(line_energy(line))
        occupied = [line_energy(other) for other in named] + [e for other in named for e in _companions(other).values()]
        if all(abs(energy - other) > reach for other in occupied):
            named.append(line)
    return tuple(sorted(named, key=line_energy))


def _shows(line: str, spectrum: Float64Array, calibration: Float64Array, tops: Sequence[float]) -> bool:
    """Return whether a spectrum has a significant local maximum (`tops`, keV) at a line."""
    energy = line_energy(line)
    near = any(abs(energy - top) < _SAME_FWHM * resolution_fwhm(energy) for top in tops)
    return near and peak_of(line, spectrum, calibration).significance >= SIGNIFICANT


def strongest_peaks(spectrum: Float64Array, calibration: Float64Array, most: int = 10) -> list[float]:
    """Return the energies of the strongest local maxima of a spectrum in keV, ascending."""
    offset, width = calibration
    sigma = max(0.06 / width / 2.355, 0.5)
    reach = int(4 * sigma) + 1
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    smooth = np.convolve(spectrum, kernel / kernel.sum(), "same")
    positions, facts = find_peaks(smooth, prominence=3 * np.sqrt(smooth.max(initial=1.0) ** 0.5 + 1))
    energies = offset + width * positions
    order = [i for i in np.argsort(facts["prominences"])[::-1] if energies[i] > 0.9][:most]
    return sorted(float(energies[i]) for i in order)


def overlaps(lines: Sequence[str]) -> list[tuple[str, str]]:
    """Return pairs (line, other) where the window of `line` holds peak of `other`, or of its Kb (Lb)."""
    pairs = []
    for line in lines:
        energy = line_energy(line)
        half = WINDOW_FWHM / 2 * resolution_fwhm(energy)
        for other in lines:
            if other == line:
                continue
            half_other = WINDOW_FWHM / 2 * resolution_fwhm(line_energy(other))
            if abs(line_energy(other) - energy) < half + half_other:
                pairs.append((line, other))
            pairs += [
                (line, f"{other[:-1]}{family}")
                for family, companion in _companions(other).items()
                if abs(companion - energy) < half
            ]
    return pairs


def _candidates() -> list[str]:
    lines = [f"{xraylib.AtomicNumberToSymbol(z)}_Ka" for z in _K_ELEMENTS]
    return lines + [f"{xraylib.AtomicNumberToSymbol(z)}_La" for z in _L_ELEMENTS]


def _companions(line: str) -> dict[str, float]:
    """Return the energies in keV of the other strong lines of the same family: b, and g for L lines."""
    element, _, family = line.partition("_")
    macros = {
        "K": {"b": xraylib.KB_LINE},
        "L": {"b": xraylib.LB_LINE, "b2": xraylib.LB2_LINE, "g": xraylib.LG1_LINE},
    }.get(family[0], {})
    energies = {}
    for name, macro in macros.items():
        with suppress(ValueError):
            energies[name] = float(xraylib.LineEnergy(xraylib.SymbolToAtomicNumber(element), macro))
    return energies


def scatter_from(spectrum: Float64Array, calibration: Float64Array) -> float:
    """Return the energy in keV from which on peaks are the scattered beam; infinity: not seen.

    The elastic peak is the one with (nearly) nothing above it; the Compton peak lies just below.
    """
    tops = strongest_peaks(spectrum, calibration)
    if not tops:
        return np.inf
    elastic = tops[-1]
    offset, width = calibration
    fwhm = resolution_fwhm(elastic)

    def level(low: float, high: float) -> float:
        first, stop = (max(int((energy - offset) / width), 0) for energy in (low, high))
        return float(spectrum[first:stop].mean()) if stop > first and first < len(spectrum) else np.inf

    if level(elastic + 2 * fwhm, elastic + 6 * fwhm) > 0.02 * level(elastic - fwhm / 4, elastic + fwhm / 4):
        return np.inf
    return scatter_begins(elastic)


def scatter_begins(beam_kev: float) -> float:
    """Return the energy in keV from which on peaks are the scattered beam: Compton scattering by up to 120 degrees."""
    if not np.isfinite(beam_kev):
        return np.inf
    return beam_kev / (1 + beam_kev / 511.0 * 1.5) - resolution_fwhm(beam_kev)


def _check_position(lines: Sequence[str], detector: str, spectrum: Float64Array, calibration: Float64Array) -> None:
    """Warn when the strongest line's peak is not where the calibration puts it."""
    peaks = {line: peak_of(line, spectrum, calibration) for line in lines}
    line = max(peaks, key=lambda name: peaks[name].net)
    if peaks[line].significance < 20:
        return
    energy = line_energy(line)
    fwhm = resolution_fwhm(energy)
    tops = strongest_peaks(spectrum, calibration, most=40)
    nearest = min((top - energy for top in tops), key=abs, default=0.0)
    if abs(nearest) > _SAME_FWHM * fwhm:
        log.warning("peak_off_its_line", detector=detector, line=line, off_ev=round(1000 * nearest))
