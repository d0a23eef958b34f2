"""A run in Tiled as documents or as a map: what bluesky's TiledWriter wrote, or what quietbeam published."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Any

import httpx
import numpy as np

from quietbeam.core.errors import InputError, ServiceError
from quietbeam.files import MapFile
from quietbeam.files.readers.own import published

from .relocate import Recorded

_MAX_BYTES = 8 * 2**30
_ANSWERS_S = 10.0


@contextmanager
def opened(uri: str, api_key: str | None, *paths: tuple[str, ...]) -> Iterator[Any]:
    """Yield a client of the first of some nodes below an address that is there.

    Raises
    ------
    ServiceError
        Nobody answers, or the key may not read.
    InputError
        There is no such node.
    """
    from tiled.client import from_uri
    from tiled.client.utils import ClientError

    try:
        # Tiled's client would try for a minute, and leave its connections open where it is refused.
        probe = uri if "/metadata" in uri else f"{uri.rstrip('/').removesuffix('/api/v1')}/api/v1/metadata/"
        headers = {"Authorization": f"Apikey {api_key}"} if api_key else {}
        status = httpx.get(probe, headers=headers, timeout=_ANSWERS_S).status_code
        if status in (401, 403):
            why = "refuses; is the key right (TILED_API_KEY)?" if api_key else "wants a key: set TILED_API_KEY"
            raise ServiceError(f"Tiled at {uri} {why}")
        if status == 404:
            raise InputError(f"there is no {uri}")
        root: Any = from_uri(uri, api_key=api_key)
    except ClientError as error:
        raise ServiceError(f"Tiled at {uri} refuses: {str(error)[:200]}; is the key right (TILED_API_KEY)?") from error
    except (httpx.HTTPError, OSError) as error:
        raise ServiceError(f"Tiled at {uri} does not answer: {error}") from error
    try:
        for path in paths or ((),):
            with suppress(KeyError):
                yield root["/".join(path)] if path else root
                return
        raise InputError(f"there is no {' or '.join('/'.join(path) for path in paths)} in Tiled at {uri}")
    finally:
        root.context.close()


def documents_of(run: Any) -> list[Recorded]:
    """Return a run of TiledWriter as documents: events hold everything, also what detectors wrote to files.

    Raises
    ------
    InputError
        No run of bluesky, or one that is too large to be held in memory.
    """
    start = dict(run.metadata).get("start")
    if not isinstance(start, dict) or not any(spec.name == "BlueskyRun" for spec in run.specs):
        raise InputError(
            f"{run.uri} is no run: it must be a BlueskyRun, as TiledWriter writes them, or one that quietbeam published"
        )
    uid = str(start["uid"])
    found: list[Recorded] = [("start", start)]
    events: dict[str, int] = {}
    for name in run:
        descriptor = next(d for d in run.descriptors if d["name"] == name)
        values = _columns(run[name].base, f"stream {name} of run {uid}")
        numbers, times = values.pop("seq_num", None), values.pop("time", None)
        values = {key: column for key, column in values.items() if key in descriptor["data_keys"]}
        if not values:
            continue
        n = min(map(len, values.values()))
        numbers = np.arange(1, n + 1) if numbers is None else numbers
        times = np.full(n, float(start["time"])) if times is None else times
        data_keys = {
            key: {k: v for k, v in entry.items() if k != "external"} for key, entry in descriptor["data_keys"].items()
        }
        found.append(("descriptor", {**descriptor, "run_start": uid, "data_keys": data_keys}))
        for i in range(n):
            data = {key: _plain(column[i]) for key, column in values.items()}
            event = {
                "uid": f"{uid}-{name}-{i}",
                "descriptor": descriptor["uid"],
                "seq_num": int(numbers[i]),
                "time": float(times[i]),
                "data": data,
                "timestamps": dict.fromkeys(data, float(times[i])),
                "filled": {},
            }
            found.append(("event", event))
        events[name] = n
    stop = dict(run.metadata).get("stop") or {"exit_status": "success", "time": float(start["time"])}
    found.append(
        ("stop", {"uid": f"{uid}-stop", **stop, "run_start": uid, "num_events": stop.get("num_events") or events})
    )
    return found


def _columns(stream: Any, what: str) -> dict[str, np.ndarray[Any, Any]]:
    """Return what a stream holds by key, an entry per event: the table of the events, and arrays of detectors."""
    found: dict[str, np.ndarray[Any, Any]] = {}
    size = 0
    for key, node in stream.items():
        if node.structure_family == "array":
            size += node.dtype.itemsize * int(np.prod(node.shape))
            if size > _MAX_BYTES:
                raise InputError(f"{what} holds more than {_MAX_BYTES / 2**30:.0f} GiB: too much at once")
            found[key] = np.asarray(node.read())
        else:
            table = node.read()
            found |= {str(column): _stacked(table[column].to_numpy()) for column in table.columns}
    return found


def _plain(value: Any) -> Any:
    """Return a Python value for a number of numpy; texts, None and arrays as they are."""
    return value.item() if isinstance(value, np.generic) else value


def _stacked(column: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return a column of arrays as one array, where they fit together."""
    if column.dtype != object or not len(column) or np.ndim(column[0]) == 0:
        return column
    with suppress(ValueError):
        return np.stack(
            [np.asarray(value.tolist()) if isinstance(value, np.ndarray) else np.asarray(value) for value in column]
        )
    return column


def published_map(run: Any) -> MapFile | None:
    """Return the raw maps of a run that quietbeam published, the sum of its detectors as one; None for others."""
    if not any(spec.name == "XRFDenoisedRun" for spec in run.specs):
        return None
    uid, evidence = str(run.metadata["raw_run_uid"]), run.metadata.get("evidence") or {}
    raw, measured = np.asarray(run["raw"].read()), np.asarray(run["measured"].read(), bool)
    found = published(f"run {uid}", raw, tuple(run.metadata["lines"]), measured, evidence)
    return replace(found, metadata={"source": uid})
