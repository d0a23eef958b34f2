"""The truth of a simulated run, for benchmarks and tests. It is kept in a file and never goes through documents."""

from __future__ import annotations

import os
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from quietbeam.core.errors import FileFormatError

Map = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Truth:
    """What is true of a simulated run, and what was drawn.

    The mean counts of a frame are
    ``expected_counts[l] * gains[k, l] / n_detectors * i0 / i0_nominal * live_time_s[k] / dwell_s``.

    Attributes
    ----------
    expected_counts
        (line, row, col) mean counts of the detector sum at nominal I0 and without dead time.
    gains
        (detector, line), mean 1 over detectors.
    counts
        (detector, line, row, col) uint32: what the documents carry, bit for bit; 0 where not measured.
    i0
        (row, col) counts of the ion chamber.
    i0_nominal
        Counts of the ion chamber at the nominal beam.
    live_time_s
        (detector, row, col) seconds.
    measured
        (row, col) bool.
    """

    run_uid: str
    lines: tuple[str, ...]
    detectors: tuple[str, ...]
    expected_counts: Map
    gains: Map
    counts: npt.NDArray[np.uint32]
    i0: npt.NDArray[np.int64]
    i0_nominal: float
    live_time_s: Map
    dwell_s: float
    measured: npt.NDArray[np.bool_]

    def save(self, path: Path) -> None:
        """Write an npz file; readers see it whole or not at all."""
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = path.with_name(f".{path.name}.{os.getpid()}")
        with open(draft, "wb") as file:
            arrays: dict[str, Any] = {f.name: np.asarray(getattr(self, f.name)) for f in fields(self)}
            np.savez_compressed(file, **arrays)
        draft.replace(path)

    @classmethod
    def load(cls, path: Path) -> Truth:
        """Read a file that :meth:`save` wrote.

        Raises
        ------
        FileFormatError
            Not such a file.
        """
        try:
            with np.load(path, allow_pickle=False) as archive:
                values = {f.name: archive[f.name] for f in fields(cls)}
        except (OSError, ValueError, KeyError) as error:
            raise FileFormatError(f"{path} is not the truth of a simulated run: {error}") from error
        for name in ("lines", "detectors"):
            values[name] = tuple(values[name].tolist())
        for name in ("run_uid", "i0_nominal", "dwell_s"):
            values[name] = values[name].item()
        return cls(**values)


def truth_path(place: Path, run_uid: str) -> Path:
    """Return where the truth of a run goes: `place` itself when it is an ``.npz`` file, else a file in that folder."""
    return place if place.suffix == ".npz" else place / f"{run_uid}.npz"
