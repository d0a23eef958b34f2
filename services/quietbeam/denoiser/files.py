"""Files in (HDF5, zarr, npz with ``counts``) and out (NeXus HDF5)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from quietbeam.core.errors import FileFormatError, InputError

from .offline import DenoiseResult

_WANTED = (
    "it must hold `counts` with axes (detector, line, row, col), "
    "and may hold `lines`, `detectors`, `i0`, `live_time_s`, `measured`"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class MapFile:
    """What a file holds; see :func:`quietbeam.denoise` for shapes."""

    counts: NDArray[Any]
    lines: tuple[str, ...] | None = None
    detectors: tuple[str, ...] | None = None
    i0: NDArray[Any] | None = None
    live_time_s: NDArray[Any] | None = None
    measured: NDArray[Any] | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)

    def select(self, lines: Sequence[str]) -> MapFile:
        """Keep only the named lines.

        Raises
        ------
        InputError
            When a line is not there.
        """
        have = self.lines or tuple(f"line_{i}" for i in range(self.counts.shape[1]))
        missing = [name for name in lines if name not in have]
        if missing:
            raise InputError(f"no line {', '.join(missing)} in the file; it has {', '.join(have)}")
        index = [have.index(name) for name in lines]
        return MapFile(
            counts=self.counts[:, index],
            lines=tuple(lines),
            detectors=self.detectors,
            i0=self.i0,
            live_time_s=self.live_time_s,
            measured=self.measured,
            metadata=self.metadata,
        )


def read_map(path: Path) -> MapFile:
    """Read a measured map.

    Raises
    ------
    FileFormatError
        When the file is not there, not readable, or holds no counts.
    """
    path = Path(path)
    if not path.exists():
        raise FileFormatError(f"{path} does not exist")
    try:
        if path.is_dir():
            return _read_zarr(path)
        if path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as archive:
                return _from_arrays(dict(archive), {}, path)
        if h5py.is_hdf5(path):
            with h5py.File(path, "r") as file:
                group = _find(file)
                if group is None:
                    raise FileFormatError(f"{path} holds no dataset `counts`; {_WANTED}")
                arrays = {k: v[()] for k, v in group.items() if isinstance(v, h5py.Dataset)}
                return _from_arrays(arrays, {**group.attrs, **group["counts"].attrs}, path)
    except FileFormatError:
        raise
    except (OSError, ValueError, KeyError) as error:
        raise FileFormatError(f"{path} cannot be read: {error}") from error
    raise FileFormatError(f"{path} is neither HDF5, zarr nor .npz; {_WANTED}")


def _read_zarr(path: Path) -> MapFile:
    import zarr

    try:
        group = zarr.open_group(path, mode="r")
    except Exception as error:
        raise FileFormatError(f"{path} is a folder, but no zarr group") from error
    if "counts" not in group:
        raise FileFormatError(f"{path} holds no array `counts`; {_WANTED}")
    attributes: dict[str, Any] = dict(group.attrs)
    attributes |= attributes.pop("info", {})
    names = [n for n in ("counts", "lines", "detectors", "i0", "live_time_s", "measured") if n in group]
    if attributes.get("has_i0") is False and "i0" in names:
        names.remove("i0")
    if attributes.get("has_live_time") is False and "live_time_s" in names:
        names.remove("live_time_s")
    return _from_arrays({n: np.asarray(group[n][...]) for n in names}, attributes, path)  # type: ignore[index]


def _find(group: h5py.Group) -> h5py.Group | None:
    """Return the first group, from the root down, that holds ``counts``."""
    if isinstance(group.get("counts"), h5py.Dataset):
        return group
    for child in group.values():
        if isinstance(child, h5py.Group) and (found := _find(child)) is not None:
            return found
    return None


def _from_arrays(arrays: Mapping[str, Any], attributes: Mapping[str, Any], path: Path) -> MapFile:
    if "counts" not in arrays:
        raise FileFormatError(f"{path} holds no `counts` but {', '.join(sorted(arrays)) or 'nothing'}; {_WANTED}")
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


def write_nexus(path: Path, result: DenoiseResult, *, source: str, settings: Mapping[str, Any]) -> None:
    """Write maps as NeXus HDF5, whole or not at all.

    Groups ``entry/denoised``, ``raw``, ``uncertainty`` are NXdata of (line, row, col); ``entry/process`` is the
    provenance with the evidence as JSON; ``entry/evidence`` holds it per line.
    """
    from quietbeam import __version__

    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    try:
        with h5py.File(partial, "w") as file:
            file.attrs["NX_class"], file.attrs["default"] = "NXroot", "entry"
            entry = _group(file, "entry", "NXentry")
            entry.attrs["default"] = "denoised"
            entry["title"] = f"quietbeam: {source}"
            entry["definition"] = "NXxrfmap"
            for name, image in (
                ("denoised", result.denoised),
                ("raw", result.raw),
                ("uncertainty", result.uncertainty),
            ):
                data = _group(entry, name, "NXdata")
                data.attrs["signal"], data.attrs["axes"] = "data", ["line", "row", "col"]
                stored = data.create_dataset("data", data=image, compression="gzip", compression_opts=1, shuffle=True)
                stored.attrs["units"] = "counts"
                data["line"] = np.arange(image.shape[0])
                data["row"], data["col"] = np.arange(image.shape[1]), np.arange(image.shape[2])
                data["line_names"] = np.array(result.lines, dtype=h5py.string_dtype())
                if name == "denoised":
                    data["data_errors"] = h5py.SoftLink("/entry/uncertainty/data")
            entry["measured"] = result.measured
            evidence = _group(entry, "evidence", "NXcollection")
            for line in result.evidence.lines:
                one = _group(evidence, line.line.replace("/", "_"), "NXcollection")
                for key, value in result.evidence.to_dict()["lines"][result.lines.index(line.line)].items():
                    if value is not None:
                        one.attrs[key] = json.dumps(value) if isinstance(value, dict) else value
            process = _group(entry, "process", "NXprocess")
            process["program"], process["version"] = "quietbeam", __version__
            process["evidence"] = json.dumps(result.evidence.to_dict())
            process["settings"] = json.dumps(dict(settings))
            process["detectors"] = np.array(result.detectors, dtype=h5py.string_dtype())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def _group(parent: h5py.Group, name: str, nx_class: str) -> h5py.Group:
    group = parent.create_group(name)
    group.attrs["NX_class"] = nx_class
    return group
