"""One run's buffer: a zarr v3 group ``<root>/<run_uid>/`` (DESIGN.md, "Contracts").

=============================  =======================  =========  ========================================
array                          axes                     dtype      writer
=============================  =======================  =========  ========================================
``counts``                     detector, line, row, col u4 or f4   ingest; one file a row
``i0``                         row, col                 f4         ingest
``live_time_s``                detector, row, col       f4         ingest
``positions``                  motor, row, col          f8         ingest, where motors are read
``measured``                   row, col                 bool       ingest, last: the commit mark of a row
``maps/TOKEN/``                line, row, col           f4         denoise: ``raw``, ``denoised``,
                                                                   ``uncertainty``, ``chi2``
=============================  =======================  =========  ========================================

Group attributes belong to ingest, the attributes of ``denoised`` (evidence, version) to the denoise worker, so that no
two processes ever rewrite the same file. The maps of every lease have a folder of their own
(:mod:`quietbeam.buffer.map_folders`); the one of the largest token counts. ``info.json`` is a copy of what the group
attributes say of the run, for :mod:`~quietbeam.buffer.repair`; ``unsynced`` is there while rows may be in files that
are not on disk yet.

Whatever cannot be read raises :class:`~quietbeam.core.errors.DamagedRunError`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import zarr

from quietbeam.core.errors import BufferConflictError, InputError, NotMeasuredError
from quietbeam.core.model.types import FloatArray, NumericArray, RowBlock, RunInfo

from .chunk_bytes import chunk_bytes, has_plain_rows
from .damage import reading
from .durable import RunStore, Writes, make_durable, replace_file
from .layout import MAP_KINDS, MapKind, create_array, layout_of
from .run_paths import list_buffers, run_path
from .run_reader import RunReader

__all__ = ["MapKind", "RunBuffer", "list_buffers", "run_path"]

_COUNTS = ("counts", "i0", "live_time_s", "positions", "measured")
INFO_COPY, UNSYNCED, REPAIRED = "info.json", "unsynced", "repaired"


class RunBuffer(RunReader):
    """Counts and maps of one run on disk.

    Rows can be written again (rewind, redelivery); the last write wins. Readers in other processes see a row either
    not at all or whole, because `measured` is written after it and every chunk is replaced atomically.
    """

    @classmethod
    def create(cls, root: Path, info: RunInfo, *, durable: bool = False) -> RunBuffer:
        """Make the buffer of a run, or open the one that is there.

        Parameters
        ----------
        durable
            Files that are replaced stay whole until the new ones are on disk.

        Raises
        ------
        BufferConflictError
            The run is buffered with other lines, detectors, shape or kind.
        DamagedRunError
            The run is buffered and cannot be read.
        """
        path = run_path(root, info.uid)
        try:
            there = cls.open(root, info.uid, writable=True, durable=durable)
        except NotMeasuredError:
            pass
        else:
            for name in ("lines", "detectors", "shape", "kind"):
                old, new = getattr(there.info, name), getattr(info, name)
                if old != new:
                    raise BufferConflictError(
                        f"run {info.uid} is buffered with {name} {old}, now {new} is announced; "
                        "the buffered run is kept, give the new run its own uid"
                    )
            return there
        writes = Writes()
        group = zarr.open_group(RunStore(path, writes=writes, durable=durable), mode="a", zarr_format=3)
        for name, layout in layout_of(info).items():
            create_array(group, name, layout)
        # The attributes come last: without them the folder does not count as a run.
        _keep_copy(path, info, writes, durable=durable)
        group.attrs.update({"info": info.to_dict()})
        return cls(group, path, writable=True, writes=writes, durable=durable)

    @classmethod
    def open(cls, root: Path, uid: str, *, writable: bool = False, durable: bool = False) -> RunBuffer:
        """Open the buffer of a run.

        Raises
        ------
        NotMeasuredError
            No such run.
        DamagedRunError
            What describes it cannot be read.
        """
        path = run_path(root, uid)
        if not (path / "zarr.json").exists():
            raise NotMeasuredError(f"no run {uid} is buffered")
        writes = Writes()
        with reading(path, "zarr.json"):
            store = RunStore(path, read_only=not writable, writes=writes, durable=durable)
            group = zarr.open_group(store, mode="r+" if writable else "r", zarr_format=3)
            attributes = dict(group.attrs)
        if "info" not in attributes:
            raise NotMeasuredError(f"no run {uid} is buffered")
        return cls(group, path, writable=writable, writes=writes, durable=durable)

    # --- written by ingest ------------------------------------------------------------------------------

    def write_row(self, row: int, block: RowBlock, first_col: int = 0) -> None:
        """Write one row, or a part of one, the commit mark last.

        Parameters
        ----------
        row
            Slow-axis index.
        block
            Counts (detector, line, col) and what belongs to them.
        first_col
            Column of the block's first pixel; a part begins and ends at multiples of `segment`, or with the row.
        """
        n_det, n_line, (rows, cols) = len(self.info.detectors), len(self.info.lines), self.info.shape
        if not 0 <= row < rows:
            raise InputError(f"row {row} is outside the {rows} rows of run {self.info.uid}")
        width = block.counts.shape[-1]
        stop = first_col + width
        is_part = first_col % self.segment == 0 and (width == self.segment or stop == cols)
        if block.counts.shape[:-1] != (n_det, n_line) or stop > cols or not is_part:
            raise InputError(
                f"row {row} of run {self.info.uid} has shape {block.counts.shape}, expected (detector, line, col) "
                f"= {(n_det, n_line, cols)}"
            )
        part = slice(first_col, stop)
        values: dict[str, NumericArray | None] = {
            "counts": block.counts,
            "i0": block.i0,
            "live_time_s": block.live_time_s,
            "positions": self._as_announced(block.positions)
            if block.positions is not None and self.info.has_positions
            else None,
        }
        written = [self._write_part(name, row, part, of) for name, of in values.items() if of is not None]
        if self._durable and self.chunk("measured", row, first_col).exists():
            # the old mark must not stand on disk with half of the new row
            make_durable(written, self.path)
        self._write_part("measured", row, part, block.measured)

    def _write_part(self, name: str, row: int, part: slice, values: NumericArray) -> Path:
        """Write a row of an array, or a part of it, without the axis of rows; return its file."""
        array, file = self._array(name), self.chunk(name, row, part.start)
        if name not in self._plain:
            self._plain[name] = has_plain_rows(array)
        if self._plain[name] and isinstance(array.store, RunStore):
            array.store.put(file, chunk_bytes(array, np.asarray(values)[..., None, :]))
        else:
            array[..., row, part] = values
        return file

    def mark(self, row: int, cols: slice, *, measured: bool) -> None:
        """Write the commit mark of a part of a row alone."""
        self._array("measured")[row, cols] = measured

    def begin_writing(self) -> None:
        """Note on disk that rows of the run may be written and not yet be there, until :meth:`end_writing`."""
        (self.path / UNSYNCED).touch()
        self.writes.add(self.path / UNSYNCED)

    def end_writing(self) -> None:
        """Everything is on disk."""
        (self.path / UNSYNCED).unlink(missing_ok=True)

    def update_info(self, info: RunInfo) -> None:
        """Replace what is known of the run; shape, lines and detectors stay."""
        _keep_copy(self.path, info, self.writes, durable=self._durable)
        self._group.attrs.update({"info": info.to_dict()})
        self.info = info

    def replace_state(self, values: Mapping[str, Any]) -> None:
        """Keep this state alone; for repairs."""
        self._group.attrs.update({"state": dict(values)})

    def update_state(self, values: Mapping[str, Any]) -> None:
        """Keep ingest's state of the run beside its data (survives the loss of Redis)."""
        self._group.attrs.update({"state": {**self.state(), **values}})

    # --- maps: written by the denoise worker --------------------------------------------------------------------

    def begin_maps(self, token: int) -> None:
        """Write the maps under the token of a lease from now on; they are read from the first version on.

        Without this call they are written where the newest maps are.
        """
        with self._reading("its maps"):
            self._maps.begin(token)

    @property
    def maps_to_write(self) -> Path:
        """Folder to which maps are written."""
        return self._maps.to_write()

    def write_maps(
        self,
        first_row: int,
        raw: FloatArray,
        denoised: FloatArray,
        uncertainty: FloatArray,
        *,
        chi2: FloatArray | None = None,
        first_col: int = 0,
        **attributes: Any,
    ) -> None:
        """Write rows ``[first_row, first_row + n)`` of the maps, each (line, n, col), then `attributes`."""
        stop, folder = first_row + raw.shape[1], self._maps.to_write()
        cols = slice(first_col, first_col + raw.shape[2])
        for kind, values in zip(MAP_KINDS, (raw, denoised, uncertainty, chi2), strict=True):
            if values is not None:
                self._maps.array(folder, kind)[:, first_row:stop, cols] = values
        if attributes:
            self.update_map_attributes(**attributes)

    def update_map_attributes(self, **values: Any) -> None:
        """Set attributes of the maps: ``version``, ``rows``, ``final``, ``evidence`` ...; the maps are visible then.

        Maps are on disk before ``final`` says that they are complete, and so is that.
        """
        if values.get("final"):
            self._sync_maps()
        self._maps.array(self._maps.to_write(), "denoised").attrs.update(values)
        self._maps.show()
        if values.get("final"):
            self._sync_maps()

    def _sync_maps(self) -> None:
        make_durable((file for file in self._maps.to_write().rglob("*") if file.is_file()), self.path)

    def replace_maps(self, values: Mapping[str, Any]) -> None:
        """Put empty maps with these attributes in the place of all maps; for repairs."""
        token = self._maps.largest() + 1
        self._maps.remove()
        self._maps.begin(token)
        self.update_map_attributes(**values)

    def forget_arrays(self) -> None:
        """Read the descriptions of the arrays again when they are needed; for repairs."""
        self._arrays.clear()

    def sweep_partials(self) -> int:
        """Delete half-written files of counts that a kill left behind; return how many. Only for ingest, at its start.

        Maps are another process's: it may be writing one at this moment.
        """
        swept = 0
        folders = [self.path / name for name in _COUNTS]
        for partial in [*self.path.glob("*.partial"), *(p for folder in folders for p in folder.rglob("*.partial"))]:
            partial.unlink(missing_ok=True)
            swept += 1
        return swept


def _keep_copy(path: Path, info: RunInfo, writes: Writes, *, durable: bool) -> None:
    """Write the copy of what is known of a run."""
    copy = path / INFO_COPY
    replace_file(copy, orjson.dumps(info.to_dict(), option=orjson.OPT_SERIALIZE_NUMPY), durable=durable)
    writes.add(copy)
