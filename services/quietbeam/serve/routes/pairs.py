"""Two lines against each other: correlation without counting noise, joint histogram."""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
from fastapi import APIRouter, Query, Request, Response

from quietbeam.core.errors import InputError, NotMeasuredError
from quietbeam.regions.correlation import Correlation, correlate, joint_histogram
from quietbeam.serve.access import Scope
from quietbeam.serve.answers.envelope import NoMeta
from quietbeam.serve.answers.regions import PairAnswer, PairValues
from quietbeam.serve.services import Shared

from .envelope import ERRORS, answer, base
from .map_query import Units, find_run, unit_name
from .requires import requires

router = APIRouter(tags=["regions"])
Line = Annotated[str, Query(max_length=64)]


@router.get(
    "/runs/{uid}/correlation",
    responses={200: {"model": PairAnswer}, 400: ERRORS[400], 404: ERRORS[404]},
    dependencies=requires(Scope.READ_DATA),
)
def get_correlation(
    uid: str,
    request: Request,
    shared: Shared,
    x: Line,
    y: Line,
    map: Annotated[Literal["raw", "denoised"], Query(description="Of the histogram.")] = "denoised",
    region: Annotated[str | None, Query(max_length=64, description="Name of a region; the whole map without.")] = None,
    units: Units = "counts",
) -> Response:
    """Correlation of two lines with its 95 % interval, counting noise taken out; joint histogram of their values."""
    status, info = find_run(shared, uid)
    for line in (x, y):
        if line not in info.lines:
            raise NotMeasuredError(f"line {line[:40]!r} is not measured in this run; it has {', '.join(info.lines)}")
    if x == y:
        raise InputError(f"x and y are both {x}: choose two lines")
    inside = np.ones(info.shape, bool) if region is None else shared.regions.get(info, region).mask
    if info.kind == "counts":
        counted = shared.maps.read(status, "raw")
        one, other = (np.where(counted.denoised, counted.values[info.lines.index(line)], np.nan) for line in (x, y))
        found = correlate(one, other, inside, (x, y))
    else:
        found = Correlation(n=int(inside.sum()), reason="the noise of fitted areas is not known here")
    shown = shared.units.convert(status, map, shared.maps.read(status, map), units).values
    data = PairValues(
        x=x,
        y=y,
        region=region,
        map=map,
        units=unit_name("raw", info.kind, units) or "",
        maps_version=status.maps_version,
        correlation=found,
        histogram=joint_histogram(shown[info.lines.index(x)], shown[info.lines.index(y)], inside),
    )
    here = f"{base(request)}/runs/{status.uid}"
    links = {"self": f"{here}/correlation", "run": here}
    return answer(PairAnswer(data=data, links=links, meta=NoMeta()))
