"""Maps of runs in counts per second and as areal densities."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from threading import Lock
from zlib import crc32

import numpy as np
import numpy.typing as npt
import structlog

from quietbeam.core.errors import InputError
from quietbeam.core.wire.runs import RunStatus
from quietbeam.quantify import Calibration, LineDensity, RunDensity, Unit, convert, densities_of, per_second
from quietbeam.quantify.checks import absorption_notes, detection_limit, negative_notes
from quietbeam.quantify.store import read_calibration

from .maps import MapKind, MapReader, MapStack

log = structlog.get_logger()

_CONVERTED = ("raw", "denoised", "uncertainty", "residual")


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Detection limits of one line in the unit; None where they are not known."""

    raw: float | None
    denoised: float | None


class UnitTable:
    """How the maps of each run become other units. Safe for several threads.

    Parameters
    ----------
    wanted
        Name or file of the calibration; empty: none.
    folder
        Of calibrations.
    """

    def __init__(self, wanted: str, folder: Path, maps: MapReader) -> None:
        self._wanted, self._folder, self._maps = wanted, folder, maps
        self._lock = Lock()
        self._read: tuple[tuple[int, int], Calibration] | None = None

    def lines(self, status: RunStatus, unit: Unit) -> tuple[LineDensity, ...]:
        """Return how each line of a run becomes `unit`, which is not counts.

        Raises
        ------
        InputError
            The unit is not to be had for this run; the message says why.
        """
        if unit == "ug/cm2":
            return self.density(status).lines
        info = status.info
        if info is None or status.evidence is None:
            raise InputError(f"there is no {unit} yet: the worker has not looked at this run")
        if info.kind != "counts":
            raise InputError("fitted areas may be per second already: counts/s is for counts")
        return per_second(info.lines, status.evidence, info.dwell_s)

    def density(self, status: RunStatus) -> RunDensity:
        """Return how the maps of a run become areal densities.

        Raises
        ------
        InputError
            There is no calibration, or it does not fit this run; the message says why.
        """
        calibration = self._calibration()
        info = status.info
        if info is None or status.evidence is None:
            raise InputError("there is no areal density yet: the worker has not looked at this run")
        if info.has_i0 and status.evidence.i0 is None and calibration.normalised != "time":
            raise InputError(
                "the maps of this run do not say their I0: an older version made them", remedy="denoise the run again"
            )
        return densities_of(calibration, info.lines, status.evidence, dwell_s=info.dwell_s, metadata=info.metadata)

    def tag(self, status: RunStatus, unit: Unit) -> str:
        """Return a text that changes with every factor; empty for counts."""
        return "" if unit == "counts" else f".{crc32(repr(self.lines(status, unit)).encode()):x}"

    def convert(self, status: RunStatus, kind: MapKind, stack: MapStack, unit: Unit) -> MapStack:
        """Return maps of a run in `unit`; NaN where the worker has not come, and for lines that have no such unit.

        Raises
        ------
        InputError
            The unit is not to be had for this run, or the kind has none.
        """
        if unit == "counts":
            return stack
        if kind not in _CONVERTED:
            raise InputError(f"{kind} has no unit: leave units= out")
        lines = self.lines(status, unit)
        values = np.where(stack.denoised, stack.values, np.float32(np.nan))
        of = self._maps.read(status, "denoised").values if kind == "uncertainty" else None
        out = np.empty(values.shape, np.float32)
        for j, by in enumerate(lines):
            flat = replace(by, background=0.0) if kind == "residual" else by
            out[j] = convert(values[j], flat, error_of=None if of is None else of[j])
        return replace(stack, values=out, tag=f"{stack.tag}{self.tag(status, unit)}")

    def limits(self, status: RunStatus, lines: tuple[LineDensity, ...]) -> dict[str, Limits]:
        """Return the detection limits of every line that has the unit."""
        raw, denoised, error = (self._maps.read(status, kind).values for kind in ("raw", "denoised", "uncertainty"))
        kind = "counts" if status.info is None else status.info.kind
        found = {}
        for j, by in enumerate(lines):
            if by.factor is None:
                continue
            limit = detection_limit(raw[j], denoised[j], error[j], kind)
            found[by.line] = Limits(raw=_times(limit.raw, by.factor), denoised=_times(limit.denoised, by.factor))
        return found

    def warnings(self, status: RunStatus, density: RunDensity) -> list[str]:
        """Return warnings of densities below zero, and of a sample that is not thin."""
        raw, denoised = (self._maps.read(status, kind) for kind in ("raw", "denoised"))
        counted = np.where(raw.denoised, raw.values, np.float32(np.nan))  # plain sums have no other unit
        maps: dict[str, npt.NDArray[np.floating]] = {
            by.line: convert(denoised.values[j], by) for j, by in enumerate(density.lines) if by.factor is not None
        }
        return [
            *negative_notes(counted, "counts" if status.info is None else status.info.kind, density.lines),
            *absorption_notes(maps, density.run_energy_kev or density.energy_kev, density.lines),
        ]

    def _calibration(self) -> Calibration:
        if not self._wanted:
            raise InputError(
                "no calibration is chosen, so there are no areal densities",
                remedy="make one with quietbeam calibrate, and name it in the settings: quantify.calibration",
            )
        path, name = Path(self._wanted), Path(self._wanted).stem
        if not path.is_file():
            path = self._folder / f"{self._wanted}.json"
        try:
            found = path.stat()
            key = found.st_mtime_ns, found.st_size
            with self._lock:
                if self._read is None or self._read[0] != key:
                    self._read = key, read_calibration(self._wanted, self._folder)
                return self._read[1]
        except (OSError, ValueError) as error:  # whose words name folders of the server
            log.warning("calibration_not_read", calibration=self._wanted, error=str(error))
            raise InputError(
                f"calibration {name!r} of the settings is not there, or cannot be read",
                remedy="quietbeam calibrate makes one; the service's log says more",
            ) from error


def _times(value: float | None, factor: float) -> float | None:
    return None if value is None else value * factor
