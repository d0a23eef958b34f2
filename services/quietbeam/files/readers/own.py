"""Our own files: HDF5, zarr and .npz with ``counts`` (detector, line, row, col), and NeXus that we wrote."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from quietbeam.core.errors import FileFormatError, InputError
from quietbeam.core.hdf5 import gaps, refuse_missing_filters
from quietbeam.core.model.levels import even_step
from quietbeam.core.model.not_measured import usable_live_time
from quietbeam.core.model.rows import validate_rows
from quietbeam.core.model.types import PixelOrder, RunInfo
from quietbeam.spectra.maps import ORDERS, Axes

from ..map_file import MapFile
from ..run_axes import axes_of_run
from .counts import usable_lines
from .monitor import choose_i0
from .points import axes_of

WANTED = (
    "it must hold `counts` with axes (detector, line, row, col), "
    "and may hold `lines`, `detectors`, `i0`, `live_time_s`, `measured`"
)

_COMPANIONS = ("counts", "lines", "detectors", "i0", "live_time_s", "measured", "positions", "dwell_s")
_DEEPEST = 8
"""Groups in groups that are searched: links may lead in a circle."""


def read_npz(path: Path) -> MapFile:
    """Read ``counts`` and what belongs to them from an .npz archive."""
    with path.open("rb") as stream, np.load(stream, allow_pickle=False) as archive:
        return _from_arrays(arrays_of(path, archive), {}, path)


def arrays_of(path: Path, archive: Any) -> dict[str, Any]:
    """Return every array of an open .npz archive.

    Raises
    ------
    FileFormatError
        One holds Python objects, which only a pickle could bring back.
    """
    arrays = {}
    for name in archive.files:
        try:
            arrays[name] = archive[name]
        except ValueError as error:
            if "allow_pickle" not in str(error):
                raise
            raise FileFormatError(
                f"{path}: `{name}` holds Python objects; save it as numbers or as text (np.array(names, dtype=str))"
            ) from error
    return arrays


def read_hdf5(path: Path, file: h5py.File) -> MapFile | None:
    """Read the first group that holds ``counts``; None where there is none."""
    if "entry/process/program" in file and "entry/raw/data" in file:
        return _from_result(path, file)
    group = _find(file)
    if group is None:
        return None
    refuse_missing_filters(path, group["counts"])
    arrays = {name: group[name][()] for name in _COMPANIONS if isinstance(group.get(name), h5py.Dataset)}
    map_file = _from_arrays(arrays, {**group.attrs, **group["counts"].attrs}, path)
    missing = gaps(group["counts"])
    if not missing:
        return map_file
    measured = np.ones(map_file.counts.shape[2:], bool) if map_file.measured is None else map_file.measured.copy()
    for gap in missing:
        measured[gap.begin[2] : gap.end[2], gap.begin[3] : gap.end[3]] = False
    remark = f"pixels are not measured, because data are missing: {'; '.join(dict.fromkeys(g.source for g in missing))}"
    return replace(map_file, measured=measured, remark="; ".join(filter(None, (map_file.remark, remark))))


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
    names = [n for n in _COMPANIONS if n in group]
    if attributes.get("has_i0") is False and "i0" in names:
        names.remove("i0")
    if attributes.get("has_live_time") is False and "live_time_s" in names:
        names.remove("live_time_s")
    found = _from_arrays({n: np.asarray(group[n][...]) for n in names}, attributes, path)
    return _as_run(found, attributes, group)


def _as_run(found: MapFile, attributes: Mapping[str, Any], group: Any) -> MapFile:
    """Return the map of a run's buffer with the axes and the order that ingest found; any other map as it is."""
    if not {"uid", "shape", "lines", "detectors", "position_axes"} <= attributes.keys():
        return found
    info = RunInfo.from_dict(attributes)
    has_positions = info.has_positions and info.positions_in_units and "positions" in group
    positions = np.asarray(group["positions"][...]) if has_positions else None
    if positions is not None and info.axes != info.position_axes:
        positions = positions[::-1]
    return replace(
        found,
        axes=axes_of_run(info, positions),
        order=info.order.value,
        metadata={**found.metadata, "start": dict(info.metadata)},
    )


def _from_result(path: Path, file: h5py.File) -> MapFile:
    """Return the raw maps of a NeXus file that we wrote: the sum of its detectors, as one."""
    raw, process = file["entry/raw"], file["entry/process"]
    evidence = json.loads(process["evidence"][()]) if "evidence" in process else {}
    measured = file["entry/measured"][()].astype(bool)
    found = published(path.name, raw["data"][()], _strings(raw["line_names"][()]), measured, evidence)
    order = _text(file, "entry/pixel_order")
    metadata = {"uid": _text(file, "entry/run_uid"), "plan": _text(file, "entry/plan")}
    return replace(
        found,
        axes=_axes_of_result(file),
        order=PixelOrder(order).value if order else "",
        metadata={name: text for name, text in metadata.items() if text},
    )


def _text(file: h5py.File, name: str) -> str:
    return file[name][()].decode() if name in file else ""


def _axes_of_result(file: h5py.File) -> Axes | None:
    """Return the axes of a NeXus file that we wrote; None where they are indices."""
    row, col = file["entry/raw/row"], file["entry/raw/col"]
    units, names = str(col.attrs.get("units", "")), tuple(str(axis.attrs.get("long_name", "")) for axis in (row, col))
    if units in ("", "pixel") and "entry/positions" not in file:
        return None
    even = [even_step(axis[()]) for axis in (row, col)]
    positions = None
    if "entry/positions" in file:
        positions = np.stack([file[f"entry/positions/{name}"][()] for name in ("row", "col")])
    known = all(found is not None or len(axis) == 1 for found, axis in zip(even, (row, col), strict=True))
    return Axes(
        origin=(float(row[0]), float(col[0])),
        step=(even[0][1] if even[0] else 0.0, even[1][1] if even[1] else 0.0) if known and any(even) else None,
        units=units,
        names=(names[0], names[1]),
        positions=positions,
    )


def published(
    name: str, raw: NDArray[Any], lines: tuple[str, ...] | None, measured: NDArray[Any], evidence: Mapping[str, Any]
) -> MapFile:
    """Return raw maps (line, row, col) that quietbeam published as one detector: counts if they are whole numbers.

    A sum weighted by gains and exposures is whole up to rounding, or not at all.
    """
    counts = raw[None]
    remark = f"{name} is a result of quietbeam: what is denoised is its raw map, the sum of its detectors, as "
    if evidence.get("kind", "counts") == "counts" and np.allclose(
        counts, np.rint(counts), rtol=2e-6, atol=1e-4, equal_nan=True
    ):
        counts, remark = np.rint(counts), remark + "counts of one detector"
    else:
        remark += "areas of one detector, for which no gain can be tested, since it is not in whole counts"
    return MapFile(counts=counts, lines=lines, detectors=("sum",), measured=measured, remark=remark)


def _find(group: h5py.Group, depth: int = 0) -> h5py.Group | None:
    """Return the first group, from the root down, that holds ``counts`` with four axes."""
    counts = group.get("counts")
    if isinstance(counts, h5py.Dataset) and counts.ndim == 4:
        return group
    for name in group if depth < _DEEPEST else ():
        child = group.get(name)  # None for a link that leads nowhere
        if isinstance(child, h5py.Group) and (found := _find(child, depth + 1)) is not None:
            return found
    return None


def _from_arrays(arrays: Mapping[str, Any], attributes: Mapping[str, Any], path: Path) -> MapFile:
    if "counts" not in arrays:
        raise FileFormatError(f"{path} holds no `counts` but {', '.join(sorted(arrays)) or 'nothing'}; {WANTED}")
    keep = ("uid", "run_uid", "scan_id", "plan", "step", "units", "source", "dwell_s")
    counts = np.asarray(arrays["counts"])
    usable: NDArray[np.bool_] | None = None
    remarks: tuple[str, ...] = ()
    if counts.ndim == 4 and counts.size and counts.dtype.kind in "iuf":
        counts, usable, remarks = usable_lines(path, counts)
    try:
        validate_rows(counts)
    except InputError as error:
        raise FileFormatError(f"{path}: `counts` is {counts.dtype} {counts.shape}: {error}; {WANTED}") from error
    detectors, n_line, *pixels = counts.shape
    lines = _strings(arrays.get("lines", attributes.get("lines")))
    if lines is not None and len(lines) != n_line:
        raise FileFormatError(f"{path}: counts {counts.shape} have {n_line} lines, `lines` names {', '.join(lines)}")
    i0, measured = (_pixels(path, name, arrays, (*pixels,)) for name in ("i0", "measured"))
    full = (detectors, *pixels)
    live = _pixels(path, "live_time_s", arrays, full, (*pixels,))
    metadata = {k: v for k, v in attributes.items() if k in keep and v is not None}
    if "dwell_s" in arrays:
        metadata["dwell_s"] = float(arrays["dwell_s"])
    masks = [] if measured is None else [measured.astype(bool)]
    if usable is not None:
        masks.append(usable)
    if i0 is not None:
        monitor = choose_i0({"i0": i0}, lambda _: True, present=masks[0] if masks else None)
        i0, metadata["i0"] = monitor.i0, "i0" if monitor.i0 is not None else "none"
        if monitor.measured is None or not monitor.measured.all():
            remarks += (monitor.remark,)
            masks += [] if monitor.measured is None else [monitor.measured]
    if live is not None:
        live, live_pixels, live_remarks = _live_time(np.broadcast_to(live, full))
        masks, remarks = [*masks, live_pixels] if not live_pixels.all() else masks, remarks + live_remarks
    return MapFile(
        counts=counts,
        lines=lines,
        detectors=_strings(arrays.get("detectors", attributes.get("detectors"))),
        i0=i0,
        live_time_s=live,
        measured=np.logical_and.reduce(masks) if masks else None,
        metadata=metadata,
        remark="; ".join(remarks),
        axes=_axes(arrays, attributes, (pixels[0], pixels[1])),
        order=next((order for order in ORDERS if order == attributes.get("order")), ""),
    )


def _live_time(live: NDArray[Any]) -> tuple[NDArray[Any] | None, NDArray[np.bool_], tuple[str, ...]]:
    """Return live times (detector, row, col), where a detector was alive, and a remark if none ever was."""
    values, live_pixels = usable_live_time(live)
    if live_pixels.any():
        return values, live_pixels, ()
    return None, np.ones_like(live_pixels), ("live times are nowhere positive, and were left out",)


def _axes(arrays: Mapping[str, Any], attributes: Mapping[str, Any], shape: tuple[int, int]) -> Axes | None:
    """Return where the pixels lie, from ``positions`` (2, row, col) or from ``origin`` and ``step``."""
    units = str(attributes.get("units") or "")
    names, announced = (tuple(map(str, attributes.get(name) or ())) for name in ("axes", "position_axes"))
    motors = (names[0], names[1]) if len(names) == 2 else ("", "")
    pairs = [attributes.get(name) for name in ("origin", "step")]
    origin, step = ((float(p[0]), float(p[1])) if p is not None and np.shape(p) == (2,) else None for p in pairs)
    positions = arrays.get("positions")
    if positions is None or np.shape(positions) != (2, *shape) or np.isnan(positions).all():
        return Axes(origin=origin, step=step, units=units, names=motors) if origin or step else None
    values = np.asarray(positions, float)
    found = axes_of(values[::-1] if announced and announced != names else values, motors, units)
    return replace(found, origin=origin or found.origin, step=step or found.step)


def _pixels(path: Path, name: str, arrays: Mapping[str, Any], *shapes: tuple[int, ...]) -> Any:
    """Return what belongs to the pixels, None where it is not there."""
    if name not in arrays:
        return None
    values = np.asarray(arrays[name])
    if values.shape not in shapes:
        raise FileFormatError(f"{path}: `{name}` is {values.shape}, the counts ask for {' or '.join(map(str, shapes))}")
    if values.dtype.kind not in "biuf":
        raise FileFormatError(f"{path}: `{name}` is {values.dtype}, it must be numbers")
    if name == "measured" and np.isnan(values).any():
        raise FileFormatError(f"{path}: `measured` holds NaN, it must be true or false")
    return values


def _strings(values: Any) -> tuple[str, ...] | None:
    """Return names from an array of them, or from one text: JSON, or with commas."""
    if values is None:
        return None
    if np.ndim(values) == 0:
        (text,) = _strings([np.asarray(values).item()]) or ("",)
        values = json.loads(text) if text.startswith("[") else [name.strip() for name in text.split(",")]
    return tuple(v.decode() if isinstance(v, bytes) else str(v) for v in np.asarray(values).ravel().tolist())
