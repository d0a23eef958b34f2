"""PyXRF files of NSLS-II: ``xrfmap/det1/counts`` (row, col, channel) and, after a fit, ``xrfmap/det1/xrf_fit``."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from quietbeam.core.errors import FileFormatError
from quietbeam.core.model.not_measured import padding, usable_areas
from quietbeam.core.model.types import Float64Array
from quietbeam.spectra import LineMap, MapInfo, SpectralMap

from ..choice import ReadChoice
from ..names import line_name
from .calibration import calibration_of, refuse_giants
from .hdf5_spectra import open_spectra
from .monitor import Monitor, choose_i0
from .points import Placement, checked, in_order

DEFAULT_CALIBRATION = (0.0, 0.01)
"""keV; what PyXRF itself starts from, and Xspress 3 electronics are set to."""
_DETECTOR = re.compile(r"^det(\d+)$")
_MONITORS = ("i0", "sclr_i0", "sclr1_ch4", "current_preamp_ch2")


def is_pyxrf(file: h5py.File) -> bool:
    """True for a PyXRF file."""
    return isinstance(file.get("xrfmap"), h5py.Group)


def read_pyxrf(path: Path, file: h5py.File, calibration: Path | None, choice: ReadChoice) -> SpectralMap | LineMap:
    """Read the single detectors: their spectra where they are (photon counts), else their fits."""
    choice.refuse_others(path, "a PyXRF file", "i0", "energy", "snake")
    group = file["xrfmap"]
    names = sorted((n for n in group if _DETECTOR.match(n)), key=lambda n: int(_DETECTOR.match(n)[1]))  # type: ignore[index]
    if not names:
        raise FileFormatError(
            f"{path} has no single detectors (xrfmap/det1 ...) but {', '.join(group)}: nothing can be held out of "
            "the sum over detectors; make the file with create_each_det=True"
        )
    if all("counts" in group[n] for n in names):
        return _spectra(path, file, names, calibration, choice)
    if not all("xrf_fit" in group[n] for n in names):
        raise FileFormatError(f"{path}: {', '.join(names)} hold neither counts nor xrf_fit")
    return _fits(path, group, names, choice)


def _spectra(
    path: Path, file: h5py.File, names: list[str], calibration: Path | None, choice: ReadChoice
) -> SpectralMap:
    group = file["xrfmap"]
    spectra = open_spectra(path, file, [(f"xrfmap/{n}/counts", ("row", "col", "channel")) for n in names])
    shape = spectra.grid
    assert shape is not None
    refuse_giants(path, 4 * len(names) * shape[0] * shape[1])
    placement = _placement(group, shape, choice)
    monitor = _monitor(group, placement, choice)
    header = [list(DEFAULT_CALIBRATION)] * len(names)
    energies = calibration_of(path, calibration, len(names), header, choice, assumed=True)
    measured = np.asarray(placement.sum(spectra.present.astype(int)) > 0)
    info = MapInfo(
        source=path.name,
        detectors=tuple(names),
        shape=placement.shape,
        i0=monitor.i0,
        measured=measured if monitor.measured is None else measured & monitor.measured,
        axes=placement.axes,
        order=placement.order,
        remarks=(*placement.remarks, *spectra.remarks, *energies.remarks, monitor.remark),
    )
    return SpectralMap(info=info, spectra=spectra.source, calibration=energies.kev, pixels=placement.pixels)


def _fits(path: Path, group: h5py.Group, names: list[str], choice: ReadChoice) -> LineMap:
    shapes = {group[n]["xrf_fit"].shape[1:] for n in names}
    if len(shapes) > 1:
        raise FileFormatError(f"{path}: its detectors have different shapes: {', '.join(map(str, sorted(shapes)))}")
    fits = []
    for name in names:
        labels, values = group[name]["xrf_fit_name"][()], group[name]["xrf_fit"][()]
        fits.append({line_name(label): v for label, v in zip(labels, values, strict=True)})
    lines = [line for line in fits[0] if line and all(line in other for other in fits)]
    if not lines:
        raise FileFormatError(f"{path}: no emission line was fitted in all of its detectors")
    (shape,) = shapes
    placement = _placement(group, shape, choice)
    monitor = _monitor(group, placement, choice)
    stacked = np.stack([[fit[line] for line in lines] for fit in fits])
    flat = placement.sum(np.moveaxis(stacked.reshape(*stacked.shape[:2], -1), -1, 0))  # (row, col, detector, line)
    areas, good, problems = usable_areas(flat.reshape(-1, *flat.shape[2:]))
    empty = padding(np.abs(areas).sum((1, 2)).reshape(placement.shape))
    measured = good.reshape(placement.shape) & placement.measured & ~empty
    if monitor.measured is not None:
        measured &= monitor.measured
    remarks = [f"{n} pixels are not measured: {reason}" for reason, n in problems.items()]
    if empty.any():
        remarks.append(f"{int(empty.sum())} pixels at the end of the scan are empty, and not measured")
    info = MapInfo(
        source=path.name,
        detectors=tuple(names),
        shape=placement.shape,
        i0=monitor.i0,
        measured=measured,
        axes=placement.axes,
        order=placement.order,
        remarks=(*placement.remarks, *remarks, monitor.remark),
    )
    counts = np.moveaxis(areas.reshape(*placement.shape, *areas.shape[1:]), (2, 3), (0, 1))
    return LineMap(info=info, lines=tuple(lines), counts=np.ascontiguousarray(counts), measured=measured)


def _placement(group: h5py.Group, shape: tuple[int, int], choice: ReadChoice) -> Placement:
    """Return where the pixels lie: as they lie in the array, unless its positions say otherwise."""
    announced = in_order(shape[0] * shape[1], shape, snake=bool(choice.snake))
    positions = _positions(group, shape)
    if positions is None or choice.snake is not None:
        return announced
    slow, fast = positions
    for pair, names in (((slow, fast), ("y", "x")), ((fast, slow), ("x", "y"))):
        try:
            placed = checked(announced, *pair, names)
        except FileFormatError:
            continue
        if placed.order == "verified":
            return placed
    try:
        placed = checked(announced, slow, fast, ("y", "x"))
    except FileFormatError as error:
        return replace(
            announced, remarks=(f"its positions cannot be used ({error}): the order of the array is assumed",)
        )
    return placed


def _positions(group: h5py.Group, shape: tuple[int, int]) -> tuple[Float64Array, Float64Array] | None:
    """Return (y, x) of every pixel, where they are recorded."""
    if "positions/pos" not in group or "positions/name" not in group:
        return None
    names = [_text(n) for n in group["positions/name"][()]]
    values = np.asarray(group["positions/pos"][()], float)
    if values.shape != (len(names), *shape) or not {"x_pos", "y_pos"} <= set(names):
        return None
    y, x = (values[names.index(name)].ravel() for name in ("y_pos", "x_pos"))
    empty = (y == 0) & (x == 0)  # padding of a scan that was stopped
    if empty.sum() > 1:
        y, x = np.where(empty, np.nan, y), np.where(empty, np.nan, x)
    return y, x


def _text(value: Any) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)


def _monitor(group: h5py.Group, placement: Placement, choice: ReadChoice) -> Monitor:
    """Return I0 among the scalers (row, col, scaler)."""
    scalers: dict[str, Any] = {}
    if "scalers/name" in group:
        values = np.asarray(group["scalers/val"][()], float)
        for k, name in enumerate(group["scalers/name"][()][: values.shape[-1]]):
            scalers[_text(name)] = placement.sum(values[..., k].ravel())
    usual = next((name for name in _MONITORS if name in scalers), "")
    return choose_i0(scalers, lambda name: name == usual, choice.i0, placement.measured)
