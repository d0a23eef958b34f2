"""The areal densities of a run in its report."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from quietbeam.core.errors import InputError, NotMeasuredError
from quietbeam.core.wire.runs import RunStatus
from quietbeam.quantify import RunDensity

from ..render.statistics import means, scaled
from ..state.maps import MapReader
from ..state.units import Limits, UnitTable


@dataclass(frozen=True, slots=True, kw_only=True)
class DensityTable:
    """What the report says of areal densities.

    Attributes
    ----------
    rows
        Line, mean of raw, mean of denoised, detection limits of both.
    """

    about: str
    rows: list[tuple[str, ...]]
    notes: tuple[str, ...]


def density_table(status: RunStatus, maps: MapReader, units: UnitTable | None) -> DensityTable | None:
    """Return the areal densities of a run; None where there are none."""
    if units is None:
        return None
    try:
        density = units.density(status)
        limits = units.limits(status, density.lines)
        stacks = [maps.read(status, kind).values for kind in ("raw", "denoised", "uncertainty")]
        notes = (*units.warnings(status, density), *density.notes)
    except (InputError, NotMeasuredError):
        return None
    rows = [_row(density, j, stacks, limits) for j in range(len(density.lines))]
    about = f"Calibration {density.calibration}: {density.standard} at {density.energy_kev:g} keV."
    return DensityTable(about=about, rows=rows, notes=notes)


def _row(density: RunDensity, j: int, stacks: list[np.ndarray], limits: dict[str, Limits]) -> tuple[str, ...]:
    by = density.lines[j]
    if by.factor is None:
        return by.line, "-", "-", "-", by.reason
    raw, denoised, error = (stack[j].ravel() for stack in stacks)
    found = scaled(means(raw, denoised, error, counts=True), by)
    limit = limits[by.line]
    return (
        f"{by.line} (computed)" if by.computed else by.line,
        _value(found.raw, found.raw_error),
        _value(found.denoised, found.denoised_error),
        _value(limit.raw, None),
        _value(limit.denoised, None),
    )


def _value(value: float | None, error: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.3g}" if error is None else f"{value:.3g} ± {error:.1g}"
