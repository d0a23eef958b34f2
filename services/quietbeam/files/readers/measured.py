"""Measured maps from files of other programs: spectra of each detector and pixel, or counts of each line."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from quietbeam.core.errors import FileFormatError
from quietbeam.core.hdf5 import open_hdf5
from quietbeam.core.model.not_measured import usable_live_time
from quietbeam.core.model.types import BoolArray
from quietbeam.spectra import LineMap, MapInfo, SpectralMap

from ..choice import ReadChoice, command_line
from . import bliss, generic, geopixe, maps, mda, microscopy, nexus, own, pyxrf, text
from .calibration import calibration_of, refuse_giants
from .monitor import choose_i0
from .points import by_positions, in_order
from .xmap import xmap_entries

READERS = (
    (pyxrf.is_pyxrf, pyxrf.read_pyxrf),
    (maps.is_raw, maps.read_raw),
    (maps.is_analysed, maps.read_analysed),
    (bliss.is_bliss, bliss.read_bliss),
    (nexus.is_oina, nexus.read_oina),
)
_BY_ENDING: dict[str, Callable[[Path, Path | None, ReadChoice], SpectralMap | LineMap]] = {
    ".npy": generic.read_npy,
    ".tif": generic.read_tiff,
    ".tiff": generic.read_tiff,
    geopixe.SUFFIX: geopixe.read_geopixe,
    **dict.fromkeys(microscopy.SUFFIXES, microscopy.read_microscopy),
}
SUFFIXES = (*_BY_ENDING, *text.SUFFIXES)
"""Of files that are read by their names' endings, since nothing else tells them."""
_MONITORS = ("i0", "I0", "2xfm_scaler3_cts1.B")
"""The last is the upstream ion chamber at APS 2-ID-E."""
FORMATS = ("PyXRF (xrfmap)", "MAPS (MAPS_RAW, MAPS)", "BLISS (N.1/measurement)", "NXdata", "MDA")


def read_measured(
    path: Path, calibration: Path | None = None, choice: ReadChoice | None = None
) -> SpectralMap | LineMap:
    """Read a measured map of another program.

    ``.npz`` with ``spectra`` (row, col, detector, channel), or (point, detector, channel) with ``pos``; HDF5 of MAPS,
    PyXRF and BLISS; MDA. Spectra in HDF5 and MDA are read when the map is made, in pieces.

    Parameters
    ----------
    calibration
        JSON file, ``{"name": [[offset_keV, keV_per_channel], ...]}`` with one pair per detector. Default: a file
        ``PREFIX_energy_calibration.json`` beside a file called ``PREFIX...``; else what the file itself says.
    choice
        What to take where the file leaves a choice.

    Raises
    ------
    FileFormatError
        It cannot be used; the message says why and what to do.
    """
    choice = choice or ReadChoice()
    ending = path.suffix.lower()
    if path.is_dir():
        return generic.read_zarr_array(path, calibration, choice)
    if ending in text.SUFFIXES:
        return text.read_text(path, choice)
    if ending in _BY_ENDING:
        return _BY_ENDING[ending](path, calibration, choice)
    if path.suffix == ".npz":
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as archive:
            refuse_giants(path, sum(i.file_size for i in archive.zip.infolist()))
            return _read_npz(path, own.arrays_of(path, archive), calibration, choice)
    if mda.is_mda(path):
        return mda.read_mda(path, calibration, choice)
    with open_hdf5(path) as file:
        if choice.dataset:
            return generic.read_dataset(path, file, calibration, choice)
        reader = next((read for is_it, read in READERS if is_it(file)), None)
        if reader is None and (spectra := nexus.read_nxdata(path, file, calibration, choice)) is not None:
            return spectra
        if reader is None:
            raise FileFormatError(
                f"{path} is HDF5, but none of {', '.join(FORMATS)}, and not ours ({own.WANTED}); "
                f"it holds {_contents(file)}. Say which array it is, as in: "
                f"{command_line(path, '--dataset entry/data/data', '--axes row,col,channel')}"
            )
        measured: SpectralMap | LineMap = reader(path, file, calibration, choice)
        return measured


def _read_npz(
    path: Path, arrays: Mapping[str, npt.NDArray[Any]], calibration: Path | None, choice: ReadChoice
) -> SpectralMap:
    spectra = arrays["spectra"]
    if spectra.dtype.kind not in "iu" or spectra.ndim not in (3, 4):
        raise FileFormatError(
            f"{path}: spectra must be integer counts (row, col, detector, channel), not {spectra.dtype} {spectra.shape}"
        )
    if spectra.ndim == 3:
        return _read_points(path, arrays, calibration, choice)
    choice.refuse_others(path, "an .npz file of spectra on a grid", "i0", "energy")
    rows, cols, detectors, _ = spectra.shape
    live = real = None
    pairs: list[list[float]] | None = None
    if "LIVETIME" in arrays:  # PIXL: times in s, energies in eV, each (row, col, detector)
        live, real = np.moveaxis(arrays["LIVETIME"], -1, 0), np.moveaxis(arrays["REALTIME"], -1, 0)
        pairs = [
            [1e-3 * float(arrays[name][..., d].flat[0]) for name in ("OFFSET", "XPERCHAN")] for d in range(detectors)
        ]
    elif xmap := xmap_entries(arrays, detectors):
        live, real, pairs = xmap
    scalers = {name: v for name, v in arrays.items() if v.shape == (rows, cols) and v.dtype.kind in "iuf"}
    monitor = choose_i0(scalers, lambda name: name in _MONITORS, choice.i0)
    energies = calibration_of(path, calibration, detectors, pairs, choice)
    live_time, live_pixels = (None, None) if live is None else usable_live_time(live)
    info = MapInfo(
        source=path.name,
        detectors=tuple(f"det{d + 1}" for d in range(detectors)),
        shape=(rows, cols),
        live_time_s=live_time,
        i0=monitor.i0,
        dwell_s=None if real is None else float(np.median(real)),
        measured=_all_of((rows, cols), monitor.measured, live_pixels),
        order="assumed",
        remarks=(*energies.remarks, monitor.remark),
    )
    return SpectralMap(info=info, spectra=spectra, calibration=energies.kev)


def _all_of(shape: tuple[int, int], *parts: BoolArray | None) -> BoolArray:
    """Return (row, col) where all of the parts that are there are true."""
    return np.logical_and.reduce([np.ones(shape, bool), *(part for part in parts if part is not None)])


def _read_points(
    path: Path, arrays: Mapping[str, npt.NDArray[Any]], calibration: Path | None, choice: ReadChoice
) -> SpectralMap:
    """Put points with positions on a grid; PIXL names what belongs to a detector ``LIVETIME_A``, ``LIVETIME_B``."""
    choice.refuse_others(path, "an .npz file of points", "shape", "snake", "energy")
    spectra = arrays["spectra"]
    if choice.shape is not None:
        placed = in_order(len(spectra), choice.shape, snake=bool(choice.snake))
    elif "pos" not in arrays or arrays["pos"].shape != (len(spectra), 2):
        raise FileFormatError(
            f"{path} is a list of {len(spectra)} points, not a grid (spectra {spectra.shape}): add their positions as "
            "'pos' (point, 2), or give spectra as (row, col, detector, channel), or say rows x columns, as in: "
            f"{command_line(path, '--shape 6x8')}"
        )
    else:
        try:
            fast, slow = arrays["pos"].astype(float).T
            placed = by_positions(slow, fast)
        except FileFormatError as error:
            raise FileFormatError(f"{path}: {error}") from error
    letters = "ABCDEFGHIJKLMNOP"[: spectra.shape[1]]

    def each(name: str) -> list[npt.NDArray[Any]] | None:
        found = [arrays[f"{name}_{letter}"] for letter in letters if f"{name}_{letter}" in arrays]
        return found if len(found) == len(letters) else None

    live, real, offsets, widths = (each(name) for name in ("LIVETIME", "REALTIME", "OFFSET", "XPERCHAN"))
    pairs = None
    if offsets is not None and widths is not None:
        pairs = [[1e-3 * float(o[0]), 1e-3 * float(w[0])] for o, w in zip(offsets, widths, strict=True)]
    energies = calibration_of(path, calibration, spectra.shape[1], pairs, choice)
    live_time, live_pixels = None, None
    if live is not None:
        live_time, live_pixels = usable_live_time(np.stack([placed.sum(values) for values in live]))
    info = MapInfo(
        source=path.name,
        detectors=tuple(f"det{d + 1}" for d in range(spectra.shape[1])),
        shape=placed.shape,
        live_time_s=live_time,
        dwell_s=None if real is None else float(np.median(real)),
        measured=_all_of(placed.shape, placed.measured, live_pixels),
        axes=placed.axes,
        order=placed.order,
        remarks=(*placed.remarks, *energies.remarks, "maps are not normalised by I0: the file has none"),
    )
    return SpectralMap(info=info, spectra=spectra, calibration=energies.kev, pixels=placed.pixels)


def _contents(file: h5py.File) -> str:
    return ", ".join(list(file)[:8]) or "nothing"
