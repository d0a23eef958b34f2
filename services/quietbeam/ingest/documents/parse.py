"""Bytes become typed documents: light checks on what the pipeline uses, nothing else (no jsonschema per event)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import quote

import numpy as np

from quietbeam.core import codec
from quietbeam.core.errors import DocumentError

from .model import (
    Datums,
    Descriptor,
    Document,
    Event,
    EventPage,
    Resource,
    Start,
    Stop,
    StreamDatum,
    StreamResource,
)

MAX_PAGE = 1_000_000

_NAMES = "start, descriptor, event, event_page, stream_resource, stream_datum, resource, datum, datum_page, stop"


def decode(name: str, payload: bytes) -> Document:
    """Decode and check one document.

    Raises
    ------
    DocumentError
        Not msgpack, an unknown name, or an entry that is missing or of the wrong type; the message names it.
    """
    doc = codec.unpack(payload)
    if not isinstance(doc, dict):
        raise DocumentError(f"a {name[:40]!r} document must be a mapping, not {type(doc).__name__}")
    parse = _PARSERS.get(name)
    if parse is None:
        raise DocumentError(f"unknown document name {name[:40]!r}; known are {_NAMES}")
    try:
        return parse(doc)
    except DocumentError:
        raise
    except Exception as error:  # whatever a sender thinks of, it must not end ingest
        raise DocumentError(f"{name}: {type(error).__name__}: {error}") from error


def _get(doc: Mapping[str, Any], name: str, key: str, kind: type | tuple[type, ...]) -> Any:
    value = doc.get(key)
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        wanted = kind.__name__ if isinstance(kind, type) else " or ".join(k.__name__ for k in kind)
        found = "is missing" if key not in doc else f"is {type(value).__name__}"
        raise DocumentError(f"{name}: entry {key!r} {found}, expected {wanted}")
    return value


def _uid(doc: Mapping[str, Any], name: str, key: str) -> str:
    value: str = _get(doc, name, key, str)
    if not 0 < len(value) <= 256:
        raise DocumentError(f"{name}: entry {key!r} has {len(value)} characters, allowed are 1 to 256")
    return value


def _index(value: Any, what: str, low: int) -> int:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value < 2**53:
        raise DocumentError(f"{what} must be an integer of at least {low}, not {str(value)[:40]}")
    return value


def _time(doc: Mapping[str, Any]) -> float:
    value = doc.get("time")
    return float(value) if isinstance(value, int | float) and np.isfinite(value) else 0.0


def _start(doc: dict[str, Any]) -> Start:
    return Start(run=_uid(doc, "start", "uid"), time=_time(doc), doc=doc)


def _descriptor(doc: dict[str, Any]) -> Descriptor:
    data_keys = _get(doc, "descriptor", "data_keys", dict)
    for key, entry in data_keys.items():
        if not isinstance(key, str) or not isinstance(entry, dict):
            raise DocumentError(f"descriptor: data key {str(key)[:80]!r} must be text with a mapping")
    configuration: dict[str, Any] = {}
    objects = doc.get("configuration")
    if isinstance(objects, dict):
        for entry in objects.values():
            data = entry.get("data") if isinstance(entry, dict) else None
            if isinstance(data, dict):
                configuration.update(data)
    stream = doc.get("name", "primary")
    return Descriptor(
        uid=_uid(doc, "descriptor", "uid"),
        run=_uid(doc, "descriptor", "run_start"),
        stream=stream if isinstance(stream, str) else "primary",
        data_keys=data_keys,
        configuration=configuration,
    )


def _event(doc: dict[str, Any]) -> Event:
    return Event(
        descriptor=_uid(doc, "event", "descriptor"),
        seq_num=_index(doc.get("seq_num"), "event: seq_num", 1),
        data=_get(doc, "event", "data", dict),
    )


def _event_page(doc: dict[str, Any]) -> EventPage:
    seq_nums = doc.get("seq_num")
    if isinstance(seq_nums, np.ndarray) and seq_nums.ndim == 1:
        seq_nums = seq_nums.tolist()
    if not isinstance(seq_nums, list) or len(seq_nums) > MAX_PAGE:
        raise DocumentError(f"event_page: seq_num must be a list of at most {MAX_PAGE} numbers")
    data = _get(doc, "event_page", "data", dict)
    if seq_nums and not data:
        raise DocumentError(f"event_page: {len(seq_nums)} events without any data")
    for key, column in data.items():
        scalar = isinstance(column, np.ndarray) and column.ndim == 0
        if scalar or not isinstance(column, list | np.ndarray) or len(column) != len(seq_nums):
            raise DocumentError(f"event_page: {str(key)[:80]!r} must hold one value per seq_num ({len(seq_nums)})")
    return EventPage(
        descriptor=_uid(doc, "event_page", "descriptor"),
        seq_nums=[_index(n, "event_page: seq_num", 1) for n in seq_nums],
        data=data,
    )


def _stream_resource(doc: dict[str, Any]) -> StreamResource:
    parameters = doc.get("parameters", doc.get("resource_kwargs", {}))
    if not isinstance(parameters, dict):
        raise DocumentError("stream_resource: parameters must be a mapping")
    if "uri" not in doc and "resource_path" in doc:  # event-model before 1.20
        doc = {**doc, "uri": f"file://localhost{quote(_resource_path(doc, 'stream_resource'))}"}
    return StreamResource(
        uid=_uid(doc, "stream_resource", "uid"),
        run=_run(doc),
        data_key=_uid(doc, "stream_resource", "data_key"),
        mimetype=str(doc.get("mimetype", "application/x-hdf5")),
        uri=_get(doc, "stream_resource", "uri", str),
        parameters=parameters,
    )


def _run(doc: dict[str, Any]) -> str:
    run = doc.get("run_start", "")
    return run if isinstance(run, str) else ""


def _resource_path(doc: dict[str, Any], name: str) -> str:
    path = PurePosixPath(str(doc.get("root") or "/"), _get(doc, name, "resource_path", str))
    return str(path if path.is_absolute() else "/" / path)


def _resource(doc: dict[str, Any]) -> Resource:
    parameters = doc.get("resource_kwargs", {})
    if not isinstance(parameters, dict):
        raise DocumentError("resource: resource_kwargs must be a mapping")
    return Resource(
        uid=_uid(doc, "resource", "uid"),
        run=_run(doc),
        spec=str(doc.get("spec", ""))[:256],
        path=_resource_path(doc, "resource"),
        parameters=parameters,
    )


def _datum(doc: dict[str, Any]) -> Datums:
    parameters = doc.get("datum_kwargs", {})
    if not isinstance(parameters, dict):
        raise DocumentError("datum: datum_kwargs must be a mapping")
    return Datums(resource=_uid(doc, "datum", "resource"), parameters={_uid(doc, "datum", "datum_id"): parameters})


def _datum_page(doc: dict[str, Any]) -> Datums:
    ids, columns = doc.get("datum_id"), doc.get("datum_kwargs", {})
    if not isinstance(ids, list) or not isinstance(columns, dict) or len(ids) > MAX_PAGE:
        raise DocumentError(f"datum_page: datum_id must be a list of at most {MAX_PAGE}, datum_kwargs a mapping")
    if any(not isinstance(column, list | np.ndarray) or len(column) != len(ids) for column in columns.values()):
        raise DocumentError(f"datum_page: datum_kwargs must hold one value per datum_id ({len(ids)})")
    return Datums(
        resource=_uid(doc, "datum_page", "resource"),
        parameters={str(datum_id): {k: column[i] for k, column in columns.items()} for i, datum_id in enumerate(ids)},
    )


def _stream_datum(doc: dict[str, Any]) -> StreamDatum:
    indices, seq_nums = (_get(doc, "stream_datum", key, dict) for key in ("indices", "seq_nums"))
    first = _index(indices.get("start"), "stream_datum: indices.start", 0)
    stop = _index(indices.get("stop"), "stream_datum: indices.stop", first)
    seq_num = _index(seq_nums.get("start"), "stream_datum: seq_nums.start", 1)
    seq_stop = _index(seq_nums.get("stop"), "stream_datum: seq_nums.stop", seq_num)
    if seq_stop - seq_num != stop - first:
        raise DocumentError(f"stream_datum: {stop - first} indices do not fit {seq_stop - seq_num} seq_nums")
    return StreamDatum(
        resource=_uid(doc, "stream_datum", "stream_resource"),
        descriptor=_uid(doc, "stream_datum", "descriptor"),
        first=first,
        stop=stop,
        seq_num=seq_num,
    )


def _stop(doc: dict[str, Any]) -> Stop:
    counts = doc.get("num_events")
    return Stop(
        run=_uid(doc, "stop", "run_start"),
        time=_time(doc),
        exit_status=str(doc.get("exit_status", "success")),
        reason=doc["reason"][:1000] if isinstance(doc.get("reason"), str) else "",
        num_events={str(k): v for k, v in counts.items() if isinstance(v, int)} if isinstance(counts, dict) else {},
    )


def _refused(_doc: dict[str, Any]) -> Document:
    raise DocumentError("bulk documents are not supported: publish event_page (bluesky 1.x RunEngines do)")


_PARSERS: dict[str, Any] = {
    "start": _start,
    "descriptor": _descriptor,
    "event": _event,
    "event_page": _event_page,
    "stream_resource": _stream_resource,
    "stream_datum": _stream_datum,
    "stop": _stop,
    "resource": _resource,
    "datum": _datum,
    "datum_page": _datum_page,
    "bulk_events": _refused,
    "bulk_datum": _refused,
}
