"""What the detector elements count at a pixel: specimen, flux, gains, I0, dead time, noise; and the truth of it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from quietbeam.core.errors import InputError

from .physics import detector_efficiency, fluorescence_yield
from .specimen import make_specimen
from .truth import Truth

Map = npt.NDArray[np.float64]

FLUX_PER_S = 2e11
"""Incident photons per second at flux 1.0."""
SOLID_ANGLE_FRACTION = 0.02
"""Of 4 pi, all detectors together."""
SCATTER_FRACTION = 3.0
"""Elastic, Compton and background photons in a detector, per fluorescence photon of the mean pixel."""
I0_COUNTS_PER_S = 4e8
"""Of the scaled ion chamber, at the nominal beam."""
MAX_PIXELS = 2**24


@dataclass(frozen=True, slots=True, kw_only=True)
class ExperimentOptions:
    """What can be chosen of a simulated measurement.

    Attributes
    ----------
    shape
        (row, col) pixels.
    dwell_s
        Real time per pixel.
    detectors
        Number of detector elements.
    flux
        Relative flux; `counts` wins over it.
    counts
        Wanted mean counts per pixel of a typical line (the median over the lines) in the detector sum.
    dead_time_s
        Dead time per photon of a detector's electronics.
    paralyzable
        True when photons during dead time prolong it.
    i0_noise
        Relative scatter of the beam from pixel to pixel; the slow drift is three times as large.
    """

    specimen: str
    lines: tuple[str, ...]
    shape: tuple[int, int]
    dwell_s: float = 0.005
    detectors: int = 4
    flux: float = 1.0
    counts: float | None = None
    dead_time_s: float = 1e-6
    paralyzable: bool = False
    i0_noise: float = 0.01
    step_um: float = 0.25
    seed: int = 0

    def __post_init__(self) -> None:
        checks = {
            f"shape {self.shape} must be at least 1x1": min(self.shape) >= 1,
            f"shape {self.shape} has more than {MAX_PIXELS} pixels": self.shape[0] * self.shape[1] <= MAX_PIXELS,
            f"detectors {self.detectors} must be 1 to 1024": 1 <= self.detectors <= 1024,
            f"dwell {self.dwell_s} must be above 0 s": self.dwell_s > 0,
            "flux and counts must be above 0": self.flux > 0 and (self.counts is None or self.counts > 0),
            "at least one line is needed": bool(self.lines),
            "dead time and I0 noise must not be negative, seed neither": min(self.dead_time_s, self.i0_noise, self.seed)
            >= 0,
        }
        for complaint, fine in checks.items():
            if not fine:
                raise InputError(complaint)


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """One pixel's readings.

    Attributes
    ----------
    counts
        (detector, line) uint32.
    live_time_s
        (detector,) float64.
    i0
        Counts of the ion chamber.
    """

    row: int
    col: int
    counts: npt.NDArray[np.uint32]
    live_time_s: Map
    i0: int


def live_fraction(true_rate: Map, dead_time_s: float, *, paralyzable: bool) -> Map:
    """Return the recorded fraction of photons that arrive at `true_rate` per second.

    ``1 / (1 + n tau)`` for non-paralyzable, ``exp(-n tau)`` for paralyzable electronics (Knoll, ch. 4).
    """
    load = true_rate * dead_time_s
    return np.exp(-load) if paralyzable else 1 / (1 + load)


def detector_gains(detectors: int, energies_soft: npt.NDArray[np.bool_], seed: int) -> Map:
    """Return gains (detector, line), 0.7 to 1.3 between detectors, mean 1 over detectors for each line.

    From line to line they scatter by 3 %, by 8 % where `energies_soft` (line,) is True: windows and take-off angles.
    """
    rng = np.random.default_rng([seed, 4])
    solid_angle = rng.permutation(np.linspace(0.7, 1.3, detectors)) if detectors > 1 else np.ones(1)
    scatter = np.where(energies_soft, 0.08, 0.03)
    gains = solid_angle[:, None] * np.exp(scatter * rng.standard_normal((detectors, len(energies_soft))))
    return np.asarray(gains / gains.mean(0))


class Experiment:
    """A specimen in the beam before a multi-element detector.

    Counts are a pure function of (options, row, col, visit): a pixel that is measured again after a rewind draws
    anew. :meth:`truth` holds what was last *reported* of each pixel.
    """

    def __init__(self, options: ExperimentOptions) -> None:
        self.options = options
        self.lines = options.lines
        self.detectors = tuple(f"det{n + 1}" for n in range(options.detectors))
        specimen = make_specimen(options.specimen, options.lines, options.shape, options.seed)
        emitted = fluorescence_yield(options.lines, specimen.areal_density, specimen.matrix, specimen.matrix_density)
        efficiency = np.array([detector_efficiency(line) for line in options.lines])
        per_pixel = emitted * efficiency[:, None, None]
        per_pixel *= FLUX_PER_S * SOLID_ANGLE_FRACTION * options.flux * options.dwell_s
        if options.counts is not None:
            per_pixel *= options.counts / np.median(per_pixel.mean((1, 2)))
        if per_pixel.max() > 1e8:
            raise InputError(f"{per_pixel.max():.3g} counts per pixel are beyond any detector: lower flux or dwell")
        self.specimen = specimen.name
        self.expected_counts = per_pixel
        self.gains = detector_gains(options.detectors, efficiency < 0.75, options.seed)
        share = self.gains / options.detectors
        per_detector = np.tensordot(share, per_pixel, 1)
        arriving = (per_detector + SCATTER_FRACTION * per_detector.mean((1, 2), keepdims=True)) / options.dwell_s
        self.i0_relative = self._beam()
        self.live_fraction = live_fraction(
            arriving * self.i0_relative, options.dead_time_s, paralyzable=options.paralyzable
        )
        if self.live_fraction.min() < 0.2:
            raise InputError(
                f"dead time would be {100 * (1 - self.live_fraction.min()):.0f} %: "
                "lower counts or flux, or lengthen the dwell"
            )
        self._share = share
        rows, cols = options.shape
        self._visits = np.zeros(options.shape, np.int32)
        self._counts = np.zeros((options.detectors, len(self.lines), rows, cols), np.uint32)
        self._i0 = np.zeros(options.shape, np.int64)
        self._measured = np.zeros(options.shape, bool)

    def _beam(self) -> Map:
        rng = np.random.default_rng([self.options.seed, 5])
        rows, cols = self.options.shape
        noise, phase = self.options.i0_noise, rng.uniform(0, 2 * math.pi)
        time = np.arange(rows)[:, None] / rows + np.arange(cols) / (rows * cols)
        drift = 3 * noise * np.sin(2 * math.pi * 2.5 * time + phase)
        return np.asarray(np.clip(1 + drift + noise * rng.standard_normal((rows, cols)), 0.05, None))

    def expected_frame(self, row: int, col: int) -> Map:
        """Return the mean (detector, line) counts that the detectors record at a pixel."""
        exposure = self.i0_relative[row, col] * self.live_fraction[:, row, col]
        return np.asarray(self._share * self.expected_counts[:, row, col] * exposure[:, None])

    def measure(self, row: int, col: int, *, exposure: float = 1.0) -> Frame:
        """Expose a pixel for `exposure` dwells and return its readings."""
        visit = int(self._visits[row, col])
        self._visits[row, col] += 1
        stream = np.random.Philox(key=[self.options.seed, 0x51B3], counter=[0, row, col, visit])
        counts = np.random.Generator(stream).poisson(exposure * self.expected_frame(row, col)).astype(np.uint32)
        seconds = exposure * self.options.dwell_s
        return Frame(
            row=row,
            col=col,
            counts=counts,
            live_time_s=seconds * self.live_fraction[:, row, col],
            i0=round(I0_COUNTS_PER_S * seconds * self.i0_relative[row, col]),
        )

    def report(self, frame: Frame) -> None:
        """Note in the truth that a frame left the detector; the last report of a pixel counts."""
        self._counts[:, :, frame.row, frame.col] = frame.counts
        self._i0[frame.row, frame.col] = frame.i0
        self._measured[frame.row, frame.col] = True

    def start_over(self) -> None:
        """Forget what was measured, for the next run; the same pixels draw other counts."""
        for array in (self._counts, self._i0, self._measured):
            array[...] = 0

    def truth(self, run_uid: str = "") -> Truth:
        """Return what is true and what was measured so far."""
        return Truth(
            run_uid=run_uid,
            lines=self.lines,
            detectors=self.detectors,
            expected_counts=self.expected_counts.copy(),
            gains=self.gains.copy(),
            counts=self._counts.copy(),
            i0=self._i0.copy(),
            i0_nominal=I0_COUNTS_PER_S * self.options.dwell_s,
            live_time_s=self.options.dwell_s * self.live_fraction,
            dwell_s=self.options.dwell_s,
            measured=self._measured.copy(),
        )
