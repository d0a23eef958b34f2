"""Bluesky documents as typed values; `parse` makes them of bytes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """A run begins; `doc` is the whole start document."""

    run: str
    time: float
    doc: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Descriptor:
    """A stream of events; `configuration` merges the configuration data of all objects."""

    uid: str
    run: str
    stream: str
    data_keys: Mapping[str, Mapping[str, Any]]
    configuration: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Readings number `seq_num` (from 1) of a stream."""

    descriptor: str
    seq_num: int
    data: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class EventPage:
    """Many events of one stream; `data` holds one sequence per key."""

    descriptor: str
    seq_nums: Sequence[int]
    data: Mapping[str, Any]

    def events(self) -> list[Event]:
        """Return the events of the page."""
        return [
            Event(
                descriptor=self.descriptor, seq_num=seq_num, data={key: column[i] for key, column in self.data.items()}
            )
            for i, seq_num in enumerate(self.seq_nums)
        ]


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamResource:
    """A file that grows with the run."""

    uid: str
    run: str
    data_key: str
    mimetype: str
    uri: str
    parameters: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamDatum:
    """Frames ``[first, stop)`` of a stream resource belong to ``seq_num``, ``seq_num + 1`` ..."""

    resource: str
    descriptor: str
    first: int
    stop: int
    seq_num: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Resource:
    """A file of the old kind (resource and datum); `spec` names the handler that would read it."""

    uid: str
    run: str
    spec: str
    path: str
    parameters: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Datums:
    """Entries of a resource: what the handler would be asked for, by datum id."""

    resource: str
    parameters: Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Stop:
    """A run ended."""

    run: str
    time: float
    exit_status: str
    reason: str
    num_events: Mapping[str, int]


def merge_descriptors(descriptors: Sequence[Descriptor]) -> Descriptor:
    """Return one descriptor with the keys and the configuration of all; the rest is the last one's."""
    return replace(
        descriptors[-1],
        data_keys={key: entry for d in descriptors for key, entry in d.data_keys.items()},
        configuration={key: value for d in descriptors for key, value in d.configuration.items()},
    )


Document = Start | Descriptor | Event | EventPage | StreamResource | StreamDatum | Resource | Datums | Stop
