"""Counts or areas of lines as an array (detector, line, row, col): what of them was measured."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quietbeam.core.errors import FileFormatError
from quietbeam.core.model.not_measured import NO_DATA_CODE, NOT_WHOLE, bad_counts, no_data_code, number_of
from quietbeam.core.model.types import BoolArray


def usable_lines(path: Path, counts: NDArray[Any]) -> tuple[NDArray[Any], BoolArray | None, tuple[str, ...]]:
    """Return counts without what is none, which pixels (row, col) were measured, and remarks.

    In whole numbers a value that is no count costs its pixel; in floating point it becomes NaN, for its detector and
    line alone. Fitted areas may be negative and broken.

    Raises
    ------
    FileFormatError
        No value can be used; the message says why.
    """
    if counts.dtype.kind == "f":
        return _of_floats(path, counts)
    if not counts.size or (counts.min() >= 0 and counts.max() < no_data_code(counts.dtype)):
        return counts, None, ()
    bad = bad_counts(counts)
    unusable = np.logical_or.reduce(list(bad.values())).any((0, 1))
    problems = number_of({reason: at.any((0, 1)) for reason, at in bad.items()})
    if unusable.all():
        raise FileFormatError(
            f"{path}: {', '.join(problems)}; photon counts are >= 0, fitted areas must be floating point"
        )
    counts = np.where(unusable, 0, counts)
    return counts, ~unusable, _remark(int(unusable.sum()), unusable.size, problems)


def _of_floats(path: Path, counts: NDArray[Any]) -> tuple[NDArray[Any], BoolArray | None, tuple[str, ...]]:
    finite = np.isfinite(counts)
    if not finite.any():
        raise FileFormatError(f"{path}: `counts` are NaN everywhere: nothing was measured")
    if finite.all() and counts.min() >= 0 and counts.max() < no_data_code(counts.dtype):
        bad = {NOT_WHOLE: counts != np.floor(counts)}
    else:
        bad = bad_counts(np.where(finite, counts, 0))
    if _is_areas(counts, bad[NOT_WHOLE], finite):
        return np.where(np.isinf(counts), np.nan, counts) if np.isinf(counts).any() else counts, None, ()
    invalid = np.logical_or.reduce(list(bad.values())) | np.isinf(counts)
    if not invalid.any():
        return counts, None, ()
    if (invalid | ~finite).all():
        raise FileFormatError(f"{path}: {', '.join(number_of(bad))}: no value is a count")
    problems = number_of({reason: at.any((0, 1)) for reason, at in bad.items()})
    return (
        np.where(invalid, np.nan, counts),
        None,
        _remark(int(invalid.any((0, 1)).sum()), invalid[0, 0].size, problems),
    )


def _is_areas(counts: NDArray[Any], fractional: NDArray[Any], finite: NDArray[Any]) -> bool:
    """Tell fitted areas from counts with a few wrong values: most pixels that hold anything are fractional."""
    used = (finite & (counts != 0)).any((0, 1))
    return bool(2 * np.count_nonzero(fractional.any((0, 1))) > np.count_nonzero(used))


def _remark(unusable: int, pixels: int, problems: dict[str, int]) -> tuple[str, ...]:
    why = "; ".join(f"{n} with {reason}" for reason, n in problems.items()) or NO_DATA_CODE
    return (f"{unusable} of {pixels} pixels are not measured, or not by all detectors: {why}",)
