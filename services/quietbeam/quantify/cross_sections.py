"""How strongly lines of a thin film are seen, relative to each other: cross-sections and the detector's path."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from functools import lru_cache

import xraylib

from quietbeam.core.errors import InputError
from quietbeam.core.model.evidence import CountKind
from quietbeam.spectra import line_energy, parse_line

_BERYLLIUM, _SILICON = 4, 14
_AIR = "Air, Dry (near sea level)"
_LONGEST = 1e5
"""Of any layer, in the unit of its name."""
_SHELLS = {
    "K": (xraylib.K_SHELL,),
    "L": (xraylib.L1_SHELL, xraylib.L2_SHELL, xraylib.L3_SHELL),
    "M": (xraylib.M1_SHELL, xraylib.M2_SHELL, xraylib.M3_SHELL, xraylib.M4_SHELL, xraylib.M5_SHELL),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class DetectorPath:
    """What lies between sample and detector.

    Attributes
    ----------
    beryllium_um
        Thickness of the entrance window.
    air_mm
        Length of the path in air.
    silicon_um
        Thickness of the detector chip.
    """

    beryllium_um: float = 8.0
    air_mm: float = 0.0
    silicon_um: float = 450.0

    def check(self) -> None:
        """Raise InputError where a length cannot be."""
        for name, value in asdict(self).items():
            if not 0 <= value <= _LONGEST:
                raise InputError(f"path: {name} is {value:g}, and must lie between 0 and {_LONGEST:g}")

    def efficiency(self, energy_kev: float) -> float:
        """Return the share of photons that pass window and air and stop in the chip."""
        window = _depth(_BERYLLIUM, energy_kev, self.beryllium_um)
        air = xraylib.GetCompoundDataNISTByName(_AIR)["density"] * self.air_mm * 0.1
        chip = _depth(_SILICON, energy_kev, self.silicon_um)
        return math.exp(-window - air * xraylib.CS_Total_CP(_AIR, energy_kev)) * -math.expm1(-chip)


def _depth(number: int, energy_kev: float, thickness_um: float) -> float:
    """Return the attenuation exponent of a layer of an element."""
    return float(xraylib.CS_Total(number, energy_kev) * xraylib.ElementDensity(number) * thickness_um * 1e-4)


def relative_yield(line: str, energy_kev: float, kind: CountKind, path: DetectorPath) -> float:
    """Return the photons seen per mass of the element, in cm2/g.

    Parameters
    ----------
    energy_kev
        Of the beam.
    kind
        ``counts`` are of the line alone, as ``Ka``; fitted ``areas`` of its whole family (K).

    Raises
    ------
    InputError
        No emission line, the beam cannot excite it, or none of it is detected.
    """
    efficiency = path.efficiency(line_energy(line))
    if not efficiency > 0:
        raise InputError(f"nothing of {line} reaches the detector through its window and the air, or stops in its chip")
    return _cross_section(line, energy_kev, kind) * efficiency


@lru_cache(maxsize=1024)
def _cross_section(line: str, energy_kev: float, kind: CountKind) -> float:
    number, macro = parse_line(line)
    try:
        if kind == "counts":
            value = xraylib.CS_FluorLine_Kissel(number, macro, energy_kev)
        else:
            value = sum(_shell(number, shell, energy_kev) for shell in _SHELLS[line.partition("_")[2][0]])
    except ValueError:
        value = 0.0
    if not value > 0:
        raise InputError(f"a beam of {energy_kev:g} keV does not excite {line}")
    return float(value)


def _shell(number: int, shell: int, energy_kev: float) -> float:
    try:
        return float(xraylib.CS_FluorShell_Kissel(number, shell, energy_kev))
    except ValueError:  # below the edge of this shell
        return 0.0


def attenuation(element: str, energy_kev: float) -> float:
    """Return the mass attenuation coefficient of an element in cm2/g."""
    return float(xraylib.CS_Total(xraylib.SymbolToAtomicNumber(element), energy_kev))
