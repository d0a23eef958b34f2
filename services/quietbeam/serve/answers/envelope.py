"""``{data, links, meta}``, as Tiled answers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Generic, TypeVar

from pydantic import BaseModel, Field

D = TypeVar("D")
M = TypeVar("M")
A = TypeVar("A")
Links = Mapping[str, str | None]


class NoMeta(BaseModel):
    """Empty."""


class Count(BaseModel):
    """How many there are."""

    count: int


class Answer(BaseModel, Generic[D, M]):
    """Body of a JSON answer. Fields that were not set are left out of the JSON."""

    data: D
    links: Links = Field(default_factory=dict, description="Addresses that lead on.")
    meta: M = Field(description="Counts and remarks.")


class Resource(BaseModel, Generic[A]):
    """One thing with an id."""

    id: str
    type: str
    attributes: A
    links: Links = {}
