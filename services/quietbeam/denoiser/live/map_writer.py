"""Writes the maps of one run, their attributes and their history to the run's buffer."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from typing import Any

import numpy as np
import structlog

from quietbeam.buffer import MapHistory, RunBuffer
from quietbeam.core.model.evidence import RunEvidence
from quietbeam.core.model.types import BoolArray

from ..options import MapUpdate

log = structlog.get_logger()


class MapWriter:
    """Writes maps to zarr, in the folder of one lease.

    Parameters
    ----------
    token
        Of the lease.
    next_version
        Returns a number above the given one that no version ever had; raises when the lease is lost.

    Attributes
    ----------
    version
        Number of the latest version of the maps.
    """

    def __init__(self, buffer: RunBuffer, token: int, next_version: Callable[[int], int]) -> None:
        self._buffer, self._next_version = buffer, next_version
        buffer.begin_maps(token)
        self._history = MapHistory(buffer)
        self.version = int(buffer.map_attributes().get("version") or 0)

    def write(self, maps: MapUpdate, skip_rows: Collection[int] = ()) -> None:
        """Write the maps except ``skip_rows``: rows whose newer maps were written while these were computed."""
        first = maps.rows[0]
        for start, stop in spans(row for row in range(*maps.rows) if row not in skip_rows):
            inside = slice(start - first, stop - first)
            self._buffer.write_maps(
                start,
                maps.raw[:, inside],
                maps.denoised[:, inside],
                maps.uncertainty[:, inside],
                chi2=maps.chi2[:, inside],
            )

    def write_raw(self, start: int, stop: int) -> None:
        """Write the plain detector sum as both maps of rows ``[start, stop)``, its counting error as uncertainty."""
        for row in range(start, stop):
            for cols in self._buffer.parts_written(row):
                counts: Any = self._buffer.read_part("counts", row, cols)
                raw = np.asarray(np.nansum(counts, axis=0, dtype=np.float64), np.float32)[:, None, :]
                self._buffer.write_maps(row, raw, raw, np.sqrt(np.abs(raw)), first_col=cols.start)

    def finish_version(self, rows: int, evidence: RunEvidence | None, *, final: bool, failure: str = "") -> int:
        """Write the attributes of what was written since the last version; return the new version's number."""
        self.version = self._next_version(self.version)
        values = evidence.to_dict() if evidence else None
        self._buffer.update_map_attributes(
            version=self.version, rows=rows, final=final, evidence=values, failure=failure
        )
        return self.version

    def record_history(self, evidence: RunEvidence | None, measured: BoolArray, *, final: bool = False) -> None:
        """Add this version to the history of the run; a full disk loses the history, not the run.

        Parameters
        ----------
        measured
            (row, col) bool: pixels that are in the maps.
        """
        if evidence is None:
            return
        try:
            self._history.add(self.version, evidence, measured, final=final)
        except OSError as error:
            log.warning("history_not_written", run=self._buffer.info.uid, error=str(error))


def spans(rows: Iterable[int]) -> list[tuple[int, int]]:
    """Return half-open spans of consecutive numbers in the ascending ``rows``."""
    found: list[tuple[int, int]] = []
    for row in rows:
        if found and found[-1][1] == row:
            found[-1] = (found[-1][0], row + 1)
        else:
            found.append((row, row + 1))
    return found
