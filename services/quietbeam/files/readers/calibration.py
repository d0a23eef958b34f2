"""Energy calibration of spectra, from a file beside them, from the user, or from the file's own header."""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

import numpy as np
import psutil
import structlog

from quietbeam.core.errors import FileFormatError
from quietbeam.core.model.types import Float64Array

from ..choice import ReadChoice, command_line

log = structlog.get_logger()

_CALIBRATION_SUFFIX = "_energy_calibration.json"
_SHARE_OF_MEMORY = 0.8
_WIDEST_KEV = 0.2
"""Of a channel; XRF detectors have 0.002 to 0.1 keV."""
_NARROWEST_EV = 1.0
_FARTHEST_KEV = 50.0


class Calibration(NamedTuple):
    """Energies of the channels.

    Attributes
    ----------
    kev
        (detector, 2): energy of channel 0 and width of a channel, keV.
    remarks
        What was assumed.
    """

    kev: Float64Array
    remarks: tuple[str, ...]


def calibration_of(
    path: Path,
    given: Path | None,
    detectors: int,
    header: list[list[float]] | None,
    choice: ReadChoice | None = None,
    *,
    assumed: bool = False,
) -> Calibration:
    """Return the calibration: the user's, else one beside the file, else the file's own.

    Energies in eV are recognised by the width of a channel.

    Parameters
    ----------
    assumed
        The header's is a usual one, which the file does not state.

    Raises
    ------
    FileFormatError
        There is none, or it cannot be right.
    """
    sidecars = [p for p in sorted(path.parent.iterdir()) if p.name.endswith(_CALIBRATION_SUFFIX) and _belongs(p, path)]
    source = given or (sidecars[0] if sidecars else None)
    chosen = None if choice is None or choice.energy is None else [list(choice.energy)] * detectors
    pairs = chosen or (header if source is None else _from_json(source, path.stem, detectors))
    if pairs is None:
        raise FileFormatError(
            f"{path} says nothing of energies: give --calibration FILE.json with "
            f'{{"{path.stem}": [[offset_keV, keV_per_channel], ... {detectors} detectors]}}, or one for all, as in: '
            f"{command_line(path, '--energy 0,0.01')}"
        )
    where = "chosen" if chosen else str(source or ("assumed" if assumed else "header of the file"))
    log.info("energy_calibration", source=where, kev=pairs)
    try:
        values = np.asarray(pairs, float)
    except (ValueError, TypeError):
        values = np.zeros(0)
    if values.shape != (detectors, 2) or not np.isfinite(values).all() or values[:, 1].min() <= 0:
        raise FileFormatError(
            f"calibration of {path} must be one (offset, width > 0) in keV for each of {detectors} detectors"
        )
    remarks: tuple[str, ...] = ()
    if values[:, 1].min() >= _NARROWEST_EV:
        values = values / 1000
        remarks = (f"the energy calibration was taken to be in eV: {values[0, 1]:g} keV per channel",)
    if values[:, 1].max() > _WIDEST_KEV or np.abs(values[:, 0]).max() > _FARTHEST_KEV:
        raise FileFormatError(
            f"calibration of {path} cannot be in keV: channel 0 at {values[0, 0]:g}, {values[0, 1]:g} per channel. "
            f"Give it in keV, as in: {command_line(path, '--energy 0,0.01')}"
        )
    if assumed and where == "assumed":
        remarks += (f"the file states no energies: {values[0, 0]:g} + {values[0, 1]:g} keV per channel was assumed",)
    return Calibration(values, remarks)


def _belongs(calibration: Path, path: Path) -> bool:
    return path.name.startswith(calibration.name.removesuffix(_CALIBRATION_SUFFIX))


def _from_json(source: Path, stem: str, detectors: int) -> list[list[float]]:
    """Return the entry named like the file, else the only one with as many detectors."""
    try:
        entries = {k: v for k, v in json.loads(source.read_text(encoding="utf-8")).items() if isinstance(v, list)}
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
    """Refuse before allocation what would not fit into the memory that is free."""
    free = psutil.virtual_memory().available
    if size > _SHARE_OF_MEMORY * free:
        raise FileFormatError(
            f"{path} would need {size / 2**30:.1f} GiB of the {free / 2**30:.1f} GiB of memory that are free: "
            "take fewer lines or detectors, or cut it down"
        )
