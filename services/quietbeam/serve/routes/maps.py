"""Maps: stacked over lines for programs and the dashboard, one line at a time for people."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any, Literal

import numpy as np
import numpy.typing as npt
from fastapi import APIRouter, Header, Query, Request, Response

from quietbeam.core.errors import InputError, NotMeasuredError
from quietbeam.core.model.types import RunInfo
from quietbeam.core.wire.runs import RunStatus
from quietbeam.serve.access import Scope, needs
from quietbeam.serve.render import formats
from quietbeam.serve.render.colormaps import Colouring, Scale, draw_png
from quietbeam.serve.render.hdf5 import write_hdf5
from quietbeam.serve.render.slices import parse_slice
from quietbeam.serve.services import Services, Shared
from quietbeam.serve.state.maps import KINDS, Kind, MapStack, fill_holes, map_tag

from .envelope import ERRORS, Envelope, answer, base, unchanged

router = APIRouter(tags=["maps"])
STACK_FORMATS = ("json", "npy", "octet-stream", "hdf5")
LINE_FORMATS = ("json", "npy", "png", "octet-stream", "csv", "tiff", "hdf5")
_BINARY: Any = {formats.MIME[name]: {} for name in LINE_FORMATS if name != "json"}
_RESPONSES: Any = {
    200: {"model": Envelope, "content": _BINARY},
    304: {"description": "Not changed since the ETag in If-None-Match."},
    400: ERRORS[400],
    404: ERRORS[404],
    406: ERRORS[406],
}
Format = Annotated[str | None, Query(max_length=200, description="Format alias or MIME type; wins over Accept.")]
Slice = Annotated[str | None, Query(max_length=200, description="numpy-like: 10:20,::2")]
Filename = Annotated[
    str | None,
    Query(pattern=r"^[A-Za-z0-9][A-Za-z0-9._ -]{0,99}$", description="Name under which a browser saves the answer."),
]
Accept = Annotated[str | None, Header(include_in_schema=False)]
Version = Annotated[
    int | None,
    Query(ge=0, le=2**53, description="An earlier state, from .../history; of denoised and uncertainty."),
]

Fill = Annotated[
    Literal["nearest"] | None,
    Query(
        description="nearest: cells between measured ones show the nearest measured value, for looking at spirals and "
        "irregular points. The kind `measured` says which are measured, X-Filled how many were filled."
    ),
]


@router.get("/runs/{uid}/maps", responses={200: {"model": Envelope}, 404: ERRORS[404]})
@needs(Scope.READ_METADATA)
def list_maps(uid: str, request: Request, shared: Shared) -> Response:
    """The maps of a run: kinds, shapes and where they are."""
    status, info = find_run(shared, uid)
    here = f"{base(request)}/runs/{status.uid}/maps"
    n_line, (rows, cols) = len(info.lines), info.shape
    data = [
        {
            "id": kind,
            "type": "map",
            "attributes": {
                "kind": kind,
                "meaning": meaning,
                "shape": [rows, cols] if kind == "measured" else [n_line, rows, cols],
                "dims": ["row", "col"] if kind == "measured" else ["line", "row", "col"],
                "dtype": "|b1" if kind == "measured" else "<f4",
                "units": None if kind in ("measured", "chi2") else "counts" if info.kind == "counts" else "fitted area",
                "lines": info.lines,
                "formats": STACK_FORMATS,
                "line_formats": LINE_FORMATS,
            },
            "links": {"self": f"{here}/{kind}", **{line: f"{here}/{kind}/{line}" for line in info.lines}},
        }
        for kind, meaning in KINDS.items()
    ]
    return answer(data, links={"self": here}, meta={"maps_version": status.maps_version, "count": len(data)})


@router.get("/runs/{uid}/maps/{kind}", responses=_RESPONSES)
@needs(Scope.READ_DATA)
def get_stack(
    uid: str,
    kind: str,
    request: Request,
    shared: Shared,
    format: Format = None,
    slice: Slice = None,
    version: Version = None,
    filename: Filename = None,
    fill: Fill = None,
    accept: Accept = None,
) -> Response:
    """All lines in one array (line, row, col); NaN (null in JSON) where nothing is measured or denoised yet."""
    status, info = find_run(shared, uid)
    form = formats.choose(format, accept, STACK_FORMATS)
    known = known_kind(kind)
    axes = ("row", "col") if known == "measured" else ("line", "row", "col")
    shape = info.shape if known == "measured" else (len(info.lines), *info.shape)
    index = parse_slice(slice or "", shape, axes)
    tag = f"{map_tag(status, known)}.{version}.{form}{fill or ''}"
    if unchanged(request, tag):
        return Response(status_code=304, headers={"ETag": f'"{tag}"'})
    _guard(shape, index, known, form)
    stack = shared.maps.read(status, known, version)
    headers = _headers(status, stack, tag, version, filename)
    if fill is not None:
        stack = _filled(stack, known, form, headers)
    if form == "hdf5":
        _whole(slice)
        lines = () if known == "measured" else info.lines
        return Response(
            write_hdf5(info, status, known, stack.values, lines), media_type=formats.MIME[form], headers=headers
        )
    meta = {"kind": known, "dims": axes, "lines": info.lines, "slice": slice, "plain_rows": stack.plain_rows}
    return _send(stack.values[index], form, headers, meta)


@router.get("/runs/{uid}/maps/{kind}/{line}", responses=_RESPONSES)
@needs(Scope.READ_DATA)
def get_map(
    uid: str,
    kind: str,
    line: str,
    request: Request,
    shared: Shared,
    format: Format = None,
    slice: Slice = None,
    cmap: Annotated[str, Query(max_length=20, description="Colour map (png).")] = "viridis",
    scale: Annotated[Scale, Query(description="Scale of the colours (png).")] = "linear",
    vmin: Annotated[float | None, Query(description="Value at the dark end (png).")] = None,
    vmax: Annotated[float | None, Query(description="Value at the bright end (png).")] = None,
    zoom: Annotated[int, Query(ge=1, le=16, description="Screen pixels per map pixel (png).")] = 1,
    version: Version = None,
    filename: Filename = None,
    fill: Fill = None,
    accept: Accept = None,
) -> Response:
    """One line's map (row, col)."""
    status, info = find_run(shared, uid)
    form = formats.choose(format, accept, LINE_FORMATS)
    known = known_kind(kind)
    if line not in info.lines:
        raise NotMeasuredError(f"line {line[:40]!r} is not measured in this run; it has {', '.join(info.lines)}")
    index = parse_slice(slice or "", info.shape, ("row", "col"))
    tag = f"{map_tag(status, known)}.{version}.{line}.{form}{fill or ''}"
    if unchanged(request, tag):
        return Response(status_code=304, headers={"ETag": f'"{tag}"'})
    _guard(info.shape, index, known, form, zoom if form == "png" else 1)
    stack = shared.maps.read(status, known, version)
    headers = _headers(status, stack, tag, version, filename)
    if fill is not None:
        stack = _filled(stack, known, form, headers)
    values = stack.values if known == "measured" else stack.values[info.lines.index(line)]
    if form == "hdf5":
        _whole(slice)
        one, lines = (values, ()) if known == "measured" else (values[None], (line,))
        return Response(write_hdf5(info, status, known, one, lines), media_type=formats.MIME[form], headers=headers)
    part = values[index]
    if form == "png":
        picture = np.atleast_2d(part.astype(np.float32))
        colouring = Colouring(cmap=cmap, scale=scale, vmin=vmin, vmax=vmax, zoom=zoom)
        return Response(draw_png(picture, colouring), media_type=formats.MIME["png"], headers=headers)
    meta = {"kind": known, "line": line, "dims": ("row", "col"), "slice": slice, "plain_rows": stack.plain_rows}
    return _send(part, form, headers, meta)


def find_run(shared: Services, uid: str) -> tuple[RunStatus, RunInfo]:
    """Return a run that has a geometry, or raise the 404."""
    status = shared.catalog.status(shared.catalog.resolve(uid))
    if status.info is None:
        raise NotMeasuredError(f"run {status.uid} has no maps: {status.reason or 'its geometry is not known yet'}")
    return status, status.info


def known_kind(kind: str) -> Kind:
    """Return a kind of map, or raise the 404."""
    for known in KINDS:
        if kind == known:
            return known
    raise NotMeasuredError(f"no maps of kind {kind[:40]!r}; there are {', '.join(KINDS)}")


def _guard(shape: tuple[int, ...], index: tuple[Any, ...], kind: Kind, form: str, zoom: int = 1) -> None:
    chosen = np.broadcast_to(np.zeros((), bool), shape)[index].shape
    if form == "png":
        formats.guard_size((*chosen, zoom * zoom), 3, form)
        if zoom * zoom * int(np.prod(chosen)) > 64 * 2**20:
            raise InputError("the picture would be too large; use a smaller zoom= or slice=")
    else:
        formats.guard_size(chosen, 1 if kind == "measured" else 4, form)


def _filled(stack: MapStack, kind: Kind, form: str, headers: dict[str, str]) -> MapStack:
    """Fill the holes of maps that are looked at; files and the mask say what was measured."""
    if kind == "measured" or form == "hdf5":
        raise InputError("fill= is for maps to look at; leave it out of the mask and of files that are kept")
    values, n = fill_holes(stack.values, stack.denoised)
    headers["X-Filled"] = str(n)
    return replace(stack, values=values)


def _whole(slice: str | None) -> None:
    if slice:
        raise InputError("an hdf5 file holds whole maps with their positions; leave slice= out, or take format=npy")


def _headers(status: RunStatus, stack: MapStack, tag: str, version: int | None, filename: str | None) -> dict[str, str]:
    shown = status.maps_version if version is None else version
    headers = {"ETag": f'"{tag}"', "X-Version": str(shown), "X-Plain-Rows": str(stack.plain_rows)}
    if filename:
        headers["Content-Disposition"] = f'attachment; filename="{filename}"'
    return headers


def _send(values: npt.NDArray[Any], form: str, headers: dict[str, str], meta: dict[str, Any]) -> Response:
    values = np.asarray(values)
    if form == "json":
        data = {"shape": values.shape, "dtype": values.dtype.str, "values": formats.json_values(values)}
        return answer(data, meta=meta, headers=headers)
    shape = ",".join(map(str, values.shape))
    headers = {**headers, "X-Shape": shape, "X-Dtype": values.dtype.str}
    return Response(formats.ENCODERS[form](values), media_type=formats.MIME[form], headers=headers)
