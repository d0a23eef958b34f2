"""What maps say about their areal densities: the least that can be seen, values below zero, and thick samples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from quietbeam.core.errors import InputError
from quietbeam.core.model.evidence import CountKind
from quietbeam.spectra import line_energy

from .conversion import LineDensity
from .cross_sections import attenuation

_BLOCK = 6
"""Edge in pixels of the parts among which the emptiest are chosen."""
_EMPTIEST = 0.1
_LEAST_PIXELS = 36
_SIGMAS = 3.0
_BELOW = 5.0
"""Standard errors below zero that chance does not reach among the parts of a map."""
THIN = 0.05
"""Share of a line's photons that may be absorbed in a thin sample."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DetectionLimit:
    """Least counts of a line that a single pixel shows with three standard errors; None where too few are measured.

    Attributes
    ----------
    raw
        Three times the counting error of the emptiest parts of the raw map.
    denoised
        Three times the larger of the spread of the denoised map there and of its standard error.
    """

    raw: float | None
    denoised: float | None


def detection_limit(
    raw: NDArray[np.floating],
    denoised: NDArray[np.floating],
    uncertainty: NDArray[np.floating],
    kind: CountKind,
) -> DetectionLimit:
    """Return the detection limit of one line in counts.

    The emptiest tenth of the map (by the mean of raw over blocks of 6 x 6 pixels) stands for a sample without the
    line. Where the line is everywhere, the limits are too high.

    Parameters
    ----------
    raw, denoised, uncertainty
        (row, col), NaN where not measured.
    """
    empty = _emptiest(raw)
    if empty is None:
        return DetectionLimit(raw=None, denoised=None)
    seen = raw[empty]
    noise = float(np.sqrt(max(seen.mean(), 1.0))) if kind == "counts" else float(seen.std(ddof=1))
    done = empty & np.isfinite(denoised) & np.isfinite(uncertainty)
    if done.sum() < _LEAST_PIXELS:
        return DetectionLimit(raw=_SIGMAS * noise, denoised=None)
    spread = max(float(denoised[done].std(ddof=1)), float(np.sqrt(np.mean(uncertainty[done] ** 2))))
    return DetectionLimit(raw=_SIGMAS * noise, denoised=_SIGMAS * spread)


def _emptiest(raw: NDArray[np.floating]) -> NDArray[np.bool_] | None:
    """Return the pixels (row, col) of the emptiest blocks; None where too few pixels are measured."""
    valid = np.isfinite(raw)
    if valid.sum() < _LEAST_PIXELS:
        return None
    label = _blocks(raw.shape)
    n = np.bincount(label.ravel(), valid.ravel())
    total = np.bincount(label.ravel(), np.where(valid, raw, 0.0).ravel())
    order = np.argsort(np.where(n > 0, total / np.maximum(n, 1), np.inf))
    enough = max(_LEAST_PIXELS, _EMPTIEST * float(n.sum()))
    chosen = order[: int(np.searchsorted(np.cumsum(n[order]), enough)) + 1]
    return np.asarray(np.isin(label, chosen) & valid)


def _blocks(shape: tuple[int, ...]) -> NDArray[np.intp]:
    """Return the number of the block in which each pixel (row, col) lies."""
    rows, cols = (np.arange(n) // _BLOCK for n in shape)
    return np.asarray(rows[:, None] * (cols[-1] + 1) + cols[None, :])


def negative_notes(raw: NDArray[np.floating], kind: CountKind, lines: Sequence[LineDensity]) -> list[str]:
    """Return a warning for each line of which some part of the map (6 x 6 pixels) is far below zero.

    Parameters
    ----------
    raw
        (line, row, col) counts, NaN where not measured.
    """
    found = []
    label = _blocks(raw.shape[1:]).ravel()
    least = _BLOCK if kind == "counts" else _BLOCK**2  # pixels that tell the scatter of areas
    for one, values in zip(lines, raw.reshape(len(raw), -1), strict=True):
        seen = np.isfinite(values)
        n = np.bincount(label[seen])
        if one.factor is None or not (n >= least).any():
            continue
        total, square = (np.bincount(label[seen], values[seen].astype(float) ** power) for power in (1, 2))
        mean = total / np.maximum(n, 1)
        scatter = np.maximum(square / np.maximum(n, 1) - mean**2, 0.0)  # of areas, whose noise nobody knows
        noise = np.full(n.shape, max(one.background, 0.0)) if kind == "counts" else scatter
        error = np.sqrt(np.maximum(noise, 1e-12) / np.maximum(n, 1))
        below = np.where(n >= least, (mean - one.background) / error, 0.0)
        lowest = int(below.argmin())
        if below[lowest] < -_BELOW:
            value, spread = (mean[lowest] - one.background) * one.factor, error[lowest] * one.factor
            found.append(
                f"BELOW ZERO: {one.line} reaches {value:.3g} ± {spread:.1g} ug/cm2 (mean of {n[lowest]} pixels), "
                f"{-below[lowest]:.0f} standard errors below zero: the calibration or its background does not fit "
                "this run."
            )
    return found


def absorption_notes(
    densities: Mapping[str, NDArray[np.floating]], energy_kev: float, lines: Sequence[LineDensity]
) -> list[str]:
    """Return warnings of a sample that is not thin, from the elements that were measured.

    Beam and photon run at 45 degrees. Half of the absorption along the whole path is that of a mean atom. Elements that
    no line shows (C, O, N) absorb too, so this is a lower bound.

    Parameters
    ----------
    densities
        (row, col) ug/cm2 of each line.
    """
    of_element: dict[str, NDArray[np.floating]] = {}
    for line, values in densities.items():
        of_element.setdefault(line.partition("_")[0], np.nan_to_num(np.maximum(values, 0.0)))
    worst: dict[str, float] = {}
    for one in lines:
        if one.factor is None or one.line not in densities:
            continue
        depth = np.zeros(densities[one.line].shape)
        for element, values in of_element.items():
            try:
                both = attenuation(element, energy_kev) + attenuation(element, line_energy(one.line))
            except (InputError, ValueError):
                continue
            depth = depth + values * 1e-6 * both * np.sqrt(2.0)
        absorbed = float(np.quantile(depth, 0.99)) / 2
        if absorbed > THIN:
            worst[one.line] = absorbed
    if not worst:
        return []
    listed = ", ".join(f"{line} by {min(100 * value, 99):.0f} %" for line, value in worst.items())
    return [f"NOT THIN: the measured elements alone absorb {listed} or more in 1 % of the pixels."]
