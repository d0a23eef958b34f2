"""Spectra that files of tests hold, and writers of other programs' layouts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from quietbeam.spectra import line_energy, resolution_fwhm, window

LINES = ("Ca_Ka", "Fe_Ka", "Cu_Ka")
CHANNELS = 1200


def spectra(rows: int = 6, cols: int = 7, detectors: int = 2, seed: int = 0) -> np.ndarray:
    """(row, col, detector, channel) uint32 at 10 eV a channel: three peaks, brighter from pixel to pixel."""
    rng = np.random.default_rng(seed)
    energy = 0.01 * np.arange(CHANNELS)
    mean = np.full(CHANNELS, 0.02)
    for line, strength in zip(LINES, (40, 90, 30), strict=True):
        sigma = resolution_fwhm(line_energy(line)) / 2.355
        mean += strength * 0.01 / sigma / 2.507 * np.exp(-0.5 * ((energy - line_energy(line)) / sigma) ** 2)
    bright = 1 + np.arange(rows * cols).reshape(rows, cols) / 10
    return rng.poisson(bright[:, :, None, None] * mean, (rows, cols, detectors, CHANNELS)).astype(np.uint32)


def cut(data: np.ndarray, line: str = "Fe_Ka") -> np.ndarray:
    """(detector, row, col): counts in the window of a line."""
    low, stop = window(line, np.array([0.0, 0.01]), CHANNELS)
    return data[..., low:stop].sum(-1).transpose(2, 0, 1)


def pyxrf(path: Path, data: np.ndarray, scalers: Mapping[str, np.ndarray], **options: Any) -> Path:
    with h5py.File(path, "w") as file:
        for d in range(data.shape[2]):
            values = data[:, :, d] if data.dtype.kind == "f" else data[:, :, d].astype(np.float32)
            file.create_dataset(f"xrfmap/det{d + 1}/counts", data=values, **options)
        if scalers:
            file["xrfmap/scalers/name"] = np.array([name.encode() for name in scalers])
            file["xrfmap/scalers/val"] = np.stack(list(scalers.values()), -1)
    return path


def bliss(path: Path, scans: Mapping[int, tuple[str, np.ndarray, Mapping[str, Sequence[float] | np.ndarray]]]) -> Path:
    """Write scans {number: (title, spectra (point, detector, channel), counters)}."""
    with h5py.File(path, "w") as file:
        for number, (title, data, counters) in scans.items():
            file[f"{number}.1/title"] = title
            for d in range(data.shape[1]):
                file[f"{number}.1/measurement/mca{d}"] = data[:, d]
            for name, values in counters.items():
                file[f"{number}.1/measurement/{name}"] = np.asarray(values)
    return path


def maps(folder: Path, stem: str, data: np.ndarray, i0: np.ndarray) -> Path:
    for d in range(data.shape[2]):
        with h5py.File(folder / f"{stem}.h5{d}", "w") as file:
            file["MAPS/Spectra/mca_arr"] = data[:, :, d].transpose(2, 0, 1).astype(np.float32)
            file["MAPS/Spectra/Energy_Calibration"] = [0.0, 0.01, 0.0]
            file["MAPS/Scalers/Names"] = np.array([b"SRCURRENT", b"US_IC"])
            file["MAPS/Scalers/Values"] = np.stack([np.ones_like(i0), i0])
    return folder / f"{stem}.h50"
