"""Where the pixels of a run lie, as its buffer says it."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from quietbeam.core.model.types import RunInfo
from quietbeam.spectra.maps import Axes


def axes_of_run(info: RunInfo, positions: npt.NDArray[Any] | None = None) -> Axes | None:
    """Return origin, step, units, motors and positions of a run; None where nothing is known.

    Parameters
    ----------
    positions
        (2, row, col) measured positions along the row axis and the col axis.
    """
    if positions is None:
        rows, cols = (_along(info, k) for k in (0, 1))
        if rows is not None and cols is not None and info.step is None:
            positions = np.stack(np.meshgrid(rows, cols, indexing="ij"))
    if info.step is None and positions is None:
        return None
    names = (info.axes[0], info.axes[1]) if info.axes else ("", "")
    return Axes(origin=info.origin, step=info.step, units=info.units, names=names, positions=positions)


def _along(info: RunInfo, axis: int) -> npt.NDArray[np.float64] | None:
    """Return the positions of the rows (axis 0) or of the columns, None where they are not known."""
    uneven = (info.row_positions, info.col_positions)[axis]
    return None if uneven is None else np.asarray(uneven, float)
