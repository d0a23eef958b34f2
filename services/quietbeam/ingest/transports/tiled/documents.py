"""The documents of a run, made of its nodes in Tiled as bluesky's TiledWriter writes them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import structlog

from quietbeam.core.model.types import NumericArray

from .reader import TiledReader

log = structlog.get_logger()

Doc = tuple[str, dict[str, Any]]
_NOT_OF_A_DESCRIPTOR = frozenset({"_config_updates", "stream_name"})


@dataclass(slots=True)
class _Progress:
    """How much of a stream has been returned: rows of its tables, and indices of each file by data key."""

    rows: int = 0
    indices: dict[str, int] = field(default_factory=dict)


class RunReader:
    """Returns the documents of one run as its nodes in Tiled grow, each once.

    Uids of events and datums are made from their positions: the same run gives the same documents whenever it is read.

    Parameters
    ----------
    path
        The run's node.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._progress: dict[str, _Progress] = {}
        self._started = False
        self._unreadable: set[str] = set()

    def new_documents(self, reader: TiledReader, metadata: Mapping[str, Any]) -> list[Doc]:
        """Return the documents that are new since the last call.

        Parameters
        ----------
        metadata
            Of the run's node, requested before this call. When it has a stop document, the run ends with these
            documents.

        Raises
        ------
        ServiceError
            Tiled cannot be reached or sends an error; the next call returns the documents of this one too.
        """
        start, path = metadata["start"], self._path
        streams = reader.children(path)
        if "streams" in streams and "data_keys" not in streams["streams"]["metadata"]:
            path = f"{path}/streams"  # older TiledWriters
            streams = reader.children(path)
        described: list[Doc] = []
        measured: list[Doc] = []
        progress: dict[str, _Progress] = {}
        for name, stream in streams.items():
            if "data_keys" not in stream["metadata"]:
                continue
            before = self._progress.get(name)
            if before is None:
                described.append(("descriptor", _descriptor(stream["metadata"], name, start["uid"])))
            resources, data, progress[name] = self._new_data(
                reader, f"{path}/{name}", stream["metadata"], before or _Progress()
            )
            described += [("stream_resource", resource | {"run_start": start["uid"]}) for resource in resources]
            measured += data
        measured.sort(key=lambda doc: doc[1].get("time", 0.0))
        docs: list[Doc] = [] if self._started else [("start", dict(start))]
        docs += described + measured
        if metadata.get("stop"):
            docs.append(("stop", dict(metadata["stop"])))
        self._progress, self._started = progress, True
        return docs

    def _new_data(
        self, reader: TiledReader, path: str, metadata: Mapping[str, Any], before: _Progress
    ) -> tuple[list[dict[str, Any]], list[Doc], _Progress]:
        """Return new stream resources, new events and stream datums, and the progress with them."""
        parts = reader.children(path)
        tables = sorted(name for name, part in parts.items() if part["structure_family"] == "table")
        external = {key for key, entry in metadata["data_keys"].items() if entry.get("external")}
        arrays = {name: part for name, part in parts.items() if name not in external and name not in tables}
        after = _Progress(before.rows, dict(before.indices))
        docs: list[Doc] = []
        rows = [reader.rows(f"{path}/{name}", parts[name]["structure"]["columns"], before.rows) for name in tables]
        if n := min(map(len, rows), default=0):
            after.rows += n
            values = self._read_arrays(reader, path, arrays, before.rows, after.rows)
            docs += _events(metadata, rows, values, before.rows, after.rows)
        resources: list[dict[str, Any]] = []
        for key in sorted(external & set(parts)):
            resource = _stream_resource(key, parts[key], metadata)
            if resource is None:
                self._report_unreadable(path, key)
                continue
            if key not in before.indices:
                resources.append(resource)
            first = before.indices.get(key, 0)
            after.indices[key] = stop = _indices(key, parts[key], metadata)
            if stop > first:
                docs.append(("stream_datum", _stream_datum(resource, metadata, first, stop)))
        return resources, docs, after

    def _read_arrays(
        self, reader: TiledReader, path: str, arrays: Mapping[str, Mapping[str, Any]], first: int, stop: int
    ) -> dict[str, NumericArray]:
        """Return entries ``[first, stop)`` of the arrays beside the tables, by data key."""
        values = {}
        for key, part in arrays.items():
            if part["structure_family"] == "array":
                values[key] = reader.array(f"{path}/{key}", part["structure"], first, stop)
            else:
                self._report_unreadable(path, key)
        return values

    def _report_unreadable(self, path: str, key: str) -> None:
        if key not in self._unreadable:
            log.error("tiled_node_unreadable", node=f"{path}/{key}", remedy="send this run's documents another way")
        self._unreadable.add(key)


def _events(
    metadata: Mapping[str, Any],
    tables: list[list[dict[str, Any]]],
    arrays: Mapping[str, NumericArray],
    first: int,
    stop: int,
) -> Iterator[Doc]:
    """Yield the events of rows ``[first, stop)`` of a stream; tables and arrays begin with row `first`."""
    descriptor, data_keys = metadata["uid"], metadata["data_keys"]
    for number in range(first, stop):
        row = {key: value for table in tables for key, value in table[number - first].items()}
        data = {key: value for key, value in row.items() if key in data_keys}
        data |= {key: array[number - first] for key, array in arrays.items()}
        yield (
            "event",
            {
                "uid": f"{descriptor}-{number}",
                "descriptor": descriptor,
                "seq_num": row["seq_num"],
                "time": row["time"],
                "data": data,
                "timestamps": {key: row.get(f"ts_{key}", row["time"]) for key in data},
                "filled": {},
            },
        )


def _descriptor(metadata: Mapping[str, Any], name: str, run: str) -> dict[str, Any]:
    kept = {key: value for key, value in metadata.items() if key not in _NOT_OF_A_DESCRIPTOR}
    object_keys: dict[str, list[str]] = {}
    for key, entry in metadata["data_keys"].items():
        if owner := entry.get("object_name"):
            object_keys.setdefault(owner, []).append(key)
    return {**kept, "name": name, "run_start": run, "object_keys": object_keys}


def _stream_resource(key: str, part: Mapping[str, Any], metadata: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the stream_resource of a data key, or None for data in several files: Tiled does not say their shares."""
    sources = part.get("data_sources") or []
    uris = [asset["data_uri"] for source in sources for asset in source["assets"] if asset.get("parameter")]
    if len(uris) != 1:
        return None
    join_method = "stack" if _is_stacked(key, part, metadata) else "concat"
    return {
        "uid": f"{metadata['uid']}-{key}",
        "data_key": key,
        "mimetype": sources[0]["mimetype"],
        "uri": uris[0],
        "parameters": {"join_method": join_method, **sources[0]["parameters"]},
    }


def _stream_datum(resource: Mapping[str, Any], metadata: Mapping[str, Any], first: int, stop: int) -> dict[str, Any]:
    return {
        "uid": f"{resource['uid']}/{first}-{stop}",
        "stream_resource": resource["uid"],
        "descriptor": metadata["uid"],
        "indices": {"start": first, "stop": stop},
        "seq_nums": {"start": first + 1, "stop": stop + 1},
    }


def _is_stacked(key: str, part: Mapping[str, Any], metadata: Mapping[str, Any]) -> bool:
    """Return whether an index is an entry of the array's first axis, and not several entries in a row."""
    return len(part["structure"]["shape"]) == len(metadata["data_keys"][key]["shape"]) + 1


def _indices(key: str, part: Mapping[str, Any], metadata: Mapping[str, Any]) -> int:
    """Return how many indices an array has."""
    entries, each = part["structure"]["shape"][0], metadata["data_keys"][key]["shape"]
    if _is_stacked(key, part, metadata) or not each:
        return int(entries)
    return int(entries // max(1, each[0] or 1))
