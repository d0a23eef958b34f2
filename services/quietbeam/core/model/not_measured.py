"""What counts as not measured: the one definition, for ingest and for files, on plain arrays.

Not measured is a pixel

* whose value is NaN, infinite, null or masked;
* with a negative count (-1 is a common code for no data), or with one that is no whole number among whole ones;
* with a detector's code for no data: 4294967295 or more in any type, and the largest value of an integer type of 16, 32
  or 64 bits. A counter that is full is not measured either: what it missed is unknown. 255 in 8 bits is a count, and so
  is 65535 in a type that could hold more;
* in the padding of a scan that was stopped (:func:`padding`);
* whose part of a row, of a virtual dataset or of a linked file is missing (:func:`fill_short_rows`,
  :mod:`quietbeam.core.hdf5`);
* whose I0 is not positive, or whose live times are all zero.

A dwell that is no positive number is not known (:func:`known_seconds`).

A zero is a count. One bad value costs its pixel, never the map.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from numbers import Real
from typing import Any

import numpy as np
import numpy.typing as npt

from .types import BoolArray, Float64Array

NO_DATA = 2**32 - 1
"""No detector counts so many photons in a pixel: this and everything above is a code, or damage."""
NOT_FINITE = "counts that are NaN or infinite"
NEGATIVE = "negative counts"
NOT_WHOLE = "counts that are not integers"
CORRECTED = "values most of which are not whole: corrected, or fitted"
NO_DATA_CODE = "counts that are a detector's code for no data, or a full counter"
AREAS_NOT_FINITE = "areas that are not finite"
I0_NOT_POSITIVE = "I0 that is not positive"
LIVE_TIME_ZERO = "live times that are all zero"
_SURELY = 20.0
"""Expected counts that make an accidental run of zeros impossible (exp(-20))."""


def as_numbers(values: Any) -> npt.NDArray[Any]:
    """Return an array of numbers: null and masked values become NaN, booleans 0 and 1.

    Raises
    ------
    TypeError, ValueError
        Something in it is neither a number nor null.
    """
    if isinstance(values, np.ma.MaskedArray):
        values = np.ma.filled(values if values.dtype.kind == "f" else values.astype(float), np.nan)
    array = np.asarray(values)
    if array.dtype.kind == "O":
        array = array.astype(np.float64)  # None becomes NaN
    if array.dtype.kind == "b":
        array = array.astype(np.uint8)
    if array.dtype.kind not in "iuf":
        raise TypeError(f"{array.dtype} is not a number")
    return array


def no_data_code(dtype: np.dtype[Any]) -> int:
    """Return the smallest value of a type that is a code for no data."""
    if dtype.kind in "iu" and dtype.itemsize > 1:
        return min(int(np.iinfo(dtype).max), NO_DATA)
    return NO_DATA


def bad_counts(values: npt.NDArray[Any]) -> dict[str, BoolArray]:
    """Return for every reason which values are no photon counts, in the shape of the values."""
    finite = np.isfinite(values)
    with np.errstate(invalid="ignore"):
        whole = values == np.floor(values) if values.dtype.kind == "f" else finite
        return {
            NOT_FINITE: ~finite,
            NEGATIVE: finite & (values < 0),
            NOT_WHOLE: finite & ~whole,
            NO_DATA_CODE: finite & (values >= no_data_code(values.dtype)),
        }


def usable_counts(
    values: npt.NDArray[Any], *, spectra: bool = False
) -> tuple[npt.NDArray[np.uint32], BoolArray, dict[str, int]]:
    """Convert (point, ...) to uint32 without rounding.

    Parameters
    ----------
    spectra
        Points are spectra: those in which most values are not whole have a reason of their own.

    Returns
    -------
    counts
        (point, ...) uint32; 0 in points that cannot be used.
    good
        (point,) bool: every value of the point is a count.
    problems
        Number of points for each reason.
    """
    n = len(values)
    if values.size == 0:
        return values.astype(np.uint32), np.ones(n, bool), {}
    low, high = values.min(), values.max()  # NaN, if there is one
    if low >= 0 and high < no_data_code(values.dtype):
        counts = values.astype(np.uint32, copy=False)
        if values.dtype.kind in "iu" or np.array_equal(counts, values):
            return counts, np.ones(n, bool), {}
    flat = values.reshape(n, -1)
    values_bad = bad_counts(flat)
    bad = {reason: np.asarray(at.any(axis=1)) for reason, at in values_bad.items()}
    good = ~np.logical_or.reduce(list(bad.values()))
    if spectra and bad[NOT_WHOLE].any():
        corrected = 2 * values_bad[NOT_WHOLE].sum(axis=1) > np.count_nonzero(flat, axis=1)
        bad |= {CORRECTED: corrected, NOT_WHOLE: bad[NOT_WHOLE] & ~corrected}
    out = np.zeros(flat.shape, np.uint32)
    out[good] = flat[good].astype(np.uint32)
    return out.reshape(values.shape), good, number_of(bad)


def usable_areas(values: npt.NDArray[Any]) -> tuple[npt.NDArray[np.float32], BoolArray, dict[str, int]]:
    """Convert fitted areas (point, ...) to float32; as :func:`usable_counts`, but areas may be negative or broken."""
    flat = values.reshape(len(values), -1)
    with np.errstate(over="ignore"):
        areas = flat.astype(np.float32)
    good = np.asarray(np.isfinite(areas).all(axis=1))
    out = np.where(good[:, None], areas, np.float32(0)).reshape(values.shape)
    return out, good, number_of({AREAS_NOT_FINITE: ~good})


def usable_i0(values: npt.NDArray[Any]) -> tuple[Float64Array, BoolArray]:
    """Return I0 with NaN where it is not positive, and where it is."""
    flux = values.astype(np.float64)
    good = np.asarray(np.isfinite(flux) & (flux > 0))
    if values.dtype.kind in "iu":
        good &= values < no_data_code(values.dtype)
    return np.where(good, flux, np.nan), good


def usable_live_time(values: npt.NDArray[Any]) -> tuple[Float64Array, BoolArray]:
    """Return live times (detector, ...) with 0 for detectors that were dead, and where at least one was alive."""
    live = values.astype(np.float64)
    counting = np.isfinite(live) & (live > 0)
    return np.where(counting, live, 0.0), np.asarray(counting.any(axis=0))


def known_seconds(value: object) -> float | None:
    """Return a dwell or a live time in seconds; None where it is no positive, finite number and so not known."""
    if isinstance(value, bool | np.bool_) or not isinstance(value, Real):
        return None
    seconds = float(value)
    return seconds if seconds > 0 and math.isfinite(seconds) else None


def padding(totals: npt.NDArray[Any]) -> BoolArray:
    """Return which pixels (row, col) of a map are the padding of a scan that was stopped.

    Programs that write a map of the planned size leave zeros where the scan never came. Padding is a run of pixels
    without any count that reaches the end of the scan, forwards or, in a row that was scanned backwards, from its
    first column; and only if pixels like the others would have given at least 20 counts there.

    Parameters
    ----------
    totals
        (row, col) counts of whole spectra, all detectors.
    """
    rows, cols = totals.shape
    empty = ~(totals > 0)
    out = np.zeros((rows, cols), bool)
    if empty.all() or not empty.any():
        return out
    level = float(totals[~empty].mean())
    last = int(np.flatnonzero(~empty.all(axis=1))[-1])
    out[last + 1 :] = True
    from_right = cols if empty[last].all() else int(np.argmin(empty[last][::-1]))
    from_left = int(np.argmin(empty[last]))
    if from_right and not from_left:
        out[last, cols - from_right :] = True
    elif from_left and not from_right:
        out[last, :from_left] = True
    return out if level * out.sum() > _SURELY else np.zeros((rows, cols), bool)


def fill_short_rows(rows: Sequence[npt.NDArray[Any]], cols: int) -> tuple[npt.NDArray[Any], BoolArray]:
    """Return rows of different length as (row, col, ...), and which pixels are there: a short row lacks its end."""
    first = next((np.asarray(row) for row in rows if len(row)), np.zeros(0))
    out = np.zeros((len(rows), cols, *first.shape[1:]), first.dtype)
    present = np.zeros((len(rows), cols), bool)
    for r, row in enumerate(rows):
        n = min(len(row), cols)
        out[r, :n], present[r, :n] = row[:n], True
    return out, present


def number_of(bad: dict[str, Any]) -> dict[str, int]:
    """Return how many are bad for each reason that occurs."""
    return {reason: n for reason, at in bad.items() if (n := int(np.count_nonzero(at)))}
