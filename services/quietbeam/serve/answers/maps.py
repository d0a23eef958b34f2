"""Answers with maps and numbers in them."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, Field, WithJsonSchema

from quietbeam.serve.render.statistics import Means

from .envelope import Answer, NoMeta, Resource

Values = Annotated[Any, WithJsonSchema({"type": "array", "items": {}})]
"""An array, which orjson writes as it is: nested lists, NaN as null."""
Column = list[float | None]


class MapInfo(BaseModel):
    """One kind of map of a run."""

    kind: str
    meaning: str
    shape: list[int] = Field(description="Pixels along `dims`.")
    dims: list[str]
    dtype: str = Field(description="As numpy writes it.")
    units: str | None
    lines: list[str]
    formats: list[str] = Field(description="Formats of all lines together.")
    line_formats: list[str] = Field(description="Formats of a single line.")


class MapsMeta(BaseModel):
    """Version of the maps."""

    maps_version: int
    count: int


class MapsAnswer(Answer[list[Resource[MapInfo]], MapsMeta]):
    """The kinds of maps of a run."""


class MapValues(BaseModel):
    """Values of a map or of a part of it."""

    shape: list[int]
    dtype: str = Field(description="As numpy writes it.")
    values: Values = Field(description="Nested lists; null where nothing is measured or denoised yet.")


class MapMeta(BaseModel):
    """Which part of which map it is."""

    kind: str
    units: str | None = Field(description="Of the values; null where they have none.")
    line: str = ""
    lines: list[str] = []
    dims: list[str]
    slice: str | None
    plain_rows: int = Field(description="Rows of `raw` that are the plain sum over detectors.")


class MapAnswer(Answer[MapValues, MapMeta]):
    """A map."""


class PixelValues(BaseModel):
    """Every line at one pixel."""

    row: int
    col: int
    position: tuple[float | None, float | None] = Field(
        description="(row, col) position in `position_units`; null along an axis whose positions are not known."
    )
    position_units: str | None
    axes: tuple[str, ...] = Field(description="Names of the (row, col) motors, where they are known.")
    units: str = Field(description="Of the values.")
    lines: dict[str, Means]


class PixelAnswer(Answer[PixelValues, NoMeta]):
    """Every line at one pixel."""


class RegionValues(BaseModel):
    """Means of every line over a box of pixels."""

    rows: str
    cols: str
    units: str
    lines: dict[str, Means]


class RegionAnswer(Answer[RegionValues, NoMeta]):
    """Means of every line over a box of pixels."""


class ProfileLine(BaseModel):
    """One line along a profile: one value a sample."""

    n: list[int] = Field(description="Measured pixels of each sample.")
    raw: Column
    raw_error: Column
    denoised: Column
    denoised_error: Column


class Distance(BaseModel):
    """How far each sample is from the first."""

    units: str
    values: Values


class ProfileValues(BaseModel):
    """Every line along a straight profile."""

    start: str = Field(serialization_alias="from", description="ROW,COL")
    stop: str = Field(serialization_alias="to", description="ROW,COL")
    width: int = Field(description="Pixels across that are averaged.")
    units: str
    lines: dict[str, ProfileLine]
    distance: Distance


class ProfileAnswer(Answer[ProfileValues, NoMeta]):
    """Every line along a straight profile."""
