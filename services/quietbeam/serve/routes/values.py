"""Numbers out of maps: a pixel, a profile, a region; all lines at once, raw and denoised, with their errors."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any
from zlib import crc32

import numpy as np
import numpy.typing as npt
from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel

from quietbeam.core.errors import InputError
from quietbeam.core.model.display import positions_of
from quietbeam.core.model.types import RunInfo
from quietbeam.core.wire.runs import RunStatus
from quietbeam.quantify import LineDensity, Unit
from quietbeam.serve.access import Scope
from quietbeam.serve.answers.envelope import Links, NoMeta
from quietbeam.serve.answers.maps import (
    Distance,
    PixelAnswer,
    PixelValues,
    ProfileAnswer,
    ProfileLine,
    ProfileValues,
    RegionAnswer,
    RegionValues,
)
from quietbeam.serve.render.slices import parse_slice
from quietbeam.serve.render.statistics import Means, Pixels, means, profile_pixels, scaled
from quietbeam.serve.services import Services, Shared
from quietbeam.serve.state.maps import MapKind, map_tag

from .envelope import ERRORS, answer, base, etag, not_modified, unchanged
from .map_query import Units, find_run, unit_name
from .requires import requires

router = APIRouter(tags=["values"])
_POINT = re.compile(r"^(\d{1,6}),(\d{1,6})$")
KINDS: tuple[MapKind, ...] = ("raw", "denoised", "uncertainty")


def _responses(model: type[BaseModel]) -> dict[int | str, dict[str, Any]]:
    return {200: {"model": model}, 304: {"description": "Not changed."}, 400: ERRORS[400], 404: ERRORS[404]}


@router.get("/runs/{uid}/pixel", responses=_responses(PixelAnswer), dependencies=requires(Scope.READ_DATA))
def get_pixel(
    uid: str,
    request: Request,
    shared: Shared,
    row: Annotated[int, Query(ge=0, le=10**6, description="Slow-axis index.")],
    col: Annotated[int, Query(ge=0, le=10**6, description="Fast-axis index.")],
    units: Units = "counts",
) -> Response:
    """Every line at one pixel, and where the pixel is."""
    question = _Question.of_run(request, shared, uid, "pixel", {"row": row, "col": col}, units)
    _inside((row, col), question.info)
    if unchanged(request, question.tag):
        return not_modified(question.tag)
    [lines] = question.means([(np.array([row]), np.array([col]))])
    info = question.info
    data = PixelValues(
        row=row,
        col=col,
        position=positions_of(info, row, col),
        position_units=info.units,
        axes=info.axes,
        units=question.units,
        lines=lines,
    )
    return answer(PixelAnswer(data=data, links=question.links, meta=NoMeta()), headers=question.headers)


@router.get("/runs/{uid}/roi", responses=_responses(RegionAnswer), dependencies=requires(Scope.READ_DATA))
def get_roi(
    uid: str,
    request: Request,
    shared: Shared,
    rows: Annotated[str, Query(max_length=40, description="START:STOP of the slow axis, as 10:20.")] = ":",
    cols: Annotated[str, Query(max_length=40, description="START:STOP of the fast axis.")] = ":",
    units: Units = "counts",
) -> Response:
    """Means of every line over a box of pixels."""
    question = _Question.of_run(request, shared, uid, "roi", {"rows": rows, "cols": cols}, units)
    shape = question.info.shape
    index = (*parse_slice(rows, shape[:1], ("row",)), *parse_slice(cols, shape[1:], ("col",)))
    if unchanged(request, question.tag):
        return not_modified(question.tag)
    grid = np.arange(shape[0] * shape[1]).reshape(shape)[index].ravel()
    [lines] = question.means([np.divmod(grid, shape[1])])
    data = RegionValues(rows=rows, cols=cols, units=question.units, lines=lines)
    return answer(RegionAnswer(data=data, links=question.links, meta=NoMeta()), headers=question.headers)


@router.get("/runs/{uid}/profile", responses=_responses(ProfileAnswer), dependencies=requires(Scope.READ_DATA))
def get_profile(
    uid: str,
    request: Request,
    shared: Shared,
    start: Annotated[str, Query(alias="from", max_length=20, description="ROW,COL of the first pixel.")],
    stop: Annotated[str, Query(alias="to", max_length=20, description="ROW,COL of the last pixel.")],
    width: Annotated[int, Query(ge=1, le=101, description="Pixels across that are averaged.")] = 1,
    units: Units = "counts",
) -> Response:
    """Every line along a straight profile, one sample a pixel."""
    question = _Question.of_run(request, shared, uid, "profile", {"from": start, "to": stop, "width": width}, units)
    info = question.info
    first, last = _point(start, "from", info), _point(stop, "to", info)
    if unchanged(request, question.tag):
        return not_modified(question.tag)
    samples = question.means(profile_pixels(first, last, width, info.shape))
    data = ProfileValues(
        start=start,
        stop=stop,
        width=width,
        units=question.units,
        lines={line: _column([sample[line] for sample in samples]) for line in info.lines},
        distance=_distances(first, last, info, len(samples)),
    )
    return answer(ProfileAnswer(data=data, links=question.links, meta=NoMeta()), headers=question.headers)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Question:
    """A request for numbers out of a run's maps.

    Attributes
    ----------
    here
        Address of the run.
    name
        Last part of the address.
    text
        The parameters as they stand in an address.
    """

    shared: Services
    status: RunStatus
    info: RunInfo
    here: str
    name: str
    text: str
    unit: Unit

    @classmethod
    def of_run(
        cls, request: Request, shared: Services, uid: str, name: str, parameters: dict[str, Any], unit: Unit
    ) -> _Question:
        status, info = find_run(shared, uid)
        if unit != "counts":
            parameters = {**parameters, "units": unit}
        text = "&".join(f"{key}={value}" for key, value in parameters.items())
        here = f"{base(request)}/runs/{status.uid}"
        return cls(shared=shared, status=status, info=info, here=here, name=name, text=text, unit=unit)

    @property
    def tag(self) -> str:
        places = self.info.origin, self.info.step, self.info.row_positions, self.info.col_positions
        unit = self.shared.units.tag(self.status, self.unit)
        return f"{map_tag(self.status, self.name)}.{self.text}.{crc32(repr(places).encode()):x}{unit}"

    @property
    def headers(self) -> dict[str, str]:
        return {"ETag": etag(self.tag), "X-Version": str(self.status.maps_version)}

    @property
    def links(self) -> Links:
        return {"self": f"{self.here}/{self.name}?{self.text}", "run": self.here}

    @property
    def units(self) -> str:
        return unit_name("raw", self.info.kind, self.unit) or ""

    def means(self, samples: list[Pixels]) -> list[dict[str, Means]]:
        """Return the means of every line, for each sample of pixels."""
        found = [self.shared.maps.read(self.status, kind) for kind in KINDS]
        stacks = [stack.values for stack in found]
        lines: Sequence[LineDensity | None] = [None] * len(self.info.lines)
        if self.unit != "counts":
            lines = self.shared.units.lines(self.status, self.unit)
            # rows that the worker has not reached are plain sums, which have no other unit
            stacks[0] = np.where(found[0].denoised, stacks[0], np.float32(np.nan))
        return [
            {line: self._means([stack[j][at] for stack in stacks], lines[j]) for j, line in enumerate(self.info.lines)}
            for at in samples
        ]

    def _means(self, pixels: list[npt.NDArray[np.floating]], by: LineDensity | None) -> Means:
        raw, denoised, error = pixels
        found = means(raw, denoised, error, counts=self.info.kind == "counts")
        return found if by is None else scaled(found, by)


def _column(samples: list[Means]) -> ProfileLine:
    """Return one line's means along a profile, field by field."""
    return ProfileLine(
        n=[sample.n for sample in samples],
        raw=[sample.raw for sample in samples],
        raw_error=[sample.raw_error for sample in samples],
        denoised=[sample.denoised for sample in samples],
        denoised_error=[sample.denoised_error for sample in samples],
    )


def _distances(first: tuple[int, int], last: tuple[int, int], info: RunInfo, samples: int) -> Distance:
    """Return how far each sample is from the first, in the run's units (pixels where the step is unknown)."""
    step = info.step or (1.0, 1.0)
    length = float(np.hypot((last[0] - first[0]) * step[0], (last[1] - first[1]) * step[1]))
    units = (info.units or "pixel") if info.step else "pixel"
    return Distance(units=units, values=np.linspace(0, length, samples))


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
