"""X-ray fluorescence in numbers, from xraylib: energies (keV), cross sections, absorption, resolution."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import xraylib

from quietbeam.core.errors import InputError

DEFAULT_LINES = ("P_Ka", "S_Ka", "Cl_Ka", "K_Ka", "Ca_Ka", "Fe_Ka", "Cu_Ka", "Zn_Ka")
INCIDENT_KEV = 12.0
INCIDENCE_RAD = math.radians(75.0)
TAKE_OFF_RAD = math.radians(15.0)

_LINE = re.compile(r"^(?P<element>[A-Z][a-z]?)_(?P<family>Ka|Kb|La|Lb|Ma|Mb)$")
_MACROS = {
    "Ka": xraylib.KA_LINE,
    "Kb": xraylib.KB_LINE,
    "La": xraylib.LA_LINE,
    "Lb": xraylib.LB_LINE,
    "Ma": xraylib.MA1_LINE,
    "Mb": xraylib.MB_LINE,
}
_FANO = 0.115
_PAIR_KEV = 0.00365
"""Energy per electron-hole pair in silicon at 123 K."""


def parse_line(line: str) -> tuple[int, int]:
    """Return (atomic number, xraylib line macro) of ``Fe_Ka``.

    Raises
    ------
    InputError
        Not an emission line; the message says how lines are written.
    """
    match = _LINE.match(line)
    if match is None:
        raise InputError(f"{line!r} is not an emission line: write element and family, as Fe_Ka, Pt_La, Au_Ma")
    try:
        number = xraylib.SymbolToAtomicNumber(match["element"])
    except ValueError as error:
        raise InputError(f"{line!r}: there is no element {match['element']!r}") from error
    macro = _MACROS[match["family"]]
    try:
        xraylib.LineEnergy(number, macro)
    except ValueError as error:
        raise InputError(f"{line!r}: {match['element']} has no such line") from error
    return number, macro


@lru_cache(maxsize=1024)
def line_energy(line: str) -> float:
    """Return the mean energy of a line in keV (Ka: KL2 and KL3 by their rates)."""
    return float(xraylib.LineEnergy(*parse_line(line)))


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


def resolution_fwhm(energy_kev: float, *, electronic_kev: float = 0.09) -> float:
    """Return the full width at half maximum of a peak of a silicon detector in keV: noise and Fano statistics."""
    return math.sqrt(electronic_kev**2 + 2.3548**2 * _FANO * _PAIR_KEV * energy_kev)
