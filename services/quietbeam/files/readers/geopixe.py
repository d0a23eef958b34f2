"""Pixel lists of GeoPIXE (``.GeoPIXE``), as the IXRF microprobe writes them: a JSON header, then records of pixels.

A record is ``DP``, its length in bytes (u4), column, row and detector (u2 each), dead time (f4), and pairs of channel
and counts (u2 each) for the channels that are not empty; all little-endian. That is how readers of such files describe
them; no real file was at hand.
"""

from __future__ import annotations

import json
import math
import mmap
import struct
from array import array
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np
import numpy.typing as npt

from quietbeam.core.errors import FileFormatError
from quietbeam.spectra import MapInfo, SpectralMap
from quietbeam.spectra.maps import Axes

from ..choice import ReadChoice
from .arrays import NO_I0
from .calibration import calibration_of, refuse_giants

SUFFIX = ".geopixe"
_RECORD = struct.Struct("<2sIHHHf")
_PAIR = np.dtype([("channel", "<u2"), ("counts", "<u2")])
_DEAD_TIME = "dead times are not used: the file does not say their unit"


@dataclass(frozen=True, slots=True)
class _Header:
    """What the file says of the map; sizes in pixels, energies in keV, lengths in mm."""

    shape: tuple[int, int]
    channels: int
    gain_kev: float
    zero_kev: float | None
    size_mm: tuple[float, float] | None
    dwell_s: float | None

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> _Header:
        def number(*names: str) -> float | None:
            return next((float(values[name]) for name in names if name in values), None)

        height, width = number("Height (mm)"), number("Width (mm)")
        dwell_ms, zero = number("Dwell (mS)"), number("Zero (eV)", "Offset (eV)")
        return cls(
            shape=(_whole(values["Yres"]), _whole(values["Xres"])),
            channels=_whole(values["Chan"]),
            gain_kev=float(values["Gain (eV)"]) / 1000,
            zero_kev=None if zero is None else zero / 1000,
            size_mm=(height, width) if _is_length(height) and _is_length(width) else None,
            dwell_s=dwell_ms / 1000 if _is_length(dwell_ms) else None,
        )


def _is_length(value: float | None) -> TypeGuard[float]:
    """Return whether a length or a time is known, and can be one."""
    return value is not None and 0 < value < math.inf


def _whole(value: Any) -> int:
    if int(value) != float(value):
        raise ValueError(f"{value} is no whole number")
    return int(value)


class PixelRecords:
    """A :class:`quietbeam.spectra.maps.SpectrumSource` over the records of a file, read as they are needed.

    Parameters
    ----------
    start, length
        (point, detector) first byte and number of the pairs of every record; length 0 where there is none.
    """

    grain, itemsize = 1, 4

    def __init__(self, path: Path, start: npt.NDArray[np.int64], length: npt.NDArray[np.int64], channels: int) -> None:
        self.shape = (*start.shape, channels)
        self._path, self._start, self._length = path, start, length

    def read(self, start: int, stop: int) -> npt.NDArray[Any]:
        """Return counts (point, detector, channel)."""
        out = np.zeros((stop - start, *self.shape[1:]), np.uint32)
        with self._path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            for point, detector in np.argwhere(self._length[start:stop] > 0).tolist():
                at, n = int(self._start[start + point, detector]), int(self._length[start + point, detector])
                pairs = np.frombuffer(data[at : at + n * _PAIR.itemsize], _PAIR)
                if pairs["channel"].max() >= self.shape[2]:
                    raise FileFormatError(
                        f"{self._path}: a pixel has counts in channel {pairs['channel'].max()}, but the header says "
                        f"{self.shape[2]} channels: the file is damaged"
                    )
                np.add.at(out[point, detector], pairs["channel"], pairs["counts"])
        return out


def read_geopixe(path: Path, calibration: Path | None, choice: ReadChoice) -> SpectralMap:
    """Read a pixel list.

    Raises
    ------
    FileFormatError
        It is none, or is damaged.
    """
    choice.refuse_others(path, "a pixel list of GeoPIXE", "energy")
    size = path.stat().st_size
    with path.open("rb") as file:
        header, first = _header(path, file.read(2 + 0xFFFF))
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            records, end = _records(path, data, first, header.shape)
    if not len(records):
        raise FileFormatError(f"{path} holds no pixel")
    numbers, detector = np.unique(records[:, 2], return_inverse=True)
    rows, cols = header.shape
    refuse_giants(path, 20 * len(numbers) * rows * cols)
    start, length = (np.zeros((rows * cols, len(numbers)), np.int64) for _ in range(2))
    times = np.zeros((rows * cols, len(numbers)), np.int32)
    pixel = records[:, 1] * cols + records[:, 0]
    start[pixel, detector], length[pixel, detector] = records[:, 3], records[:, 4]
    np.add.at(times, (pixel, detector), 1)
    twice = int((times > 1).any(1).sum())
    zero = header.zero_kev
    energies = calibration_of(path, calibration, len(numbers), [[zero or 0.0, header.gain_kev]] * len(numbers), choice)
    remarks = [_DEAD_TIME, *energies.remarks, NO_I0]
    if zero is None:
        remarks.append("the file does not say the energy of channel 0, which is taken as 0")
    if twice:
        remarks.append(f"{twice} pixels have two records of one detector and are not measured")
    if end < size:
        remarks.append(f"the last {size - end} bytes are no whole record: the file was cut")
    info = MapInfo(
        source=path.name,
        detectors=tuple(f"det{number}" for number in numbers),
        shape=header.shape,
        dwell_s=header.dwell_s,
        measured=(times == 1).all(1).reshape(rows, cols),
        axes=_axes(header),
        order="assumed",
        remarks=tuple(remarks),
    )
    source = PixelRecords(path, start, length, header.channels)
    return SpectralMap(info=info, spectra=source, calibration=energies.kev, whole_scan=False)


def _header(path: Path, begin: bytes) -> tuple[_Header, int]:
    """Return what the header says, and the first byte behind it."""
    length = int.from_bytes(begin[:2], "little")
    try:
        if begin[:2] == b"DP":
            raise ValueError("the header is missing")
        values = json.loads(begin[2 : 2 + length].decode())["File Header"]
        header = _Header.of(values)
        if min(*header.shape, header.channels) < 1 or header.channels > 2**16 or not 0 < header.gain_kev < math.inf:
            raise ValueError(f"{header.shape[0]} x {header.shape[1]} pixels of {header.channels} channels")
    except (ValueError, LookupError, TypeError, OverflowError) as error:
        raise FileFormatError(f"{path} is no pixel list of GeoPIXE, or is damaged: {error}") from error
    return header, 2 + length


def _records(path: Path, data: mmap.mmap, first: int, shape: tuple[int, int]) -> tuple[npt.NDArray[np.int64], int]:
    """Return (record, 5): column, row, detector, first byte and number of the pairs; and where whole records end."""
    found = array("q")  # 100 million records fit in memory, unlike tuples
    at, size, (rows, cols) = first, len(data), shape
    while at + _RECORD.size <= size:
        mark, length, col, row, detector, _ = _RECORD.unpack_from(data, at)
        pairs, rest = divmod(length - _RECORD.size, _PAIR.itemsize)
        if mark != b"DP" or rest or pairs < 0 or row >= rows or col >= cols:
            raise FileFormatError(
                f"{path}: byte {at} begins no record of a pixel of a map of {rows} x {cols} pixels: the file is damaged"
            )
        if at + length > size:
            break
        found.extend((col, row, detector, at + _RECORD.size, pairs))
        at += length
    return np.frombuffer(found, np.int64).reshape(-1, 5), at


def _axes(header: _Header) -> Axes | None:
    if header.size_mm is None:
        return None
    step = header.size_mm[0] / header.shape[0], header.size_mm[1] / header.shape[1]
    return Axes(origin=(0.0, 0.0), step=step, units="mm", names=("y", "x"))
