"""HDF5 files as they lie there: opened without a lock, with every filter, and with missing parts named."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import hdf5plugin
import numpy as np

from .errors import FileFormatError

KNOWN_FILTERS = len(hdf5plugin.get_filters())
"""Compression filters that importing hdf5plugin has registered with HDF5."""


@contextmanager
def open_hdf5(path: Path | str) -> Iterator[h5py.File]:
    """Open a file for reading without a lock, so that neither the writer nor the reader waits for the other.

    A file that its writer holds open in the newest format is read as single-writer, multiple-reader.
    """
    with _opened(path) as file:
        yield file


def _opened(path: Path | str) -> h5py.File:
    try:
        return h5py.File(path, "r", locking=False)
    except OSError as error:
        with suppress(OSError, ValueError):
            return h5py.File(path, "r", locking=False, swmr=True)
        if "already open for write" in str(error):
            raise FileFormatError(
                f"{path} is being written in a way that nobody else can read (libver='latest' without SWMR): "
                "wait until its program has closed it"
            ) from error
        raise


def missing_filters(dataset: h5py.Dataset) -> list[str]:
    """Return the compression filters of a dataset that cannot be undone here, by number and name."""
    properties = dataset.id.get_create_plist()
    missing = []
    for n in range(properties.get_nfilters()):
        code, _, _, name = properties.get_filter(n)
        if not h5py.h5z.filter_avail(code):
            missing.append(f"{code} ({name.decode(errors='replace') or 'without a name'})")
    return missing


def refuse_missing_filters(path: Path | str, dataset: h5py.Dataset) -> None:
    """Raise when a dataset is compressed with an unknown filter.

    Raises
    ------
    FileFormatError
        The message names the filter.
    """
    missing = missing_filters(dataset)
    if missing:
        raise FileFormatError(
            f"{path}: {dataset.name} is compressed with the HDF5 filter {', '.join(missing)}, which is not installed; "
            "install its plugin and set HDF5_PLUGIN_PATH, or repack the file (h5repack -f GZIP=1)"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Gap:
    """A part of a dataset that lies in a file which is not there, or is too short.

    Attributes
    ----------
    source
        The file and what is missing of it.
    begin, end
        First index and the one after the last, for each axis.
    """

    source: str
    begin: tuple[int, ...]
    end: tuple[int, ...]


def gaps(dataset: h5py.Dataset) -> list[Gap]:
    """Return the parts of a dataset that were never written: sources that are missing, and chunks.

    HDF5 itself fills them with zeros and says nothing.
    """
    if dataset.is_virtual:
        return _virtual_gaps(dataset)
    if dataset.external:
        return _external_gaps(dataset)
    return _chunk_gaps(dataset)


def _folder(dataset: h5py.Dataset) -> Path:
    return Path(dataset.file.filename).resolve().parent


def _virtual_gaps(dataset: h5py.Dataset) -> list[Gap]:
    found = []
    for source in dataset.virtual_sources():
        low, high = source.vspace.get_select_bounds()
        begin, end = tuple(map(int, low)), tuple(int(n) + 1 for n in high)
        end = tuple(min(stop, length) for stop, length in zip(end, dataset.shape, strict=True))
        if "%" in source.file_name:  # a series of files by number: HDF5 counts how many there are
            continue
        here = source.file_name == "."
        path = Path(dataset.file.filename) if here else _folder(dataset) / source.file_name
        problem, lacking = _problem_of_source(path, source)
        if problem:
            begin = (max(begin[0], end[0] - lacking), *begin[1:]) if lacking else begin
            found.append(Gap(source=f"{path} ({problem})", begin=begin, end=end))
    return found


def _problem_of_source(path: Path, source: Any) -> tuple[str, int]:
    """Return what is wrong with the file behind a virtual dataset, and how many frames it lacks (0: all)."""
    if not path.exists():
        return "it does not exist", 0
    try:
        with open_hdf5(path) as file:
            data = file.get(source.dset_name)
            if not isinstance(data, h5py.Dataset):
                return f"it has no {source.dset_name}", 0
            missing = missing_filters(data)
            if missing:
                return f"HDF5 filter {', '.join(missing)} is not installed", 0
            wanted = _frames_of(source, data)
            lacking = wanted - data.shape[0]
            return (f"it has {data.shape[0]} of {wanted} frames", lacking) if lacking > 0 else ("", 0)
    except OSError as error:
        return f"it cannot be opened: {error}", 0


def _frames_of(source: Any, data: h5py.Dataset) -> int:
    """Return how many frames of its source a virtual dataset reaches for."""
    if source.src_space.get_select_type() == h5py.h5s.SEL_ALL:
        return int(source.vspace.get_select_npoints()) // max(int(np.prod(data.shape[1:])), 1)
    return int(source.src_space.get_select_bounds()[1][0]) + 1


def _external_gaps(dataset: h5py.Dataset) -> list[Gap]:
    """Return raw data in files of their own: what lies behind the end of the first missing one cannot be read."""
    for name, offset, size in dataset.external:
        path = _folder(dataset) / name
        whole = int(np.prod(dataset.shape)) * dataset.dtype.itemsize
        wanted = whole if size >= 2**63 else size
        if not path.exists() or path.stat().st_size < offset + wanted:
            problem = "it is too short" if path.exists() else "it does not exist"
            return [Gap(source=f"{path} ({problem})", begin=(0,) * dataset.ndim, end=dataset.shape)]
    return []


def _chunk_gaps(dataset: h5py.Dataset) -> list[Gap]:
    """Return the end of a dataset whose chunks its writer never wrote: it made room for a scan that was stopped."""
    if dataset.chunks is None or 0 in dataset.shape:
        return []
    written = dataset.id.get_num_chunks()
    grid = [-(-length // size) for length, size in zip(dataset.shape, dataset.chunks, strict=True)]
    if written == 0 or written >= np.prod(grid):
        return []
    first: list[int] = []
    dataset.id.chunk_iter(lambda chunk: first.append(int(chunk.chunk_offset[0])))
    end = max(first) + dataset.chunks[0]
    if end >= dataset.shape[0]:
        return []
    source = f"{dataset.file.filename} (nothing was written behind frame {end})"
    return [Gap(source=source, begin=(end, *[0] * (dataset.ndim - 1)), end=dataset.shape)]


def broken_links(group: h5py.Group) -> dict[str, str]:
    """Return the links of a group that lead nowhere, by name, with the file or path that they lead to."""
    broken = {}
    for name in group:
        link = group.get(name, getlink=True)
        if isinstance(link, h5py.HardLink):
            continue
        try:
            group[name]
        except (KeyError, OSError) as error:
            target = getattr(link, "filename", "")
            broken[name] = f"{target}:{link.path}" if target else f"{link.path} ({str(error)[:120]})"
    return broken
