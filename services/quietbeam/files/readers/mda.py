"""EPICS MDA files (synApps saveData) of step scans: spectra of every pixel in the innermost of three nested scans.

Big-endian XDR after ``docs/MDAFormat.md`` of epics-modules/sscan, versions 1.2 to 1.4.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from quietbeam.core.errors import FileFormatError
from quietbeam.spectra import MapInfo, SpectralMap

from .calibration import calibration_of, refuse_giants
from .xmap import xmap_entries

_MCA = re.compile(r"mca(\d+)")
_MONITOR = re.compile(r"us_?ic\b|upstream|\bi0\b", re.IGNORECASE)
_NUMBERS = {29: ">i4", 30: ">f4", 32: ">i4", 33: ">i4", 34: ">f8"}
"""DBR_CTRL types of extra PVs; short, char and long all take four bytes in XDR."""


def is_mda(path: Path) -> bool:
    """True for a file whose first words are a version, a scan number and a rank."""
    with path.open("rb") as file:
        head = file.read(12)
    if len(head) < 12:
        return False
    version, _, rank = struct.unpack(">fii", head)
    return 1.15 < version < 1.45 and 1 <= rank <= 4


@dataclass(frozen=True, slots=True, kw_only=True)
class _Scan:
    """One scan of the nest: its points, where the scans below begin (0: not measured), and its detectors by name."""

    points: int
    done: int
    below: tuple[int, ...]
    positions: tuple[npt.NDArray[np.float64], ...]
    detectors: dict[str, npt.NDArray[np.float32]]
    descriptions: dict[str, str]


class _File:
    """Reads XDR from memory."""

    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def number(self) -> int:
        value: int = struct.unpack_from(">i", self.data, self.at)[0]
        self.at += 4
        return value

    def array(self, dtype: str, n: int) -> npt.NDArray[Any]:
        if n < 0 or self.at + n * np.dtype(dtype).itemsize > len(self.data):
            raise struct.error("it ends too early")
        values = np.frombuffer(self.data, dtype, n, self.at)
        self.at += values.nbytes
        return values

    def text(self) -> str:
        """Read a counted string: its length, and if that is not 0 the length again with the characters."""
        if not self.number():
            return ""
        n = self.number()
        value = self.array("u1", n).tobytes()
        self.at += -n % 4
        return value.decode("latin-1")

    def scan(self, at: int) -> _Scan:
        self.at = at
        rank, points, done = self.number(), self.number(), self.number()
        below = tuple(self.array(">i4", points).tolist()) if rank > 1 else ()
        self.text(), self.text()  # name, time
        n_pos, n_det, n_trig = self.number(), self.number(), self.number()
        for _ in range(n_pos):
            self.number()
            for _ in range(7):
                self.text()
        names, descriptions = [], {}
        for _ in range(n_det):
            self.number()
            name, description, _ = self.text(), self.text(), self.text()
            names.append(name)
            descriptions[name] = description
        for _ in range(n_trig):
            self.number()
            self.text()
            self.number()
        positions = tuple(self.array(">f8", points).astype(float) for _ in range(n_pos))
        detectors = {name: self.array(">f4", points).astype(np.float32) for name in names}
        return _Scan(
            points=points, done=done, below=below, positions=positions, detectors=detectors, descriptions=descriptions
        )

    def extra(self, at: int) -> dict[str, npt.NDArray[Any]]:
        """Read the numbers among the extra PVs, by name."""
        self.at = at
        found: dict[str, npt.NDArray[Any]] = {}
        for _ in range(self.number()):
            name, _, kind = self.text(), self.text(), self.number()
            if kind == 0:
                self.text()
                continue
            count = self.number()
            self.text()
            if kind not in _NUMBERS:
                raise struct.error(f"extra PV {name} is of unknown type {kind}")
            found[name] = self.array(_NUMBERS[kind], count).astype(float)
        return found


def read_mda(path: Path, calibration: Path | None) -> SpectralMap:
    """Read a step scan; pixels of an interrupted one that were not reached are not measured."""
    try:
        return _read(path, calibration)
    except (struct.error, IndexError) as error:
        raise FileFormatError(f"{path} is MDA, but damaged or half-written: {error}") from error


def _read(path: Path, calibration: Path | None) -> SpectralMap:
    refuse_giants(path, path.stat().st_size)
    file = _File(path.read_bytes())
    file.at = 8
    rank = file.number()
    dims = tuple(file.array(">i4", rank).tolist())
    file.number()
    extra_at = file.number()
    top = file.scan(file.at)
    rows = [file.scan(at) if at else None for at in top.below] if rank == 3 else [top]
    first = next((row for row in rows if row is not None), None)
    pixel = next((file.scan(at) for at in first.below if at), None) if first is not None and rank in (2, 3) else None
    if first is None or pixel is None or pixel.points < 128:
        raise FileFormatError(
            f"{path} is MDA of a scan over {' x '.join(map(str, dims))} points without spectra: those of a fly scan "
            "are in files of their own, which XRF-Maps joins; give the HDF5 file that it writes"
        )
    names = list(pixel.detectors)
    refuse_giants(path, 4 * len(rows) * first.points * len(names) * pixel.points)
    shape = len(rows), first.points
    spectra = np.zeros((*shape, len(names), pixel.points), np.uint32)
    measured = np.zeros(shape, bool)
    beside: dict[str, Any] = {name: np.full(shape, np.nan) for name in first.detectors}
    for r, row in enumerate(rows):
        if row is None:
            continue
        for name in beside:
            beside[name][r] = row.detectors.get(name, np.nan)
        for c, at in enumerate(row.below[: row.done]):
            one = file.scan(at) if at else None
            if one is None or not set(names) <= set(one.detectors):
                continue
            values = np.stack([one.detectors[name] for name in names])
            if values.min() < 0 or not np.array_equal(values, np.rint(values)):
                raise FileFormatError(f"{path}: spectra of pixel ({r}, {c}) are no counts")
            spectra[r, c], measured[r, c] = values, True
    entries = {**(file.extra(extra_at) if extra_at else {}), **beside}
    live, real, pairs = xmap_entries(entries, len(names)) or (None, None, None)
    monitor = next((n for n, text in first.descriptions.items() if _MONITOR.search(text) or _MONITOR.search(n)), None)
    i0 = beside[monitor] if monitor is not None and np.nanmin(beside[monitor]) > 0 else None
    info = MapInfo(
        source=path.name,
        detectors=tuple(f"det{m[1] if (m := _MCA.search(name)) else d + 1}" for d, name in enumerate(names)),
        shape=shape,
        live_time_s=None if live is None else np.nan_to_num(live),
        i0=None if i0 is None else np.nan_to_num(i0),
        dwell_s=None if real is None else float(np.nanmedian(real)),
        measured=measured,
    )
    return SpectralMap(info=info, spectra=spectra, calibration=calibration_of(path, calibration, len(names), pairs))
