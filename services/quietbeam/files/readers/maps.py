"""MAPS files of the APS: raw spectra (``MAPS_RAW``), and what XRF-Maps makes of each detector (``file.h50``, ...).

Layout of analysed files after XRF-Maps 10 (``MAPS/Spectra``, ``MAPS/XRF_Analyzed``) and version 9 (``MAPS/mca_arr``,
``MAPS/XRF_roi``).
"""

from __future__ import annotations

import re
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from quietbeam.core.errors import FileFormatError
from quietbeam.core.hdf5 import open_hdf5
from quietbeam.core.model.not_measured import padding, usable_areas, usable_live_time
from quietbeam.spectra import LineMap, MapInfo, SpectralMap
from quietbeam.spectra.maps import Axes

from ..choice import ReadChoice
from ..names import line_name
from .calibration import calibration_of, refuse_giants
from .hdf5_spectra import Hdf5Spectra, OpenedSpectra, open_spectra
from .monitor import Monitor, choose_i0
from .points import axes_of

_DETECTORS = "abcdefghijklmnop"
_SINGLE = re.compile(r"\.h5(\d+)$")
_SPECTRA = ("MAPS/Spectra/mca_arr", "MAPS/mca_arr")
_ANALYSED = tuple(f"MAPS/XRF_Analyzed/{method}" for method in ("Fitted", "NNLS", "ROI"))
_AXES = ("channel", "row", "col")
_MONITORS = ("US_IC", "UPSTREAM_IONCHAMBER")


def is_raw(file: h5py.File) -> bool:
    """True for a file with raw spectra of every detector."""
    return "MAPS_RAW/data_a" in file


def is_analysed(file: h5py.File) -> bool:
    """True for a file that XRF-Maps wrote."""
    return "MAPS" in file and any(name in file for name in (*_SPECTRA, *_ANALYSED, "MAPS/XRF_roi"))


def read_raw(path: Path, file: h5py.File, calibration: Path | None, choice: ReadChoice) -> SpectralMap:
    """Read ``MAPS_RAW``: data_a, data_b, ... (channel, row, col), one for each detector."""
    choice.refuse_others(path, "a file of MAPS", "energy")
    raw = file["MAPS_RAW"]
    names = [f"data_{letter}" for letter in _DETECTORS if f"data_{letter}" in raw]
    spectra = open_spectra(path, file, [(f"MAPS_RAW/{name}", _AXES) for name in names])
    assert spectra.grid is not None
    refuse_giants(path, 4 * len(names) * len(spectra.present))
    real = raw["realtime"][()].astype(float) if "realtime" in raw else None
    live, live_pixels = usable_live_time(raw["livetime"][()]) if "livetime" in raw else (None, True)
    energies = calibration_of(path, calibration, len(names), None, choice)
    info = MapInfo(
        source=path.name,
        detectors=tuple(f"det{d + 1}" for d in range(len(names))),
        shape=spectra.grid,
        live_time_s=live,
        dwell_s=None if real is None else float(np.median(real)),
        measured=spectra.present.reshape(spectra.grid) & live_pixels,
        order="assumed",
        remarks=(*spectra.remarks, *energies.remarks, "maps are not normalised by I0: the file has none"),
    )
    return SpectralMap(info=info, spectra=spectra.source, calibration=energies.kev)


def read_analysed(
    path: Path,
    file: h5py.File,  # noqa: ARG001
    calibration: Path | None,
    choice: ReadChoice,
) -> SpectralMap | LineMap:
    """Read the single-detector files ``stem.h50``, ``stem.h51`` ... that belong to ``path``; else the file alone.

    Spectra are taken where every file has them (photon counts), else the fitted areas.
    """
    choice.refuse_others(path, "a file of XRF-Maps", "i0", "energy")
    files = _single_files(path) or [path]
    with ExitStack() as stack:
        opened = [stack.enter_context(open_hdf5(file)) for file in files]
        if all(_first(file, _SPECTRA) is not None for file in opened):
            return _spectra(path, opened, calibration, choice)
        return _areas(path, opened, choice)


def _single_files(path: Path) -> list[Path]:
    """Return the files of single detectors; the names may hold brackets and stars."""
    match = _SINGLE.search(path.name)
    stem = path.name[: match.start()] if match else path.stem
    numbered = {
        int(number[1]): file
        for file in path.parent.iterdir()
        if (number := _SINGLE.search(file.name)) and file.name[: number.start()] == stem
    }
    return [numbered[n] for n in sorted(numbered)]


def _spectra(path: Path, files: list[h5py.File], calibration: Path | None, choice: ReadChoice) -> SpectralMap:
    opened = [open_spectra(path, file, [(_first(file, _SPECTRA).name, _AXES)]) for file in files]
    shapes = [(part.source.shape[-1], *(part.grid or ())) for part in opened]
    _same(path, shapes)
    spectra = _joined(opened)
    shape = spectra.grid
    assert shape is not None
    refuse_giants(path, 4 * len(files) * len(spectra.present))
    pairs = []
    for file in files:
        found = _first(file, ("MAPS/Spectra/Energy_Calibration", "MAPS/energy_calib"))
        if found is not None:
            pairs.append([float(v) for v in found[:2]])
    times = [_first(file, ("MAPS/Spectra/Elapsed_Livetime",)) for file in files]
    live, live_pixels = None, np.ones(shape, bool)
    if all(v is not None for v in times):
        live, live_pixels = usable_live_time(np.stack([v[()] for v in times]))
    real = _first(files[0], ("MAPS/Spectra/Elapsed_Realtime",))
    header = pairs if len(pairs) == len(files) else None
    energies = calibration_of(path, calibration, len(files), header, choice)
    monitor = _monitor(files[0], shape, choice)
    measured = spectra.present.reshape(shape) & live_pixels
    info = MapInfo(
        source=path.name,
        detectors=tuple(f"det{d + 1}" for d in range(len(files))),
        shape=shape,
        live_time_s=live,
        i0=monitor.i0,
        dwell_s=None if real is None else float(np.median(real[()])),
        measured=measured if monitor.measured is None else measured & monitor.measured,
        axes=_axes(files[0], shape),
        order="assumed",
        remarks=(*spectra.remarks, *energies.remarks, monitor.remark),
    )
    return SpectralMap(info=info, spectra=spectra.source, calibration=energies.kev)


def _joined(opened: list[OpenedSpectra]) -> OpenedSpectra:
    """Return the spectra of several files, one detector each, as one source."""
    first = opened[0]
    shape = (first.source.shape[0], len(opened), first.source.shape[2])
    present = np.logical_and.reduce([part.present for part in opened])
    source = Hdf5Spectra(
        [dataset for part in opened for dataset in part.source.parts],
        shape,
        cols=first.source.cols,
        grain=max(part.source.grain for part in opened),
        itemsize=max(part.source.itemsize for part in opened),
        present=present,
    )
    remarks = tuple(dict.fromkeys(remark for part in opened for remark in part.remarks))
    return OpenedSpectra(source=source, present=present, grid=first.grid, remarks=remarks)


def _areas(path: Path, files: list[h5py.File], choice: ReadChoice) -> LineMap:
    maps, names = [], []
    for file in files:
        group = _first(file, _ANALYSED)
        if group is not None:
            values, labels = group["Counts_Per_Sec"][()], group["Channel_Names"][()]
        elif "MAPS/XRF_roi" in file:
            values, labels = file["MAPS/XRF_roi"][()], file["MAPS/channel_names"][()]
        else:
            raise FileFormatError(f"{path}: {file.filename} holds neither spectra nor maps of lines")
        found = {line_name(label): np.asarray(v) for label, v in zip(labels, values, strict=False)}
        maps.append({name: value for name, value in found.items() if name})
        names.append(set(maps[-1]))
    lines = [name for name in maps[0] if name and all(name in other for other in names)]
    if not lines:
        raise FileFormatError(f"{path}: no emission line is in all of its {len(files)} detector files")
    _same(path, [m[lines[0]].shape for m in maps])
    stacked = np.stack([[m[line] for line in lines] for m in maps])
    shape = (stacked.shape[2], stacked.shape[3])
    flat, good, problems = usable_areas(np.moveaxis(stacked, (0, 1), (2, 3)).reshape(-1, *stacked.shape[:2]))
    counts = np.ascontiguousarray(np.moveaxis(flat.reshape(*shape, *stacked.shape[:2]), (2, 3), (0, 1)))
    monitor = _monitor(files[0], shape, choice)
    empty = padding(np.abs(counts).sum((0, 1)))
    measured = good.reshape(shape) & ~empty
    if monitor.measured is not None:
        measured &= monitor.measured
    remarks = [f"{n} pixels are not measured: {reason}" for reason, n in problems.items()]
    if empty.any():
        remarks.append(f"{int(empty.sum())} pixels at the end of the scan are empty, and not measured")
    info = MapInfo(
        source=path.name,
        detectors=tuple(f"det{d + 1}" for d in range(len(files))),
        shape=shape,
        i0=monitor.i0,
        measured=measured,
        axes=_axes(files[0], shape),
        order="assumed",
        remarks=(*remarks, monitor.remark),
    )
    return LineMap(info=info, lines=tuple(map(str, lines)), counts=counts, measured=measured)


def _first(file: h5py.File, names: tuple[str, ...]) -> Any:
    return next((file[name] for name in names if name in file), None)


def _same(path: Path, shapes: list[tuple[int, ...]]) -> None:
    if len(set(shapes)) > 1:
        raise FileFormatError(f"{path}: its detector files have different shapes: {', '.join(map(str, shapes))}")


def _monitor(file: h5py.File, shape: tuple[int, int], choice: ReadChoice) -> Monitor:
    """Return the upstream ion chamber, or the chosen scaler."""
    scalers: dict[str, Any] = {}
    for names, values in (("MAPS/Scalers/Names", "MAPS/Scalers/Values"), ("MAPS/scaler_names", "MAPS/scalers")):
        if not scalers and names in file and values in file:
            for name, value in zip(file[names][()], file[values][()], strict=False):
                if value.shape == shape:
                    scalers[name.decode(errors="replace").strip().rstrip("\x00")] = np.asarray(value, float)
    return choose_i0(scalers, lambda name: name.upper() in _MONITORS, choice.i0)


def _axes(file: h5py.File, shape: tuple[int, int]) -> Axes | None:
    """Return the positions of rows and columns, where the file has them."""
    for x_name, y_name in (("MAPS/Scan/x_axis", "MAPS/Scan/y_axis"), ("MAPS/x_axis", "MAPS/y_axis")):
        x, y = file.get(x_name), file.get(y_name)
        if isinstance(x, h5py.Dataset) and isinstance(y, h5py.Dataset) and (y.size, x.size) == shape:
            grid = np.meshgrid(np.ravel(y[()]).astype(float), np.ravel(x[()]).astype(float), indexing="ij")
            return axes_of(np.stack(grid), ("y", "x"))
    return None
