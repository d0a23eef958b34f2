"""Maps: all lines in one array for programs and the dashboard, one line at a time for people."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
from fastapi import APIRouter, Request, Response

from quietbeam.core.errors import InputError, NotMeasuredError
from quietbeam.core.wire.runs import RunStatus
from quietbeam.quantify import LineDensity
from quietbeam.serve.access import Scope
from quietbeam.serve.answers.envelope import Resource
from quietbeam.serve.answers.maps import MapAnswer, MapInfo, MapMeta, MapsAnswer, MapsMeta, MapValues
from quietbeam.serve.render import formats
from quietbeam.serve.render.colormaps import draw_png
from quietbeam.serve.render.hdf5 import write_hdf5
from quietbeam.serve.services import Shared
from quietbeam.serve.state.maps import KINDS, MapStack, fill_holes

from .envelope import ERRORS, answer, attachment, base, etag, not_modified, path_of, unchanged
from .map_query import Colours, MapPart, MapQuery, Wanted, find_run, resolve, unit_name
from .requires import requires

router = APIRouter(tags=["maps"])
STACK_FORMATS = ("json", "npy", "octet-stream", "hdf5")
LINE_FORMATS = ("json", "npy", "png", "octet-stream", "csv", "tiff", "hdf5")
_BINARY: Any = {formats.MIME[name]: {} for name in LINE_FORMATS if name != "json"}
_RESPONSES: Any = {
    200: {"model": MapAnswer, "content": _BINARY},
    304: {"description": "Not changed since the ETag in If-None-Match."},
    400: ERRORS[400],
    404: ERRORS[404],
    406: ERRORS[406],
}


@router.get(
    "/runs/{uid}/maps",
    responses={200: {"model": MapsAnswer}, 404: ERRORS[404]},
    dependencies=requires(Scope.READ_METADATA),
)
def list_maps(uid: str, request: Request, shared: Shared) -> Response:
    """The maps of a run: kinds, shapes and where they are."""
    status, info = find_run(shared, uid)
    here = f"{base(request)}/runs/{status.uid}/maps"
    data = []
    for kind, meaning in KINDS.items():
        dims = ["row", "col"] if kind == "measured" else ["line", "row", "col"]
        map_info = MapInfo(
            kind=kind,
            meaning=meaning,
            shape=list(info.shape) if kind == "measured" else [len(info.lines), *info.shape],
            dims=dims,
            dtype="|b1" if kind == "measured" else "<f4",
            units=unit_name(kind, info.kind, "counts"),
            lines=list(info.lines),
            formats=list(STACK_FORMATS),
            line_formats=list(LINE_FORMATS),
        )
        links = {"self": f"{here}/{kind}", **{line: f"{here}/{kind}/{path_of(line)}" for line in info.lines}}
        data.append(Resource(id=kind, type="map", attributes=map_info, links=links))
    meta = MapsMeta(maps_version=status.maps_version, count=len(data))
    return answer(MapsAnswer(data=data, links={"self": here}, meta=meta))


@router.get("/runs/{uid}/maps/{kind}", responses=_RESPONSES, dependencies=requires(Scope.READ_DATA))
def get_stack(query: Wanted) -> Response:
    """All lines in one array (line, row, col); NaN (null in JSON) where nothing is measured or denoised yet."""
    part = resolve(query, STACK_FORMATS)
    if unchanged(query.request, part.tag):
        return not_modified(part.tag)
    part.guard_size()
    stack, headers = _read(query, part)
    if part.form == "hdf5":
        return _hdf5(query, part, stack, headers)
    meta = _meta(query, part, stack)
    meta.lines = list(part.info.lines)
    return _send(stack.values[part.index], part.form, headers, meta)


@router.get("/runs/{uid}/maps/{kind}/{line:path}", responses=_RESPONSES, dependencies=requires(Scope.READ_DATA))
def get_map(query: Wanted, line: str, colours: Colours) -> Response:
    """One line's map (row, col); a name may hold any character, percent-encoded, `/` too."""
    part = resolve(query, LINE_FORMATS, line)
    if unchanged(query.request, part.tag):
        return not_modified(part.tag)
    part.guard_size(colours.zoom)
    stack, headers = _read(query, part)
    if part.form == "hdf5":
        return _hdf5(query, part, stack, headers)
    values = stack.values if part.kind == "measured" else stack.values[part.info.lines.index(line)]
    if part.form == "png":
        picture = np.atleast_2d(values[part.index].astype(np.float32))
        return Response(draw_png(picture, colours), media_type=formats.MIME["png"], headers=headers)
    meta = _meta(query, part, stack)
    meta.line = line
    return _send(values[part.index], part.form, headers, meta)


def _read(query: MapQuery, part: MapPart) -> tuple[MapStack, dict[str, str]]:
    """Return the maps, filled where the request asks for it, and the headers of the answer."""
    if part.form == "hdf5" and query.slice:
        raise InputError("an hdf5 file holds whole maps with their positions; leave slice= out, or take format=npy")
    stack = query.shared.maps.read(part.status, part.kind, query.version)
    if query.units != "counts" and part.line is not None:
        _refuse_line(query.shared.units.lines(part.status, query.units), part.line, query.units)
    stack = query.shared.units.convert(part.status, part.kind, stack, query.units)
    headers = _headers(part.status, stack, part.tag, query.version, query.filename)
    headers["X-Units"] = unit_name(part.kind, part.info.kind, query.units) or ""
    if query.fill is None:
        return stack, headers
    if part.kind == "measured" or part.form == "hdf5":
        raise InputError("fill= is for displays; leave it out of the mask and of files that are kept")
    values, n = fill_holes(stack.values, stack.denoised)
    return replace(stack, values=values), {**headers, "X-Filled": str(n)}


def _refuse_line(lines: tuple[LineDensity, ...], line: str, units: str) -> None:
    for by in lines:
        if by.line == line and by.factor is None:
            raise InputError(f"{line} has no {units}: {by.reason}")


def _headers(status: RunStatus, stack: MapStack, tag: str, version: int | None, filename: str | None) -> dict[str, str]:
    shown = status.maps_version if version is None else version
    headers = {"ETag": etag(tag), "X-Version": str(shown), "X-Plain-Rows": str(stack.plain_rows)}
    if filename:
        headers["Content-Disposition"] = attachment(filename)
    return headers


def _meta(query: MapQuery, part: MapPart, stack: MapStack) -> MapMeta:
    return MapMeta(
        kind=part.kind,
        units=unit_name(part.kind, part.info.kind, query.units),
        dims=list(part.axes),
        slice=query.slice,
        plain_rows=stack.plain_rows,
    )


def _hdf5(query: MapQuery, part: MapPart, stack: MapStack, headers: dict[str, str]) -> Response:
    """Return a file of the kind that was asked for, with its mask; beside `denoised` raw, uncertainty and chi2."""
    read = query.shared.maps.read
    measured = read(part.status, "measured").values
    chosen = slice(None) if part.line is None else [part.info.lines.index(part.line)]
    maps: dict[str, npt.NDArray[Any]] = {} if part.kind == "measured" else {part.kind: stack.values[chosen]}
    for kind in part.companions(query.version):
        with suppress(NotMeasuredError):  # runs of older versions have no chi2
            beside = read(part.status, kind, query.version)
            if kind != "chi2":
                beside = query.shared.units.convert(part.status, kind, beside, query.units)
            maps[kind] = beside.values[chosen]
    positions = query.shared.maps.positions(part.status)
    regions = {name: one.mask for name, one in query.shared.regions.read(part.info).items()}
    units = "" if query.units == "counts" else query.units
    file = write_hdf5(part.info, part.status, maps, part.lines, measured, positions, units, regions)
    return Response(file, media_type=formats.MIME["hdf5"], headers=headers)


def _send(values: npt.NDArray[Any], form: str, headers: dict[str, str], meta: MapMeta) -> Response:
    values = np.asarray(values)
    if form == "json":
        data = MapValues(shape=list(values.shape), dtype=values.dtype.str, values=np.ascontiguousarray(values))
        return answer(MapAnswer(data=data, meta=meta), headers=headers)
    shape = ",".join(map(str, values.shape))
    headers = {**headers, "X-Shape": shape, "X-Dtype": values.dtype.str}
    return Response(formats.ENCODERS[form](values), media_type=formats.MIME[form], headers=headers)
