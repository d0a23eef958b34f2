"""Reads arrays by the files that are there: the cost follows what was written, not the announced size."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import zarr

_FEW = 256
"""So many files are asked for without looking first which are there."""


def chunk_folder(path: Path, array: zarr.Array[Any]) -> Path:
    """Return the folder whose entries are the numbers of the chunks of rows of the array at `path`."""
    return path.joinpath("c", *["0"] * (array.ndim - 2))


def numbers_in(folder: Path | str, low: int = 0, high: int | None = None) -> list[int]:
    """Return the names in a folder that are numbers from `low` to below `high`, in order."""
    try:
        with os.scandir(folder) as entries:
            found = [int(entry.name) for entry in entries if entry.name.isdecimal()]
    except (FileNotFoundError, NotADirectoryError):
        return []
    return sorted(n for n in found if n >= low and (high is None or n < high))


def spans(numbers: list[int]) -> Iterator[tuple[int, int]]:
    """Yield half-open spans of consecutive numbers."""
    first = 0
    for i, number in enumerate(numbers):
        if i + 1 == len(numbers) or numbers[i + 1] != number + 1:
            yield numbers[first], number + 1
            first = i + 1


def read_present(path: Path, array: zarr.Array[Any], rows: slice, cols: slice = slice(None)) -> npt.NDArray[Any]:
    """Return ``array[..., rows, cols]``; only files that are there are asked for.

    Parameters
    ----------
    path
        Folder of the array.
    rows, cols
        Slices of step 1.
    """
    n_rows, n_cols = array.shape[-2:]
    first, stop, _ = rows.indices(n_rows)
    left, right, _ = cols.indices(n_cols)
    high, wide = array.chunks[-2:]
    bands = range(first // high, -(-max(stop, first) // high))
    parts = range(left // wide, -(-max(right, left) // wide))
    if len(bands) * len(parts) <= _FEW or array.chunks[:-2] != array.shape[:-2]:
        return np.asarray(array[..., first:stop, left:right])
    shape = (*array.shape[:-2], max(0, stop - first), max(0, right - left))
    fill = array.fill_value
    out = np.zeros(shape, array.dtype) if not fill else np.full(shape, fill, array.dtype)
    folder = chunk_folder(path, array)
    there = numbers_in(folder, bands.start, bands.stop)
    for low, end in spans(there) if len(parts) == 1 else ((n, n + 1) for n in there):
        columns = (
            [(parts.start, parts.stop)]
            if len(parts) == 1
            else spans(numbers_in(folder / str(low), parts.start, parts.stop))
        )
        for part, part_end in columns:
            r = slice(max(low * high, first), min(end * high, stop))
            c = slice(max(part * wide, left), min(part_end * wide, right))
            values = array[..., r, c]
            out[..., r.start - first : r.stop - first, c.start - left : c.stop - left] = values
    return out
