"""BLISS files of the ESRF: ``N.1/measurement`` with spectra (point, channel) of every detector."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from quietbeam.core.errors import FileFormatError, InputError
from quietbeam.core.hdf5 import broken_links
from quietbeam.core.model.not_measured import as_numbers, usable_live_time
from quietbeam.core.model.types import BoolArray, Float64Array
from quietbeam.spectra import MapInfo, SpectralMap

from ..choice import ReadChoice, command_line
from .calibration import calibration_of, refuse_giants
from .hdf5_spectra import OpenedSpectra, open_spectra
from .monitor import choose_i0
from .points import Placement, by_positions, checked, find_axes, in_order

_SCAN = re.compile(r"^\d+\.1$")
_MCA = re.compile(r"^(?P<name>.*?(?:mca|det)_?(?P<number>\d+))$")
_MESH = re.compile(r"^(?:a|d)?mesh\s+(\S+)\s+\S+\s+\S+\s+(\d+)\s+(\S+)\s+\S+\s+\S+\s+(\d+)\s+(\S+)")
_FSCAN = re.compile(r"^f\w*scan2d\s+(\S+)\s+\S+\s+\S+\s+(\d+)\s+(\S+)\s+\S+\s+\S+\s+(\d+)\s+(\S+)")
_LINE = re.compile(r"^(?:a|d|f|l|r)\w*scan\s+(\S+)")
_NO_MAP = re.compile(r"^(?:ct|loopscan|timescan|sct|ftimescan)\b")
DEFAULT_CALIBRATION = (0.0, 0.01)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Scan:
    """One scan of a file.

    Attributes
    ----------
    detectors
        Names in ``measurement`` of datasets of spectra.
    points
        Number of spectra, or (row, col).
    """

    name: str
    title: str
    detectors: tuple[str, ...]
    points: tuple[int, ...]

    @property
    def announced(self) -> tuple[tuple[int, int], tuple[str, str]] | None:
        """Return (row, col) and the motors of both axes, where the title says so."""
        if match := _MESH.match(self.title):
            return (int(match[4]) + 1, int(match[2]) + 1), (match[3], match[1])
        if match := _FSCAN.match(self.title):
            return (int(match[2]), int(match[4])), (match[1], match[3])
        return None

    @property
    def rank(self) -> int:
        """Return 2 for a map, 1 for what may be one, 0 for a scan along a line, -1 for one without any axis."""
        if len(self.points) == 2 or self.announced:
            return 2
        if _NO_MAP.match(self.title) or self.points[0] < 2:
            return -1
        return 0 if _LINE.match(self.title) and "2d" not in self.title.split()[0] else 1

    @property
    def label(self) -> str:
        return f"{self.name} ({self.title[:60] or 'no title'})"


def is_bliss(file: h5py.File) -> bool:
    """True for a file with scans ``N.1`` that have a measurement."""
    return any(_SCAN.match(name) and "measurement" in file[name] for name in file if file.get(name) is not None)


def read_bliss(path: Path, file: h5py.File, calibration: Path | None, choice: ReadChoice) -> SpectralMap:
    """Read the chosen scan, else the first map with spectra; an interrupted one has pixels that are not measured."""
    choice.refuse_others(path, "a BLISS file", "scan", "shape", "snake", "i0", "energy")
    scan, others = _choose(path, file, choice)
    spectral = _read_scan(path, file, scan, calibration, choice)
    remark = f"scan {scan.label} was read"
    if others:
        remark += f"; other maps in the file: {', '.join(other.name for other in others)} (--scan)"
    return replace(spectral, info=replace(spectral.info, remarks=(remark, *spectral.info.remarks)))


def _scans(file: h5py.File) -> list[_Scan]:
    names = sorted((n for n in file if _SCAN.match(n)), key=lambda n: int(n[:-2]))
    found = []
    for name in names:
        entry = file.get(name)
        if isinstance(entry, h5py.Group) and isinstance(entry.get("measurement"), h5py.Group):
            detectors = _detectors(entry["measurement"])
            points = detectors and next(iter(detectors.values())).shape[:-1]
            found.append(
                _Scan(name=name, title=_text(entry, "title"), detectors=tuple(detectors), points=tuple(points or (0,)))
            )
    return found


def _choose(path: Path, file: h5py.File, choice: ReadChoice) -> tuple[_Scan, list[_Scan]]:
    """Return the scan to read, and the other maps of the file."""
    scans = _scans(file)
    usable = [scan for scan in scans if scan.detectors]
    listed = ", ".join(scan.label for scan in usable[:8]) + (" ..." if len(usable) > 8 else "")
    if choice.scan:
        wanted = choice.scan if "." in choice.scan else f"{choice.scan}.1"
        scan = next((candidate for candidate in usable if candidate.name == wanted), None)
        if scan is None:
            raise InputError(f"{path} has no scan {choice.scan} with spectra; there are {listed or 'none'}")
        return scan, []
    if not usable:
        broken = [f"{s.name}/{k} -> {v}" for s in scans for k, v in broken_links(file[s.name]["measurement"]).items()]
        why = f"; these links lead nowhere: {', '.join(broken[:4])}" if broken else ""
        names = ", ".join(scan.label for scan in scans[:8])
        raise FileFormatError(f"{path}: none of the scans {names} has spectra (point, channel) of a detector{why}")
    best = max(scan.rank for scan in usable)
    if best < 0:
        raise FileFormatError(f"{path} holds no map: its scans with spectra are {listed}")
    maps = [scan for scan in usable if scan.rank == best]
    return maps[0], maps[1:]


def _text(entry: h5py.Group, name: str) -> str:
    value = entry[name][()] if isinstance(entry.get(name), h5py.Dataset) else b""
    return (value.decode(errors="replace") if isinstance(value, bytes) else str(value)).strip()


def _detectors(measurement: h5py.Group) -> dict[str, h5py.Dataset]:
    """Return the datasets of spectra, by detector, in the order of their numbers; one of several names for the same."""
    found = {}
    for name in measurement:
        match, data = _MCA.match(name), measurement.get(name)
        if match and isinstance(data, h5py.Dataset) and data.ndim in (2, 3) and data.shape[-1] >= 128:
            found[int(match["number"]), name] = data
    addresses: set[Any] = set()
    distinct = {}
    for (_, name), data in sorted(found.items()):
        where = (data.file.filename, h5py.h5o.get_info(data.id).addr)
        if where not in addresses:
            distinct[name] = data
        addresses.add(where)
    return distinct


def _read_scan(path: Path, file: h5py.File, scan: _Scan, calibration: Path | None, choice: ReadChoice) -> SpectralMap:
    entry = file[scan.name]
    measurement = entry["measurement"]
    flat = len(scan.points) == 1
    axes = ("point", "channel") if flat else ("row", "col", "channel")
    refuse_giants(path, 4 * int(np.prod(scan.points)) * len(scan.detectors))
    spectra = open_spectra(path, file, [(f"{scan.name}/measurement/{name}", axes) for name in scan.detectors])
    placement = _place(path, entry, scan, spectra, choice)

    def grid(values: Any) -> Any:
        array = as_numbers(values)
        return placement.sum(array.reshape(-1) if array.ndim > 1 else array)

    columns = _columns(measurement, spectra.source.shape[0], scan.detectors)
    measured = placement.measured & _grid_of(placement, spectra.present)
    monitor = choose_i0({n: grid(v) for n, v in columns.items()}, lambda n: n.lower() == "i0", choice.i0, measured)
    live = [_detector_times(entry, measurement, name, ("live_time", "trigger_live_time")) for name in scan.detectors]
    real = _detector_times(entry, measurement, scan.detectors[0], ("elapsed_time", "real_time"))
    live_time, live_pixels = None, None
    if all(v is not None for v in live):
        live_time, live_pixels = usable_live_time(np.stack([grid(v) for v in live]))
    header = [list(DEFAULT_CALIBRATION)] * len(scan.detectors)
    energies = calibration_of(path, calibration, len(scan.detectors), header, choice, assumed=True)
    broken = {k: v for k, v in broken_links(measurement).items() if _MCA.match(k)}
    links = tuple(
        f"detector {name} is left out: it lies in {target}, which is not there" for name, target in broken.items()
    )
    for part in (monitor.measured, live_pixels):
        measured = measured if part is None else measured & part
    info = MapInfo(
        source=path.name,
        detectors=scan.detectors,
        shape=placement.shape,
        live_time_s=live_time,
        i0=monitor.i0,
        dwell_s=None if real is None else float(np.median(real)),
        measured=measured,
        axes=placement.axes,
        order=placement.order,
        remarks=(*placement.remarks, *spectra.remarks, *links, *energies.remarks, monitor.remark),
    )
    return SpectralMap(info=info, spectra=spectra.source, calibration=energies.kev, pixels=placement.pixels)


def _grid_of(placement: Placement, present: BoolArray) -> BoolArray:
    """Return (row, col): no point of the pixel is missing."""
    return np.asarray(placement.sum((~present).astype(np.int64)) == 0)


def _columns(measurement: h5py.Group, points: int, detectors: tuple[str, ...]) -> dict[str, Float64Array]:
    """Return the numbers of every point by name, but not what belongs to a detector."""
    found = {}
    for name in measurement:
        data = measurement.get(name)
        if not isinstance(data, h5py.Dataset) or data.dtype.kind not in "iuf" or name.startswith(detectors):
            continue
        if data.size and abs(data.size - points) <= max(points // 50, 2) and data.ndim <= 2:
            values = np.full(points, np.nan)
            flat = np.asarray(data[()], float).ravel()[:points]
            values[: len(flat)] = flat
            found[name] = values
    return found


def _detector_times(entry: h5py.Group, measurement: h5py.Group, detector: str, names: tuple[str, ...]) -> Any:
    """Return a counter of a detector, from beside its spectra or from its NXdetector."""
    for name in names:
        if isinstance(measurement.get(f"{detector}_{name}"), h5py.Dataset):
            return measurement[f"{detector}_{name}"][()]
        if isinstance(entry.get(f"instrument/{detector}/{name}"), h5py.Dataset):
            return entry[f"instrument/{detector}/{name}"][()]
    return None


def _place(path: Path, entry: h5py.Group, scan: _Scan, spectra: OpenedSpectra, choice: ReadChoice) -> Placement:
    """Return where the points lie: as the user says, else the title, which the motors check, else the motors."""
    points = spectra.source.shape[0]
    shape = choice.shape or spectra.grid
    if shape is not None:
        return in_order(points, shape, snake=bool(choice.snake))
    columns = _columns(entry["measurement"], points, scan.detectors)
    if scan.announced is not None:
        shape, motors = scan.announced
        announced = in_order(points, shape, snake=bool(choice.snake))
        slow, fast = (columns.get(name) for name in motors)
        if choice.snake is None and slow is not None and fast is not None:
            return _placed(path, scan, lambda: checked(announced, slow, fast, motors))
        return announced
    positioners = entry.get("instrument/positioners")
    named = {k: v for k, v in columns.items() if isinstance(positioners, h5py.Group) and k in positioners}
    if scan.rank == 0:
        return _one_row(scan, columns, points)
    found = find_axes(named) or find_axes(columns)
    if found is not None:
        return _placed(path, scan, lambda: by_positions(columns[found[0]], columns[found[1]], found))
    moving = [name for name, values in named.items() if np.isfinite(values).any() and np.nanstd(values) > 0]
    if len(moving) == 2:
        return _placed(path, scan, lambda: by_positions(columns[moving[0]], columns[moving[1]], (moving[0], moving[1])))
    if (rows := _standing_rows(named or columns, points)) is not None:
        remark = "the fast motor is not recorded: all rows are taken to run in one direction (else say --snake)"
        return replace(in_order(points, rows), remarks=(remark,))
    raise _no_grid(path, scan, points, "no two of its motors make a grid")


def _standing_rows(columns: dict[str, Float64Array], points: int) -> tuple[int, int] | None:
    """Return (row, col) by a motor that stands still for rows of equal length."""
    for values in columns.values():
        jumps = np.flatnonzero(np.abs(np.diff(values)) > 1e-6 * max(float(np.ptp(values)), 1e-30))
        if jumps.size and points % (cols := int(jumps[0]) + 1) == 0 and cols > 1 and (np.diff(jumps) == cols).all():
            return points // cols, cols
    return None


def _placed(path: Path, scan: _Scan, place: Any) -> Placement:
    try:
        placed: Placement = place()
    except FileFormatError as error:
        raise _no_grid(path, scan, 0, str(error)) from error
    return placed


def _no_grid(path: Path, scan: _Scan, points: int, why: str) -> FileFormatError:
    number = f"the {points} points" if points else "points"
    return FileFormatError(
        f"{path}: {number} of scan {scan.label} have no known grid: {why}. Say rows x columns, as in: "
        f"{command_line(path, f'--scan {scan.name}', '--shape 6x8')}"
    )


def _one_row(scan: _Scan, columns: dict[str, Float64Array], points: int) -> Placement:
    """Return a scan along a line as a map of one row."""
    match = _LINE.match(scan.title)
    name = match[1] if match else ""
    placed = in_order(points, (1, points))
    if name not in columns:
        return placed
    try:
        return by_positions(np.zeros(points), columns[name], ("", name))
    except FileFormatError:
        return replace(placed, remarks=(f"the positions of {name} cannot be used",))
