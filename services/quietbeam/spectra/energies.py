"""Energies and widths of emission lines (keV), from xraylib."""

from __future__ import annotations

import math
import re
from functools import lru_cache

import xraylib

from quietbeam.core.errors import InputError

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


def resolution_fwhm(energy_kev: float, *, electronic_kev: float = 0.09) -> float:
    """Return the full width at half maximum of a peak of a silicon detector in keV: noise and Fano statistics."""
    return math.sqrt(electronic_kev**2 + 2.3548**2 * _FANO * _PAIR_KEV * energy_kev)
