"""Our own files: HDF5, zarr and .npz with ``counts`` (detector, line, row, col)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from quietbeam.core.errors import FileFormatError

from .map_file import MapFile

WANTED = (
    "it must hold `counts` with axes (detector, line, row, col), "
    "and may hold `lines`, `detectors`, `i0`, `live_time_s`, `measured`"
)


def read_npz(path: Path) -> MapFile:
    """Read ``counts`` and what belongs to them from an .npz archive."""
    with np.load(path, allow_pickle=False) as archive:
        return _from_arrays(dict(archive), {}, path)


def read_hdf5(path: Path, file: h5py.File) -> MapFile | None:
    """Read the first group that holds ``counts``; None where there is none."""
    group = _find(file)
    if group is None:
        return None
    arrays = {k: v[()] for k, v in group.items() if isinstance(v, h5py.Dataset)}
    return _from_arrays(arrays, {**group.attrs, **group["counts"].attrs}, path)


def read_zarr(path: Path) -> MapFile:
    """Read ``counts`` from a zarr group: a run's buffer, or any other."""
    import zarr

    try:
        group = zarr.open_group(path, mode="r")
    except Exception as error:
        raise FileFormatError(f"{path} is a folder, but no zarr group") from error
    if "counts" not in group:
        raise FileFormatError(f"{path} holds no array `counts`; {WANTED}")
    attributes: dict[str, Any] = dict(group.attrs)
    attributes |= attributes.pop("info", {})
    names = [n for n in ("counts", "lines", "detectors", "i0", "live_time_s", "measured") if n in group]
    if attributes.get("has_i0") is False and "i0" in names:
        names.remove("i0")
    if attributes.get("has_live_time") is False and "live_time_s" in names:
        names.remove("live_time_s")
    return _from_arrays({n: np.asarray(group[n][...]) for n in names}, attributes, path)  # type: ignore[index]


def _find(group: h5py.Group) -> h5py.Group | None:
    """Return the first group, from the root down, that holds ``counts`` with four axes."""
    counts = group.get("counts")
    if isinstance(counts, h5py.Dataset) and counts.ndim == 4:
        return group
    for child in group.values():
        if isinstance(child, h5py.Group) and (found := _find(child)) is not None:
            return found
    return None


def _from_arrays(arrays: Mapping[str, Any], attributes: Mapping[str, Any], path: Path) -> MapFile:
    if "counts" not in arrays:
        raise FileFormatError(f"{path} holds no `counts` but {', '.join(sorted(arrays)) or 'nothing'}; {WANTED}")
    keep = ("uid", "run_uid", "scan_id", "plan", "step", "units", "source", "dwell_s")
    return MapFile(
        counts=np.asarray(arrays["counts"]),
        lines=_strings(arrays.get("lines", attributes.get("lines"))),
        detectors=_strings(arrays.get("detectors", attributes.get("detectors"))),
        i0=arrays.get("i0"),
        live_time_s=arrays.get("live_time_s"),
        measured=arrays.get("measured"),
        metadata={k: v for k, v in attributes.items() if k in keep and v is not None},
    )


def _strings(values: Any) -> tuple[str, ...] | None:
    if values is None:
        return None
    if isinstance(values, str | bytes):
        values = json.loads(values)
    return tuple(v.decode() if isinstance(v, bytes) else str(v) for v in np.asarray(values).ravel().tolist())
