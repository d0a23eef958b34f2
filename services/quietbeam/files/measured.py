"""Measured maps from files of other programs: spectra of each detector and pixel, or counts of each line."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from quietbeam.core.errors import FileFormatError
from quietbeam.spectra import Floats, LineMap, MapInfo, SpectralMap

from . import bliss, maps, pyxrf
from .calibration import calibration_of, refuse_giants

READERS = (
    (pyxrf.is_pyxrf, pyxrf.read_pyxrf),
    (maps.is_raw, maps.read_raw),
    (maps.is_analysed, maps.read_analysed),
    (bliss.is_bliss, bliss.read_bliss),
)
FORMATS = ("PyXRF (xrfmap)", "MAPS (MAPS_RAW, MAPS)", "BLISS (N.1/measurement)")


def read_measured(path: Path, calibration: Path | None = None) -> SpectralMap | LineMap:
    """Read a measured map.

    ``.npz`` with ``counts`` and ``lines``, or ``spectra`` (row, col, detector, channel); HDF5 of MAPS, PyXRF and BLISS.

    Parameters
    ----------
    calibration
        JSON file, ``{"name": [[offset_keV, keV_per_channel], ...]}`` with one pair per detector. Default: a file
        ``PREFIX_energy_calibration.json`` beside a file called ``PREFIX...``; else what the file itself says.

    Raises
    ------
    FileFormatError
        No such file, or one that cannot be used; the message says why and what to do.
    """
    if not path.is_file():
        raise FileFormatError(f"{path} is not there")
    measured: SpectralMap | LineMap
    try:
        if path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as archive:
                refuse_giants(path, sum(i.file_size for i in archive.zip.infolist()))
                measured = _read_npz(path, dict(archive.items()), calibration)
        elif h5py.is_hdf5(path):
            with h5py.File(path, "r") as file:
                reader = next((read for is_it, read in READERS if is_it(file)), None)
                if reader is None:
                    raise FileFormatError(
                        f"{path} is HDF5, but none of {', '.join(FORMATS)}; it holds {_contents(file)}"
                    )
                measured = reader(path, file, calibration)
        else:
            raise FileFormatError(f"{path} is neither .npz nor HDF5")
    except FileFormatError:
        raise
    except (OSError, KeyError, ValueError) as error:
        raise FileFormatError(f"{path} cannot be read as a measured map: {error}") from error
    return measured


def _read_npz(path: Path, arrays: Mapping[str, npt.NDArray[Any]], calibration: Path | None) -> SpectralMap | LineMap:
    if "counts" in arrays:
        return _read_counts(path, arrays)
    if "spectra" not in arrays:
        raise FileFormatError(f"{path} holds {', '.join(arrays)}: neither 'counts' with 'lines', nor 'spectra'")
    spectra = arrays["spectra"]
    if spectra.ndim == 3:
        raise FileFormatError(
            f"{path} is a list of {len(spectra)} points, not a grid (spectra {spectra.shape}): "
            "irregular positions cannot be replayed yet; give spectra as (row, col, detector, channel)"
        )
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
    elif xmap := _xmap(arrays, detectors):
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


def _xmap(arrays: Mapping[str, npt.NDArray[Any]], detectors: int) -> tuple[Floats, Floats, list[list[float]]] | None:
    """Return live and real times (detector, row, col) and the header's calibration of an XIA xMAP record."""
    prefix = "dxpXMAP2xfm3_"
    if f"{prefix}mca1.ERTM" not in arrays:
        return None
    numbers = range(1, detectors + 1)
    real = np.stack([arrays[f"{prefix}mca{n}.ERTM"] for n in numbers]).astype(float)
    rates = [(arrays[f"{prefix}dxp{n}_OutputCountRate"], arrays[f"{prefix}dxp{n}_InputCountRate"]) for n in numbers]
    recorded = np.stack([out / np.maximum(into, 1e-9) for out, into in rates])
    pairs = [[float(arrays[f"{prefix}mca{n}.{key}"]) for key in ("CALO", "CALS")] for n in numbers]
    return real * recorded, real, pairs


def _read_counts(path: Path, arrays: Mapping[str, npt.NDArray[Any]]) -> LineMap:
    counts = arrays["counts"]
    if "lines" not in arrays:
        raise FileFormatError(f"{path} has 'counts' without 'lines': add the names, as ['P_Ka', 'Fe_Ka']")
    lines = tuple(str(line) for line in arrays["lines"])
    if counts.ndim != 4 or counts.shape[1] != len(lines):
        raise FileFormatError(f"{path}: counts must be (detector, {len(lines)} lines, row, col), not {counts.shape}")
    measured = np.isfinite(counts).all((0, 1)) if counts.dtype.kind == "f" else np.ones(counts.shape[2:], bool)
    if "measured" in arrays:
        measured = measured & arrays["measured"].astype(bool)
    whole = np.where(measured, np.nan_to_num(counts) if counts.dtype.kind == "f" else counts, 0)
    exact = whole.astype(np.uint32)
    if whole.min(initial=0) < 0 or not np.array_equal(exact, whole):
        raise FileFormatError(f"{path}: counts are negative or not whole; fitted areas go through `quietbeam denoise`")
    info = MapInfo(
        source=path.name,
        detectors=tuple(f"det{d + 1}" for d in range(len(counts))),
        shape=(counts.shape[2], counts.shape[3]),
        live_time_s=_optional(arrays, "live_time_s", (len(counts), *counts.shape[2:])),
        i0=_optional(arrays, "i0", counts.shape[2:]),
        dwell_s=float(arrays["dwell_s"]) if "dwell_s" in arrays else None,
    )
    return LineMap(info=info, lines=lines, counts=exact, measured=measured)


def _optional(arrays: Mapping[str, npt.NDArray[Any]], name: str, shape: tuple[int, ...]) -> Floats | None:
    if name not in arrays:
        return None
    if arrays[name].shape != shape:
        raise FileFormatError(f"{name} is {arrays[name].shape}, but the counts ask for {shape}")
    return arrays[name].astype(float)


def _contents(file: h5py.File) -> str:
    return ", ".join(list(file)[:8]) or "nothing"
