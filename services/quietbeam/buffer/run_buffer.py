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
(:mod:`quietbeam.buffer.map_folders`); the one of the largest token counts.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import zarr
from zarr.codecs import BloscCodec

from quietbeam.core.errors import BufferConflictError, InputError, NotMeasuredError
from quietbeam.core.model.evidence import RunEvidence
from quietbeam.core.model.types import BoolArray, Float64Array, FloatArray, RowBlock, RunInfo

from .map_folders import MapFolders

MapKind = Literal["raw", "denoised", "uncertainty", "chi2"]
MAP_KINDS: tuple[MapKind, ...] = ("raw", "denoised", "uncertainty", "chi2")
_UID = re.compile(r"^[A-Za-z0-9_-]{1,64}$")
_COUNTS = ("counts", "i0", "live_time_s", "positions", "measured")
_CONFIG: Any = {"write_empty_chunks": True}


def run_path(root: Path, uid: str) -> Path:
    """Return the folder of a run.

    Raises
    ------
    InputError
        The uid could leave `root`.
    """
    if not _UID.fullmatch(uid):
        raise InputError(f"run uid {uid[:80]!r} is not allowed: use letters, digits, '-' and '_' (at most 64)")
    return root / uid


def list_buffers(root: Path) -> list[str]:
    """Return the uids of the runs that are buffered below `root`."""
    if not root.is_dir():
        return []
    return sorted(p.name for p in root.iterdir() if _UID.fullmatch(p.name) and (p / "zarr.json").is_file())


class RunBuffer:
    """Counts and maps of one run on disk.

    Rows can be written again (rewind, redelivery); the last write wins. Readers in other processes see a row either
    not at all or whole, because `measured` is written after it and every chunk is replaced atomically.
    """

    def __init__(self, group: zarr.Group, path: Path, *, writable: bool) -> None:
        self.path = path
        self._group = group
        self._writable = writable
        self.info = RunInfo.from_dict(dict(group.attrs)["info"])  # type: ignore[arg-type]
        self._arrays: dict[str, zarr.Array[Any]] = {}
        self._maps = MapFolders(path, self.info, MAP_KINDS)

    @classmethod
    def create(cls, root: Path, info: RunInfo) -> RunBuffer:
        """Make the buffer of a run, or open the one that is there.

        Raises
        ------
        BufferConflictError
            The run is buffered with other lines, detectors, shape or kind.
        """
        path = run_path(root, info.uid)
        try:
            existing = cls.open(root, info.uid, writable=True)
        except NotMeasuredError:
            pass
        else:
            for name in ("lines", "detectors", "shape", "kind"):
                old, new = getattr(existing.info, name), getattr(info, name)
                if old != new:
                    raise BufferConflictError(
                        f"run {info.uid} is buffered with {name} {old}, now {new} is announced; "
                        "the buffered run is kept, give the new run its own uid"
                    )
            return existing
        n_det, n_line, (rows, cols) = len(info.detectors), len(info.lines), info.shape
        group = zarr.open_group(path, mode="a", zarr_format=3)
        codec = BloscCodec(cname="zstd", clevel=3, shuffle="bitshuffle")

        def array(name: str, shape: tuple[int, ...], chunks: tuple[int, ...], dtype: str, fill: float = 0) -> None:
            group.create_array(
                name,
                shape=shape,
                chunks=chunks,
                dtype=dtype,
                compressors=[codec],
                fill_value=False if dtype == "bool" else fill,
                config=_CONFIG,
                overwrite=True,
            )

        array(
            "counts",
            (n_det, n_line, rows, cols),
            (n_det, n_line, 1, cols),
            "uint32" if info.kind == "counts" else "float32",
        )
        array("i0", (rows, cols), (1, cols), "float32")
        array("live_time_s", (n_det, rows, cols), (n_det, 1, cols), "float32")
        if info.has_positions:
            array("positions", (2, rows, cols), (2, 1, cols), "float64", np.nan)
        array("measured", (rows, cols), (1, cols), "bool")
        # The attributes come last: without them the folder does not count as a run.
        group.attrs.update({"info": info.to_dict()})
        return cls(group, path, writable=True)

    @classmethod
    def open(cls, root: Path, uid: str, *, writable: bool = False) -> RunBuffer:
        """Open the buffer of a run.

        Raises
        ------
        NotMeasuredError
            No such run.
        """
        path = run_path(root, uid)
        try:
            group = zarr.open_group(path, mode="r+" if writable else "r", zarr_format=3)
        except FileNotFoundError as error:
            raise NotMeasuredError(f"no run {uid} is buffered") from error
        if "info" not in group.attrs:
            raise NotMeasuredError(f"no run {uid} is buffered")
        return cls(group, path, writable=writable)

    def _array(self, name: str) -> zarr.Array[Any]:
        if name not in self._arrays:
            array = self._group[name]
            assert isinstance(array, zarr.Array)
            self._arrays[name] = array.with_config(_CONFIG)
        return self._arrays[name]

    # --- counts: written by ingest ------------------------------------------------------------------------------

    def write_row(self, row: int, block: RowBlock) -> None:
        """Write one row, the commit mark last.

        Parameters
        ----------
        row
            Slow-axis index.
        block
            Counts (detector, line, col) and what belongs to them.
        """
        n_det, n_line, (rows, cols) = len(self.info.detectors), len(self.info.lines), self.info.shape
        if not 0 <= row < rows:
            raise InputError(f"row {row} is outside the {rows} rows of run {self.info.uid}")
        if block.counts.shape != (n_det, n_line, cols):
            raise InputError(
                f"row {row} of run {self.info.uid} has shape {block.counts.shape}, expected (detector, line, col) "
                f"= {(n_det, n_line, cols)}"
            )
        self._array("counts")[:, :, row, :] = block.counts
        if block.i0 is not None:
            self._array("i0")[row] = block.i0
        if block.live_time_s is not None:
            self._array("live_time_s")[:, row] = block.live_time_s
        if block.positions is not None and self.info.has_positions:
            self._array("positions")[:, row] = self._as_announced(block.positions)
        self._array("measured")[row] = block.measured

    def update_info(self, info: RunInfo) -> None:
        """Replace what is known of the run; shape, lines and detectors stay."""
        self._group.attrs.update({"info": info.to_dict()})
        self.info = info

    def update_state(self, values: Mapping[str, Any]) -> None:
        """Keep ingest's state of the run beside its data (survives the loss of Redis)."""
        self._group.attrs.update({"state": {**self.state(), **values}})

    def state(self) -> dict[str, Any]:
        """Return what :meth:`update_state` kept."""
        attrs: Any = zarr.open_group(self.path, mode="r", zarr_format=3).attrs
        return dict(attrs.get("state", {}))

    # --- reading ------------------------------------------------------------------------------------------------

    def measured(self) -> BoolArray:
        """Return (row, col) bool: which pixels are measured."""
        return np.asarray(self._array("measured")[:])

    def read_row(self, row: int) -> RowBlock:
        """Return one row; unmeasured pixels are 0 and False in `measured`."""
        return RowBlock(
            measured=np.asarray(self._array("measured")[row]),
            counts=np.asarray(self._array("counts")[:, :, row, :]),
            i0=np.asarray(self._array("i0")[row]) if self.info.has_i0 else None,
            live_time_s=np.asarray(self._array("live_time_s")[:, row]) if self.info.has_live_time else None,
            positions=self._as_announced(self._array("positions")[:, row]) if self.info.has_positions else None,
        )

    def read_positions(self) -> Float64Array | None:
        """Return the measured (row or col axis, row, col) positions, NaN where unknown; None when the run has none."""
        return self._as_announced(self._array("positions")[:]) if self.info.has_positions else None

    def _as_announced(self, positions: Any) -> Float64Array:
        """Change (row, col) axis first into the announced order, or back."""
        found = np.asarray(positions)
        return found if self.info.axes == self.info.position_axes else found[::-1]

    def read_counts(self) -> np.ndarray[Any, Any]:
        """Return all counts (detector, line, row, col)."""
        return np.asarray(self._array("counts")[:])

    def read_i0(self) -> FloatArray | None:
        """Return I0 (row, col), or None when the run has none."""
        return np.asarray(self._array("i0")[:]) if self.info.has_i0 else None

    def read_live_time_s(self) -> FloatArray | None:
        """Return live time (detector, row, col) in seconds, or None when the run has none."""
        return np.asarray(self._array("live_time_s")[:]) if self.info.has_live_time else None

    # --- maps: written by the denoise worker --------------------------------------------------------------------

    def begin_maps(self, token: int) -> None:
        """Write the maps under the token of a lease from now on; they are read from the first version on.

        Without this call they are written where the newest maps are.
        """
        self._maps.begin(token)

    def largest_token(self) -> int:
        """Return the largest token under which maps of this run were ever written; 0 for none."""
        return self._maps.largest()

    @property
    def maps_folder(self) -> Path:
        """Folder of the maps that count now; the run's own where there are none."""
        newest = self._maps.newest()
        return self.path if newest is None else self._maps.folder(newest)

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
        **attributes: Any,
    ) -> None:
        """Write rows ``[first_row, first_row + n)`` of the maps, each (line, n, col), then `attributes`."""
        stop, folder = first_row + raw.shape[1], self._maps.to_write()
        for kind, values in zip(MAP_KINDS, (raw, denoised, uncertainty, chi2), strict=True):
            if values is not None:
                self._maps.array(folder, kind)[:, first_row:stop, :] = values
        if attributes:
            self.update_map_attributes(**attributes)

    def update_map_attributes(self, **values: Any) -> None:
        """Set attributes of the maps: ``version``, ``rows``, ``final``, ``evidence`` ...; the maps are visible then."""
        self._maps.array(self._maps.to_write(), "denoised").attrs.update(values)
        self._maps.show()

    def map_attributes(self) -> dict[str, Any]:
        """Return the attributes of the maps as they are on disk now, with the ``token`` of their lease."""
        return self._maps.attributes()

    def evidence(self) -> RunEvidence | None:
        """Return the newest evidence, or None."""
        data = self.map_attributes().get("evidence")
        return RunEvidence.from_dict(data) if data else None

    def read_map(self, kind: MapKind, lines: slice | int = slice(None), *, rows: slice = slice(None)) -> FloatArray:
        """Return a map (line, row, col), or (row, col) for one line index; 0 where not measured.

        Raises
        ------
        NotMeasuredError
            Unknown kind, or the run was deleted.
        """
        if kind not in MAP_KINDS:
            raise NotMeasuredError(f"no map kind {kind!r}; there are {', '.join(MAP_KINDS)}")
        try:
            values = self._maps.read(kind, lines, rows)
        except KeyError:
            raise NotMeasuredError(f"run {self.info.uid} was denoised by a version that kept no {kind}") from None
        if values is None:
            nothing = np.broadcast_to(np.float32(0), (len(self.info.lines), *self.info.shape))
            return nothing[lines, rows].copy()
        return values

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
