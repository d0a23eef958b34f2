"""Measured maps from files of other programs: spectra of each detector and pixel, or counts of each line."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from quietbeam.core.errors import FileFormatError
from quietbeam.spectra import LineMap, MapInfo, SpectralMap

from . import bliss, maps, mda, own, pyxrf
from .calibration import calibration_of, refuse_giants
from .points import cells_of
from .xmap import xmap_entries

READERS = (
    (pyxrf.is_pyxrf, pyxrf.read_pyxrf),
    (maps.is_raw, maps.read_raw),
    (maps.is_analysed, maps.read_analysed),
    (bliss.is_bliss, bliss.read_bliss),
)
FORMATS = ("PyXRF (xrfmap)", "MAPS (MAPS_RAW, MAPS)", "BLISS (N.1/measurement)", "MDA")


def read_measured(path: Path, calibration: Path | None = None) -> SpectralMap | LineMap:
    """Read a measured map of another program.

    ``.npz`` with ``spectra`` (row, col, detector, channel), or (point, detector, channel) with ``pos``; HDF5 of MAPS,
    PyXRF and BLISS; MDA.

    Parameters
    ----------
    calibration
        JSON file, ``{"name": [[offset_keV, keV_per_channel], ...]}`` with one pair per detector. Default: a file
        ``PREFIX_energy_calibration.json`` beside a file called ``PREFIX...``; else what the file itself says.

    Raises
    ------
    FileFormatError
        It cannot be used; the message says why and what to do.
    """
    if path.suffix == ".npz":
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as archive:
            refuse_giants(path, sum(i.file_size for i in archive.zip.infolist()))
            return _read_npz(path, own.arrays_of(path, archive), calibration)
    if mda.is_mda(path):
        return mda.read_mda(path, calibration)
    with h5py.File(path, "r") as file:
        reader = next((read for is_it, read in READERS if is_it(file)), None)
        if reader is None:
            raise FileFormatError(
                f"{path} is HDF5, but none of {', '.join(FORMATS)}, and not ours ({own.WANTED}); "
                f"it holds {_contents(file)}"
            )
        measured: SpectralMap | LineMap = reader(path, file, calibration)
        return measured


def _read_npz(path: Path, arrays: Mapping[str, npt.NDArray[Any]], calibration: Path | None) -> SpectralMap:
    spectra = arrays["spectra"]
    if spectra.ndim == 3 and spectra.dtype.kind in "iu":
        return _read_points(path, arrays, calibration)
    if spectra.ndim != 4 or spectra.dtype.kind not in "iu":
        raise FileFormatError(
            f"{path}: spectra must be integer counts (row, col, detector, channel), not {spectra.dtype} {spectra.shape}"
        )
    rows, cols, detectors, _ = spectra.shape
    live = real = i0 = None
    pairs: list[list[float]] | None = None
    if "LIVETIME" in arrays:  # PIXL: times in s, energies in eV, each (row, col, detector)
        live, real = np.moveaxis(arrays["LIVETIME"], -1, 0), np.moveaxis(arrays["REALTIME"], -1, 0)
        pairs = [
            [1e-3 * float(arrays[name][..., d].flat[0]) for name in ("OFFSET", "XPERCHAN")] for d in range(detectors)
        ]
    elif xmap := xmap_entries(arrays, detectors):
        live, real, pairs = xmap
        i0 = arrays.get("2xfm_scaler3_cts1.B")  # upstream ion chamber at APS 2-ID-E
    info = MapInfo(
        source=path.name,
        detectors=tuple(f"det{d + 1}" for d in range(detectors)),
        shape=(rows, cols),
        live_time_s=live,
        i0=None if i0 is None else i0.astype(float),
        dwell_s=None if real is None else float(np.median(real)),
    )
    return SpectralMap(info=info, spectra=spectra, calibration=calibration_of(path, calibration, detectors, pairs))


def _read_points(path: Path, arrays: Mapping[str, npt.NDArray[Any]], calibration: Path | None) -> SpectralMap:
    """Put points with positions on a grid; PIXL names what belongs to a detector ``LIVETIME_A``, ``LIVETIME_B``."""
    spectra = arrays["spectra"]
    if "pos" not in arrays or arrays["pos"].shape != (len(spectra), 2):
        raise FileFormatError(
            f"{path} is a list of {len(spectra)} points, not a grid (spectra {spectra.shape}): add their positions as "
            "'pos' (point, 2), or give spectra as (row, col, detector, channel)"
        )
    try:
        cells = cells_of(arrays["pos"].astype(float))
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
    info = MapInfo(
        source=path.name,
        detectors=tuple(f"det{d + 1}" for d in range(spectra.shape[1])),
        shape=cells.shape,
        live_time_s=None if live is None else np.stack([cells.sum(one) for one in live]),
        dwell_s=None if real is None else float(np.median(real)),
        measured=cells.measured,
    )
    return SpectralMap(
        info=info,
        spectra=cells.sum(spectra),
        calibration=calibration_of(path, calibration, spectra.shape[1], pairs),
    )


def _contents(file: h5py.File) -> str:
    return ", ".join(list(file)[:8]) or "nothing"
