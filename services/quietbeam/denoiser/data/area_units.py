"""Units of fitted areas, which may be per second or per photon of I0."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from quietbeam.core.model.types import BoolArray, Float64Array

from .finest_scale import finest_scale


def power_of_two(values: NDArray[np.floating]) -> float | None:
    """Return the power of two next to the root mean square of the values, without zeros and NaN; None without any.

    Division by it is exact: results do not depend on the unit.
    """
    nonzero = values[np.isfinite(values) & (values != 0)]
    if not nonzero.size:
        return None
    most = float(np.abs(nonzero).max())
    return float(2.0 ** np.clip(np.round(np.log2(np.sqrt(np.mean((nonzero / most) ** 2)) * most)), -110, 110))


def effective_unit(areas: NDArray[np.floating], exposure: NDArray[np.floating]) -> Float64Array:
    """Return the unit of every line in which a detector's total is as precise as that many counts, (line,).

    A total T of Poisson counts has noise S with ``T**2 / S**2 = T``. For areas that makes the unit ``S**2 / T``; a line
    that is not seen above its noise has about one effective count, so that no detector is excluded because of it.

    Parameters
    ----------
    areas
        (detector, line, row, col), 0 where not measured.
    exposure
        (detector, row, col), 0 where not measured.
    """
    n_det, n_line = areas.shape[:2]
    unit = np.ones(n_line)
    for j in range(n_line):
        totals = areas[:, j].sum((1, 2), dtype=np.float64)
        noise = np.array([_noise_of_total(areas[k, j], exposure[k] > 0) for k in range(n_det)])
        best = int(totals.argmax())
        if noise[best] > 0:
            unit[j] = noise[best] ** 2 / max(totals[best], noise[best])
        elif totals[best] > 0:
            unit[j] = totals[best] * 1e-6
    return unit


def _noise_of_total(image: NDArray[np.floating], valid: BoolArray) -> float:
    """Return the noise (1 sigma) of the sum of an image, from its finest scale: structure there counts as noise."""
    high, _ = finest_scale(image, valid)
    if high.size < 8:
        spread = float(image[valid].std()) if valid.any() else 0.0
    else:
        spread = float(np.median(np.abs(high))) / 0.6745 or float(np.sqrt((high**2).mean()))
    return spread * float(np.sqrt(valid.sum()))
