"""Where a beamline profile finds a value: in itself, in the start document or in a descriptor's configuration."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from pydantic import BaseModel, ConfigDict, model_validator

MISSING: Final = object()
"""A value that a document does not have; None is a value."""


def lookup(data: Mapping[str, Any], path: str) -> Any:
    """Return the entry at a dotted path (``scan.shape``, ``scan.scan_input.3``), or :data:`MISSING`."""
    value: Any = data
    for part in path.split("."):
        if isinstance(value, list | tuple | np.ndarray) and part.isdigit() and int(part) < len(value):
            value = value[int(part)]
        elif isinstance(value, Mapping) and part in value:
            value = value[part]
        else:
            return MISSING
    return value


@dataclass(frozen=True, slots=True)
class _ConfigurationKey:
    """Stands for a value of the descriptor's configuration until the descriptor is known."""

    name: str


@dataclass(frozen=True, slots=True)
class Setting:
    """A source after the start document: a value, or one that still needs the descriptor's configuration.

    Attributes
    ----------
    origin
        Where the value comes from, for messages.
    """

    origin: str
    _value: Any

    def with_configuration(self, configuration: Mapping[str, Any]) -> Any:
        """Return the value, or :data:`MISSING`."""
        return _fill(self._value, configuration)


def _fill(value: Any, configuration: Mapping[str, Any]) -> Any:
    if isinstance(value, _ConfigurationKey):
        return configuration.get(value.name, MISSING)
    if isinstance(value, list):
        return _list_or_missing([_fill(entry, configuration) for entry in value])
    return value


def _list_or_missing(values: list[Any]) -> Any:
    return MISSING if any(value is MISSING for value in values) else values


class Section(BaseModel):
    """A part of a profile: frozen, and an unknown entry is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Source(Section):
    """A value given here (``literal``), in the start document (``start``) or in a descriptor's configuration.

    A literal list may contain such sources itself: ``[[{start: scan.scan_input.3}, 0.0], [0, 1]]``.
    """

    literal: Any = None
    start: str | None = None
    configuration: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _plain_value(cls, data: Any) -> Any:
        return data if isinstance(data, dict) else {"literal": data}

    @model_validator(mode="after")
    def _exactly_one(self) -> Source:
        if sum(v is not None for v in (self.literal, self.start, self.configuration)) != 1:
            raise ValueError("give a value, {start: dotted.path} or {configuration: key}")
        return self

    @property
    def origin(self) -> str:
        """Where the value comes from, for messages."""
        if self.start is not None:
            return f"start[{self.start!r}]"
        return f"configuration {self.configuration!r}" if self.configuration is not None else "the profile's value"

    def resolve(self, start: Mapping[str, Any]) -> Setting:
        """Return this source with everything filled in that the start document has."""
        if self.start is not None:
            return Setting(self.origin, lookup(start, self.start))
        if self.configuration is not None:
            return Setting(self.origin, _ConfigurationKey(self.configuration))
        return Setting(self.origin, _resolve_literal(self.literal, start))

    def in_start(self, start: Mapping[str, Any]) -> Any:
        """Return the value if the start document is enough for it, else :data:`MISSING`."""
        return self.resolve(start).with_configuration({})


def _resolve_literal(value: Any, start: Mapping[str, Any]) -> Any:
    """Replace the sources inside a literal."""
    if isinstance(value, dict) and set(value) <= {"start", "configuration"} and len(value) == 1:
        source = Source(**value)
        return lookup(start, source.start) if source.start is not None else _ConfigurationKey(str(source.configuration))
    if isinstance(value, list | tuple):
        return _list_or_missing([_resolve_literal(entry, start) for entry in value])
    return value
