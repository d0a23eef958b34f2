"""Points that lie on no known grid: each goes to the cell around it, cells with several points hold their sum."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.spatial import KDTree
from scipy.stats import binned_statistic_dd

from quietbeam.core.errors import FileFormatError
from quietbeam.spectra import Floats


@dataclass(frozen=True, slots=True, kw_only=True)
class Cells:
    """Which cell (row * columns + col) each point lies in, and the shape of the map."""

    index: npt.NDArray[np.intp]
    shape: tuple[int, int]

    @property
    def measured(self) -> npt.NDArray[np.bool_]:
        """(row, col): True where a point lies."""
        return np.bincount(self.index, minlength=self.shape[0] * self.shape[1]).reshape(self.shape) > 0

    def sum(self, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Return the sums (row, col, ...) of (point, ...); integers stay exact."""
        out = np.zeros((self.shape[0] * self.shape[1], *values.shape[1:]), values.dtype)
        np.add.at(out, self.index, values)
        return out.reshape(*self.shape, *values.shape[1:])


def cells_of(positions: Floats) -> Cells:
    """Lay a grid over points (point, 2) of (fast, slow); a cell is as wide as points are usually apart.

    Raises
    ------
    FileFormatError
        The positions are not finite, or all the same.
    """
    if not np.isfinite(positions).all():
        raise FileFormatError("some positions are not numbers")
    apart, _ = KDTree(positions).query(positions, k=2)
    step = float(np.median(apart[:, 1])) or float(apart[:, 1].max())
    if step <= 0:
        raise FileFormatError("all points have the same position")
    low = positions.min(axis=0)
    cols, rows = (round(length / step) + 1 for length in np.ptp(positions, axis=0))
    if rows * cols > 64 * len(positions):
        raise FileFormatError(
            f"{len(positions)} points would be spread over {rows} x {cols} cells; give counts or spectra on a grid"
        )
    edges = [low[k] + step * (np.arange(n + 1) - 0.5) for k, n in ((0, cols), (1, rows))]
    place = binned_statistic_dd(positions, None, "count", bins=edges, expand_binnumbers=True).binnumber - 1
    return Cells(index=place[1] * cols + place[0], shape=(rows, cols))
