"""MAPS files of the APS: raw spectra (``MAPS_RAW``), and what XRF-Maps makes of each detector (``file.h50``, ...).

Layout of analysed files after XRF-Maps 10 (``MAPS/Spectra``, ``MAPS/XRF_Analyzed``) and version 9 (``MAPS/mca_arr``,
``MAPS/XRF_roi``).
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from quietbeam.core.errors import FileFormatError
from quietbeam.spectra import Floats, LineMap, MapInfo, SpectralMap

from ..names import line_name
from .calibration import calibration_of, refuse_giants

_DETECTORS = "abcdefghijklmnop"
_SINGLE = re.compile(r"\.h5(\d+)$")
_SPECTRA = ("MAPS/Spectra/mca_arr", "MAPS/mca_arr")
_ANALYSED = tuple(f"MAPS/XRF_Analyzed/{method}" for method in ("Fitted", "NNLS", "ROI"))


def is_raw(file: h5py.File) -> bool:
    """True for a file with raw spectra of every detector."""
    return "MAPS_RAW/data_a" in file


def is_analysed(file: h5py.File) -> bool:
    """True for a file that XRF-Maps wrote."""
    return "MAPS" in file and any(name in file for name in (*_SPECTRA, *_ANALYSED, "MAPS/XRF_roi"))


def read_raw(path: Path, file: h5py.File, calibration: Path | None) -> SpectralMap:
    """Read ``MAPS_RAW``: data_a, data_b, ... (channel, row, col), one for each detector."""
    raw = file["MAPS_RAW"]
    names = [f"data_{letter}" for letter in _DETECTORS if f"data_{letter}" in raw]
    refuse_giants(path, sum(raw[name].nbytes for name in names))
    spectra = np.stack([raw[name][()] for name in names]).transpose(2, 3, 0, 1)
    if spectra.dtype.kind not in "iu" or spectra.min() < 0:
        raise FileFormatError(f"{path}: spectra of type {spectra.dtype}, smallest value {spectra.min()}, are no counts")
    real = raw["realtime"][()].astype(float) if "realtime" in raw else None
    info = MapInfo(
        source=path.name,
        detectors=tuple(f"det{d + 1}" for d in range(len(names))),
        shape=spectra.shape[:2],
        live_time_s=raw["livetime"][()].astype(float) if "livetime" in raw else None,
        dwell_s=None if real is None else float(np.median(real)),
    )
    return SpectralMap(info=info, spectra=spectra, calibration=calibration_of(path, calibration, len(names), None))


def read_analysed(
    path: Path,
    file: h5py.File,  # noqa: ARG001
    calibration: Path | None,
) -> SpectralMap | LineMap:
    """Read the single-detector files ``stem.h50``, ``stem.h51`` ... that belong to ``path``; else the file alone.

    Spectra are taken where every file has them (photon counts), else the fitted areas.
    """
    match = _SINGLE.search(path.name)
    stem = path.name[: match.start()] if match else path.stem
    singles = sorted(
        (p for p in path.parent.glob(f"{stem}.h5*") if _SINGLE.search(p.name)),
        key=lambda p: int(_SINGLE.search(p.name)[1]),  # type: ignore[index]
    )
    files = singles or [path]
    opened = [h5py.File(one, "r") for one in files]
    try:
        if all(_first(one, _SPECTRA) is not None for one in opened):
            return _spectra(path, opened, calibration)
        return _areas(path, opened)
    finally:
        for one in opened:
            one.close()


def _spectra(path: Path, files: list[h5py.File], calibration: Path | None) -> SpectralMap:
    arrays: list[Any] = [_first(one, _SPECTRA) for one in files]
    _same(path, [a.shape for a in arrays])
    refuse_giants(path, sum(a.nbytes for a in arrays))
    spectra = np.stack([a[()] for a in arrays]).transpose(2, 3, 0, 1)
    if spectra.dtype.kind == "f" and np.array_equal(spectra, np.rint(spectra)) and spectra.min() >= 0:
        spectra = spectra.astype(np.uint32)
    if spectra.dtype.kind not in "iu" or spectra.min() < 0:
        raise FileFormatError(f"{path}: spectra of type {spectra.dtype}, smallest value {spectra.min()}, are no counts")
    pairs = []
    for one in files:
        found = _first(one, ("MAPS/Spectra/Energy_Calibration", "MAPS/energy_calib"))
        if found is not None:
            pairs.append([float(v) for v in found[:2]])
    live = [_first(one, ("MAPS/Spectra/Elapsed_Livetime",)) for one in files]
    real = _first(files[0], ("MAPS/Spectra/Elapsed_Realtime",))
    info = MapInfo(
        source=path.name,
        detectors=tuple(f"det{d + 1}" for d in range(len(files))),
        shape=spectra.shape[:2],
        live_time_s=np.stack([v[()] for v in live]).astype(float) if all(v is not None for v in live) else None,
        i0=_scaler(files[0]),
        dwell_s=None if real is None else float(np.median(real[()])),
    )
    header = pairs if len(pairs) == len(files) else None
    return SpectralMap(info=info, spectra=spectra, calibration=calibration_of(path, calibration, len(files), header))


def _areas(path: Path, files: list[h5py.File]) -> LineMap:
    maps, names = [], []
    for one in files:
        group = _first(one, _ANALYSED)
        if group is not None:
            values, labels = group["Counts_Per_Sec"][()], group["Channel_Names"][()]
        elif "MAPS/XRF_roi" in one:
            values, labels = one["MAPS/XRF_roi"][()], one["MAPS/channel_names"][()]
        else:
            raise FileFormatError(f"{path}: {one.filename} holds neither spectra nor maps of lines")
        found = {line_name(label): np.asarray(v, np.float32) for label, v in zip(labels, values, strict=False)}
        maps.append({name: value for name, value in found.items() if name})
        names.append(set(maps[-1]))
    lines = [name for name in maps[0] if name and all(name in other for other in names)]
    if not lines:
        raise FileFormatError(f"{path}: no emission line is in all of its {len(files)} detector files")
    _same(path, [m[lines[0]].shape for m in maps])
    counts = np.stack([[m[line] for line in lines] for m in maps])
    info = MapInfo(
        source=path.name,
        detectors=tuple(f"det{d + 1}" for d in range(len(files))),
        shape=(counts.shape[2], counts.shape[3]),
        i0=_scaler(files[0]),
    )
    return LineMap(
        info=info, lines=tuple(map(str, lines)), counts=counts, measured=np.asarray(np.isfinite(counts).all((0, 1)))
    )


def _first(file: h5py.File, names: tuple[str, ...]) -> Any:
    return next((file[name] for name in names if name in file), None)


def _same(path: Path, shapes: list[tuple[int, ...]]) -> None:
    if len(set(shapes)) > 1:
        raise FileFormatError(f"{path}: its detector files have different shapes: {', '.join(map(str, shapes))}")


def _scaler(file: h5py.File) -> Floats | None:
    """Return the upstream ion chamber (row, col), where there is one."""
    for names, values in (("MAPS/Scalers/Names", "MAPS/Scalers/Values"), ("MAPS/scaler_names", "MAPS/scalers")):
        if names in file and values in file:
            for name, value in zip(file[names][()], file[values][()], strict=False):
                if name.decode(errors="replace").strip().upper() in ("US_IC", "UPSTREAM_IONCHAMBER"):
                    return np.asarray(value, float) if np.nanmin(value) > 0 else None
    return None
