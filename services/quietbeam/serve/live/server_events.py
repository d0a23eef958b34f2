"""A change that viewers are told: one entry of the stream ``qb:events``. Not to be confused with Bluesky's Event."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import orjson

from quietbeam.core.errors import InputError

_ID = re.compile(r"^\d{1,15}(-\d{1,15})?$")


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class EventId:
    """Id of a stream entry: (milliseconds, sequence)."""

    ms: int
    seq: int

    @classmethod
    def parse(cls, text: str) -> EventId:
        """Read ``1700000000000-0``.

        Raises
        ------
        InputError
            Not an id.
        """
        if not _ID.match(text):
            raise InputError(f"Last-Event-ID {text[:40]!r} is not the id of an event, as 1700000000000-0")
        ms, _, seq = text.partition("-")
        return cls(ms=int(ms), seq=int(seq or 0))

    def __str__(self) -> str:
        return f"{self.ms}-{self.seq}"


ZERO = EventId(ms=0, seq=0)


@dataclass(frozen=True, kw_only=True)
class ServerEvent:
    """One event.

    Attributes
    ----------
    type
        ``run``, ``row``, ``map``, ``evidence``, ``warning`` ... from the stream; ``hello``, ``heartbeat`` and ``reset``
        (read the states again) from the hub.
    id
        Id in the stream; None where a viewer cannot resume from here.
    run
        uid; None for events of the hub, which every viewer gets.
    """

    type: str
    id: EventId | None = None
    run: str | None = None
    data: Mapping[str, Any] = field(default_factory=dict)

    @cached_property
    def json(self) -> bytes:
        """The data as JSON, made once for all viewers."""
        return orjson.dumps(self.data)

    @classmethod
    def from_entry(cls, entry_id: bytes, entry: Mapping[bytes, bytes]) -> ServerEvent:
        """Build from a stream entry; the run's uid joins the data."""
        run = entry.get(b"run", b"").decode(errors="replace")
        try:
            data = orjson.loads(entry.get(b"data") or b"{}")
        except orjson.JSONDecodeError:
            data = {}
        if not isinstance(data, dict):
            data = {"value": data}
        kind = entry.get(b"type", b"message").decode(errors="replace")
        return cls(type=kind, id=EventId.parse(entry_id.decode()), run=run, data={**data, "run": run})
