"""Options of denoising, callbacks that do nothing, and the maps that a session returns."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from quietbeam.core.errors import InputError
from quietbeam.core.model.evidence import Kind
from quietbeam.core.model.types import FloatArray

LARGE = 4_000_000
"""Maps of more line-pixels average half as many flips: most of the effect in half of the time."""


def never() -> bool:
    """Return False: the default interrupt and the default yield callback."""
    return False


def ignore_progress(share: float) -> None:
    """Do nothing: the default progress callback."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionOptions:
    """Options of a denoising session; the defaults are the measured best (docs/science.md).

    Attributes
    ----------
    device
        ``auto``, ``cpu``, ``cuda``, ``cuda:1``, ``mps``.
    seed
        Fixes every random draw.
    weights
        Shipped weights by name, or a ``.safetensors`` file with its card beside it; the newest when empty.
    threads
        Threads on a CPU; 0 changes nothing. None: as many as there are idle cores for a finished map, one less than
        there are cores during a scan.
    lr
        Learning rate of fine-tuning.
    tile
        Rows and columns inferred at once; memory grows with it.
    final_flips
        Flips and turns averaged in the final maps, 1 to 8; half of them for maps of more than `LARGE` line-pixels.

    Raises
    ------
    InputError
        A value of the wrong type or below 0.
    """

    device: str = "auto"
    seed: int = 0
    weights: str = ""
    threads: int | None = None
    lr: float = 1.5e-4
    tile: int = 256
    final_flips: int = 4

    def __post_init__(self) -> None:
        if not isinstance(self.device, str):
            raise InputError(f"device must be a name such as 'auto', 'cpu' or 'cuda'; got {self.device!r}")
        _check_whole("seed", self.seed)


@dataclass(frozen=True, slots=True, kw_only=True)
class DenoiseOptions(SessionOptions):
    """Options of :func:`quietbeam.denoise`: those of a session and how a finished map is fine-tuned.

    Attributes
    ----------
    budget_s
        Longest fine-tuning on this map, in seconds. The number of steps then depends on the machine.
    steps
        Number of fine-tuning steps instead of ``budget_s``: the same maps on every machine.
    fine_tune
        False uses the pretrained network as it is.
    kind
        ``counts`` or ``areas``; found from the values when None.
    """

    budget_s: float = 30.0
    steps: int | None = None
    fine_tune: bool = True
    kind: Kind | None = None

    def __post_init__(self) -> None:
        # a dataclass with slots is made anew, so super() without arguments would mean the old class
        SessionOptions.__post_init__(self)
        if not isinstance(self.budget_s, int | float) or not self.budget_s >= 0:
            raise InputError(f"budget_s is the most seconds of fine-tuning, at least 0; got {self.budget_s!r}")
        _check_whole("steps", 0 if self.steps is None else self.steps)
        if self.kind not in (None, "counts", "areas"):
            raise InputError(f"kind must be 'counts' or 'areas', or left out; got {self.kind!r}")


def _check_whole(name: str, number: int) -> None:
    if not isinstance(number, int | np.integer) or number < 0:
        raise InputError(f"{name} must be a whole number of at least 0; got {number!r}")


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
