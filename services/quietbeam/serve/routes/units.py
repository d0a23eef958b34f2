"""Units of a run's maps: counts per second, areal densities, and what must be known about them."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from quietbeam.core.errors import InputError
from quietbeam.core.wire.runs import RunStatus
from quietbeam.quantify import LineDensity
from quietbeam.serve.access import Scope
from quietbeam.serve.answers.units import UnitInfo, UnitLine, UnitsAnswer, UnitsMeta
from quietbeam.serve.services import Services, Shared
from quietbeam.serve.state.units import Limits

from .envelope import ERRORS, answer, base
from .map_query import find_run
from .requires import requires

router = APIRouter(tags=["values"])


@router.get(
    "/runs/{uid}/units",
    responses={200: {"model": UnitsAnswer}, 404: ERRORS[404]},
    dependencies=requires(Scope.READ_DATA),
)
def get_units(uid: str, request: Request, shared: Shared) -> Response:
    """How the counts of the maps become counts/s and ug/cm2; detection limits; warnings."""
    status, _ = find_run(shared, uid)
    here = f"{base(request)}/runs/{status.uid}"
    data = [_rate(status, shared), _density(status, shared)]
    meta = UnitsMeta(maps_version=status.maps_version)
    return answer(UnitsAnswer(data=data, links={"self": f"{here}/units", "run": here}, meta=meta))


def _rate(status: RunStatus, shared: Services) -> UnitInfo:
    try:
        lines = shared.units.lines(status, "counts/s")
    except InputError as error:
        return _missing("counts/s", error)
    return UnitInfo(
        units="counts/s",
        available=True,
        reason="",
        calibration="",
        standard="",
        energy_kev=None,
        run_energy_kev=None,
        lines=_lines(lines, shared.units.limits(status, lines)),
        notes=[],
    )


def _density(status: RunStatus, shared: Services) -> UnitInfo:
    try:
        density = shared.units.density(status)
    except InputError as error:
        return _missing("ug/cm2", error)
    return UnitInfo(
        units="ug/cm2",
        available=any(line.factor is not None for line in density.lines),
        reason="" if any(line.factor is not None for line in density.lines) else "no line has an areal density",
        calibration=density.calibration,
        standard=density.standard,
        energy_kev=density.energy_kev,
        run_energy_kev=density.run_energy_kev,
        lines=_lines(density.lines, shared.units.limits(status, density.lines)),
        notes=[*shared.units.warnings(status, density), *density.notes],
    )


def _missing(units: str, error: InputError) -> UnitInfo:
    return UnitInfo(
        units=units,
        available=False,
        reason=str(error),
        calibration="",
        standard="",
        energy_kev=None,
        run_energy_kev=None,
        lines=[],
        notes=[],
    )


def _lines(lines: tuple[LineDensity, ...], limits: dict[str, Limits]) -> list[UnitLine]:
    none = Limits(raw=None, denoised=None)
    return [
        UnitLine(
            line=by.line,
            factor=by.factor,
            background=by.background,
            relative_error=by.relative_error,
            computed=by.computed,
            reason=by.reason,
            limit_raw=limits.get(by.line, none).raw,
            limit_denoised=limits.get(by.line, none).denoised,
        )
        for by in lines
    ]
