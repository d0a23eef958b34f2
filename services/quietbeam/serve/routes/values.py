"""Numbers out of maps: a pixel, a profile, a region; all lines at once, raw and denoised, with their errors."""

from __future__ import annotations

import re
from typing import Annotated, Any

import numpy as np
from fastapi import APIRouter, Query, Request, Response

from quietbeam.core.errors import InputError
from quietbeam.core.model.types import RunInfo
from quietbeam.core.wire.runs import RunStatus
from quietbeam.serve.access import Scope, needs
from quietbeam.serve.render.slices import parse_slice
from quietbeam.serve.render.statistics import Pixels, means, profile_pixels
from quietbeam.serve.services import Services, Shared
from quietbeam.serve.state.maps import Kind, map_tag

from .envelope import ERRORS, Envelope, answer, base, unchanged
from .maps import find_run

router = APIRouter(tags=["values"])
_RESPONSES: Any = {200: {"model": Envelope}, 304: {"description": "Not changed."}, 400: ERRORS[400], 404: ERRORS[404]}
_POINT = re.compile(r"^(\d{1,6}),(\d{1,6})$")
KINDS: tuple[Kind, ...] = ("raw", "denoised", "uncertainty")


@router.get("/runs/{uid}/pixel", responses=_RESPONSES)
@needs(Scope.READ_DATA)
def get_pixel(
    uid: str,
    request: Request,
    shared: Shared,
    row: Annotated[int, Query(ge=0, le=10**6, description="Slow-axis index.")],
    col: Annotated[int, Query(ge=0, le=10**6, description="Fast-axis index.")],
) -> Response:
    """Every line at one pixel."""
    status, info = find_run(shared, uid)
    _inside((row, col), info)
    return _send(request, shared, status, info, "pixel", {"row": row, "col": col}, [(np.array([row]), np.array([col]))])


@router.get("/runs/{uid}/roi", responses=_RESPONSES)
@needs(Scope.READ_DATA)
def get_roi(
    uid: str,
    request: Request,
    shared: Shared,
    rows: Annotated[str, Query(max_length=40, description="START:STOP of the slow axis, as 10:20.")] = ":",
    cols: Annotated[str, Query(max_length=40, description="START:STOP of the fast axis.")] = ":",
) -> Response:
    """Means of every line over a box of pixels."""
    status, info = find_run(shared, uid)
    index = (*parse_slice(rows, info.shape[:1], ("row",)), *parse_slice(cols, info.shape[1:], ("col",)))
    grid = np.arange(info.shape[0] * info.shape[1]).reshape(info.shape)[index].ravel()
    pixels = np.divmod(grid, info.shape[1])
    return _send(request, shared, status, info, "roi", {"rows": rows, "cols": cols}, [pixels])


@router.get("/runs/{uid}/profile", responses=_RESPONSES)
@needs(Scope.READ_DATA)
def get_profile(
    uid: str,
    request: Request,
    shared: Shared,
    start: Annotated[str, Query(alias="from", max_length=20, description="ROW,COL of the first pixel.")],
    stop: Annotated[str, Query(alias="to", max_length=20, description="ROW,COL of the last pixel.")],
    width: Annotated[int, Query(ge=1, le=101, description="Pixels across that are averaged.")] = 1,
) -> Response:
    """Every line along a straight profile, one sample a pixel."""
    status, info = find_run(shared, uid)
    first, last = _point(start, "from", info), _point(stop, "to", info)
    asked = {"from": start, "to": stop, "width": width}
    return _send(request, shared, status, info, "profile", asked, profile_pixels(first, last, width, info.shape))


def _send(
    request: Request,
    shared: Services,
    status: RunStatus,
    info: RunInfo,
    what: str,
    asked: dict[str, Any],
    samples: list[Pixels],
) -> Response:
    question = "&".join(f"{name}={value}" for name, value in asked.items())
    tag = f"{map_tag(status, what)}.{question}"
    headers = {"ETag": f'"{tag}"', "X-Version": str(status.maps_version)}
    if unchanged(request, tag):
        return Response(status_code=304, headers=headers)
    stacks = [shared.maps.read(status, kind).values for kind in KINDS]
    lines: dict[str, Any] = {}
    for j, line in enumerate(info.lines):
        found = [means(*(stack[j][at] for stack in stacks), counts=info.kind == "counts").to_dict() for at in samples]
        lines[line] = {name: [one[name] for one in found] for name in found[0]} if what == "profile" else found[0]
    here = f"{base(request)}/runs/{status.uid}"
    data: dict[str, Any] = {**asked, "units": "counts" if info.kind == "counts" else "fitted area", "lines": lines}
    if what == "profile":
        data["distance"] = _distances(asked, info, len(samples))
    return answer(data, links={"self": f"{here}/{what}?{question}", "run": here}, headers=headers)


def _distances(asked: dict[str, Any], info: RunInfo, samples: int) -> dict[str, Any]:
    """Return how far each sample is from the first, in the run's units (pixels where the step is unknown)."""
    (r0, c0), (r1, c1) = (map(int, asked[name].split(",")) for name in ("from", "to"))
    step = info.step or (1.0, 1.0)
    length = float(np.hypot((r1 - r0) * step[0], (c1 - c0) * step[1]))
    return {"units": (info.units or "pixel") if info.step else "pixel", "values": np.linspace(0, length, samples)}


def _point(text: str, name: str, info: RunInfo) -> tuple[int, int]:
    match = _POINT.match(text.strip())
    if not match:
        raise InputError(f"{name}={text[:20]!r} is no pixel; write ROW,COL, as {name}=10,25")
    point = int(match[1]), int(match[2])
    _inside(point, info)
    return point


def _inside(point: tuple[int, int], info: RunInfo) -> None:
    for axis, value, size in zip(("row", "col"), point, info.shape, strict=True):
        if value >= size:
            raise InputError(f"{axis} {value} is outside the map, which has {size} (0 to {size - 1})")
