"""Answers about named regions."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, Field

from quietbeam.regions import LineStatistics
from quietbeam.regions.correlation import Correlation, JointHistogram
from quietbeam.regions.shapes import Kind

from .envelope import Answer, Count, NoMeta


class RegionInfo(BaseModel):
    """A named region."""

    name: str
    kind: Kind
    definition: dict[str, Any] = Field(description="How it was chosen: rows and cols, points, or thresholds.")
    pixels: int = Field(description="Measured or not.")
    maps_version: int | None = Field(description="Version of the maps that a threshold or cluster was taken from.")


class RegionsAnswer(Answer[list[RegionInfo], Count]):
    """The regions of a run, in the order in which they were made."""


class RegionChangeAnswer(Answer[RegionInfo, NoMeta]):
    """A region that was made or replaced."""


class RegionStatistics(BaseModel):
    """What every line shows in a region."""

    region: RegionInfo
    units: str = Field(description="Of all values; pixels of histograms are numbers.")
    maps_version: int
    lines: dict[str, LineStatistics]


class RegionStatisticsAnswer(Answer[RegionStatistics, NoMeta]):
    """What every line shows in a region."""


class PairValues(BaseModel):
    """How two lines go together."""

    x: str = Field(description="Line.")
    y: str
    region: str | None = Field(description="Name of the region; null for the whole map.")
    map: str = Field(description="Kind of map of the histogram; the correlation is of raw counts.")
    units: str = Field(description="Of the histogram's edges; the slope is in counts for each count.")
    maps_version: int
    correlation: Correlation
    histogram: JointHistogram | None


class PairAnswer(Answer[PairValues, NoMeta]):
    """How two lines go together."""


class ClustersMeta(BaseModel):
    """How well the map divides."""

    number: int
    scores: dict[int, float] = Field(description="Mean silhouette for each number of clusters that was tried.")
    notes: list[str]


class ClustersAnswer(Answer[list[RegionInfo], ClustersMeta]):
    """Clusters, the largest first, each a region."""
