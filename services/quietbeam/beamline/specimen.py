"""Specimens as maps of mass per area: a Siemens star and a frozen cell. Seeded, at any size and shape."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.ndimage import gaussian_filter

from quietbeam.core.errors import InputError
from quietbeam.spectra.energies import parse_line

from .physics import INCIDENT_KEV, fluorescence_cross_section

Map = npt.NDArray[np.float64]
BEAM_SIGMA_PX = 0.5
"""Half width of the beam in pixels: what the sharpest edge of a map is blurred by."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Specimen:
    """Mass per area of everything in the beam.

    Attributes
    ----------
    name
        What it is.
    lines
        Lines that are looked at.
    areal_density
        (line, row, col) g/cm2 of each line's element.
    matrix
        Compound that holds them.
    matrix_density
        (row, col) g/cm2.
    """

    name: str
    lines: tuple[str, ...]
    areal_density: Map
    matrix: str
    matrix_density: Map


def _grid(shape: tuple[int, int]) -> tuple[Map, Map]:
    """Return (y, x), each (row, col), in units of half the longer side, 0 in the middle."""
    half = max(shape) / 2
    y, x = np.meshgrid(
        (np.arange(shape[0]) + 0.5 - shape[0] / 2) / half,
        (np.arange(shape[1]) + 0.5 - shape[1] / 2) / half,
        indexing="ij",
    )
    return y, x


def _soft(inside: Map, width: float) -> Map:
    """Return 1 where `inside` is well above 0, 0 well below, smooth over `width`."""
    return 0.5 * (1 + np.tanh(inside / max(width, 1e-6)))


def siemens_star(lines: Sequence[str], shape: tuple[int, int], seed: int = 0) -> Specimen:
    """Return a resolution target: patterned metal films on a silicon nitride membrane, thicker for weaker lines.

    The lines take turns: spokes, the gaps between the spokes, spokes cut by rings, rings alone.
    """
    rng = np.random.default_rng([seed, 1])
    fine = 4
    y, x = _grid((shape[0] * fine, shape[1] * fine))
    radius, angle = np.hypot(y, x), np.arctan2(y, x) + rng.uniform(0, 2 * np.pi)
    disc = (radius > 0.04) & (radius < 0.92)
    spokes = (np.sin(36 / 2 * angle) > 0) & disc
    rings = (np.floor(radius / 0.13).astype(int) % 2 == 0) & disc
    patterns = (spokes, disc & ~spokes, spokes & ~rings, rings)
    films = np.empty((len(lines), *shape))
    for index in range(len(lines)):
        pattern = patterns[index % len(patterns)].astype(float)
        pattern = gaussian_filter(pattern, BEAM_SIGMA_PX * fine)
        pattern = pattern.reshape(shape[0], fine, shape[1], fine).mean((1, 3))
        thickness = 1e-6 * (fluorescence_cross_section("Fe_Ka") / fluorescence_cross_section(lines[index])) ** 0.8
        films[index] = min(thickness, 2e-4) * (0.04 + pattern)
    return Specimen(
        name="Siemens star",
        lines=tuple(lines),
        areal_density=films,
        matrix="Si3N4",
        matrix_density=np.full(shape, 3.2e-5),
    )


_PPM = {
    # element: (cytoplasm, nucleus, vesicles, mitochondria, filaments, membrane, ice around the cell), dry mass
    "P": (9e3, 2.4e4, 3e3, 1.2e4, 0, 1.6e4, 150),
    "S": (7e3, 9e3, 4e3, 1e4, 6e3, 5e3, 100),
    "Cl": (4e3, 3e3, 6e3, 3e3, 0, 2e3, 700),
    "K": (6e3, 8e3, 3e3, 5e3, 0, 3e3, 250),
    "Ca": (300, 400, 1.4e4, 900, 0, 700, 30),
    "Fe": (60, 40, 300, 1.1e3, 0, 30, 4),
    "Cu": (20, 15, 40, 60, 260, 10, 2),
    "Zn": (70, 180, 520, 60, 90, 30, 3),
}


def frozen_cell(lines: Sequence[str], shape: tuple[int, int], seed: int = 0) -> Specimen:
    """Return a frozen-hydrated cell, up to 6 um thick: membrane, cytoplasm, nucleus, vesicles, mitochondria, filaments.

    Elements beyond P S Cl K Ca Fe Cu Zn are spread like a mix of these, chosen by the seed.
    """
    rng = np.random.default_rng([seed, 2])
    y, x = _grid(shape)
    pixel = 2 / max(shape)

    def blob(cy: float, cx: float, a: float, b: float, tilt: float, ragged: float = 0.0) -> Map:
        dy, dx = y - cy, x - cx
        u = (np.cos(tilt) * dx + np.sin(tilt) * dy) / a
        v = (-np.sin(tilt) * dx + np.cos(tilt) * dy) / b
        edge = 1.0
        if ragged:
            angle = np.arctan2(v, u)
            for order in range(2, 7):
                edge = edge + ragged / order * rng.normal() * np.cos(order * angle + rng.uniform(0, 2 * np.pi))
        return np.asarray(edge - np.hypot(u, v))

    cy, cx, tilt = rng.uniform(-0.08, 0.08), rng.uniform(-0.08, 0.08), rng.uniform(0, np.pi)
    inside = blob(cy, cx, 0.82, 0.66, tilt, ragged=0.12)
    cell = _soft(inside, 1.2 * pixel)
    thickness_um = cell * (1.0 + 5.0 * np.sqrt(np.clip(inside, 0, 1)))
    membrane = cell * np.exp(-(((inside - 0.02) / max(0.025, 1.5 * pixel)) ** 2))

    def scatter(count: int, make: Callable[[float, float], Map], reach: float = 0.85) -> Map:
        total = np.zeros(shape)
        for _ in range(count):
            radius, angle = reach * np.sqrt(rng.uniform()), rng.uniform(0, 2 * np.pi)
            u, v = 0.82 * radius * np.cos(angle), 0.66 * radius * np.sin(angle)
            total = np.maximum(
                total,
                make(cy + np.sin(tilt) * u + np.cos(tilt) * v, cx + np.cos(tilt) * u - np.sin(tilt) * v),
            )
        return total * cell

    nucleus_y, nucleus_x = cy + rng.uniform(-0.15, 0.15), cx + rng.uniform(-0.2, 0.2)
    nucleus = _soft(blob(nucleus_y, nucleus_x, 0.32, 0.25, rng.uniform(0, np.pi), ragged=0.08), 4 * pixel)
    nucleolus = _soft(blob(nucleus_y + 0.05, nucleus_x - 0.06, 0.09, 0.08, 0.0), 8 * pixel)
    nucleus = nucleus * (1 + 0.5 * nucleolus)
    outside_nucleus = 1 - np.clip(nucleus, 0, 1)
    vesicles = outside_nucleus * scatter(
        36,
        lambda vy, vx: rng.uniform(0.4, 1) * _soft(blob(vy, vx, r := rng.uniform(0.015, 0.045), r, 0.0), pixel / r),
    )
    mitochondria = outside_nucleus * scatter(
        28,
        lambda my, mx: (
            rng.uniform(0.6, 1)
            * _soft(blob(my, mx, rng.uniform(0.06, 0.11), 0.028, rng.uniform(0, np.pi)), pixel / 0.028)
        ),
    )
    filaments = np.zeros(shape)
    for _ in range(9):
        along, phase = rng.uniform(0, np.pi), rng.uniform(0, 2 * np.pi)
        u, v = np.cos(along) * x + np.sin(along) * y, -np.sin(along) * x + np.cos(along) * y
        course = rng.uniform(-0.5, 0.5) + 0.08 * np.sin(4 * u + phase)
        filaments = np.maximum(filaments, np.exp(-(((v - course) / max(0.008, 0.8 * pixel)) ** 2)))
    filaments = filaments * cell
    parts = np.stack([cell, nucleus * cell, vesicles, mitochondria, filaments, membrane])
    dry_density = 1.35e-5 * thickness_um  # g/cm2: 13.5 % of the cell is dry mass
    ice_density = np.full(shape, 9.2e-5 * 6.0)

    maps = np.empty((len(lines), *shape))
    for index, line in enumerate(lines):
        element = line.partition("_")[0]
        if element in _PPM:
            ppm = np.array(_PPM[element], float)
        else:
            number, _ = parse_line(line)
            mix = np.random.default_rng([seed, 3, number])
            ppm = np.exp(mix.normal(np.log(200), 1.0, 7)) * np.array([0.2, 1, 1, 1, 1, 1, 0.05])
        # organelles replace what is there: their excess over the cytoplasm is what they add
        weights = np.concatenate([ppm[:1], ppm[1:6] - np.where(ppm[1:6] > 0, ppm[0], 0) * np.array([1, 1, 1, 0, 0])])
        concentration = np.tensordot(np.maximum(weights, -0.6 * ppm[0]), parts, 1)
        density = np.clip(concentration, 0, None) * 1e-6 * dry_density + ppm[6] * 1e-6 * 0.01 * ice_density
        maps[index] = gaussian_filter(density, BEAM_SIGMA_PX, mode="nearest")
    return Specimen(
        name="frozen cell",
        lines=tuple(lines),
        areal_density=maps,
        matrix="H2O",
        matrix_density=ice_density + dry_density,
    )


SPECIMENS: dict[str, Callable[[Sequence[str], tuple[int, int], int], Specimen]] = {
    "star": siemens_star,
    "cell": frozen_cell,
}


def make_specimen(name: str, lines: Sequence[str], shape: tuple[int, int], seed: int = 0) -> Specimen:
    """Return the specimen called `name` (``star`` or ``cell``).

    Raises
    ------
    InputError
        No such specimen, or a line that does not exist.
    """
    if name not in SPECIMENS:
        raise InputError(f"no specimen {name!r}: take one of {', '.join(SPECIMENS)}")
    for line in lines:
        parse_line(line)
    if len(set(lines)) != len(lines):
        raise InputError(f"lines are named twice: {', '.join(lines)}")
    if dark := [line for line in lines if not fluorescence_cross_section(line)]:
        raise InputError(f"{', '.join(dark)} cannot be excited at {INCIDENT_KEV} keV: leave these lines out")
    return SPECIMENS[name](lines, shape, seed)
