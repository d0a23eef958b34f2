"""PyXRF files of NSLS-II: ``xrfmap/det1/counts`` (row, col, channel) and, after a fit, ``xrfmap/det1/xrf_fit``."""

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

DEFAULT_CALIBRATION = (0.0, 0.01)
"""keV; what PyXRF itself starts from, and Xspress 3 electronics are set to."""
_DETECTOR = re.compile(r"^det(\d+)$")
_MONITORS = ("i0", "sclr_i0", "sclr1_ch4", "current_preamp_ch2")


def is_pyxrf(file: h5py.File) -> bool:
    """True for a PyXRF file."""
    return isinstance(file.get("xrfmap"), h5py.Group)


def read_pyxrf(path: Path, file: h5py.File, calibration: Path | None) -> SpectralMap | LineMap:
    """Read the single detectors: their spectra where they are (photon counts), else their fits."""
    group = file["xrfmap"]
    names = sorted((n for n in group if _DETECTOR.match(n)), key=lambda n: int(_DETECTOR.match(n)[1]))  # type: ignore[index]
    if not names:
        raise FileFormatError(
            f"{path} has no single detectors (xrfmap/det1 ...) but {', '.join(group)}: nothing can be held out of "
            "the sum over detectors; make the file with create_each_det=True"
        )
    shapes = {group[n]["counts"].shape if "counts" in group[n] else group[n]["xrf_fit"].shape for n in names}
    if len(shapes) > 1:
        raise FileFormatError(f"{path}: its detectors have different shapes: {', '.join(map(str, sorted(shapes)))}")
    monitor = _monitor(group)
    if all("counts" in group[n] for n in names):
        arrays = [group[n]["counts"] for n in names]
        refuse_giants(path, sum(a.nbytes for a in arrays))
        spectra: Any = np.stack([a[()] for a in arrays], axis=2)
        if spectra.dtype.kind == "f" and np.array_equal(spectra, np.rint(spectra)):
            spectra = spectra.astype(np.int64)
        if spectra.dtype.kind not in "iu" or spectra.min() < 0:
            raise FileFormatError(f"{path}: spectra of type {spectra.dtype}, smallest value {spectra.min()}: no counts")
        info = MapInfo(source=path.name, detectors=tuple(names), shape=spectra.shape[:2], i0=monitor)
        header = [list(DEFAULT_CALIBRATION)] * len(names)
        return SpectralMap(
            info=info, spectra=spectra, calibration=calibration_of(path, calibration, len(names), header)
        )
    if not all("xrf_fit" in group[n] for n in names):
        raise FileFormatError(f"{path}: {', '.join(names)} hold neither counts nor xrf_fit")
    fits = []
    for name in names:
        labels, values = group[name]["xrf_fit_name"][()], group[name]["xrf_fit"][()]
        fits.append({line_name(label): v for label, v in zip(labels, values, strict=True)})
    lines = [line for line in fits[0] if line and all(line in other for other in fits)]
    if not lines:
        raise FileFormatError(f"{path}: no emission line was fitted in all of its detectors")
    counts = np.stack([[fit[line] for line in lines] for fit in fits]).astype(np.float32)
    info = MapInfo(source=path.name, detectors=tuple(names), shape=(counts.shape[2], counts.shape[3]), i0=monitor)
    return LineMap(info=info, lines=tuple(lines), counts=counts, measured=np.asarray(np.isfinite(counts).all((0, 1))))


def _monitor(group: h5py.Group) -> Floats | None:
    """Return I0 (row, col), where a scaler is called so and is positive everywhere."""
    if "scalers/name" not in group:
        return None
    names = [n.decode() if isinstance(n, bytes) else str(n) for n in group["scalers/name"][()]]
    for wanted in _MONITORS:
        if wanted in names:
            values = np.asarray(group["scalers/val"][:, :, names.index(wanted)], float)
            return values if np.nanmin(values) > 0 else None
    return None
