"""EPICS MDA files (synApps saveData) of step scans: spectra of every pixel in the innermost of three nested scans.

Big-endian XDR after ``docs/MDAFormat.md`` of epics-modules/sscan, versions 1.2 to 1.4.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from quietbeam.core.errors import FileFormatError
from quietbeam.core.model.not_measured import usable_live_time
from quietbeam.spectra import MapInfo, SpectralMap

from ..choice import ReadChoice
from .calibration import calibration_of, refuse_giants
from .monitor import choose_i0
from .points import Placement, checked, in_order
from .xmap import xmap_entries

_MCA = re.compile(r"mca(\d+)")
_LARGEST = 2**30
"""Bytes of one array."""
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
    """One scan of the nest.

    Attributes
    ----------
    done
        Points that were measured.
    below
        Where the scans below begin in the file; 0: not measured.
    positions
        (point,) for each motor.
    motors
        (name, units) for each motor.
    detectors
        (point,) by name.
    """

    points: int
    done: int
    below: tuple[int, ...]
    positions: tuple[npt.NDArray[np.float64], ...]
    motors: tuple[tuple[str, str], ...]
    detectors: dict[str, npt.NDArray[np.float32]]
    descriptions: dict[str, str]


class _File:
    """Reads XDR from an open file."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream

    def seek(self, at: int) -> None:
        self._stream.seek(at)

    def number(self) -> int:
        value: int = struct.unpack(">i", self._bytes(4))[0]
        return value

    def array(self, dtype: str, n: int) -> npt.NDArray[Any]:
        size = n * np.dtype(dtype).itemsize
        if not 0 <= size <= _LARGEST:
            raise struct.error("it holds an impossible length")
        return np.frombuffer(self._bytes(size), dtype, n)

    def _bytes(self, size: int) -> bytes:
        data = self._stream.read(size)
        if len(data) < size:
            raise struct.error("it ends too early")
        return data

    def text(self) -> str:
        """Read a counted string: its length, and if that is not 0 the length again with the characters."""
        if not self.number():
            return ""
        n = self.number()
        value = self.array("u1", n).tobytes()
        self._bytes(-n % 4)
        return value.decode("latin-1")

    def scan(self, at: int) -> _Scan:
        self.seek(at)
        rank, points, done = self.number(), self.number(), self.number()
        below = tuple(self.array(">i4", points).tolist()) if rank > 1 else ()
        self.text(), self.text()  # name, time
        n_pos, n_det, n_trig = self.number(), self.number(), self.number()
        motors = []
        for _ in range(n_pos):
            self.number()
            texts = [
                self.text() for _ in range(7)
            ]  # name, description, mode, units; readback: name, description, units
            motors.append((texts[1] or texts[0], texts[6] or texts[3]))
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
            points=points,
            done=done,
            below=below,
            positions=positions,
            motors=tuple(motors),
            detectors=detectors,
            descriptions=descriptions,
        )

    def extra(self, at: int) -> dict[str, npt.NDArray[Any]]:
        """Read the numbers among the extra PVs, by name."""
        self.seek(at)
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


class MdaSpectra:
    """A :class:`quietbeam.spectra.maps.SpectrumSource` over the innermost scans, which are read when they are needed.

    Parameters
    ----------
    at
        (point,) where the scan of each pixel begins; 0: it was not measured.
    """

    grain, itemsize = 1, 4

    def __init__(self, path: Path, at: Sequence[int], names: Sequence[str], channels: int) -> None:
        self.shape = len(at), len(names), channels
        self._path, self._at, self._names = path, tuple(at), tuple(names)

    def read(self, start: int, stop: int) -> npt.NDArray[Any]:
        """Return numbers (point, detector, channel); NaN where a spectrum is not there."""
        out = np.full((stop - start, *self.shape[1:]), np.nan, np.float32)
        with self._path.open("rb") as stream:
            file = _File(stream)
            for n, at in enumerate(self._at[start:stop]):
                pixel = _pixel(self._path, file, at) if at else None
                if pixel is not None and pixel.points == self.shape[2] and set(self._names) <= set(pixel.detectors):
                    out[n] = np.stack([pixel.detectors[name] for name in self._names])
        return out


def _pixel(path: Path, file: _File, at: int) -> _Scan:
    try:
        return file.scan(at)
    except (struct.error, IndexError, OverflowError) as error:
        raise FileFormatError(f"{path} is MDA, but damaged or half-written: {error}") from error


def read_mda(path: Path, calibration: Path | None, choice: ReadChoice | None = None) -> SpectralMap:
    """Read a step scan; pixels of an interrupted one that were not reached are not measured."""
    choice = choice or ReadChoice()
    choice.refuse_others(path, "an MDA file", "i0", "energy", "snake")
    try:
        with path.open("rb") as stream:
            return _read(path, _File(stream), calibration, choice)
    except (struct.error, IndexError, OverflowError) as error:
        raise FileFormatError(f"{path} is MDA, but damaged or half-written: {error}") from error


def _read(path: Path, file: _File, calibration: Path | None, choice: ReadChoice) -> SpectralMap:
    file.seek(8)
    rank = file.number()
    dims = tuple(file.array(">i4", rank).tolist())
    file.number()
    extra_at = file.number()
    top_at = 8 + 4 * (rank + 3)
    top = file.scan(top_at)
    rows = [file.scan(at) if at else None for at in top.below] if rank == 3 else [top]
    first = next((row for row in rows if row is not None), None)
    pixel = next((file.scan(at) for at in first.below if at), None) if first is not None and rank in (2, 3) else None
    if first is None or pixel is None or pixel.points < 128:
        raise FileFormatError(
            f"{path} is MDA of a scan over {' x '.join(map(str, dims))} points without spectra: those of a fly scan "
            "are in files of their own, which XRF-Maps joins; give the HDF5 file that it writes"
        )
    names = list(pixel.detectors)
    shape = len(rows), first.points
    refuse_giants(path, 4 * shape[0] * shape[1] * len(names))
    at = np.zeros(shape, np.int64)
    scalers: dict[str, Any] = {name: np.full(shape, np.nan) for name in first.detectors}
    positions = np.full((2, *shape), np.nan)
    for r, row in enumerate(rows):
        if row is None:
            continue
        n = min(row.done, row.points, shape[1])
        for name in scalers:
            scalers[name][r, :n] = row.detectors.get(name, np.full(n, np.nan))[:n]
        at[r, :n] = row.below[:n]
        if row.positions:
            positions[1, r, :n] = row.positions[0][:n]
        positions[0, r, :n] = top.positions[0][r] if rank == 3 and top.positions else 0.0
    placement = _placement(shape, positions, top if rank == 3 else None, first, choice)
    measured = (at > 0) & np.array([row is not None for row in rows])[:, None]
    entries = {**(file.extra(extra_at) if extra_at else {}), **scalers}
    live, real, pairs = xmap_entries(entries, len(names)) or (None, None, None)
    labels = {first.descriptions[name]: v for name, v in scalers.items() if first.descriptions[name]} | scalers
    usual = [
        first.descriptions[n] or n for n in scalers if _MONITOR.search(first.descriptions[n]) or _MONITOR.search(n)
    ]

    def grid(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        return placement.sum(np.nan_to_num(values).ravel())

    present = np.asarray(placement.sum(measured.ravel().astype(int)) > 0)
    monitor = choose_i0({n: grid(v) for n, v in labels.items()}, lambda n: n in usual, choice.i0, present)
    energies = calibration_of(path, calibration, len(names), pairs, choice)
    live_time, live_pixels = (
        (None, True) if live is None else usable_live_time(np.stack([grid(values) for values in live]))
    )
    if monitor.measured is not None:
        present &= monitor.measured
    info = MapInfo(
        source=path.name,
        detectors=tuple(f"det{m[1] if (m := _MCA.search(name)) else d + 1}" for d, name in enumerate(names)),
        shape=placement.shape,
        live_time_s=live_time,
        i0=monitor.i0,
        dwell_s=None if real is None else float(np.nanmedian(real)),
        measured=present & live_pixels,
        axes=placement.axes,
        order=placement.order,
        remarks=(*placement.remarks, *energies.remarks, monitor.remark),
    )
    pixels = np.where(measured.ravel(), placement.pixels, -1)
    source = MdaSpectra(path, at.ravel().tolist(), names, pixel.points)
    return SpectralMap(info=info, spectra=source, calibration=energies.kev, pixels=pixels)


def _placement(
    shape: tuple[int, int], positions: npt.NDArray[np.float64], top: _Scan | None, row: _Scan, choice: ReadChoice
) -> Placement:
    """Return where the pixels lie, checked by the readbacks of the motors."""
    announced = in_order(shape[0] * shape[1], shape, snake=bool(choice.snake))
    motors = [scan.motors[0] if scan is not None and scan.motors else ("", "") for scan in (top, row)]
    flat = positions.reshape(2, -1)
    if choice.snake is not None or not np.isfinite(flat).all(axis=0).any():
        return announced
    try:
        placed = checked(announced, flat[0], flat[1], (motors[0][0], motors[1][0]))
    except FileFormatError as error:
        return replace(announced, remarks=(f"the positions cannot be used ({error}): the announced order is assumed",))
    units = motors[1][1] if motors[1][1] == motors[0][1] or top is None else ""
    return placed if placed.axes is None else replace(placed, axes=replace(placed.axes, units=units))
