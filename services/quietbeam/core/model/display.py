"""How a map lies on the screen: which scan axis is horizontal, and which axes are drawn backwards. For display only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from .types import RunInfo


@dataclass(frozen=True, slots=True, kw_only=True)
class Orientation:
    """What turns a map in scan order into the picture: first the flips, then the transposition.

    Attributes
    ----------
    transpose
        True when the row axis is horizontal.
    flip_rows, flip_cols
        True when the last row (col) of the scan is drawn first.
    """

    transpose: bool = False
    flip_rows: bool = False
    flip_cols: bool = False

    def apply(self, image: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Return the picture (..., vertical, horizontal) of a map (..., row, col)."""
        image = image[..., :: -1 if self.flip_rows else 1, :: -1 if self.flip_cols else 1]
        return image.swapaxes(-1, -2) if self.transpose else image

    def order(self, pair: Sequence[Any]) -> tuple[Any, Any]:
        """Return a (row, col) pair as (vertical, horizontal)."""
        return (pair[1], pair[0]) if self.transpose else (pair[0], pair[1])


def orientation_of(info: RunInfo) -> Orientation:
    """Return how a run is shown: its horizontal axis rises to the right, its vertical axis as the profile says.

    An axis whose positions are not known is taken to rise in the order of the scan.
    """
    rows_are_horizontal = info.horizontal == "slow" or bool(info.axes and info.horizontal == info.axes[0])
    falls = _falls(info, 0), _falls(info, 1)
    vertical = 1 if rows_are_horizontal else 0
    flips = [falls[0], falls[1]]
    flips[vertical] = falls[vertical] != (info.vertical == "up")
    return Orientation(transpose=rows_are_horizontal, flip_rows=flips[0], flip_cols=flips[1])


def positions_of(info: RunInfo, row: int, col: int) -> tuple[float | None, float | None]:
    """Return the (row, col) position of a pixel in `info.units`; None along an axis whose positions are not known."""
    found: list[float | None] = []
    for axis, index in enumerate((row, col)):
        listed = (info.row_positions, info.col_positions)[axis]
        if listed is not None:
            found.append(listed[index])
        elif info.step is not None and info.origin is not None:
            found.append(info.origin[axis] + index * info.step[axis])
        else:
            found.append(None)
    return found[0], found[1]


def _falls(info: RunInfo, axis: int) -> bool:
    """Return whether the positions of the row (0) or col (1) axis fall in the order of the scan."""
    listed = (info.row_positions, info.col_positions)[axis]
    if listed is not None:
        return len(listed) > 1 and bool(np.all(np.diff(listed) < 0))
    return info.step is not None and info.step[axis] < 0
