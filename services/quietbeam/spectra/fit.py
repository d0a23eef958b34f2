"""From spectra to fitted areas: PyMca's fast linear fit of the peaks of each element over a stripped background."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import structlog

from quietbeam.core.errors import InputError, ServiceError

from .maps import LineMap, SpectralMap
from .windows import find_lines, refuse_without_peaks

log = structlog.get_logger()

_SNIP_KEV = 0.3
"""Half width of what still counts as a peak when the background is stripped."""
_MARGIN_KEV = 0.4


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
        raise ServiceError("fitting needs PyMca: pip install 'quietbeam[fit]'") from error
    sums: npt.NDArray[Any] = measured.spectra.sum((0, 1), dtype=np.int64).astype(float)
    found = find_lines(sums, measured.calibration)
    chosen = tuple(lines) if lines else found
    refuse_without_peaks(measured, sums, chosen)
    families = {_family(line): line for line in chosen}
    if len(families) < len(chosen):
        raise InputError(f"of {', '.join(chosen)} some are of one family, which is fitted as one: ask for Fe_Ka alone")
    every = [*families, *sorted({_family(line) for line in found} - set(families))]
    n_det, (rows, cols) = len(measured.info.detectors), measured.info.shape
    areas = np.zeros((n_det, len(chosen), rows, cols), np.float32)
    for d in range(n_det):
        spectra = measured.spectra[:, :, d].astype(np.float32)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            fitted = FastXRFLinearFit().fitMultipleSpectra(
                y=spectra,
                ysum=sums[d],
                weight=1,
                refit=False,
                configuration=_configuration(every, measured.calibration[d], spectra.shape[-1]),
                save=False,
            )
        names = list(fitted.labels("parameters"))
        for k, family in enumerate(families):
            areas[d, k] = fitted["parameters"][names.index(" ".join(family))]
    lit = measured.info.measured
    lit = np.ones((rows, cols), bool) if lit is None else lit
    log.info("fitted", lines=chosen, fitted_with=[" ".join(family) for family in every], source=measured.info.source)
    return LineMap(
        info=measured.info, lines=chosen, counts=areas, measured=np.asarray(lit & np.isfinite(areas).all((0, 1)))
    )


def _family(line: str) -> tuple[str, str]:
    """Return element and family as PyMca names them."""
    element, _, kind = line.partition("_")
    return element, kind[0]


def _configuration(
    families: Sequence[tuple[str, str]], calibration: npt.NDArray[np.float64], channels: int
) -> dict[str, Any]:
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
