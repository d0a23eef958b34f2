"""Axes of arrays in Events and files, checked against the layout of the run."""

from __future__ import annotations

from collections.abc import Sequence

from quietbeam.core.errors import DocumentError
from quietbeam.core.model.types import NumericArray

from ..profile.layout import Layout
from .line_counts import counts_of_lines

_ORDER = ("frame", "row", "col", "detector", "line", "channel")


def arrange(values: NumericArray, axes: Sequence[str], what: str) -> NumericArray:
    """Return an array with its axes in the order (frame, detector, line or channel).

    Leading axes of length 1 are dropped; an array without a frame axis is one frame; rows and columns become frames.

    Parameters
    ----------
    axes
        Names of the axes in the beamline profile.
    what
        Names the array in messages.

    Raises
    ------
    DocumentError
        The array has another number of axes than the profile.
    """
    n = len(axes)
    while values.ndim > n and values.shape[0] == 1:
        values = values[0]
    if values.ndim > n:
        values = values.reshape(values.shape[0], *(k for k in values.shape[1:] if k != 1))
    if values.ndim == n - 1:
        values = values[None]
    if values.ndim != n:
        raise DocumentError(f"{what} has shape {values.shape}, the profile says axes {', '.join(axes)}")
    values = values.transpose([axes.index(axis) for axis in _ORDER if axis in axes])
    return values.reshape(-1, *values.shape[2:]) if "col" in axes else values


def conform(layout: Layout, role: str, values: NumericArray, where: str) -> NumericArray:
    """Check an array (frame, detector, line or channel) against the run; spectra become counts of lines.

    Parameters
    ----------
    role
        ``counts``, ``live_time_s``, ``i0``, ``slow`` or ``fast``.
    where
        Names the document or file in messages.

    Raises
    ------
    DocumentError
        Other numbers of detectors or lines than the run has.
    """
    n_det, n_line = len(layout.detectors), len(layout.lines)
    expected: tuple[int, ...] = ()
    if role == "counts":
        expected = (n_det, n_line)
    elif role == "live_time_s":
        expected = (n_det,)
    if values.ndim != len(expected) + 1:
        raise DocumentError(
            f"{where}: {role} have shape {values.shape[1:]} per frame, expected {expected}; correct the axes"
        )
    if expected and values.shape[1] != n_det:
        raise DocumentError(
            f"{where}: {role} of {values.shape[1]} detectors, the run has {n_det} ({', '.join(layout.detectors[:8])})"
        )
    if role != "counts":
        return values
    if layout.spectra is not None:
        return counts_of_lines(values, layout)
    if values.shape[2] != n_line:
        raise DocumentError(f"{where}: counts of {values.shape[2]} lines, the run has {n_line}; correct the axes")
    return values
