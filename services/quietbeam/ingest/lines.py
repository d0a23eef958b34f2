"""Spectra in documents and files become counts of lines."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import numpy as np
import numpy.typing as npt

from quietbeam.core.errors import DocumentError

from .layout import Layout


def counts_of_lines(spectra: npt.NDArray[Any], layout: Layout) -> npt.NDArray[Any]:
    """Return (frame, detector, line) counts in the windows of the run's lines.

    Parameters
    ----------
    spectra
        (frame, detector, channel).

    Raises
    ------
    DocumentError
        A window lies outside the spectra.
    """
    window = import_module("quietbeam.beamline.spectra_to_lines").window  # moves below the stages
    assert layout.spectra is not None
    n, n_det, channels = spectra.shape
    counts = np.zeros((n, n_det, len(layout.lines)), spectra.dtype if spectra.dtype.kind == "f" else np.int64)
    for d in range(n_det):
        for k, line in enumerate(layout.lines):
            low, stop = window(line, layout.spectra.calibration[d], channels)
            if stop <= low:
                raise DocumentError(f"{line} is outside the {channels} channels of {layout.detectors[d]}")
            counts[:, d, k] = spectra[:, d, low:stop].sum(-1)
    return counts
