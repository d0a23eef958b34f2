"""Spectra in HDF5 that says what it is: NXdata of each detector, and Oxford's .h5oina."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from quietbeam.core.errors import FileFormatError, InputError
from quietbeam.spectra import MapInfo, SpectralMap
from quietbeam.spectra.maps import Axes

from ..choice import ReadChoice, command_line
from .arrays import NO_I0
from .calibration import calibration_of
from .hdf5_spectra import open_spectra
from .points import Placement, axes_of, by_positions, checked, find_axes, in_order

_LEAST_CHANNELS = 128
_DEEPEST = 8
_OINA = "1/EDS/Data/Spectrum"
_KEV = {"ev": 1e-3, "kev": 1.0}


def is_oina(file: h5py.File) -> bool:
    """True for an .h5oina file with spectra."""
    return isinstance(file.get(_OINA), h5py.Dataset) and "1/EDS/Header/X Cells" in file


def read_oina(path: Path, file: h5py.File, calibration: Path | None, choice: ReadChoice) -> SpectralMap:
    """Read an EDS map of Oxford Instruments: spectra (point, channel) of one detector."""
    choice.refuse_others(path, "an .h5oina file", "energy")

    def header(name: str) -> float | None:
        value = file.get(f"1/EDS/Header/{name}")
        return float(np.ravel(value[()])[0]) if isinstance(value, h5py.Dataset) else None

    cols, rows = (int(header(name) or 0) for name in ("X Cells", "Y Cells"))
    spectra = open_spectra(path, file, [(_OINA, ("point", "channel"))])
    if rows * cols < 1:
        raise FileFormatError(f"{path}: its header has no X Cells and Y Cells")
    placed = in_order(spectra.source.shape[0], (rows, cols))
    start, width, steps = header("Start Channel"), header("Channel Width"), (header("Y Step"), header("X Step"))
    pairs = None if start is None or width is None else [[1e-3 * start, 1e-3 * width]]  # eV
    energies = calibration_of(path, calibration, 1, pairs, choice)
    y_step, x_step = steps
    places = None
    if y_step and x_step:
        places = Axes(origin=(0.0, 0.0), step=(y_step, x_step), units="um", names=("y", "x"))
    info = MapInfo(
        source=path.name,
        detectors=("det1",),
        shape=(rows, cols),
        measured=placed.measured & (placed.sum((~spectra.present).astype(int)) == 0),
        axes=places,
        order="assumed",
        remarks=(*spectra.remarks, *energies.remarks, NO_I0),
    )
    return SpectralMap(info=info, spectra=spectra.source, calibration=energies.kev, pixels=placed.pixels)


def nxdata_groups(file: h5py.File, below: str = "") -> dict[str, list[h5py.Group]]:
    """Return the NXdata groups whose signal may be spectra, by entry, each dataset once."""
    found: dict[str, list[h5py.Group]] = {}
    addresses: set[Any] = set()

    def search(group: h5py.Group, entry: str, depth: int) -> None:
        signal = _signal(group)
        if signal is not None:
            key = (signal.file.filename, h5py.h5o.get_info(signal.id).addr)
            if key not in addresses:
                addresses.add(key)
                found.setdefault(entry, []).append(group)
        for name in group if depth < _DEEPEST else ():
            child = group.get(name)
            if isinstance(child, h5py.Group):
                search(child, entry or name, depth + 1)

    top = file.get(below) if below else file
    if isinstance(top, h5py.Group):
        search(top, below, 0)
    return found


def _signal(group: h5py.Group) -> h5py.Dataset | None:
    """Return the spectra of an NXdata group."""
    kind = group.attrs.get("NX_class", b"")
    if (kind.decode() if isinstance(kind, bytes) else kind) != "NXdata":
        return None
    name = group.attrs.get("signal", "data")
    data = group.get(name.decode() if isinstance(name, bytes) else str(name))
    if not isinstance(data, h5py.Dataset) or data.dtype.kind not in "iuf" or data.ndim not in (2, 3, 4):
        return None
    return data if data.shape[-1] >= _LEAST_CHANNELS else None


def read_nxdata(path: Path, file: h5py.File, calibration: Path | None, choice: ReadChoice) -> SpectralMap | None:
    """Read spectra (row, col, channel), (row, col, detector, channel) or (point, channel) of NXdata; None without any.

    Groups of one entry whose signals have one shape are its detectors.
    """
    entries = nxdata_groups(file, choice.entry)
    if not entries:
        if choice.entry:
            every = ", ".join(nxdata_groups(file)) or ", ".join(file)
            raise InputError(f"{path}: nothing below {choice.entry} is NXdata of spectra; there are {every}")
        return None
    choice.refuse_others(path, "a NeXus file", "entry", "shape", "snake", "energy")
    entry, groups = next(iter(entries.items()))
    signals = [signal for group in groups if (signal := _signal(group)) is not None]
    first = signals[0]
    same = [n for n, signal in enumerate(signals) if signal.shape == first.shape]
    axes = {2: ("point", "channel"), 3: ("row", "col", "channel"), 4: ("row", "col", "detector", "channel")}[first.ndim]
    spectra = open_spectra(path, file, [(signals[n].name, axes) for n in same])
    _, detectors, channels = spectra.source.shape
    placed = _place(path, groups[0], first, choice.shape or spectra.grid, choice)
    pairs = [_energies(groups[n], channels) for n in same]
    calibrated = [pair for pair in pairs if pair is not None]
    header = (calibrated * detectors if len(calibrated) == 1 else calibrated) if len(calibrated) == len(same) else None
    energies = calibration_of(path, calibration, detectors, header, choice)
    names = tuple(groups[n].name.rpartition("/")[2] for n in same)
    remarks = [f"{entry or 'the file'} was read"]
    remarks += _left_out(signals, first)
    remarks += [f"also there: {', '.join(list(entries)[1:])} (--entry)"] if len(entries) > 1 else []
    info = MapInfo(
        source=path.name,
        detectors=names if len(set(names)) == detectors else tuple(f"det{d + 1}" for d in range(detectors)),
        shape=placed.shape,
        measured=placed.measured & (placed.sum((~spectra.present).astype(int)) == 0),
        axes=placed.axes or _places(groups[0], placed.shape),
        order=placed.order,
        remarks=(*remarks, *placed.remarks, *spectra.remarks, *energies.remarks, NO_I0),
    )
    return SpectralMap(info=info, spectra=spectra.source, calibration=energies.kev, pixels=placed.pixels)


def _left_out(signals: list[h5py.Dataset], first: h5py.Dataset) -> list[str]:
    """Return a remark on the detectors whose spectra do not fit those of the first one."""
    others = [f"{s.name} {'x'.join(map(str, s.shape))}" for s in signals if s.shape != first.shape]
    shape = "x".join(map(str, first.shape))
    return [f"left out, for they are not {shape} as {first.name}: {', '.join(others)}"] if others else []


def _place(
    path: Path, group: h5py.Group, signal: h5py.Dataset, shape: tuple[int, int] | None, choice: ReadChoice
) -> Placement:
    """Return where the points lie: by the positions of two motors in the group, where it has them for every point.

    Raises
    ------
    FileFormatError
        A list of points whose grid is not known, or whose positions lie on no grid.
    """
    points = signal.shape[0] if signal.ndim == 2 else signal.shape[0] * signal.shape[1]
    of_points = {name: data for name, data in group.items() if isinstance(data, h5py.Dataset)}
    columns = {
        name: np.asarray(data[()], float).reshape(-1)
        for name, data in of_points.items()
        if data.size == points and data.dtype.kind in "iuf" and data.ndim in (1, 2)
    }
    names = find_axes(columns)
    units = {_units(of_points[name]) for name in names or ()}
    announced = in_order(points, shape, snake=bool(choice.snake)) if shape is not None else None
    if names is None:
        if announced is not None:
            return announced
        raise FileFormatError(
            f"{path}: {signal.name} is a list of {points} points: say rows x columns, as in: "
            f"{command_line(path, '--shape 6x8')}"
        )
    slow, fast = columns[names[0]], columns[names[1]]
    placed = by_positions(slow, fast, names) if announced is None else checked(announced, slow, fast, names)
    if placed.axes is None or len(units) != 1:
        return replace(placed, axes=None)
    return replace(placed, axes=replace(placed.axes, units=units.pop()))


def _axis(group: h5py.Group, index: int) -> h5py.Dataset | None:
    names = [n.decode() if isinstance(n, bytes) else str(n) for n in np.atleast_1d(group.attrs.get("axes", []))]
    if not -len(names) <= index < len(names):
        return None
    found = group.get(names[index])
    return found if isinstance(found, h5py.Dataset) else None


def _units(data: h5py.Dataset) -> str:
    units = data.attrs.get("units", "")
    return (units.decode() if isinstance(units, bytes) else str(units)).replace("µ", "u")


def _energies(group: h5py.Group, channels: int) -> list[float] | None:
    """Return (energy of channel 0, width of a channel) in keV of the last axis, where it is even."""
    axis = _axis(group, -1)
    if axis is None or axis.shape != (channels,):
        return None
    values = np.asarray(axis[()], float)
    width = (values[-1] - values[0]) / (channels - 1)
    units = _units(axis).lower()
    if units not in _KEV and "energy" not in axis.name.lower():
        return None
    if width <= 0 or np.abs(np.diff(values) - width).max() > 0.05 * width:
        return None
    scale = _KEV.get(units, 1.0)
    return [scale * float(values[0]), scale * float(width)]


def _places(group: h5py.Group, shape: tuple[int, int]) -> Axes | None:
    y, x = _axis(group, 0), _axis(group, 1)
    if y is None or x is None or (y.shape, x.shape) != ((shape[0],), (shape[1],)) or _units(y) != _units(x):
        return None
    grid = np.meshgrid(np.asarray(y[()], float), np.asarray(x[()], float), indexing="ij")
    names = (y.name.rpartition("/")[2], x.name.rpartition("/")[2])
    return axes_of(np.stack(grid), names, _units(y))
