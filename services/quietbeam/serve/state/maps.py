"""Maps as viewers get them: (line, row, col) float32 in which NaN says "not measured", read once however many look."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any, Literal, cast

import numpy as np
import numpy.typing as npt
from scipy.ndimage import distance_transform_edt

from quietbeam.buffer import MapHistory, RunBuffer
from quietbeam.buffer import MapKind as StoredMapKind
from quietbeam.core.errors import NotMeasuredError
from quietbeam.core.model.types import BoolArray, FloatArray
from quietbeam.core.wire.runs import RunStatus

MapKind = Literal["raw", "denoised", "uncertainty", "residual", "chi2", "measured"]
KINDS: dict[MapKind, str] = {
    "raw": "gain-weighted sum over detectors",
    "denoised": "the published estimate; equals raw for lines that kept raw",
    "uncertainty": "one standard error of denoised",
    "residual": "raw minus denoised",
    "chi2": "chi-square of the residual in boxes of 5 x 5 pixels: about 1 where only noise is left",
    "measured": "which pixels are measured",
}
_CACHE_BYTES = 256 * 2**20


HOLE_CELLS = 2.0
"""Farther than this from a measured cell nothing is filled in."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MapStack:
    """One kind of map of a run at one moment.

    Attributes
    ----------
    values
        (line, row, col) float32 [counts], NaN where there is no value; (row, col) bool for ``measured``.
    tag
        Changes whenever the values may have changed: the ETag.
    denoised
        (row, col) bool: pixels that the denoise worker has reached.
    plain_rows
        Rows of ``raw`` that the denoise worker has not reached yet, shown as the plain sum over detectors.
    """

    values: npt.NDArray[Any]
    tag: str
    denoised: BoolArray
    plain_rows: int = 0


def map_tag(status: RunStatus, kind: str) -> str:
    """Return the tag of a run's maps; read the status *before* the maps, so that a tag is never newer than its data.

    Which pixels are measured changes with ingest alone, not with every version of the maps.
    """
    version = "" if kind == "measured" else f"{status.maps_version}."
    return f"{status.uid}.{version}{status.pixels_measured}.{kind}"


class MapReader:
    """Reads maps from zarr and keeps the newest of each kind for the next viewer. Safe for several threads."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._kept: OrderedDict[tuple[str, str], MapStack] = OrderedDict()
        self._lock = Lock()
        self._reading = Lock()

    def read(self, status: RunStatus, kind: MapKind, version: int | None = None) -> MapStack:
        """Return the maps of a run, or an earlier state of them.

        Raises
        ------
        NotMeasuredError
            Unknown kind, the run has no buffer, or the version is not kept.
        """
        if kind not in KINDS:
            raise NotMeasuredError(f"no maps of kind {str(kind)[:40]!r}; there are {', '.join(KINDS)}")
        if version is not None and version != status.maps_version:
            values, measured = MapHistory(RunBuffer.open(self._root, status.uid)).read(version, kind)
            values[:, ~measured] = np.nan
            return MapStack(values=_sealed(values), tag=f"{status.uid}.v{version}.{kind}", denoised=measured)
        cached = self._find(status, kind)
        if cached is None:
            with self._reading:  # one viewer reads, the others find it kept
                cached = self._find(status, kind) or self._read(status, kind)
        return cached

    def positions(self, status: RunStatus) -> npt.NDArray[np.float64] | None:
        """Return the measured positions (2, row, col) of a run's pixels; None when it has none."""
        buffer = RunBuffer.open(self._root, status.uid)
        return buffer.read_positions() if buffer.info.positions_in_units else None

    def _find(self, status: RunStatus, kind: MapKind) -> MapStack | None:
        key = (status.uid, kind)
        with self._lock:
            stack = self._kept.get(key)
            if stack is None or stack.tag != map_tag(status, kind):
                return None
            self._kept.move_to_end(key)
            return stack

    def _read(self, status: RunStatus, kind: MapKind) -> MapStack:
        stack = self._load(status, kind)
        key = (status.uid, kind)
        with self._lock:
            self._kept[key] = stack
            self._kept.move_to_end(key)
            while len(self._kept) > 1 and sum(s.values.nbytes for s in self._kept.values()) > _CACHE_BYTES:
                self._kept.popitem(last=False)
        return stack

    def _load(self, status: RunStatus, kind: MapKind) -> MapStack:
        try:
            buffer = RunBuffer.open(self._root, status.uid)
        except NotMeasuredError as error:
            why = f": {status.reason}" if status.reason else " yet"
            raise NotMeasuredError(f"run {status.uid} has no maps{why}") from error
        tag = map_tag(status, kind)
        if kind == "measured":
            measured = buffer.measured()
            return MapStack(values=_sealed(measured), tag=tag, denoised=measured)
        if kind == "raw":
            # a file a row: kept, it is most of the time that a new version takes
            measured = (self._find(status, "measured") or self._read(status, "measured")).values
            raw = buffer.read_map("raw")
            covered = _covered(buffer, raw, measured)
            plain = _add_plain_sums(buffer, raw, measured, covered)
            raw[:, ~measured] = np.nan
            return MapStack(
                values=_sealed(raw.astype("<f4", copy=False)),
                tag=tag,
                denoised=measured & covered[:, None],
                plain_rows=plain,
            )
        shown = self._find(status, "raw") or self._read(status, "raw")
        values = buffer.read_map("denoised" if kind == "residual" else cast(StoredMapKind, kind))
        if kind == "residual":
            values = shown.values - values
        values[:, ~shown.denoised] = np.nan
        return MapStack(values=_sealed(values.astype("<f4", copy=False)), tag=tag, denoised=shown.denoised)


def fill_holes(values: npt.NDArray[Any], measured: BoolArray) -> tuple[npt.NDArray[Any], int]:
    """Return maps (..., row, col) whose holes show the nearest measured value, and how many cells that are.

    A hole is a cell that is not measured and has a measured one at most `HOLE_CELLS` away: gaps of a spiral are filled,
    rows that are still to come are not.
    """
    distance, nearest = distance_transform_edt(~measured, return_indices=True)
    holes = ~measured & (distance <= HOLE_CELLS) & measured.any()
    out = values.copy()
    out[..., holes] = values[..., nearest[0][holes], nearest[1][holes]]
    return out, int(np.count_nonzero(holes))


def _covered(buffer: RunBuffer, raw: FloatArray, measured: BoolArray) -> BoolArray:
    """Return (row,) bool: rows that the denoise worker has written.

    A measured row without a single count looks like one that is not written: there other maps decide, and whether the
    maps have as many rows as are measured.
    """
    rows = measured.any(axis=1)
    covered = rows & (raw != 0).any(axis=(0, 2))
    if covered.sum() == rows.sum():
        return covered
    if int(buffer.map_attributes().get("rows") or 0) >= rows.sum():
        return np.asarray(rows)
    for row in np.flatnonzero(rows & ~covered):
        here = slice(int(row), int(row) + 1)
        covered[row] = any(buffer.read_map(kind, rows=here).any() for kind in ("denoised", "uncertainty"))
    return covered


def _add_plain_sums(buffer: RunBuffer, raw: FloatArray, measured: BoolArray, covered: BoolArray) -> int:
    """Fill measured rows that have no raw map yet with the sum over detectors; raw is always there."""
    missing = np.flatnonzero(measured.any(axis=1) & ~covered)
    for row in missing:
        raw[:, row, :] = np.nansum(buffer.read_row(int(row)).counts, axis=0, dtype=np.float64)
    return len(missing)


def _sealed(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    array.setflags(write=False)
    return array
