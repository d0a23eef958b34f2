"""X-ray fluorescence in numbers, from xraylib: cross sections, absorption, yields."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import xraylib

from quietbeam.spectra.energies import line_energy, parse_line

DEFAULT_LINES = ("P_Ka", "S_Ka", "Cl_Ka", "K_Ka", "Ca_Ka", "Fe_Ka", "Cu_Ka", "Zn_Ka")
INCIDENT_KEV = 12.0
INCIDENCE_RAD = math.radians(75.0)
TAKE_OFF_RAD = math.radians(15.0)


@lru_cache(maxsize=1024)
def fluorescence_cross_section(line: str, energy_kev: float = INCIDENT_KEV) -> float:
    """Return the production cross section of a line in cm2/g of its element; 0 below the absorption edge.

    Kissel photoionization with full cascade (``CS_FluorLine_Kissel``).
    """
    number, macro = parse_line(line)
    try:
        return float(xraylib.CS_FluorLine_Kissel(number, macro, energy_kev))
    except ValueError:
        return 0.0


@lru_cache(maxsize=4096)
def attenuation(compound: str, energy_kev: float) -> float:
    """Return the total mass attenuation coefficient of an element or compound in cm2/g."""
    return float(xraylib.CS_Total_CP(compound, energy_kev))


def fluorescence_yield(
    lines: Sequence[str],
    areal_density: npt.NDArray[np.float64],
    matrix: str,
    matrix_density: npt.NDArray[np.float64],
    *,
    energy_kev: float = INCIDENT_KEV,
) -> npt.NDArray[np.float64]:
    """Return photons emitted towards the detector per incident photon and full solid angle, with self-absorption.

    A homogeneous slab of mass per area ``m`` weakens its own signal by ``(1 - exp(-chi)) / chi`` with
    ``chi = m * (mu(E0) / sin(incidence) + mu(E_line) / sin(take-off))``.

    Parameters
    ----------
    lines
        Names; more than one line of the same element is fine.
    areal_density
        (line, row, col) g/cm2 of the line's element.
    matrix
        Compound that holds the elements, e.g. ``H2O``.
    matrix_density
        (row, col) g/cm2 of the matrix.
    energy_kev
        Incident energy.
    """
    entering, leaving = math.sin(INCIDENCE_RAD), math.sin(TAKE_OFF_RAD)
    elements = {line.partition("_")[0]: index for index, line in enumerate(lines)}
    photons = np.empty_like(areal_density)
    for index, line in enumerate(lines):
        energy = line_energy(line)

        def slab(compound: str, energy: float = energy) -> float:
            return attenuation(compound, energy_kev) / entering + attenuation(compound, energy) / leaving

        chi = matrix_density * slab(matrix)
        for element, position in elements.items():
            chi = chi + areal_density[position] * slab(element)
        absorbed = -np.expm1(-chi) / np.maximum(chi, 1e-12)
        produced = areal_density[index] * fluorescence_cross_section(line, energy_kev) / entering
        photons[index] = produced * np.where(chi > 1e-12, absorbed, 1.0)
    return photons


def detector_efficiency(line: str, *, beryllium_um: float = 8.0, silicon_um: float = 450.0) -> float:
    """Return the fraction of the line's photons that a silicon drift detector behind its window counts."""
    energy = line_energy(line)
    window = math.exp(-attenuation("Be", energy) * 1.85 * beryllium_um * 1e-4)
    return window * -math.expm1(-attenuation("Si", energy) * 2.33 * silicon_um * 1e-4)
