"""Named regions of a run: made, listed, deleted; what every line shows in them, as JSON or CSV."""

from __future__ import annotations

import csv
import io
from typing import Annotated, Any, Literal

import numpy as np
from fastapi import APIRouter, HTTPException, Path, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from quietbeam.core.errors import NotMeasuredError
from quietbeam.core.model.types import RunInfo
from quietbeam.core.wire.runs import RunStatus
from quietbeam.quantify import LineDensity, Unit
from quietbeam.regions import LineStatistics, Region, line_statistics, make_region
from quietbeam.regions.shapes import MAX_POINTS
from quietbeam.regions.statistics import Statistics
from quietbeam.serve.access import Scope
from quietbeam.serve.answers.envelope import Count, NoMeta
from quietbeam.serve.answers.regions import (
    RegionChangeAnswer,
    RegionInfo,
    RegionsAnswer,
    RegionStatistics,
    RegionStatisticsAnswer,
)
from quietbeam.serve.services import Services, Shared

from .envelope import ERRORS, answer, attachment, base, path_of
from .map_query import Units, find_run, unit_name
from .requires import requires

router = APIRouter(tags=["regions"])
_RESPONSES: Any = {status: ERRORS[status] for status in (400, 404, 409)}
Name = Annotated[str, Path(max_length=64, description="Any characters but / and \\, percent-encoded.")]
Pair = Annotated[list[float], Field(min_length=2, max_length=2)]


class RegionBody(BaseModel):
    """How a region is chosen: `rows` and `cols`, `points`, or `line` with `low` and `high`."""

    model_config = ConfigDict(extra="forbid")

    kind: Literal["rectangle", "polygon", "lasso", "threshold"]
    rows: Pair | None = Field(default=None, description="Of a rectangle: [first, one after the last].")
    cols: Pair | None = None
    points: list[Pair] | None = Field(
        default=None, max_length=MAX_POINTS, description="Of a polygon or lasso: [row, col], centres are whole."
    )
    line: str | None = Field(default=None, max_length=64, description="Of a threshold.")
    map: Literal["raw", "denoised"] = "denoised"
    low: float | None = Field(default=None, description="Least counts of a threshold.")
    high: float | None = None


@router.get(
    "/runs/{uid}/regions",
    responses={200: {"model": RegionsAnswer, "content": {"text/csv": {}}}, **_RESPONSES},
    dependencies=requires(Scope.READ_DATA),
)
def list_regions(
    uid: str,
    request: Request,
    shared: Shared,
    format: Annotated[Literal["json", "csv"], Query(description="csv: every line in every region.")] = "json",
    units: Units = "counts",
) -> Response:
    """The named regions of a run; as CSV with what every line shows in them."""
    status, info = find_run(shared, uid)
    regions = shared.regions.read(info)
    if format == "csv":
        table = [row for region in regions.values() for row in _csv_rows(shared, status, region, units)]
        return _csv(table, f"regions-{info.scan_id or status.uid}.csv")
    links = {"self": f"{base(request)}/runs/{status.uid}/regions"}
    data = [region_info(region) for region in regions.values()]
    return answer(RegionsAnswer(data=data, links=links, meta=Count(count=len(data))))


@router.put(
    "/runs/{uid}/regions/{name}",
    responses={200: {"model": RegionChangeAnswer}, 201: {"model": RegionChangeAnswer}, **_RESPONSES},
    dependencies=requires(Scope.WRITE_DATA),
)
def put_region(
    uid: Annotated[str, Path(max_length=64, description="uid of the run; not `latest`.")],
    name: Name,
    body: RegionBody,
    request: Request,
    shared: Shared,
) -> Response:
    """Make a region, or replace one of the same name."""
    status, info = run_to_change(shared, uid)
    values = None
    definition = body.model_dump(exclude_unset=True, exclude={"kind"})
    if body.kind == "threshold":
        if body.line not in info.lines:
            raise NotMeasuredError(f"line {body.line!r} is not measured in this run; it has {', '.join(info.lines)}")
        values = shared.maps.read(status, body.map).values[info.lines.index(body.line)]
        definition["map"] = body.map
    version = None if values is None else status.maps_version
    region = make_region(name, body.kind, definition, info.shape, values, version)
    replaced = shared.regions.put(info, region)
    here = f"{base(request)}/runs/{status.uid}/regions/{path_of(name)}"
    told = RegionChangeAnswer(data=region_info(region), links={"self": here}, meta=NoMeta())
    return answer(told, status=200 if replaced else 201, headers={"Location": here})


@router.get(
    "/runs/{uid}/regions/{name}",
    responses={200: {"model": RegionStatisticsAnswer}, **_RESPONSES},
    dependencies=requires(Scope.READ_DATA),
)
def get_region(uid: str, name: Name, request: Request, shared: Shared, units: Units = "counts") -> Response:
    """What every line shows in a region: mean, median, sum, extremes, quantiles, histogram, each with its error."""
    status, info = find_run(shared, uid)
    region = shared.regions.get(info, name)
    data = RegionStatistics(
        region=region_info(region),
        units=unit_name("raw", info.kind, units) or "",
        maps_version=status.maps_version,
        lines=_statistics(shared, status, region, units),
    )
    here = f"{base(request)}/runs/{status.uid}"
    links = {"self": f"{here}/regions/{path_of(name)}", "run": here}
    return answer(RegionStatisticsAnswer(data=data, links=links, meta=NoMeta()))


@router.delete(
    "/runs/{uid}/regions/{name}",
    responses={200: {"model": RegionsAnswer}, **_RESPONSES},
    dependencies=requires(Scope.WRITE_DATA),
)
def delete_region(
    uid: Annotated[str, Path(max_length=64, description="uid of the run; not `latest`.")],
    name: Name,
    request: Request,
    shared: Shared,
) -> Response:
    """Delete a region; answers with those that are left."""
    status, info = run_to_change(shared, uid)
    shared.regions.delete(info, name)
    data = [region_info(region) for region in shared.regions.read(info).values()]
    links = {"self": f"{base(request)}/runs/{status.uid}/regions"}
    return answer(RegionsAnswer(data=data, links=links, meta=Count(count=len(data))))


def run_to_change(shared: Services, uid: str) -> tuple[RunStatus, RunInfo]:
    """Return a run that is named by its uid."""
    if uid == "latest":
        raise HTTPException(409, "regions are changed by the uid of their run: latest may be another run meanwhile")
    return find_run(shared, uid)


def region_info(region: Region) -> RegionInfo:
    """Return a region as answers have it."""
    return RegionInfo(
        name=region.name,
        kind=region.kind,
        definition=dict(region.definition),
        pixels=region.pixels,
        maps_version=region.maps_version,
    )


def _statistics(shared: Services, status: RunStatus, region: Region, units: Unit) -> dict[str, LineStatistics]:
    info = status.info
    assert info is not None
    found = [shared.maps.read(status, kind) for kind in ("raw", "denoised", "uncertainty")]
    raw, denoised, error = (stack.values[:, region.mask] for stack in found)
    lines: list[LineDensity | None] = [None] * len(info.lines)
    if units != "counts":
        lines = list(shared.units.lines(status, units))
        raw = np.where(found[0].denoised[region.mask], raw, np.float32(np.nan))  # plain sums have no other unit
    counts = info.kind == "counts"
    return {
        line: line_statistics(raw[j], denoised[j], error[j], counts=counts, by=lines[j])
        for j, line in enumerate(info.lines)
    }


CSV_HEAD = ("region", "line", "map", "unit", "pixels", "mean", "mean_error", "median", "median_error")
CSV_MORE = ("sum", "sum_error", "minimum", "maximum", "spread", "q05", "q25", "q75", "q95")


def _csv_rows(shared: Services, status: RunStatus, region: Region, units: Unit) -> list[list[Any]]:
    assert status.info is not None
    unit = unit_name("raw", status.info.kind, units)
    return [
        [region.name, line, kind, unit, *_csv_figures(found)]
        for line, both in _statistics(shared, status, region, units).items()
        for kind, found in (("raw", both.raw), ("denoised", both.denoised))
    ]


def _csv_figures(found: Statistics) -> list[Any]:
    pairs = [figure for one in (found.mean, found.median, found.sum) for figure in (one.value, one.error)]
    more = [found.minimum.value, found.maximum.value, found.spread]
    return [found.n, *pairs, *more, *(one.value for one in found.quantiles.values())]


def _csv(rows: list[list[Any]], filename: str) -> Response:
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow([*CSV_HEAD, *CSV_MORE])
    for row in rows:
        writer.writerow([_safe(cell) for cell in row])
    return Response(text.getvalue(), media_type="text/csv", headers={"Content-Disposition": attachment(filename)})


def _safe(cell: Any) -> Any:
    """Return a cell that no spreadsheet takes for a formula."""
    return f"'{cell}" if isinstance(cell, str) and cell[:1] in ("=", "+", "-", "@") else cell
