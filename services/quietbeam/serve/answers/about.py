"""Answers about the service: versions and weights, health."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from .envelope import Answer, NoMeta, Resource


class Authentication(BaseModel):
    """How to prove who you are."""

    required: bool
    header: str = Field(description="Form of the header.")


class About(BaseModel):
    """What this service is."""

    library: str
    library_version: str = Field(examples=["0.2.0"])
    api_version: str
    kinds: dict[str, str] = Field(description="Kinds of maps with their meaning.")
    formats: dict[str, str] = Field(description="Format aliases with their MIME type.")
    colour_maps: list[str]
    scales: list[str] = Field(description="Scales of the colours.")
    authentication: Authentication


class AboutAnswer(Answer[About, NoMeta]):
    """What this service is."""


class ModelCard(BaseModel):
    """Card of pretrained weights; it may hold more than these entries."""

    model_config = ConfigDict(extra="allow", protected_namespaces=())

    name: Any = Field(default=None, description="Name of the weights.")
    sha256: Any = Field(default=None, description="Checksum of the weights.")
    network: Any = Field(default=None, description="Size of the network.")
    parent: Any = Field(default=None, description="Weights from which the training started.")


class ModelsMeta(BaseModel):
    """How many weights there are, and which the next run takes."""

    count: int
    chosen: str | None = Field(description="Null: the newest.")


class ModelsAnswer(Answer[list[Resource[ModelCard]], ModelsMeta]):
    """Installed weights."""


class Alive(BaseModel):
    """The process answers."""

    status: str


class Ready(BaseModel):
    """Whether runs can be served and followed."""

    status: str = Field(description="`ready`, `degraded` or `not ready`.")
    reasons: list[str] = Field(description="What is wrong and what to do, one sentence each.")
    stages: dict[str, str | None] = Field(description="State of every stage; `silent` without heartbeats.")
    viewers: int = Field(description="Open event streams.")
