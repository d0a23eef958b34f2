"""Maps from plain arrays whose axes have names: a user's choice, or what a file says of itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from quietbeam.core.errors import FileFormatError, InputError
from quietbeam.core.model.not_measured import as_numbers
from quietbeam.core.model.types import BoolArray
from quietbeam.spectra import LineMap, MapInfo, SpectralMap
from quietbeam.spectra.maps import Axes

from ..choice import ReadChoice, command_line
from .calibration import calibration_of, refuse_giants
from .counts import usable_lines
from .points import in_order

NO_I0 = "maps are not normalised by I0: the file has none"


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedArray:
    """An array with the names of its axes, and what is known beside it.

    Attributes
    ----------
    values
        Anything that can be sliced into numbers: an array, a memory map, a dataset, a lazy array.
    axes
        One name for each axis: detector, line, row, col, channel, point, or ``-`` for one of length 1.
    calibration
        (energy of channel 0, width of a channel) for each detector, or None.
    present
        (row, col) bool, or None.
    """

    values: Any
    axes: tuple[str, ...]
    detectors: tuple[str, ...] = ()
    lines: tuple[str, ...] = ()
    calibration: list[list[float]] | None = None
    places: Axes | None = None
    present: BoolArray | None = None
    remarks: tuple[str, ...] = ()


def axes_for(path: Path, shape: Sequence[int], choice: ReadChoice, usual: tuple[str, ...] | None) -> tuple[str, ...]:
    """Return the names of the axes of an array: the user's, else the usual ones.

    Raises
    ------
    InputError
        They do not fit the array, or nobody says them; the message shows how.
    """
    axes = choice.axes or usual
    example = ",".join(("detector", "row", "col", "channel")[-len(shape) :] if len(shape) <= 4 else ("detector", "..."))
    if axes is None or len(axes) != len(shape):
        complaint = f"--axes {','.join(axes)} does not fit" if axes else "what are its axes?"
        raise InputError(
            f"{path}: the array has {len(shape)} axes, of {' x '.join(map(str, shape))}: {complaint} Name them, as in: "
            f"{command_line(path, f'--axes {example}')}"
        )
    long_axes = [str(n) for axis, n in zip(axes, shape, strict=True) if axis == "-" and n != 1]
    if long_axes:
        raise InputError(f"{path}: `-` is for axes of length 1, not {', '.join(long_axes)}")
    if not ({"row", "col"} <= set(axes) or "point" in axes) or {"line", "channel"} <= set(axes):
        raise InputError(f"{path}: --axes {','.join(axes)} needs row and col, or point; and line or channel, not both")
    return axes


def map_of_array(path: Path, array: NamedArray, calibration: Path | None, choice: ReadChoice) -> SpectralMap | LineMap:
    """Return a map of spectra where the array has channels, else of lines.

    Raises
    ------
    FileFormatError, InputError
        The array cannot be used; the message says why.
    """
    if "channel" in array.axes:
        return _spectra(path, array, calibration, choice)
    return _lines(path, array, choice)


class LazySpectra:
    """A :class:`quietbeam.spectra.maps.SpectrumSource` over an array with any order of axes."""

    grain = 1

    def __init__(self, values: Any, axes: tuple[str, ...]) -> None:
        self._values, self._axes = values, axes
        size = dict(zip(axes, values.shape, strict=True))
        self._cols = 1 if "point" in axes else size["col"]
        points = size["point"] if "point" in axes else size["row"] * size["col"]
        self.shape = points, size.get("detector", 1), size["channel"]
        self.itemsize = np.dtype(values.dtype).itemsize

    def read(self, start: int, stop: int) -> npt.NDArray[Any]:
        """Return numbers (point, detector, channel)."""
        along = "point" if "point" in self._axes else "row"
        rows = slice(start // self._cols, -(-stop // self._cols))
        index = tuple(0 if axis == "-" else rows if axis == along else slice(None) for axis in self._axes)
        values = as_numbers(np.asarray(self._values[index]))
        named = [axis for axis in self._axes if axis != "-"]
        if "detector" not in named:
            values, named = values[..., None], [*named, "detector"]
        places = ["point"] if "point" in named else ["row", "col"]
        values = values.transpose([named.index(axis) for axis in (*places, "detector", "channel")])
        first = start - rows.start * self._cols
        return values.reshape(-1, *values.shape[-2:])[first : first + stop - start]


def _spectra(path: Path, array: NamedArray, calibration: Path | None, choice: ReadChoice) -> SpectralMap:
    source = LazySpectra(array.values, array.axes)
    size = dict(zip(array.axes, array.values.shape, strict=True))
    points, detectors, _ = source.shape
    refuse_giants(path, 4 * points * detectors)
    shape = _shape(path, size, choice)
    placed = in_order(points, shape, snake=bool(choice.snake))
    energies = calibration_of(path, calibration, detectors, array.calibration, choice)
    info = MapInfo(
        source=path.name,
        detectors=array.detectors or tuple(f"det{d + 1}" for d in range(detectors)),
        shape=shape,
        measured=placed.measured if array.present is None else placed.measured & array.present,
        axes=array.places,
        order="assumed",
        remarks=(*array.remarks, *energies.remarks, NO_I0),
    )
    return SpectralMap(info=info, spectra=source, calibration=energies.kev, pixels=placed.pixels)


def _shape(path: Path, size: dict[str, int], choice: ReadChoice) -> tuple[int, int]:
    if "point" not in size:
        return size["row"], size["col"]
    if choice.shape is None:
        raise FileFormatError(
            f"{path} is a list of {size['point']} points without positions: say rows x columns, as in: "
            f"{command_line(path, '--shape 6x8')}"
        )
    return choice.shape


def _lines(path: Path, array: NamedArray, choice: ReadChoice) -> LineMap:
    refuse_giants(path, 2 * int(np.prod(array.values.shape)) * np.dtype(array.values.dtype).itemsize)
    named = [axis for axis in array.axes if axis != "-"]
    size = dict(zip(array.axes, array.values.shape, strict=True))
    values = as_numbers(np.asarray(array.values[tuple(0 if axis == "-" else slice(None) for axis in array.axes)]))
    for axis in ("detector", "line"):
        if axis not in named:
            values, named = values[None], [axis, *named]
    places = ["point"] if "point" in named else ["row", "col"]
    values = values.transpose([named.index(axis) for axis in ("detector", "line", *places)])
    shape = _shape(path, size, choice)
    flat = values.reshape(*values.shape[:2], -1)
    placed = in_order(flat.shape[-1], shape, snake=bool(choice.snake))
    counts = np.moveaxis(placed.sum(np.moveaxis(flat, -1, 0)), (2, 3), (0, 1))
    counts, usable, remarks = usable_lines(path, np.ascontiguousarray(counts))
    measured = placed.measured if usable is None else placed.measured & usable
    if counts.dtype.kind == "f":
        measured &= np.isfinite(counts).any((0, 1))
    n_det, n_line = counts.shape[:2]
    info = MapInfo(
        source=path.name,
        detectors=array.detectors or tuple(f"det{d + 1}" for d in range(n_det)),
        shape=shape,
        measured=measured if array.present is None else measured & array.present,
        axes=array.places,
        order="assumed",
        remarks=(*array.remarks, *remarks, NO_I0),
    )
    names = array.lines if len(array.lines) == n_line else tuple(f"line_{n}" for n in range(n_line))
    assert info.measured is not None
    return LineMap(info=info, lines=names, counts=counts, measured=info.measured)
