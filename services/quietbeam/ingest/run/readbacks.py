"""What the readings of the motors say about a run: where its rows and columns are, and how their order is known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from quietbeam.core.model.levels import even_step
from quietbeam.core.model.types import Float64Array, PixelOrder, RunInfo

_UNEVEN = 3
"""Positions of an axis that are needed to call it uneven."""


def with_readbacks(info: RunInfo, order: PixelOrder, rows: Float64Array, cols: Float64Array) -> RunInfo:
    """Return the info of a run with its order, and with origin and step, or the positions of uneven axes.

    Parameters
    ----------
    rows, cols
        Measured positions of rows and columns in `info.units`; NaN where none is known.
    """
    if not info.positions_in_units:
        known = order is not PixelOrder.FROM_POSITIONS  # the announced coordinates are those of the announced order
        return replace(info, order=order, origin=info.origin if known else None, step=info.step if known else None)
    slow, fast = even_step(rows), even_step(cols)
    if slow is None and len(rows) == 1 and fast is not None and np.isfinite(rows[0]):
        slow = float(rows[0]), abs(fast[1])  # a single row has no step: pixels are taken as square
    if fast is None and len(cols) == 1 and slow is not None and np.isfinite(cols[0]):
        fast = float(cols[0]), abs(slow[1])
    if slow is not None and fast is not None:
        return replace(
            info,
            order=order,
            origin=(slow[0], fast[0]),
            step=(slow[1], fast[1]),
            row_positions=None,
            col_positions=None,
        )
    if _is_uneven(rows, slow) or _is_uneven(cols, fast):
        return replace(
            info,
            order=order,
            origin=None,
            step=None,
            row_positions=tuple(rows.tolist()) if np.isfinite(rows).all() else None,
            col_positions=tuple(cols.tolist()) if np.isfinite(cols).all() else None,
        )
    return replace(info, order=order)


def _is_uneven(positions: Float64Array, even: tuple[float, float] | None) -> bool:
    return even is None and int(np.count_nonzero(np.isfinite(positions))) >= _UNEVEN
