"""Energy calibration of spectra, from a file beside them, from the user, or from the file's own header."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import structlog

from quietbeam.core.errors import FileFormatError
from quietbeam.spectra import Floats

log = structlog.get_logger()

MAX_BYTES = 8 * 2**30
_CALIBRATION_SUFFIX = "_energy_calibration.json"


def calibration_of(path: Path, given: Path | None, detectors: int, header: list[list[float]] | None) -> Floats:
    """Return (detector, 2): energy of channel 0 and width of a channel, keV."""
    beside = [p for p in sorted(path.parent.glob(f"*{_CALIBRATION_SUFFIX}")) if _belongs(p, path)]
    source = given or (beside[0] if beside else None)
    pairs = header if source is None else _from_json(source, path.stem, detectors)
    if pairs is None:
        raise FileFormatError(
            f"{path} says nothing of energies: give --calibration FILE.json with "
            f'{{"{path.stem}": [[offset_keV, keV_per_channel], ... {detectors} detectors]}}'
        )
    log.info("energy_calibration", source=str(source or "header of the file"), kev=pairs)
    try:
        values = np.asarray(pairs, float)
    except (ValueError, TypeError):
        values = np.zeros(0)
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


def refuse_giants(path: Path, size: int) -> None:
    """Refuse before allocation what would not fit."""
    if size > MAX_BYTES:
        raise FileFormatError(f"{path} would need {size / 2**30:.0f} GiB: replay holds a map in memory, cut it down")
