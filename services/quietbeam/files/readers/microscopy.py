"""EDS maps of microscopes, through rosettasciio: Bruker .bcf, JEOL .pts, Velox .emd, EDAX .spd, .rpl with .raw.

Frames of a scan, and detectors that are stored one by one, are independent views: each becomes a detector.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from quietbeam.core.errors import FileFormatError, QuietbeamError, ServiceError
from quietbeam.spectra import MapInfo, SpectralMap
from quietbeam.spectra.maps import Axes

from ..choice import ReadChoice
from .arrays import NO_I0
from .calibration import calibration_of
from .generic import EXTRA

MOST_VIEWS = 8
"""Detectors that frames are made into: beyond, frames are added up in turn."""
_WHAT: dict[str, tuple[str, str, dict[str, Any]]] = {
    ".bcf": ("Bruker", "bruker", {"select_type": "spectrum_image", "index": "all"}),
    ".pts": ("JEOL", "jeol", {"sum_frames": False, "lazy": True}),
    ".emd": (
        "Velox",
        "emd",
        {"select_type": "spectrum_image", "sum_frames": False, "sum_EDS_detectors": False},
    ),
    ".spd": ("EDAX", "edax", {}),
    ".rpl": ("LISPIX", "ripple", {}),
}
"""Ending -> (whose it is, module, arguments)."""
SUFFIXES = tuple(_WHAT)


class EventSpectra:
    """A :class:`quietbeam.spectra.maps.SpectrumSource` over the channels that hold counts, sorted by pixel.

    Parameters
    ----------
    pixel, view, channel, counts
        (event,) of each channel that is not empty.
    """

    grain, itemsize = 1, 4

    def __init__(
        self,
        shape: tuple[int, int, int],
        pixel: npt.NDArray[Any],
        view: npt.NDArray[Any],
        channel: npt.NDArray[Any],
        counts: npt.NDArray[Any],
    ) -> None:
        self.shape = shape
        order = np.argsort(pixel, kind="stable")
        self._pixel, self._view, self._channel = pixel[order], view[order], channel[order]
        self._counts = counts[order]

    def read(self, start: int, stop: int) -> npt.NDArray[Any]:
        """Return counts (point, detector, channel)."""
        first, last = np.searchsorted(self._pixel, (start, stop))
        part = slice(int(first), int(last))
        out = np.zeros((stop - start, *self.shape[1:]), np.uint32)
        np.add.at(out, (self._pixel[part] - start, self._view[part], self._channel[part]), self._counts[part])
        return out


def read_microscopy(path: Path, calibration: Path | None, choice: ReadChoice) -> SpectralMap:
    """Read an EDS map.

    Raises
    ------
    FileFormatError
        There is no map of X-ray spectra in it, or it is damaged.
    ServiceError
        rosettasciio is not installed.
    """
    whose, module, arguments = _WHAT[path.suffix.lower()]
    choice.refuse_others(path, f"a file of {whose}", "energy")
    try:
        reader: Callable[..., list[dict[str, Any]]] = import_module(f"rsciio.{module}").file_reader
    except ImportError as error:
        raise ServiceError(f"{path}: reading files of {whose} needs rosettasciio: {EXTRA}") from error
    import dask  # rosettasciio brings it

    try:
        # here, also in a process that is, or was, a client of a Dask scheduler
        with warnings.catch_warnings(), dask.config.set(scheduler="synchronous"):
            warnings.simplefilter("ignore")
            found = reader(str(path), **arguments)
            signals = [signal for signal in found if _energy_axis(signal) is not None]
            return _map(path, signals, len(found), calibration, choice)
    except (QuietbeamError, MemoryError):
        raise
    except Exception as error:  # whatever a parser of somebody else's format meets
        raise FileFormatError(f"{path} cannot be read as a file of {whose} (is it whole?): {error}") from error


def _energy_axis(signal: dict[str, Any]) -> int | None:
    """Return which axis is the energy of X-rays; None for images and electron energies."""
    for n, axis in enumerate(signal["axes"]):
        name, units = str(axis.get("name", "")).lower(), str(axis.get("units", ""))
        if "energy" in name and "loss" not in name and units in ("keV", "eV") and len(signal["axes"]) >= 3:
            return n
    return None


def _map(
    path: Path, signals: Sequence[dict[str, Any]], found: int, calibration: Path | None, choice: ReadChoice
) -> SpectralMap:
    if not signals:
        raise FileFormatError(f"{path} holds no map of X-ray spectra ({found} other signals)")
    shape = signals[0]["data"].shape
    same = [signal for signal in signals if signal["data"].shape == shape]
    layout = [_role(axis, n == _energy_axis(same[0])) for n, axis in enumerate(same[0]["axes"])]
    if not {"row", "col", "channel"} <= set(layout):
        raise FileFormatError(
            f"{path} is no map over two axes: {', '.join(str(a.get('name')) for a in same[0]['axes'])}"
        )
    size = dict(zip(layout, shape, strict=True))
    frames = size.get("frame", 1)
    groups = min(frames, max(MOST_VIEWS // len(same), 2 if len(same) == 1 else 1))
    parts = [_events(signal["data"], layout, d, groups) for d, signal in enumerate(same)]
    pixel, view, channel, counts = (np.concatenate([part[k] for part in parts]) for k in range(4))
    views = len(same) * groups
    source = EventSpectra((size["row"] * size["col"], views, size["channel"]), pixel, view, channel, counts)
    energy = same[0]["axes"][layout.index("channel")]
    scale = 1e-3 if energy.get("units") == "eV" else 1.0
    pairs = [[scale * float(energy["offset"]), scale * float(energy["scale"])]] * views
    energies = calibration_of(path, calibration, views, pairs, choice)
    remarks = []
    if len(same) < len(signals):
        remarks.append(f"{len(signals) - len(same)} maps of spectra of another shape are left out")
    if frames > 1:
        remarks.append(f"{frames} frames are taken as {groups} independent views of each of {len(same)} detectors")
    names = tuple(
        f"det{d + 1}" + (f"_part{g + 1}" if groups > 1 else "") for d in range(len(same)) for g in range(groups)
    )
    info = MapInfo(
        source=path.name,
        detectors=names,
        shape=(size["row"], size["col"]),
        axes=_places(same[0]["axes"], layout),
        order="assumed",
        remarks=(*remarks, *energies.remarks, NO_I0),
    )
    return SpectralMap(info=info, spectra=source, calibration=energies.kev, whole_scan=False)


def _role(axis: dict[str, Any], energy: bool) -> str:
    """Return row, col, channel or frame."""
    name = str(axis.get("name", "")).lower()
    if energy:
        return "channel"
    return {"y": "row", "height": "row", "x": "col", "width": "col"}.get(name, "frame")


def _pieces(data: Any) -> Iterator[tuple[tuple[npt.NDArray[Any], ...], npt.NDArray[Any]]]:
    """Yield the indices and the values of what is not zero in an array, piece by piece."""
    if isinstance(data, np.ndarray):
        for n, part in enumerate(data):
            at = np.nonzero(part)
            yield (np.full(len(at[0]), n), *at), part[at]
        return
    for node in dict(data.dask).values():  # the sparse array behind a lazy one: to make it dense takes minutes
        sparse: Any = getattr(node, "value", node)
        if hasattr(sparse, "coords") and getattr(sparse, "shape", None) == data.shape:
            yield tuple(np.asarray(sparse.coords)), np.asarray(sparse.data)
            return
    yield from _pieces(data.compute(scheduler="synchronous"))


def _events(data: Any, layout: Sequence[str], signal: int, groups: int) -> tuple[npt.NDArray[Any], ...]:
    """Return (pixel, view, channel, counts) of all channels that hold counts."""
    cols = data.shape[layout.index("col")]
    found: list[tuple[npt.NDArray[Any], ...]] = []
    for at, values in _pieces(data):
        place = {role: index.astype(np.int64) for role, index in zip(layout, at, strict=True)}
        frame = place.get("frame", np.zeros(len(values), np.int64))
        found.append(
            (
                place["row"] * cols + place["col"],
                (signal * groups + frame % groups).astype(np.int32),
                place["channel"].astype(np.int32),
                values.astype(np.uint32),
            )
        )
    return tuple(np.concatenate([part[k] for part in found]) for k in range(4))


def _places(axes: Sequence[dict[str, Any]], layout: Sequence[str]) -> Axes | None:
    """Return where the pixels lie, in the units of the file."""
    y, x = axes[layout.index("row")], axes[layout.index("col")]
    units = str(y.get("units") or "").replace("µ", "u").replace("μ", "u")
    if units != str(x.get("units") or "").replace("µ", "u").replace("μ", "u"):
        return None
    return Axes(
        origin=(float(y.get("offset", 0)), float(x.get("offset", 0))),
        step=(float(y.get("scale", 1)), float(x.get("scale", 1))),
        units=units,
        names=("y", "x"),
    )
