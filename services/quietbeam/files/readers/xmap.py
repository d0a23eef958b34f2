"""What XIA xMAP electronics record beside spectra, as EPICS names it (``...mca1.ERTM``, ``...InputCountRate``)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from quietbeam.core.model.types import Float64Array


def xmap_entries(
    entries: Mapping[str, Any], detectors: int
) -> tuple[Float64Array, Float64Array, list[list[float]] | None] | None:
    """Return live and real times (detector, row, col) and the header's calibration; None when it is not an xMAP.

    The share of photons that was recorded is the ratio of output and input count rate where these are there, else that
    of the live and real times.
    """
    numbers = range(1, detectors + 1)

    def found(pattern: str) -> list[Any] | None:
        every = [next((v for k, v in entries.items() if re.search(pattern.format(n), k)), None) for n in numbers]
        return None if any(value is None for value in every) else every

    real, live = found(r"mca{}\.ERTM$"), found(r"mca{}\.ELTM$")
    if real is None:
        return None
    seconds = np.stack(real).astype(float)
    into, out = found(r"dxp{}[_:]InputCountRate$"), found(r"dxp{}[_:]OutputCountRate$")
    if into is not None and out is not None:
        with np.errstate(invalid="ignore"):
            lived = seconds * np.stack(out) / np.maximum(np.stack(into), 1e-9)
    elif live is not None:
        lived = np.stack(live).astype(float)
    else:
        return None
    offsets, widths = found(r"mca{}\.CALO$"), found(r"mca{}\.CALS$")
    pairs = None
    if offsets is not None and widths is not None:
        pairs = [[float(np.ravel(o)[0]), float(np.ravel(w)[0])] for o, w in zip(offsets, widths, strict=True)]
    return lived, seconds, pairs
