"""From spectra to fitted areas: PyMca's linear fit of the peaks of each element and of the background."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import structlog

from quietbeam.core.errors import InputError, ServiceError
from quietbeam.core.model.types import Float64Array, FloatArray, NumericArray

from .maps import LineMap, SpectralMap
from .survey import survey_spectra
from .windows import find_lines, refuse_without_peaks

log = structlog.get_logger()

_SNIP_KEV = 0.3
"""Half width of what still counts as a peak when the background is stripped."""
_MARGIN_KEV = 0.4
_CONTINUUM_ORDER = 6
"""Of the polynomial that is the background of `LinearFit`."""
_FIXED = 3
_FIT_BYTES = 128 * 2**20
"""Spectra that are fitted together; the fit is set up anew for every piece."""
_EXTRA = "fitting needs PyMca: pip install 'quietbeam[fit]'"


@dataclass(frozen=True, slots=True, kw_only=True)
class LinearFit:
    """A fit without weights as one matrix for each detector: a spectrum times the matrix is the areas.

    Nothing in it depends on what is measured, so a pixel that comes again gives the same areas.

    Attributes
    ----------
    first
        (detector,) channel where the fitted range begins.
    matrices
        For each detector (channel from `first`, line).
    """

    first: tuple[int, ...]
    matrices: tuple[FloatArray, ...]

    def areas(self, spectra: NumericArray) -> FloatArray:
        """Return (frame, detector, line) counts in all peaks of each line's family, for (frame, detector, channel)."""
        fitted = [
            spectra[:, d, first : first + len(matrix)].astype(np.float32) @ matrix
            for d, (first, matrix) in enumerate(zip(self.first, self.matrices, strict=True))
        ]
        return np.stack(fitted, axis=1)


def linear_fit(lines: Sequence[str], calibration: Float64Array, channels: int, below_kev: float = np.inf) -> LinearFit:
    """Return the fit of PyMca's peaks of all lines and of a polynomial background, for every detector.

    What has a peak in the fitted range and is not among the lines is shared out among them.

    Parameters
    ----------
    calibration
        (detector, 2): energy of channel 0 and width of a channel, keV.
    below_kev
        Where the scattered beam begins: the fitted range ends there.

    Raises
    ------
    InputError
        A line that PyMca does not fit, two of one family, or one outside the spectra.
    ServiceError
        PyMca is not installed.
    """
    families = _families(lines)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            from PyMca5.PyMcaPhysics.xrf.ClassMcaTheory import McaTheory
        except ImportError as error:
            raise ServiceError(_EXTRA) from error
        first, matrices = [], []
        for pair in calibration:
            config = _configuration(list(families), pair, channels)
            config["fit"] |= {"stripflag": 0, "continuum": 4, "linpolorder": _CONTINUUM_ORDER}
            config["fit"]["xmax"] = int(min(config["fit"]["xmax"], (below_kev - pair[0]) / pair[1]))
            theory = McaTheory()
            theory.setConfiguration(config)
            theory.enableOptimizedLinearFit()
            ends = {"xmin": config["fit"]["xmin"], "xmax": config["fit"]["xmax"]}
            theory.setData(x=np.arange(channels), y=np.ones(channels), **ends)
            theory.estimate()
            free = [i for i in range(len(theory.PARAMETERS)) if theory.codes[0][i] != _FIXED]
            model = [np.ravel(theory.linearMcaTheoryDerivative(theory.parameters, i, theory.xdata)) for i in free]
            names = [theory.PARAMETERS[i] for i in free]
            outside = [line for family, line in families.items() if " ".join(family) not in names]
            if outside:
                raise InputError(
                    f"{', '.join(outside)} cannot be fitted between channels {ends['xmin']}-{ends['xmax']}"
                )
            inverse = np.linalg.pinv(np.stack(model, axis=1))
            first.append(int(theory.xdata[0].item()))
            rows = [names.index(" ".join(family)) for family in families]
            matrices.append(np.ascontiguousarray(inverse[rows].T, np.float32))
    return LinearFit(first=tuple(first), matrices=tuple(matrices))


def fit_lines(measured: SpectralMap, lines: Sequence[str] | None = None) -> LineMap:
    """Fit every pixel of every detector.

    Areas are of all peaks of a family (Ka and Kb for ``Fe_Ka``), floating point, and may be negative. What shows a peak
    of its own is fitted too, even if it was not asked for, so that overlaps are shared out.

    Parameters
    ----------
    lines
        Lines to return; None takes every line with a peak.

    Raises
    ------
    InputError
        A line that PyMca does not fit, or two of one family.
    ServiceError
        PyMca is not installed.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from PyMca5.PyMcaPhysics.xrf.FastXRFLinearFit import FastXRFLinearFit
    except ImportError as error:
        raise ServiceError(_EXTRA) from error
    survey = survey_spectra(measured)
    sums = survey.sums
    found = find_lines(sums, measured.calibration)
    chosen = tuple(lines) if lines else found
    refuse_without_peaks(measured, sums, chosen)
    families = _families(chosen)
    every = [*families, *sorted({_family(line) for line in found} - set(families))]
    n_det, (rows, cols) = len(measured.info.detectors), measured.info.shape
    flat = np.zeros((n_det, len(chosen), rows * cols), np.float32)
    for block in measured.blocks(_FIT_BYTES):
        for d in range(n_det):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                fitted = FastXRFLinearFit().fitMultipleSpectra(
                    y=block.counts[None, :, d].astype(np.float32),
                    ysum=sums[d],
                    weight=1,
                    refit=False,
                    configuration=_configuration(every, measured.calibration[d], measured.channels),
                    save=False,
                )
            names = list(fitted.labels("parameters"))
            for k, family in enumerate(families):
                values = np.ravel(fitted["parameters"][names.index(" ".join(family))])
                np.add.at(flat[d, k], block.pixels, values)
    areas = flat.reshape(n_det, -1, rows, cols)
    log.info("fitted", lines=chosen, fitted_with=[" ".join(family) for family in every], source=measured.info.source)
    return LineMap(
        info=survey.info,
        lines=chosen,
        counts=areas,
        measured=np.asarray(survey.measured & np.isfinite(areas).all((0, 1))),
    )


def _families(lines: Sequence[str]) -> dict[tuple[str, str], str]:
    families = {_family(line): line for line in lines}
    if len(families) < len(lines):
        raise InputError(f"of {', '.join(lines)} some are of one family, which is fitted as one: ask for Fe_Ka alone")
    return families


def _family(line: str) -> tuple[str, str]:
    """Return element and family as PyMca names them."""
    element, _, kind = line.partition("_")
    return element, kind[0]


def _configuration(families: Sequence[tuple[str, str]], calibration: Float64Array, channels: int) -> dict[str, Any]:
    """Return PyMca's configuration: nothing but the linear parameters is free."""
    from PyMca5.PyMcaPhysics.xrf.ClassMcaTheory import McaTheory

    from .energies import line_energy

    offset, width = map(float, calibration)
    config: dict[str, Any] = McaTheory().getConfiguration()
    config["peaks"] = {}
    for element, family in families:
        config["peaks"].setdefault(element, []).append(family)
    energies = [line_energy(f"{element}_{family}a") for element, family in families]
    low, high = min(energies) - _MARGIN_KEV, 1.2 * max(energies) + _MARGIN_KEV
    config["fit"] |= {
        "linearfitflag": 1,
        "stripflag": 1,
        "stripalgorithm": 1,
        "snipwidth": max(2, round(_SNIP_KEV / width)),
        "stripfilterwidth": 5,
        "continuum": 0,
        "use_limit": 1,
        "escapeflag": 1,
        "hypermetflag": 1,
        "xmin": max(0, int((low - offset) / width)),
        "xmax": min(channels - 1, int((high - offset) / width)),
    }
    config["detector"] |= {
        "zero": offset,
        "gain": width,
        "noise": 0.09,
        "fano": 0.115,
        "sum": 0.0,
        "fixedzero": 1,
        "fixedgain": 1,
        "fixednoise": 1,
        "fixedfano": 1,
        "fixedsum": 1,
    }
    for name in ("Matrix", "kapton", "atmosphere", "deadlayer", "absorber"):
        config["attenuators"][name][0] = 0
    return config
