"""Earlier states of a run's maps: what a scan looked like some minutes ago, in a bounded number of small files.

Beside the maps (:mod:`quietbeam.buffer.map_folders`), ``history/states.jsonl`` has one line per evaluation,
``history/<version>.npz`` the maps of some of them. Both are thinned evenly. Written by the denoise worker alone, read
by anybody; losing them loses no count.
"""

from __future__ import annotations

import io
import time
import zipfile
import zlib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import structlog

from quietbeam.core.errors import NotMeasuredError
from quietbeam.core.model.evidence import RunEvidence
from quietbeam.core.model.types import BoolArray, FloatArray

from .run_buffer import RunBuffer

log = structlog.get_logger()

STATES = 200
MAPS = 24
MAP_BYTES = 128 * 2**20
"""Most bytes of maps that are kept of a run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MapState:
    """One earlier state.

    Attributes
    ----------
    version
        ``maps_version`` at that time.
    time
        Wall clock, seconds since 1970.
    rows
        Rows in the maps.
    lines
        Per line: ``dwell_gain``, ``low``, ``high``, ``estimator``, ``verdict``.
    maps
        True when the maps can still be read.
    """

    version: int
    time: float
    rows: int
    state: str
    fine_tune_steps: int
    loss: float | None
    lines: dict[str, dict[str, Any]]
    maps: bool


class MapHistory:
    """The history of one run."""

    def __init__(self, buffer: RunBuffer) -> None:
        self._buffer = buffer
        pixels = len(buffer.info.lines) * buffer.info.shape[0] * buffer.info.shape[1]
        self.max_maps = int(np.clip(MAP_BYTES // max(8 * pixels, 1), 0, MAPS))

    def add(self, version: int, evidence: RunEvidence, measured: BoolArray, *, final: bool = False) -> None:
        """Keep the maps that the buffer holds now, under their version.

        Parameters
        ----------
        measured
            (row, col) bool: pixels that are in the maps.
        """
        folder = self._buffer.maps_to_write / "history"
        folder.mkdir(exist_ok=True)
        state = MapState(
            version=version,
            time=time.time(),
            rows=evidence.rows,
            state="final" if final else "live",
            fine_tune_steps=evidence.fine_tune_steps,
            loss=evidence.loss,
            lines={
                line.line: {
                    "dwell_gain": line.dwell_gain,
                    "low": line.dwell_gain_low,
                    "high": line.dwell_gain_high,
                    "estimator": line.estimator,
                    "verdict": line.verdict,
                }
                for line in evidence.lines
            },
            maps=False,
        )
        states = [s for s in self.states() if s.version < version]  # a worker that began anew counts on from the buffer
        states = thinned([*states, state], STATES)
        if self.max_maps:
            out = io.BytesIO()
            denoised, uncertainty = self._buffer.read_map("denoised"), self._buffer.read_map("uncertainty")
            np.savez(
                out, measured=measured, denoised=denoised, uncertainty=uncertainty
            )  # packing would keep rows waiting
            _replace(folder / f"{version}.npz", out.getvalue())
        _replace(folder / "states.jsonl", b"".join(orjson.dumps(asdict(s)) + b"\n" for s in states))
        stored = thinned([s for s in self.states() if s.maps], self.max_maps)
        for path in folder.glob("*.npz"):
            if path.stem not in {str(s.version) for s in stored}:
                path.unlink(missing_ok=True)

    def states(self) -> list[MapState]:
        """Return the states, oldest first; `maps` says which can still be read."""
        folder = self._buffer.maps_folder / "history"
        try:
            text = (folder / "states.jsonl").read_bytes()
        except FileNotFoundError:
            return []
        stored_files = {path.stem for path in folder.glob("*.npz")}
        found = []
        for line in text.splitlines():
            try:
                values = orjson.loads(line)
                lines = {name: _with_verdict(one) for name, one in values["lines"].items()}
                found.append(MapState(**{**values, "lines": lines, "maps": str(values["version"]) in stored_files}))
            except (ValueError, TypeError, KeyError, AttributeError):  # torn: this state is lost, no other
                log.warning("history_state_unreadable", run=self._buffer.path.name)
        return found

    def read(self, version: int, kind: str) -> tuple[FloatArray, BoolArray]:
        """Return a map (line, row, col) of an earlier version, and which pixels are in it (row, col).

        Raises
        ------
        NotMeasuredError
            The version is not kept, or the kind is not.
        """
        path = self._buffer.maps_folder / "history" / f"{int(version)}.npz"
        if kind not in ("denoised", "uncertainty"):
            raise NotMeasuredError(f"earlier states are kept of denoised and uncertainty, not of {kind[:40]!r}")
        try:
            with np.load(path, allow_pickle=False) as archive:
                return archive[kind], archive["measured"]
        except (ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
            raise NotMeasuredError(f"version {version} of the maps cannot be read: its file is damaged") from error
        except FileNotFoundError as error:
            stored = [str(s.version) for s in self.states() if s.maps]
            raise NotMeasuredError(
                f"version {version} of the maps is not kept; there are {', '.join(stored) or 'none yet'}"
            ) from error


def _replace(path: Path, data: bytes) -> None:
    partial = path.with_name(f"{path.name}.partial")
    partial.write_bytes(data)
    partial.replace(path)


def _with_verdict(line: dict[str, Any]) -> dict[str, Any]:
    """Return the figures of a line; states that version 0.1 wrote have no verdict, which their other figures give."""
    if "verdict" in line:
        return line
    tested = "kept_raw" if line.get("estimator") == "raw" else "improved"
    return line | {"verdict": "not_tested" if line.get("dwell_gain") is None else tested}


def thinned(states: list[MapState], most: int) -> list[MapState]:
    """Return at most ``most`` states, first and last among them, evenly over the measured rows and then in time."""
    states = list(states)
    while len(states) > max(most, 1):
        span = (states[-1].rows - states[0].rows) or 1
        lasted = (states[-1].time - states[0].time) or 1.0
        gaps = [
            (after.rows - before.rows) / span + (after.time - before.time) / lasted
            for before, after in zip(states[:-2], states[2:], strict=True)
        ]
        del states[1 + int(np.argmin(gaps)) if gaps else 0]
    return states if most > 0 else []
