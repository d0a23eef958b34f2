"""What a request for a map asks for: query parameters, resolved against the run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
from fastapi import Depends, Header, Query, Request

from quietbeam.core.errors import InputError, NotMeasuredError
from quietbeam.core.model.evidence import CountKind
from quietbeam.core.model.types import RunInfo
from quietbeam.core.wire.runs import RunStatus
from quietbeam.quantify import Unit
from quietbeam.serve.render import formats
from quietbeam.serve.render.colormaps import Colouring, Scale
from quietbeam.serve.render.slices import parse_slice
from quietbeam.serve.services import Services, Shared
from quietbeam.serve.state.maps import KINDS, MapKind, map_tag

Fill = Annotated[
    Literal["nearest"] | None,
    Query(
        description="nearest: cells between measured ones show the nearest measured value, for displays of spirals and "
        "irregular points. The kind `measured` tells which cells are measured, X-Filled how many were filled."
    ),
]


Units = Annotated[
    Unit,
    Query(
        description="Of the values. counts/s are per second of live time; ug/cm2 are areal densities by the chosen "
        "calibration, whose error is in `uncertainty`."
    ),
]


@dataclass(frozen=True, slots=True, kw_only=True)
class MapQuery:
    """Parameters of every address that sends a map."""

    uid: str
    kind: str
    request: Request
    shared: Shared
    format: Annotated[str | None, Query(max_length=200, description="Format alias or MIME type; wins over Accept.")] = (
        None
    )
    slice: Annotated[str | None, Query(max_length=200, description="numpy-like: 10:20,::2")] = None
    version: Annotated[
        int | None,
        Query(ge=0, le=2**53, description="An earlier state, from .../history; of denoised and uncertainty."),
    ] = None
    filename: Annotated[
        str | None,
        Query(
            pattern=r'^[^\x00-\x20\x7f-\x9f"./\\][^\x00-\x1f\x7f-\x9f"/\\]{0,99}$',
            description="Name under which a browser saves the answer.",
        ),
    ] = None
    fill: Fill = None
    units: Units = "counts"
    accept: Annotated[str | None, Header(include_in_schema=False)] = None


Wanted = Annotated[MapQuery, Depends()]


def picture_colours(
    cmap: Annotated[str, Query(max_length=20, description="Colour map (png).")] = "viridis",
    scale: Annotated[Scale, Query(description="Scale of the colours (png).")] = "linear",
    vmin: Annotated[float | None, Query(description="Value at the dark end (png).")] = None,
    vmax: Annotated[float | None, Query(description="Value at the bright end (png).")] = None,
    zoom: Annotated[int, Query(ge=1, le=16, description="Screen pixels per map pixel (png).")] = 1,
) -> Colouring:
    """Return the colours of a picture."""
    return Colouring(cmap=cmap, scale=scale, vmin=vmin, vmax=vmax, zoom=zoom)


Colours = Annotated[Colouring, Depends(picture_colours)]


@dataclass(frozen=True, slots=True, kw_only=True)
class MapPart:
    """The part of a run's maps that a request asks for.

    Attributes
    ----------
    form
        Alias of the format.
    axes
        Names of the axes of the whole array.
    index
        What is taken of each axis.
    tag
        Changes whenever the answer may have changed.
    line
        A single line's name; None for all lines, and for the mask of measured pixels.
    """

    status: RunStatus
    info: RunInfo
    kind: MapKind
    form: str
    axes: tuple[str, ...]
    index: tuple[Any, ...]
    tag: str
    line: str | None = None

    @property
    def lines(self) -> tuple[str, ...]:
        """Lines along the first axis of the array; empty for the mask."""
        if self.kind == "measured":
            return ()
        return self.info.lines if self.line is None else (self.line,)

    def companions(self, version: int | None) -> tuple[MapKind, ...]:
        """Kinds that an HDF5 file holds beside the one that was asked for; of an earlier version only some are kept."""
        if self.form != "hdf5" or self.kind != "denoised":
            return ()
        earlier = version is not None and version != self.status.maps_version
        return ("uncertainty",) if earlier else ("raw", "uncertainty", "chi2")

    def guard_size(self, zoom: int = 1) -> None:
        """Refuse an answer that would be too large.

        Raises
        ------
        InputError
            Too large; the message says how to ask for less.
        """
        sizes = {"line": len(self.info.lines), "row": self.info.shape[0], "col": self.info.shape[1]}
        chosen = np.broadcast_to(np.zeros((), bool), [sizes[axis] for axis in self.axes])[self.index].shape
        if self.form != "png":
            itemsize = 1 if self.kind == "measured" else 4
            formats.guard_size((*chosen, 1 + len(self.companions(None))), itemsize, self.form)
            return
        formats.guard_size((*chosen, zoom * zoom), 3, self.form)
        if zoom * zoom * int(np.prod(chosen)) > 64 * 2**20:
            raise InputError("the picture would be too large; use a smaller zoom= or slice=")


def resolve(query: MapQuery, allowed: tuple[str, ...], line: str | None = None) -> MapPart:
    """Return what a request asks for, in one of the `allowed` formats; `line` None: all lines.

    Raises
    ------
    NotMeasuredError
        No such run, kind or line.
    InputError
        The slice is not valid.
    """
    status, info = find_run(query.shared, query.uid)
    form = formats.choose(query.format, query.accept, allowed)
    kind = known_kind(query.kind)
    if line is not None and line not in info.lines:
        raise NotMeasuredError(f"line {line[:40]!r} is not measured in this run; it has {', '.join(info.lines)}")
    if query.units != "counts" and query.version not in (None, status.maps_version):
        raise InputError("units= is for the newest maps: leave version= out, or take counts")
    whole = kind == "measured" or line is not None
    axes = ("row", "col") if whole else ("line", "row", "col")
    shape = info.shape if whole else (len(info.lines), *info.shape)
    place = "" if line is None else f".{line}"
    shown = f"{query.fill or ''}{query.shared.units.tag(status, query.units)}"
    return MapPart(
        status=status,
        info=info,
        kind=kind,
        form=form,
        axes=axes,
        index=parse_slice(query.slice or "", shape, axes),
        tag=f"{map_tag(status, kind)}.{query.version}{place}.{form}{shown}",
        line=line,
    )


def find_run(shared: Services, uid: str) -> tuple[RunStatus, RunInfo]:
    """Return a run whose geometry is known.

    Raises
    ------
    NotMeasuredError
        No such run, or no geometry.
    """
    status = shared.catalog.status(shared.catalog.resolve(uid))
    if status.info is None:
        raise NotMeasuredError(f"run {status.uid} has no maps: {status.reason or 'its geometry is not known yet'}")
    return status, status.info


def known_kind(kind: str) -> MapKind:
    """Return a kind of map.

    Raises
    ------
    NotMeasuredError
        No such kind.
    """
    for known in KINDS:
        if kind == known:
            return known
    raise NotMeasuredError(f"no maps of kind {kind[:40]!r}; there are {', '.join(KINDS)}")


def unit_name(kind: MapKind, counted: CountKind, units: Unit) -> str | None:
    """Return the unit of a kind of map; None where it has none."""
    if kind in ("measured", "chi2"):
        return None
    return "fitted area" if units == "counts" and counted != "counts" else units
