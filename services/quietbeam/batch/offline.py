"""One map: from what was read to what is written; `quietbeam denoise` and a worker of a batch do the same."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from quietbeam.core.errors import InputError
from quietbeam.core.settings import Settings
from quietbeam.denoiser.offline import DenoiseResult, denoise
from quietbeam.denoiser.options import DenoiseOptions
from quietbeam.files import MapFile, ReadChoice, write_result

from .in_units import calibration_for, check_unit, in_units
from .source import read_source


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """How sources are read; see :func:`quietbeam.batch.source.read_source`."""

    lines: tuple[str, ...] = ()
    calibration: Path | None = None
    tiled: str = ""
    fit: bool = False
    profiles: tuple[str, ...] = ()
    choice: ReadChoice | None = None

    def read(self, source: str, site: Settings) -> tuple[MapFile, str]:
        """Return a map and the name of what it came from.

        Raises
        ------
        InputError
            It cannot be used; the message says why.
        """
        return read_source(
            source,
            site,
            lines=list(self.lines),
            calibration=self.calibration,
            tiled=self.tiled,
            fit=self.fit,
            profiles=self.profiles,
            choice=self.choice,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Writing:
    """How maps are written.

    Attributes
    ----------
    format
        One of :data:`quietbeam.files.FORMATS`; empty: by the ending of the name.
    units, areal_calibration
        See :mod:`quietbeam.batch.in_units`.
    """

    format: str = ""
    units: str = "counts"
    areal_calibration: str = ""

    def check(self, site: Settings, file: MapFile | None = None) -> None:
        """Raise InputError where the unit is not to be had; of a map that was read, before it is denoised."""
        calibration = calibration_for(self.units, self.areal_calibration, site)
        if file is not None:
            check_unit(file, self.units, calibration)

    def write(
        self, target: Path, result: DenoiseResult, name: str, settings: dict[str, Any], file: MapFile, site: Settings
    ) -> list[str]:
        """Write a result, whole or not at all; return sentences on its unit.

        Parameters
        ----------
        name
            Of what was denoised.
        settings
            How, plain JSON types.

        Raises
        ------
        InputError
            It cannot have this unit, or cannot be written there.
        ServiceError
            The disk or the folder failed.
        """
        calibration = calibration_for(self.units, self.areal_calibration, site)
        shown, unit, notes = in_units(result, file, self.units, calibration)
        write_result(
            target,
            shown,
            source=name,
            settings=settings | unit,
            format=self.format,
            read=file,
            units=unit.get("units", ""),
        )
        return notes


def denoise_map(
    file: MapFile, options: DenoiseOptions, on_progress: Callable[[str, float], object] | None = None
) -> DenoiseResult:
    """Denoise a map that was read; see :func:`quietbeam.denoise`."""
    return denoise(
        file.counts,
        file.lines,
        i0=file.i0,
        live_time_s=file.live_time_s,
        measured=file.measured,
        detectors=file.detectors,
        options=options,
        on_progress=on_progress,
    )


def how_it_was_made(source: str, options: DenoiseOptions) -> dict[str, Any]:
    """Return what is written of the settings with a result, plain JSON types."""
    return {
        "input": source,
        **({"budget_s": options.budget_s} if options.steps is None else {"steps": options.steps}),
        "device": options.device,
        "fine_tune": options.fine_tune,
        "seed": options.seed,
    }


def find_weights(name: str, folder: Path) -> str:
    """Return the weights of that name, or the file of that path.

    Raises
    ------
    InputError
        There are no such weights.
    """
    from quietbeam_models.weights import installed_weights

    available = installed_weights(folder)
    if name and name not in available and not name.endswith(".safetensors"):
        raise InputError(f"no weights {name!r}; there are {', '.join(available)}, or name a .safetensors file")
    return str(available.get(name, name))
