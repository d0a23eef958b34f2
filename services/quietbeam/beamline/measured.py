"""Measured maps from files of other programs: spectra of each detector and pixel, or counts of each line."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt
import structlog

from quietbeam.core.errors import FileFormatError

log = structlog.get_logger()

MAX_BYTES = 8 * 2**30
_CALIBRATION_SUFFIX = "_energy_calibration.json"
_MAPS_DETECTORS = "abcdefghijklmnop"
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class MapInfo:
    """What is known of a measured map besides its counts.

    Attributes
    ----------
    source
        Name of the file.
    detectors
        Names, ``det1`` and so on.
    shape
        (row, col) pixels.
    live_time_s
        (detector, row, col) seconds, or None.
    i0
        (row, col) counts of the incident beam's monitor, or None.
    dwell_s
        Real time per pixel (the median), or None.
    """

    source: str
    detectors: tuple[str, ...]
    shape: tuple[int, int]
    live_time_s: Floats | None = None
    i0: Floats | None = None
    dwell_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SpectralMap:
    """A measured map of spectra.

    Attributes
    ----------
    spectra
        (row, col, detector, channel) integer counts.
    calibration
        (detector, 2): energy of channel 0 and width of a channel, keV.
    """

    info: MapInfo
    spectra: npt.NDArray[Any]
    calibration: Floats


@dataclass(frozen=True, slots=True, kw_only=True)
class LineMap:
    """A measured map of counts per line.

    Attributes
    ----------
    counts
        (detector, line, row, col) integer counts.
    measured
        (row, col) bool.
    """

    info: MapInfo
    lines: tuple[str, ...]
    counts: npt.NDArray[np.uint32]
    measured: npt.NDArray[np.bool_]


def read_measured(path: Path, calibration: Path | None = None) -> SpectralMap | LineMap:
    """Read a measured map.

    ``.npz`` with ``counts`` and ``lines``, or ``spectra`` (row, col, detector, channel); MAPS HDF5 (``MAPS_RAW``).

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
                _refuse_giants(path, sum(i.file_size for i in archive.zip.infolist()))
                measured = _read_npz(path, dict(archive.items()), calibration)
        elif path.suffix in (".h5", ".hdf5", ".h50"):
            with h5py.File(path, "r") as file:
                measured = _read_maps(path, file, calibration)
        else:
            raise FileFormatError(f"{path}: replay reads .npz and MAPS .h5 files")
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
    return SpectralMap(info=info, spectra=spectra, calibration=_calibration(path, calibration, detectors, pairs))


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


def _read_maps(path: Path, file: h5py.File, calibration: Path | None) -> SpectralMap:
    """Read ``MAPS_RAW``: data_a, data_b, ... (channel, row, col), one for each detector."""
    raw = file.get("MAPS_RAW")
    names = [f"data_{letter}" for letter in _MAPS_DETECTORS if raw is not None and f"data_{letter}" in raw]
    if not names:
        raise FileFormatError(f"{path} has no MAPS_RAW/data_a: replay reads MAPS files with raw spectra")
    _refuse_giants(path, sum(raw[name].nbytes for name in names))
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
    return SpectralMap(info=info, spectra=spectra, calibration=_calibration(path, calibration, len(names), None))


def _calibration(path: Path, given: Path | None, detectors: int, header: list[list[float]] | None) -> Floats:
    beside = [p for p in sorted(path.parent.glob(f"*{_CALIBRATION_SUFFIX}")) if _belongs(p, path)]
    source = given or (beside[0] if beside else None)
    pairs = header if source is None else _from_json(source, path.stem, detectors)
    if pairs is None:
        raise FileFormatError(
            f"{path} says nothing of energies: give --calibration FILE.json with "
            f'{{"{path.stem}": [[offset_keV, keV_per_channel], ... {detectors} detectors]}}'
        )
    log.info("energy_calibration", source=str(source or "header of the file"), kev=pairs)
    values = np.asarray(pairs, float)
    if values.shape != (detectors, 2) or not np.isfinite(values).all() or values[:, 1].min() <= 0:
        raise FileFormatError(
            f"calibration of {path} must be one (offset, width > 0) in keV for each of {detectors} detectors"
        )
    return values


def _belongs(calibration: Path, path: Path) -> bool:
    return path.name.startswith(calibration.name.removesuffix(_CALIBRATION_SUFFIX))


def _from_json(source: Path, stem: str, detectors: int) -> list[list[float]]:
    """Return the entry named like the file, else the only one with as many detectors."""
    try:
        entries = {k: v for k, v in json.loads(source.read_text()).items() if isinstance(v, list)}
    except (OSError, ValueError, AttributeError) as error:
        raise FileFormatError(f"calibration {source} cannot be read: {error}") from error
    named = [v for k, v in entries.items() if k in stem]
    fitting = [v for v in named or entries.values() if len(v) == detectors]
    if len(fitting) != 1:
        raise FileFormatError(
            f"calibration {source} has {', '.join(entries) or 'no entries'}: none, or more than one, is for "
            f"{stem} with {detectors} detectors"
        )
    return fitting[0]


def _refuse_giants(path: Path, size: int) -> None:
    if size > MAX_BYTES:
        raise FileFormatError(f"{path} would need {size / 2**30:.0f} GiB: replay holds a map in memory, cut it down")
