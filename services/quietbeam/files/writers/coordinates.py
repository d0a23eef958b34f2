"""Positions of rows and columns, as axes of a file."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.interpolate import make_interp_spline

from quietbeam.core.model.types import Float64Array
from quietbeam.spectra.maps import Axes


@dataclass(frozen=True, slots=True, kw_only=True)
class Coordinate:
    """One axis of a map.

    Attributes
    ----------
    values
        Position of each row, or of each column.
    units
        ``pixel`` where only indices are known; empty where positions are known, but not their unit.
    name
        Name of the motor, empty where unknown.
    """

    values: Float64Array
    units: str = "pixel"
    name: str = ""


def coordinates(axes: Axes | None, shape: tuple[int, int]) -> tuple[Coordinate, Coordinate]:
    """Return the axes of rows and columns: positions where they are known, else indices."""
    return _coordinate(axes, 0, shape[0]), _coordinate(axes, 1, shape[1])


def _coordinate(axes: Axes | None, k: int, length: int) -> Coordinate:
    if axes is None:
        return Coordinate(values=np.arange(length, dtype=float))
    values: Float64Array | None = None
    if axes.step is not None:
        values = np.asarray((axes.origin or (0.0, 0.0))[k] + axes.step[k] * np.arange(length), np.float64)
    elif axes.positions is not None:
        values = _medians(axes.positions[k] if k == 0 else axes.positions[k].T)
    if values is None:
        return Coordinate(values=np.arange(length, dtype=float), name=axes.names[k])
    return Coordinate(values=values, units=axes.units, name=axes.names[k])


def _medians(positions: Float64Array) -> Float64Array | None:
    """Return the position of each row of (row, col); rows without any lie on the line through their neighbours."""
    there = np.flatnonzero(np.isfinite(positions).any(axis=1))
    if there.size == 0 or (there.size == 1 and len(positions) > 1):
        return None
    known = np.array([np.nanmedian(positions[i]) for i in there])
    if there.size == len(positions):
        return known
    filled: Float64Array = make_interp_spline(there, known, k=1)(np.arange(len(positions)))
    return filled
