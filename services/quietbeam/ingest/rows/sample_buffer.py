"""Samples of a run whose map is a sum of them, stored in the order of the scan.

A zarr group ``<run>/samples`` of blocks of samples, each a row to
:class:`~quietbeam.ingest.rows.assembler.RowAssembler`.
A sample has its own index here, so a document that is delivered again replaces its earlier samples.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from zarr.codecs import BloscCodec

from quietbeam.buffer.durable import RunStore, Writes
from quietbeam.buffer.sparse import chunk_folder, numbers_in, read_present
from quietbeam.core.model.types import BoolArray, RowBlock, RunInfo

_CONFIG: Any = {"write_empty_chunks": True}
_FIRST_BLOCKS = 256


class SampleBuffer:
    """Blocks of samples on disk; grows with the scan.

    Parameters
    ----------
    path
        Folder of the run.
    info
        Of the samples: `has_live_time` says whether samples have live times of their own.
    stride
        Samples per event; 0 opens the samples on disk.
    gridded
        True when samples have positions.
    writes
        Where written files are noted.
    """

    def __init__(
        self, path: Path, info: RunInfo, *, stride: int = 0, gridded: bool, writes: Writes | None = None
    ) -> None:
        self._path = path / "samples"
        store = RunStore(self._path, writes=writes, durable=True)
        if stride:
            self._group = zarr.open_group(store, mode="w", zarr_format=3)
            self._create(info, stride if stride > 1 else int(np.clip(info.shape[1], 64, 1024)), gridded)
            self._group.attrs.update({"stride": stride})
        else:
            self._group = zarr.open_group(store, mode="r+", zarr_format=3)
        stored_stride: Any = self._group.attrs["stride"]
        self.stride = int(stored_stride)
        self._arrays: dict[str, zarr.Array[Any]] = {}
        for name in self._group.array_keys():
            array = self._group[name]
            assert isinstance(array, zarr.Array)
            self._arrays[name] = array.with_config(_CONFIG)
        rows, width = self._arrays["measured"].shape
        self.info = replace(info, shape=(rows, width))

    @staticmethod
    def exists(path: Path) -> bool:
        """Return whether a run has samples on disk."""
        try:
            return "stride" in zarr.open_group(path / "samples", mode="r", zarr_format=3).attrs
        except FileNotFoundError:
            return False

    def _create(self, info: RunInfo, width: int, gridded: bool) -> None:
        n_det, n_line, n = len(info.detectors), len(info.lines), _FIRST_BLOCKS
        codec = BloscCodec(cname="zstd", clevel=3, shuffle="bitshuffle")
        kinds: dict[str, tuple[tuple[int, ...], str]] = {
            "counts": ((n_det, n_line), "uint32" if info.kind == "counts" else "float32"),
            "measured": ((), "bool"),
        }
        if info.has_i0:
            kinds["i0"] = (), "float32"
        if info.has_live_time:
            kinds["live_time_s"] = (n_det,), "float32"
        if gridded:
            kinds["positions"] = (2,), "float64"
        for name, (lead, dtype) in kinds.items():
            self._group.create_array(
                name,
                shape=(*lead, n, width),
                chunks=(*lead, 1, width),
                dtype=dtype,
                compressors=[codec],
                fill_value=False if dtype == "bool" else 0,
                config=_CONFIG,
            )

    def grow(self, blocks: int) -> None:
        """Make room for at least so many blocks."""
        rows, width = self.info.shape
        if blocks <= rows:
            return
        rows = max(blocks, 2 * rows)
        for array in self._arrays.values():
            array.resize((*array.shape[:-2], rows, width))
        self.info = replace(self.info, shape=(rows, width))

    @property
    def segment(self) -> int:
        """Samples that are written together: a block."""
        return self.info.shape[1]

    def measured(self) -> BoolArray:
        """Return (block, sample) bool."""
        return read_present(self._path / "measured", self._arrays["measured"], slice(None))

    def rows_written(self) -> list[int]:
        """Return the blocks that were written, in order."""
        return numbers_in(chunk_folder(self._path / "measured", self._arrays["measured"]))

    def read_row(self, row: int, cols: slice = slice(None)) -> RowBlock:
        """Return a block."""
        parts = {name: np.asarray(array[..., row, cols]) for name, array in self._arrays.items()}
        return RowBlock(**parts)

    def write_row(self, row: int, block: RowBlock, first_col: int = 0) -> None:  # noqa: ARG002
        """Write a block, `measured` last."""
        for name in sorted(self._arrays, key="measured".__eq__):
            values = getattr(block, name)
            if values is not None:
                self._arrays[name][..., row, :] = values
