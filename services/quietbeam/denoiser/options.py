"""Options of a denoising session and the maps it hands out."""

from __future__ import annotations

from dataclasses import dataclass

from quietbeam.core.model.types import FloatArray


def never() -> bool:
    """Return False: the default interrupt."""
    return False


def untold(share: float) -> None:
    """Ignore which share is done, 0 to 1: the default where nobody asks."""


LARGE = 4_000_000
"""Maps of more line-pixels average half as many flips: most of the effect in half of the time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DenoiseOptions:
    """Tunables of a session; the defaults are the measured best (docs/science.md).

    Attributes
    ----------
    held_out
        Share of every pixel's counts that never trains.
    crop
        Rows and columns of a fine-tuning patch.
    lines_per_step
        Most lines of a fine-tuning patch; more lines take turns.
    lr
        Learning rate of fine-tuning.
    halo
        Rows above and below new rows that are looked at, and a quarter of it that is published again.
    tile
        Rows and columns inferred at once; memory grows with it.
    final_flips
        Flips and turns averaged in the final maps, 1 to 8; of maps that are `LARGE`, half of them.
    block
        Edge of the pixel blocks that the bootstrap draws.
    weights
        Name of the pretrained weights; empty for the shipped ones.
    threads
        Threads on a CPU. None leaves one core to the other services of the machine, 0 changes nothing.
    """

    held_out: float = 0.25
    crop: int = 64
    lines_per_step: int = 8
    lr: float = 1.5e-4
    halo: int = 12
    tile: int = 256
    final_flips: int = 4
    block: int = 8
    weights: str = ""
    threads: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class MapUpdate:
    """Maps of the rows ``rows[0] <= row < rows[1]``.

    Attributes
    ----------
    raw, denoised, uncertainty
        (line, row, col) float32 [counts of the summed detectors]; 0 where not measured.
    chi2
        (line, row, col) float32, see :func:`quietbeam.denoiser.checks.line_checks.local_chi2`; 0 where not measured.
    """

    rows: tuple[int, int]
    raw: FloatArray
    denoised: FloatArray
    uncertainty: FloatArray
    chi2: FloatArray
