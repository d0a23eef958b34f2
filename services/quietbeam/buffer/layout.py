"""Which arrays a run's buffer has, and how they lie in files."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import numpy as np
import zarr
from zarr.codecs import BloscCodec, Crc32cCodec

from quietbeam.core.model.types import RunInfo

MapKind = Literal["raw", "denoised", "uncertainty", "chi2"]
MAP_KINDS: tuple[MapKind, ...] = ("raw", "denoised", "uncertainty", "chi2")
MAP_ROWS = 64
"""Rows in a file of a map."""
SEGMENT = 65_536
"""Most columns in a file: of a wider row only the parts that are measured are ever written."""
CONFIG: Any = {"write_empty_chunks": True}
BLOSC: Any = {"cname": "zstd", "clevel": 3, "shuffle": "bitshuffle", "blocksize": 0}
"""How files are compressed; a checksum (CRC-32C) follows. :mod:`~quietbeam.buffer.chunk_bytes` does the same."""


class ArrayLayout(NamedTuple):
    """An array as it is made: its axes end with (row, col)."""

    shape: tuple[int, ...]
    chunks: tuple[int, ...]
    dtype: str
    fill: float = 0


def layout_of(info: RunInfo) -> dict[str, ArrayLayout]:
    """Return the arrays of counts of a run by name, `measured` last."""
    n_det, n_line, (rows, cols) = len(info.detectors), len(info.lines), info.shape
    part = min(cols, SEGMENT)
    arrays = {
        "counts": ArrayLayout(
            (n_det, n_line, rows, cols), (n_det, n_line, 1, part), "uint32" if info.kind == "counts" else "float32"
        ),
        "i0": ArrayLayout((rows, cols), (1, part), "float32"),
        "live_time_s": ArrayLayout((n_det, rows, cols), (n_det, 1, part), "float32"),
    }
    if info.has_positions:
        arrays["positions"] = ArrayLayout((2, rows, cols), (2, 1, part), "float64", np.nan)
    arrays["measured"] = ArrayLayout((rows, cols), (1, part), "bool")
    return arrays


def map_layout(info: RunInfo) -> ArrayLayout:
    """Return the layout of every kind of map."""
    n_line, (rows, cols) = len(info.lines), info.shape
    return ArrayLayout((n_line, rows, cols), (n_line, min(MAP_ROWS, rows), min(cols, SEGMENT)), "float32")


def row_arrays(info: RunInfo) -> list[str]:
    """Return the arrays that have a file for every row that is measured, beside `measured`."""
    wanted = {"counts": True, "i0": info.has_i0, "live_time_s": info.has_live_time, "positions": info.has_positions}
    return [name for name, has in wanted.items() if has]


def create_array(group: zarr.Group, name: str, layout: ArrayLayout) -> None:
    """Make an empty array."""
    group.create_array(
        name,
        shape=layout.shape,
        chunks=layout.chunks,
        dtype=layout.dtype,
        compressors=[BloscCodec(**BLOSC), Crc32cCodec()],
        fill_value=False if layout.dtype == "bool" else layout.fill,
        config=CONFIG,
        overwrite=True,
    )
