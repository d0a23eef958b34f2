"""Our own files: HDF5, zarr and .npz with ``counts`` (detector, line, row, col), and NeXus that we wrote."""

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
    with path.open("rb") as stream, np.load(stream, allow_pickle=False) as archive:
        return _from_arrays(dict(archive), {}, path)


def read_hdf5(path: Path, file: h5py.File) -> MapFile | None:
    """Read the first group that holds ``counts``; None where there is none."""
    if "entry/process/program" in file and "entry/raw/data" in file:
        return _from_result(file)
    group = _find(file)
    if group is None:
        return None
    arrays = {k: v[()] for k, v in group.items() if isinstance(v, h5py.Dataset)}
    return _from_arrays(arrays, {**group.attrs, **group["counts"].attrs}, path)


def read_zarr(path: Path) -> MapFile:
    """Read ``counts`` from a zarr group (a run's buffer, or any other), or an array that is the counts."""
    import zarr

    try:
        group: Any = zarr.open(path, mode="r")
    except Exception as error:
        raise FileFormatError(f"{path} is a folder, but no zarr group or array") from error
    attributes: dict[str, Any] = dict(group.attrs)
    if isinstance(group, zarr.Array):
        return _from_arrays({"counts": np.asarray(group[...])}, attributes, path)
    if "counts" not in group:
        raise FileFormatError(f"{path} holds no array `counts` but {', '.join(group) or 'nothing'}; {WANTED}")
    attributes |= attributes.pop("info", {})
    names = [n for n in ("counts", "lines", "detectors", "i0", "live_time_s", "measured") if n in group]
    if attributes.get("has_i0") is False and "i0" in names:
        names.remove("i0")
    if attributes.get("has_live_time") is False and "live_time_s" in names:
        names.remove("live_time_s")
    return _from_arrays({n: np.asarray(group[n][...]) for n in names}, attributes, path)


def _from_result(file: h5py.File) -> MapFile:
    """Return the raw maps of a NeXus file that we wrote: the sum of its detectors, as one."""
    raw = file["entry/raw"]
    return MapFile(
        counts=raw["data"][()][None],
        lines=_strings(raw["line_names"][()]),
        detectors=("sum",),
        measured=file["entry/measured"][()],
    )


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
    counts = np.asarray(arrays["counts"])
    if counts.ndim != 4 or counts.dtype.kind not in "iuf":
        raise FileFormatError(f"{path}: `counts` is {counts.dtype} {counts.shape}; {WANTED}")
    if counts.dtype.kind == "i" and counts.min(initial=0) < 0:
        raise FileFormatError(f"{path}: negative counts; photon counts are >= 0, fitted areas must be floating point")
    detectors, n_line, *pixels = counts.shape
    lines = _strings(arrays.get("lines", attributes.get("lines")))
    if lines is not None and len(lines) != n_line:
        raise FileFormatError(f"{path}: counts {counts.shape} have {n_line} lines, `lines` names {', '.join(lines)}")
    for name, shape in (("i0", pixels), ("live_time_s", [detectors, *pixels]), ("measured", pixels)):
        if name in arrays and list(np.shape(arrays[name])) != shape:
            raise FileFormatError(f"{path}: `{name}` is {np.shape(arrays[name])}, the counts ask for {tuple(shape)}")
    known = {k: v for k, v in attributes.items() if k in keep and v is not None}
    if "dwell_s" in arrays:
        known["dwell_s"] = float(arrays["dwell_s"])
    return MapFile(
        counts=counts,
        lines=lines,
        detectors=_strings(arrays.get("detectors", attributes.get("detectors"))),
        i0=arrays.get("i0"),
        live_time_s=arrays.get("live_time_s"),
        measured=arrays.get("measured"),
        metadata=known,
    )


def _strings(values: Any) -> tuple[str, ...] | None:
    if values is None:
        return None
    if isinstance(values, str | bytes):
        values = json.loads(values)
    return tuple(v.decode() if isinstance(v, bytes) else str(v) for v in np.asarray(values).ravel().tolist())
