"""Options of the simulated measurement and of its scans, shared by `quietbeam simulate`, `ioc` and `demo`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from quietbeam.core.errors import InputError

from .options import DEFAULT_LINES, Dwell, Lines, Shape, TransportOption, map_shape, split_lines

if TYPE_CHECKING:
    from quietbeam.beamline.experiment import ExperimentOptions


@dataclass(frozen=True, kw_only=True)
class SampleOptions:
    """What is measured, and by which detector."""

    specimen: Annotated[str, typer.Option(help="cell (frozen cell) or star (Siemens star).")] = "cell"
    shape: Shape = "64x64"
    dwell: Dwell = 0.005
    detectors: Annotated[int, typer.Option(help="Number of detector elements.")] = 4
    lines: Lines = DEFAULT_LINES
    flux: Annotated[float, typer.Option(help="Relative flux (1.0 = 2e11 photons/s).")] = 1.0
    counts: Annotated[
        float | None,
        typer.Option(help="Mean counts per pixel of a typical line in the detector sum; wins over --flux."),
    ] = None
    dead_time: Annotated[float, typer.Option(help="Dead time per photon in seconds.")] = 1e-6
    paralyzable: Annotated[bool, typer.Option(help="Paralyzable electronics.")] = False
    seed: Annotated[int, typer.Option(min=0, help="Same seed, same specimen, gains and counts.")] = 0

    def experiment(self) -> ExperimentOptions:
        """Return the options of the simulated measurement.

        Raises
        ------
        InputError
            A value is impossible.
        """
        from quietbeam.beamline.experiment import ExperimentOptions

        return ExperimentOptions(
            specimen=self.specimen,
            lines=tuple(split_lines(self.lines)),
            shape=map_shape(self.shape),
            dwell_s=self.dwell,
            detectors=self.detectors,
            flux=self.flux,
            counts=self.counts,
            dead_time_s=self.dead_time,
            paralyzable=self.paralyzable,
            seed=self.seed,
        )


@dataclass(frozen=True, kw_only=True)
class ScanOptions:
    """How the sample is scanned, and how often."""

    mode: Annotated[
        Literal["step", "snake", "fly"],
        typer.Option(help="step raster, snaked raster, or fly scan row by row into an HDF5 file."),
    ] = "snake"
    repeat: Annotated[int, typer.Option(min=0, help="Number of runs; 0 until interrupted.")] = 1
    transport: TransportOption = "redis"
    truth: Annotated[
        Path | None,
        typer.Option(help="Save the noise-free truth: an .npz file, or a folder that gets UID.npz for each run."),
    ] = None

    def check(self) -> None:
        """Make sure that no run overwrites the truth of another.

        Raises
        ------
        InputError
            Several runs share one file.
        """
        if self.truth is not None and self.truth.suffix == ".npz" and self.repeat != 1:
            raise InputError(f"--truth {self.truth} would be overwritten by each run", remedy="give a folder")
