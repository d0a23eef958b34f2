"""Spectra in HDF5 datasets, read in pieces: one dataset for each detector, or one with a detector axis."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from quietbeam.core.errors import FileFormatError
from quietbeam.core.hdf5 import Gap, gaps, open_hdf5, refuse_missing_filters
from quietbeam.core.model.not_measured import as_numbers
from quietbeam.core.model.types import BoolArray

_MOST_NAMED = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One dataset: the spectra of one detector, or of all."""

    path: Path
    name: str
    axes: tuple[str, ...]


class Hdf5Spectra:
    """A :class:`quietbeam.spectra.maps.SpectrumSource` over datasets, opened for every piece and never locked.

    Parameters
    ----------
    shape
        (point, detector, channel).
    cols
        Columns of a row, for datasets with axes ``row`` and ``col``.
    present
        (point,) bool. What is not there is not even read: HDF5 fails on a virtual dataset whose source is too short.
    """

    def __init__(
        self,
        parts: Sequence[Part],
        shape: tuple[int, int, int],
        *,
        cols: int,
        grain: int,
        itemsize: int,
        present: BoolArray,
    ) -> None:
        self.parts, self.shape, self.cols = tuple(parts), shape, cols
        self.grain, self.itemsize, self._present = grain, itemsize, present

    def read(self, start: int, stop: int) -> npt.NDArray[Any]:
        """Return numbers (point, detector, channel); 0 for what is not there."""
        present = self._present[start:stop]
        if present.all():
            return self._read(start, stop)
        ends = np.flatnonzero(np.diff(np.concatenate(([False], present, [False]))))
        out: npt.NDArray[Any] | None = None
        for first, last in zip(ends[::2].tolist(), ends[1::2].tolist(), strict=True):
            values = self._read(start + first, start + last)
            out = np.zeros((stop - start, *values.shape[1:]), values.dtype) if out is None else out
            out[first:last] = values
        return np.zeros((stop - start, *self.shape[1:]), np.uint8) if out is None else out

    def _read(self, start: int, stop: int) -> npt.NDArray[Any]:
        pieces = []
        for part in self.parts:
            with open_hdf5(part.path) as file:
                pieces.append(_read(file[part.name], part.axes, start, stop, self.cols))
        return pieces[0] if len(pieces) == 1 else np.concatenate(pieces, axis=1)


def _read(data: h5py.Dataset, axes: tuple[str, ...], start: int, stop: int, cols: int) -> npt.NDArray[Any]:
    if "point" in axes:
        first, ranges = start, {"point": slice(start, stop)}
    else:
        rows = slice(start // cols, -(-stop // cols))
        first, ranges = rows.start * cols, {"row": rows}
    values = as_numbers(data[tuple(0 if axis == "-" else ranges.get(axis, slice(None)) for axis in axes)])
    named = [axis for axis in axes if axis != "-"]
    if "detector" not in named:
        values, named = values[..., None], [*named, "detector"]
    if "channel" not in named:
        values, named = values[..., None], [*named, "channel"]
    target = ["point"] if "point" in named else ["row", "col"]
    values = values.transpose([named.index(axis) for axis in (*target, "detector", "channel")])
    return values.reshape(-1, *values.shape[-2:])[start - first : stop - first]


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenedSpectra:
    """Spectra that were found in a file.

    Attributes
    ----------
    present
        (point,) bool: False for what was never written or lies in a missing file.
    grid
        (row, col) where the datasets have these axes.
    """

    source: Hdf5Spectra
    present: BoolArray
    grid: tuple[int, int] | None
    remarks: tuple[str, ...]


def open_spectra(path: Path, file: h5py.File, parts: Sequence[tuple[str, tuple[str, ...]]]) -> OpenedSpectra:
    """Return a source over datasets, given with the names of their axes.

    Datasets of different length are used as far as the shortest goes.

    Raises
    ------
    FileFormatError
        A dataset is missing, differs from the others, or is compressed with an unknown filter.
    """
    found: list[tuple[Part, h5py.Dataset]] = []
    for name, axes in parts:
        data = file.get(name)
        if not isinstance(data, h5py.Dataset) or len(axes) != data.ndim:
            shape = data.shape if isinstance(data, h5py.Dataset) else "not there"
            raise FileFormatError(f"{path}: {name} is {shape}, it should have axes {', '.join(axes)}")
        refuse_missing_filters(path, data)
        found.append((Part(path=Path(data.file.filename), name=data.name, axes=axes), data))
    sizes = [dict(zip(part.axes, data.shape, strict=True)) for part, data in found]
    if len({size.get("channel", 1) for size in sizes}) > 1 or len({(s.get("row"), s.get("col")) for s in sizes}) > 1:
        raise FileFormatError(
            f"{path}: its detectors have different shapes: {', '.join(str(data.shape) for _, data in found)}"
        )
    first = sizes[0]
    grid = None if "point" in first else (first["row"], first.get("col", 1))
    lengths = [size["point"] for size in sizes] if grid is None else [grid[0] * grid[1]]
    points, cols = min(lengths), 1 if grid is None else grid[1]
    present, remarks = np.ones(points, bool), []
    if max(lengths) > points:
        remarks.append(f"detectors have {points} to {max(lengths)} spectra: those behind the shortest are left out")
    missing = []
    for part, data in found:
        for gap in gaps(data):
            present[_points_of(gap, part.axes, points, cols)] = False
            missing.append(gap.source)
    if missing:
        names = list(dict.fromkeys(missing))
        more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
        remarks.append(
            f"{int((~present).sum())} pixels are not measured, because data are missing: "
            f"{'; '.join(names[:_MOST_NAMED])}{more}"
        )
    if not present.any():
        raise FileFormatError(f"{path}: nothing of its spectra is there: {'; '.join(missing[:_MOST_NAMED])}")
    shape = (points, sum(size.get("detector", 1) for size in sizes), first.get("channel", 1))
    source = Hdf5Spectra(
        [part for part, _ in found],
        shape,
        cols=cols,
        grain=max(_grain(data, part.axes, cols) for part, data in found),
        itemsize=max(data.dtype.itemsize for _, data in found),
        present=present,
    )
    return OpenedSpectra(source=source, present=present, grid=grid, remarks=tuple(remarks))


def _points_of(gap: Gap, axes: tuple[str, ...], points: int, cols: int) -> BoolArray:
    """Return which points a gap reaches into."""
    span = {axis: slice(begin, end) for axis, begin, end in zip(axes, gap.begin, gap.end, strict=True)}
    out = np.zeros((points,) if "point" in axes else (points // cols, cols), bool)
    out[span["point"] if "point" in axes else (span["row"], span.get("col", slice(None)))] = True
    return out.ravel()


def _grain(data: h5py.Dataset, axes: tuple[str, ...], cols: int) -> int:
    chunks: Mapping[str, int] = dict(zip(axes, data.chunks or (1,) * data.ndim, strict=True))
    return chunks["point"] if "point" in chunks else chunks["row"] * cols


class ArraySpectra:
    """A source over an array (point, detector, channel) in memory, or a memory map of one."""

    grain = 1

    def __init__(self, array: npt.NDArray[Any]) -> None:
        self._array = array
        self.shape: tuple[int, int, int] = array.shape
        self.itemsize = array.dtype.itemsize

    def read(self, start: int, stop: int) -> npt.NDArray[Any]:
        """Return numbers (point, detector, channel)."""
        return as_numbers(np.asarray(self._array[start:stop]))
