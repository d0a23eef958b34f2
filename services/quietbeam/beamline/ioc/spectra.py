"""Spectra of a frame: the photons of each line inside its window, scatter everywhere else."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from quietbeam.core.errors import InputError
from quietbeam.spectra import line_energy, resolution_fwhm, window

from ..experiment import SCATTER_FRACTION, Experiment, Frame
from ..physics import INCIDENT_KEV

CHANNELS = 4096
CALIBRATION = (0.0, 0.01)
"""keV of channel 0, keV per channel."""
_COMPTON_KEV = 0.97 * INCIDENT_KEV


class Spectrometer:
    """Turns counts per line into spectra whose windows hold exactly these counts.

    A peak is a Gaussian of the detector's resolution, cut at its window; elastic, Compton and continuous background lie
    outside of all windows. So the sum over a window is the truth, bit for bit, and no window may overlap another.

    Raises
    ------
    InputError
        Two lines are too close.
    """

    def __init__(self, experiment: Experiment) -> None:
        self.windows = {line: window(line, np.array(CALIBRATION), CHANNELS) for line in experiment.lines}
        ordered = sorted(experiment.lines, key=line_energy)
        for low, high in pairwise(ordered):
            if self.windows[low][1] > self.windows[high][0]:
                raise InputError(f"the windows of {low} and {high} overlap: leave one of these lines out")
        energies = CALIBRATION[0] + CALIBRATION[1] * np.arange(CHANNELS)
        self._peaks = []
        free = np.ones(CHANNELS, bool)
        for line in experiment.lines:
            inside = slice(*self.windows[line])
            free[inside] = False
            self._peaks.append((inside, _gaussian(energies[inside], line_energy(line))))
        background = 0.6 * _gaussian(energies, INCIDENT_KEV) + 0.3 * _gaussian(energies, _COMPTON_KEV)
        background[(energies > 0.5) & (energies < INCIDENT_KEV)] += 0.1 * CALIBRATION[1] / INCIDENT_KEV
        background *= free
        share = experiment.gains / len(experiment.detectors)
        scattered = SCATTER_FRACTION * share @ experiment.expected_counts.mean((1, 2))
        self._scatter = scattered[:, None] * (background / background.sum())
        self._rng = np.random.default_rng([experiment.options.seed, 7])

    def spectra(self, frame: Frame, exposure: float = 1.0) -> npt.NDArray[np.int32]:
        """Return (detector, channel) counts of a frame; `exposure` is its length in dwells."""
        spectra = self._rng.poisson(self._scatter * exposure)
        for n, (inside, shape) in enumerate(self._peaks):
            spectra[:, inside] += self._rng.multinomial(frame.counts[:, n], shape)
        return spectra.astype(np.int32)


def _gaussian(energies: npt.NDArray[Any], centre: float) -> npt.NDArray[Any]:
    """Return a peak of the detector's resolution at `centre` keV, normalised over `energies`."""
    peak = np.exp(-0.5 * ((energies - centre) / (resolution_fwhm(centre) / 2.355)) ** 2)
    return np.asarray(peak / peak.sum())
