"""Which arrays are rows of counts: the checks that files, the denoiser and its public function share."""

from __future__ import annotations

import numpy as np

from ..errors import InputError
from .evidence import CountKind
from .types import BoolArray, NumericArray


def validate_rows(counts: NumericArray, kind: CountKind | None = None, measured: BoolArray | None = None) -> None:
    """Check values before they are used as counts.

    Parameters
    ----------
    counts
        (detector, line, row, col).
    kind
        What the values are to be. None checks what is wrong for both kinds, and lets infinities pass.
    measured
        (row, col); values elsewhere may be anything but infinite. All when left out.

    Raises
    ------
    InputError
        Other axes, no numbers, negative integers; for a ``kind`` also infinities, and counts that are negative or not
        whole.
    """
    if counts.ndim != 4 or 0 in counts.shape:
        raise InputError(
            f"counts must have axes (detector, line, row, col), all at least 1; got shape {counts.shape}"
            + (" - add an axis for a single detector: counts[None]" if counts.ndim == 3 else "")
        )
    if counts.dtype.kind not in "uif":
        raise InputError(f"counts must be numbers, not {counts.dtype}")
    if kind is None:
        if counts.dtype.kind == "i" and counts.min() < 0:
            raise InputError("negative counts; photon counts are >= 0, fitted areas must be floating point")
        return
    if counts.dtype.kind == "f" and np.isinf(counts).any():
        raise InputError("counts hold infinities; mark such pixels as not measured (NaN)")
    if kind == "counts" and counts.dtype.kind != "u":
        for detector in counts:  # one by one, for little memory beside the map
            _validate_counts(detector if measured is None else detector[:, measured])


def _validate_counts(values: NumericArray) -> None:
    if (values < 0).any():
        raise InputError("negative counts: fitted areas need kind='areas'")
    values = values.astype(np.float32)  # as they are stored, without the rounding errors of double precision
    if (values != np.rint(values))[~np.isnan(values)].any():
        raise InputError("counts are not whole numbers: fitted areas need kind='areas'")
