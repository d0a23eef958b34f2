"""BLISS files of the ESRF: ``N.1/measurement`` with spectra (point, channel) of every detector."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from quietbeam.core.errors import FileFormatError
from quietbeam.spectra import MapInfo, SpectralMap

from .calibration import calibration_of, refuse_giants

_SCAN = re.compile(r"^\d+\.1$")
_MCA = re.compile(r"^(?P<name>.*?(?:mca|det)_?(?P<number>\d+))$")
_MESH = re.compile(r"^(?:a|d)?mesh\s+(\S+)\s+\S+\s+\S+\s+(\d+)\s+(\S+)\s+\S+\s+\S+\s+(\d+)\s+(\S+)")
_FSCAN = re.compile(r"^f\w*scan2d\s+(\S+)\s+\S+\s+\S+\s+(\d+)\s+(\S+)\s+\S+\s+\S+\s+(\d+)\s+(\S+)")
DEFAULT_CALIBRATION = (0.0, 0.01)


def is_bliss(file: h5py.File) -> bool:
    """True for a file with scans ``N.1`` that have a measurement."""
    return any(_SCAN.match(name) and "measurement" in file[name] for name in file)


def read_bliss(path: Path, file: h5py.File, calibration: Path | None) -> SpectralMap:
    """Read the first scan over two axes with spectra; an interrupted one is filled up with pixels not measured."""
    scans = sorted((n for n in file if _SCAN.match(n) and "measurement" in file[n]), key=lambda n: int(n[:-2]))
    for scan in scans:
        found = _detectors(file[scan]["measurement"])
        if found:
            return _read_scan(path, file[scan], found, calibration)
    raise FileFormatError(f"{path}: none of the scans {', '.join(scans)} has spectra (point, channel) of a detector")


def _detectors(measurement: h5py.Group) -> dict[str, h5py.Dataset]:
    """Return the datasets of spectra, by detector, in the order of their numbers."""
    found = {}
    for name in measurement:
        match, data = _MCA.match(name), measurement.get(name)
        if match and isinstance(data, h5py.Dataset) and data.ndim in (2, 3) and data.shape[-1] >= 128:
            found[int(match["number"]), name] = data
    return {name: data for (_, name), data in sorted(found.items())}


def _read_scan(path: Path, entry: h5py.Group, found: dict[str, h5py.Dataset], calibration: Path | None) -> SpectralMap:
    arrays = list(found.values())
    if len({a.shape for a in arrays}) > 1:
        raise FileFormatError(f"{path}: its detectors have different shapes: {', '.join(str(a.shape) for a in arrays)}")
    refuse_giants(path, sum(a.nbytes for a in arrays))
    rows, cols = arrays[0].shape[:2] if arrays[0].ndim == 3 else _shape(path, entry, arrays[0].shape[0])

    def grid(values: Any) -> Any:
        flat = np.asarray(values)
        flat = flat.reshape(-1, *flat.shape[2:]) if flat.ndim > 1 and flat.shape[:2] == (rows, cols) else flat
        out = np.zeros((rows * cols, *flat.shape[1:]), flat.dtype)
        out[: len(flat)] = flat[: rows * cols]
        return out.reshape(rows, cols, *flat.shape[1:])

    spectra: Any = np.stack([grid(a[()]) for a in arrays], axis=2)
    if spectra.dtype.kind == "f" and np.array_equal(spectra, np.rint(spectra)):
        spectra = spectra.astype(np.int64)
    if spectra.dtype.kind not in "iu" or spectra.min() < 0:
        raise FileFormatError(f"{path}: spectra of type {spectra.dtype}, smallest value {spectra.min()}, are no counts")
    measurement = entry["measurement"]
    live = [_beside(entry, measurement, name, ("live_time", "trigger_live_time")) for name in found]
    real = _beside(entry, measurement, next(iter(found)), ("elapsed_time", "real_time"))
    i0 = next((grid(measurement[n][()]).astype(float) for n in ("I0", "i0") if n in measurement), None)
    info = MapInfo(
        source=path.name,
        detectors=tuple(found),
        shape=(rows, cols),
        live_time_s=np.stack([grid(v) for v in live]).astype(float) if all(v is not None for v in live) else None,
        i0=i0,
        dwell_s=None if real is None else float(np.median(real)),
        measured=None if arrays[0].ndim == 3 else (np.arange(rows * cols) < arrays[0].shape[0]).reshape(rows, cols),
    )
    header = [list(DEFAULT_CALIBRATION)] * len(arrays)
    return SpectralMap(info=info, spectra=spectra, calibration=calibration_of(path, calibration, len(arrays), header))


def _beside(entry: h5py.Group, measurement: h5py.Group, detector: str, names: tuple[str, ...]) -> Any:
    """Return a counter of a detector, from beside its spectra or from its NXdetector."""
    for name in names:
        if f"{detector}_{name}" in measurement:
            return measurement[f"{detector}_{name}"][()]
        if f"instrument/{detector}/{name}" in entry:
            return entry[f"instrument/{detector}/{name}"][()]
    return None


def _shape(path: Path, entry: h5py.Group, points: int) -> tuple[int, int]:
    """Return (row, col) of a scan by its title, as ``amesh fast 0 9 9 slow 0 4 4 0.1``, or by its motors."""
    title = entry["title"][()] if "title" in entry else b""
    text = title.decode() if isinstance(title, bytes) else str(title)
    if match := _MESH.match(text.strip()):
        return int(match[4]) + 1, int(match[2]) + 1
    if match := _FSCAN.match(text.strip()):
        return int(match[2]), int(match[4])
    positions = entry["measurement"]
    for name in positions:
        data = positions[name]
        if not isinstance(data, h5py.Dataset) or data.shape != (points,) or data.dtype.kind not in "iuf":
            continue
        values = np.asarray(data[()], float)
        jumps = np.flatnonzero(np.abs(np.diff(values)) > 1e-6 * max(float(np.ptp(values)), 1e-30))
        if jumps.size and points % (cols := int(jumps[0]) + 1) == 0 and cols > 1 and (np.diff(jumps) == cols).all():
            return points // cols, cols  # a motor that stands still for a row at a time
    raise FileFormatError(f"{path}: the {points} points of scan {entry.name} have no known grid (title {text[:60]!r})")
