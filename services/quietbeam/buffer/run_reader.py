"""Reads one run's buffer; the cost follows what is measured, not the announced size."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import zarr

from quietbeam.core.errors import NotMeasuredError
from quietbeam.core.model.evidence import RunEvidence
from quietbeam.core.model.types import BoolArray, Float64Array, FloatArray, NumericArray, RowBlock, RunInfo, RunState

from .damage import damaged, reading
from .durable import Writes
from .layout import CONFIG, MAP_KINDS, MapKind, layout_of, map_layout
from .map_folders import MapFolders
from .sparse import chunk_folder, numbers_in, read_present


class RunReader:
    """What can be read of a run; every method raises `DamagedRunError` where files are there and cannot be read.

    Attributes
    ----------
    info
        What is known of the run.
    path
        Its folder.
    writes
        Files that were written and may not be on disk yet.
    """

    def __init__(self, group: zarr.Group, path: Path, *, writable: bool, writes: Writes, durable: bool = False) -> None:
        self.path, self.writes = path, writes
        self._group, self._durable = group, durable
        self._writable = writable
        with self._reading("its description"):
            self.info = _checked(RunInfo.from_dict(dict(group.attrs)["info"]), path)  # type: ignore[arg-type]
        self._arrays: dict[str, zarr.Array[Any]] = {}
        self._plain: dict[str, bool] = {}
        self._maps = MapFolders(path, self.info, MAP_KINDS)

    def _reading(self, what: str) -> AbstractContextManager[None]:
        return reading(self.path, what)

    def _array(self, name: str) -> zarr.Array[Any]:
        if name not in self._arrays:
            with self._reading(f"{name}/zarr.json"):
                array = self._group[name]
                wanted = layout_of(self.info)[name].shape
                if not isinstance(array, zarr.Array) or array.shape != wanted:
                    raise damaged(self.path, f"{name}/zarr.json", f"it is no array of shape {wanted}")
            self._arrays[name] = array.with_config(CONFIG)
        return self._arrays[name]

    def _present(self, name: str, rows: slice = slice(None), cols: slice = slice(None)) -> NumericArray:
        array = self._array(name)
        with self._reading(name):
            return read_present(self.path / name, array, rows, cols)

    # --- counts ---

    @property
    def segment(self) -> int:
        """Columns that are written together."""
        return int(self._array("counts").chunks[-1])

    def check_array(self, name: str) -> None:
        """Raise an error when the description of an array cannot be read."""
        self._array(name)

    def read_part(self, name: str, row: int, cols: slice) -> NumericArray:
        """Return columns of one row of an array, rows not among the axes."""
        return self._present(name, slice(row, row + 1), cols)[..., 0, :]

    def chunk(self, name: str, row: int, col: int = 0) -> Path:
        """Return the file in which a pixel of an array of rows lies."""
        array = self._array(name)
        return chunk_folder(self.path / name, array) / str(row) / str(col // array.chunks[-1])

    def state(self) -> dict[str, Any]:
        """Return what :meth:`update_state` kept."""
        with self._reading("its state"):
            attrs: Any = zarr.open_group(self.path, mode="r", zarr_format=3).attrs
            kept: dict[str, Any] = dict(attrs.get("state", {}))
            RunState(kept.get("state", RunState.RUNNING))
            return kept

    def measured(self) -> BoolArray:
        """Return (row, col) bool: which pixels are measured."""
        return self._present("measured")

    def rows_written(self) -> list[int]:
        """Return the rows that have a commit mark, in order; the cost follows their number."""
        return numbers_in(chunk_folder(self.path / "measured", self._array("measured")), high=self.info.shape[0])

    def progress(self) -> tuple[int, int]:
        """Return how many rows are measured whole, and how many pixels; the cost follows what is measured."""
        measured, cols = self.measured(), self.info.shape[1]
        found = [int(np.count_nonzero(measured[row])) for row in self.rows_written()]
        return sum(n == cols for n in found), sum(found)

    def segments_written(self, row: int) -> list[int]:
        """Return the parts of a row that have a commit mark, in units of `segment`."""
        return numbers_in(chunk_folder(self.path / "measured", self._array("measured")) / str(row))

    def parts_written(self, row: int) -> list[slice]:
        """Return the columns of every part of a row that has a commit mark."""
        step, cols = self.segment, self.info.shape[1]
        return [slice(n * step, min((n + 1) * step, cols)) for n in self.segments_written(row) if n * step < cols]

    def read_row(self, row: int, cols: slice = slice(None)) -> RowBlock:
        """Return one row, or some columns of it; unmeasured pixels are 0 and False in `measured`."""

        def read(name: str) -> NumericArray:
            return self.read_part(name, row, cols)

        return RowBlock(
            measured=read("measured"),
            counts=read("counts"),
            i0=read("i0") if self.info.has_i0 else None,
            live_time_s=read("live_time_s") if self.info.has_live_time else None,
            positions=self._as_announced(read("positions")) if self.info.has_positions else None,
        )

    def read_positions(self) -> Float64Array | None:
        """Return the measured (row or col axis, row, col) positions, NaN where unknown; None when the run has none."""
        return self._as_announced(self._present("positions")) if self.info.has_positions else None

    def _as_announced(self, positions: Any) -> Float64Array:
        """Change (row, col) axis first into the announced order, or back."""
        found = np.asarray(positions)
        return found if self.info.axes == self.info.position_axes else found[::-1]

    def read_counts(self) -> np.ndarray[Any, Any]:
        """Return all counts (detector, line, row, col)."""
        return self._present("counts")

    def read_i0(self) -> FloatArray | None:
        """Return I0 (row, col), or None when the run has none."""
        return self._present("i0") if self.info.has_i0 else None

    def read_live_time_s(self) -> FloatArray | None:
        """Return live time (detector, row, col) in seconds, or None when the run has none."""
        return self._present("live_time_s") if self.info.has_live_time else None

    # --- maps ---

    def largest_token(self) -> int:
        """Return the largest token under which maps of this run were ever written; 0 for none."""
        return self._maps.largest()

    @property
    def maps_folder(self) -> Path:
        """Folder of the maps that count now; the run's own where there are none."""
        with self._reading("its maps"):
            newest = self._maps.newest()
        return self.path if newest is None else self._maps.folder(newest)

    def map_attributes(self) -> dict[str, Any]:
        """Return the attributes of the maps as they are on disk now, with the ``token`` of their lease."""
        with self._reading("denoised/zarr.json"):
            attributes = self._maps.attributes()
            for name in ("version", "rows"):
                int(attributes.get(name) or 0)
            return attributes

    def evidence(self) -> RunEvidence | None:
        """Return the newest evidence, or None."""
        data = self.map_attributes().get("evidence")
        with self._reading("its evidence"):
            return RunEvidence.from_dict(data) if data else None

    def read_map(self, kind: MapKind, lines: slice | int = slice(None), *, rows: slice = slice(None)) -> FloatArray:
        """Return a map (line, row, col), or (row, col) for one line index; 0 where not measured.

        Raises
        ------
        NotMeasuredError
            Unknown kind.
        """
        if kind not in MAP_KINDS:
            raise NotMeasuredError(f"no map kind {kind!r}; there are {', '.join(MAP_KINDS)}")
        with self._reading(kind):
            try:
                values = self._maps.read(kind, lines, rows)
            except KeyError:
                raise NotMeasuredError(f"run {self.info.uid} was denoised by a version that kept no {kind}") from None
        if values is None:
            first, stop, _ = rows.indices(self.info.shape[0])
            shape = len(self.info.lines), max(0, stop - first), self.info.shape[1]
            return np.zeros(shape, np.float32)[lines]
        return values

    def bands_written(self, kind: MapKind) -> list[tuple[int, int]]:
        """Return spans ``[first, stop)`` of rows of which a map was written, in order."""
        high, rows = map_layout(self.info).chunks[-2], self.info.shape[0]
        with self._reading(kind):
            return [(n * high, min((n + 1) * high, rows)) for n in self._maps.bands(kind)]


def _checked(info: RunInfo, path: Path) -> RunInfo:
    """Return what is known of a run when it can be that.

    Raises
    ------
    ValueError
        It cannot.
    """
    names = (*info.lines, *info.detectors)
    if info.uid != path.name or not (info.lines and info.detectors) or not all(isinstance(n, str) for n in names):
        raise ValueError("uid, lines or detectors are none")
    if len(info.shape) != 2 or not all(type(n) is int and n > 0 for n in info.shape):
        raise ValueError(f"the shape is {str(info.shape)[:40]}")
    return info
