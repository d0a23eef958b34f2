"""The documents of a run that bluesky's TiledWriter has written, or is writing, read back from Tiled."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, quote, urlsplit

import httpx
import numpy as np
import numpy.typing as npt
import structlog

from quietbeam.core.errors import InputError, ServiceError
from quietbeam.core.settings import NetworkSettings
from quietbeam.core.wire.web import client_options

log = structlog.get_logger()

Doc = tuple[str, dict[str, Any]]
ARROW = "application/vnd.apache.arrow.file"
_NOT_OF_A_DESCRIPTOR = frozenset({"_config_updates", "stream_name"})
_PAGE = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class TiledAddress:
    """What a URL ``tiled+http://HOST:PORT/PATH?start=latest`` says; `path` is a catalog of runs, or a run."""

    base: str
    path: str
    start: str = "latest"

    @classmethod
    def parse(cls, url: str) -> TiledAddress:
        """Read the URL.

        Raises
        ------
        InputError
            It is none.
        """
        parts = urlsplit(url.removeprefix("tiled+"))
        options = dict(parse_qsl(parts.query, keep_blank_values=True))
        start = options.pop("start", "latest")
        if (
            parts.scheme not in ("http", "https")
            or not parts.hostname
            or options
            or start not in ("latest", "earliest")
        ):
            raise InputError(
                f"{url!r} is not tiled+http://HOST:PORT/CATALOG?start=latest (or tiled+https, start=earliest); "
                "the key belongs into ingest.tiled_api_key"
            )
        path = parts.path.strip("/").removeprefix("api/v1").removeprefix("/").removeprefix("metadata/")
        return cls(base=f"{parts.scheme}://{parts.netloc}/api/v1/", path=path, start=start)


class TiledReader:
    """The few questions to a Tiled server; every one is short, none is repeated here.

    Raises
    ------
    ServiceError
        From every method: nobody answers, or the answer is no; the message says what to do.
    """

    def __init__(self, address: TiledAddress, key: str, network: NetworkSettings | None = None) -> None:
        self.address = address
        headers = {"Authorization": f"Apikey {key}"} if key else {}
        timeout = httpx.Timeout(20.0, connect=3.0)
        options = client_options(network or NetworkSettings())
        self._http = httpx.Client(base_url=address.base, headers=headers, timeout=timeout, **options)

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def node(self, path: str) -> dict[str, Any]:
        """Return id and attributes of one node."""
        found: dict[str, Any] = json.loads(self._get(f"metadata/{quote(path)}"))["data"]
        return found

    def runs(self, since: float) -> Iterator[dict[str, Any]]:
        """Yield the runs that began at `since` or later, by time."""
        condition = {"operator": "ge", "key": "start.time", "value": json.dumps(since)}
        query = {f"filter[comparison][condition][{key}]": value for key, value in condition.items()}
        return self._search(self.address.path, {**query, "fields": "metadata", "sort": "start.time"})

    def children(self, path: str) -> dict[str, dict[str, Any]]:
        """Return the attributes of all children by name, with their data sources."""
        query = {"fields": ["metadata", "structure_family", "structure", "specs", "data_sources"]}
        found = self._search(path, {**query, "include_data_sources": "true"})
        return {one["id"]: one["attributes"] for one in found}

    def _search(self, path: str, query: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        offset = 0
        while True:
            page = {**query, "page[limit]": _PAGE, "page[offset]": offset}
            found = json.loads(self._get(f"search/{quote(path)}", page))["data"]
            yield from found
            offset += _PAGE
            if len(found) < _PAGE:
                return

    def rows(self, path: str, columns: Sequence[str], first: int) -> list[dict[str, Any]]:
        """Return the rows of a table from `first` on; the whole table is fetched only when it has more."""
        one = "seq_num" if "seq_num" in columns else columns[0]
        if len(self.table(path, one)) <= first:
            return []
        return Rows().new(self.table(path))[first:]

    def table(self, path: str, column: str = "") -> list[dict[str, Any]]:
        """Return all rows of a table, of one column only if it is named."""
        query = {"partition": 0, "format": ARROW, **({"column": column} if column else {})}
        return table_rows(self._get(f"table/partition/{quote(path)}", query))

    def array(self, path: str, structure: Mapping[str, Any], first: int, stop: int) -> npt.NDArray[Any]:
        """Return [first, stop) of an array along its first axis."""
        kind = structure["data_type"]
        order = {"little": "<", "big": ">"}.get(kind["endianness"], "|")
        query = {"slice": f"{first}:{stop}", "format": "application/octet-stream"}
        shape = (stop - first, *structure["shape"][1:])
        dtype = np.dtype(f"{order}{kind['kind']}{kind['itemsize']}")
        return np.frombuffer(self._get(f"array/full/{quote(path)}", query), dtype).reshape(shape)

    def _get(self, url: str, query: Mapping[str, Any] | None = None) -> bytes:
        try:
            answer = self._http.get(url, params=query)
        except httpx.HTTPError as error:
            raise ServiceError(f"Tiled at {self.address.base} does not answer: {error}") from error
        if answer.status_code in (401, 403):
            raise ServiceError(f"Tiled at {self.address.base} refuses the key", remedy="set ingest.tiled_api_key")
        if answer.is_error:
            raise ServiceError(f"Tiled answers {answer.status_code} to {url}: {answer.text[:200]}")
        return answer.content


def table_rows(arrow: bytes) -> list[dict[str, Any]]:
    """Return the rows of a table that came as an Arrow file."""
    import pyarrow

    with pyarrow.ipc.open_file(io.BytesIO(arrow)) as file:
        rows: list[dict[str, Any]] = file.read_all().to_pylist()
    return rows


class Rows:
    """Which rows of a table are known, by number and time: TiledWriter may write one twice when Tiled is slow."""

    def __init__(self) -> None:
        self._known: set[tuple[Any, Any]] = set()

    def new(self, rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        """Return those that are not known yet, and know them; all of a table without numbers."""
        kept = []
        for row in rows:
            place = row.get("seq_num"), row.get("time")
            if None in place or place not in self._known:
                kept.append(row)
                self._known.add(place)
        return kept


@dataclass(slots=True)
class _Stream:
    """How far one stream of events has been told."""

    rows: int = 0
    files: dict[str, int] = field(default_factory=dict)


class RunReader:
    """Tells the documents of one run as its nodes in Tiled grow; each once.

    Events and stream datums are what the server holds, so nothing is lost that it has. Uids of events and datums are
    made from their places: the same run gives the same documents whenever it is read.

    Parameters
    ----------
    path
        The run's node.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._streams: dict[str, _Stream] = {}
        self._started = False
        self._unread: set[str] = set()

    def news(self, reader: TiledReader, metadata: Mapping[str, Any]) -> list[Doc]:
        """Return what is new; `metadata` is the run's, asked for before this: with a stop document this is the end.

        Raises
        ------
        ServiceError
            Tiled is away or refuses; nothing of this call is forgotten, the next one tells it.
        """
        start, path = metadata["start"], self._path
        streams = reader.children(path)
        if "streams" in streams and "data_keys" not in streams["streams"]["metadata"]:
            path = f"{path}/streams"  # as older TiledWriters wrote
            streams = reader.children(path)
        described: list[Doc] = []
        measured: list[Doc] = []
        progress: dict[str, _Stream] = {}
        for name, stream in streams.items():
            if "data_keys" not in stream["metadata"]:
                continue
            before = self._streams.get(name)
            if before is None:
                described.append(("descriptor", _descriptor(stream["metadata"], name, start["uid"])))
            resources, data, progress[name] = self._data(
                reader, f"{path}/{name}", stream["metadata"], before or _Stream()
            )
            described += [("stream_resource", one | {"run_start": start["uid"]}) for one in resources]
            measured += data
        measured.sort(key=lambda doc: doc[1].get("time", 0.0))
        docs: list[Doc] = [] if self._started else [("start", dict(start))]
        docs += described + measured
        if metadata.get("stop"):
            docs.append(("stop", dict(metadata["stop"])))
        self._streams, self._started = progress, True
        return docs

    def _data(
        self, reader: TiledReader, path: str, metadata: Mapping[str, Any], before: _Stream
    ) -> tuple[list[dict[str, Any]], list[Doc], _Stream]:
        parts = reader.children(path)
        tables = sorted(name for name, part in parts.items() if part["structure_family"] == "table")
        external = {key for key, entry in metadata["data_keys"].items() if entry.get("external")}
        arrays = {name: part for name, part in parts.items() if name not in external and name not in tables}
        after = _Stream(before.rows, dict(before.files))
        docs: list[Doc] = []
        rows = [reader.rows(f"{path}/{name}", parts[name]["structure"]["columns"], before.rows) for name in tables]
        if n := min(map(len, rows), default=0):
            after.rows += n
            docs += self._events(reader, path, metadata, arrays, rows, before.rows, after.rows)
        resources = []
        for key in sorted(external & set(parts)):
            resource, datum, n = _file(key, parts[key], metadata, before.files.get(key))
            if resource is None and datum is None and n < 0:
                self._cannot(path, key)
                continue
            resources += [resource] if resource else []
            docs += [("stream_datum", datum)] if datum else []
            after.files[key] = n
        return resources, docs, after

    def _events(
        self,
        reader: TiledReader,
        path: str,
        metadata: Mapping[str, Any],
        arrays: Mapping[str, Mapping[str, Any]],
        tables: list[list[dict[str, Any]]],
        first: int,
        stop: int,
    ) -> Iterator[Doc]:
        descriptor, known = metadata["uid"], metadata["data_keys"]
        values = {}
        for key, part in arrays.items():
            if part["structure_family"] == "array":
                values[key] = reader.array(f"{path}/{key}", part["structure"], first, stop)
            else:
                self._cannot(path, key)
        for number in range(first, stop):
            row = {key: value for table in tables for key, value in table[number - first].items()}
            data = {key: value for key, value in row.items() if key in known}
            data |= {key: array[number - first] for key, array in values.items()}
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

    def _cannot(self, path: str, key: str) -> None:
        if key not in self._unread:
            log.error("tiled_node_not_read", node=f"{path}/{key}", remedy="send this run's documents another way")
        self._unread.add(key)


def _descriptor(metadata: Mapping[str, Any], name: str, run: str) -> dict[str, Any]:
    kept = {key: value for key, value in metadata.items() if key not in _NOT_OF_A_DESCRIPTOR}
    object_keys: dict[str, list[str]] = {}
    for key, entry in metadata["data_keys"].items():
        if owner := entry.get("object_name"):
            object_keys.setdefault(owner, []).append(key)
    return {**kept, "name": name, "run_start": run, "object_keys": object_keys}


def _file(
    key: str, part: Mapping[str, Any], metadata: Mapping[str, Any], before: int | None
) -> tuple[dict[str, Any] | None, dict[str, Any] | None, int]:
    """Return stream_resource (the first time), stream_datum (when there is more) and how many indices there are.

    -1: the data lie in several files, whose shares Tiled does not say.
    """
    sources = part.get("data_sources") or []
    uris = [asset["data_uri"] for source in sources for asset in source["assets"] if asset.get("parameter")]
    if len(uris) != 1:
        return None, None, -1
    descriptor, uid = metadata["uid"], f"{metadata['uid']}-{key}"
    total, each = part["structure"]["shape"], metadata["data_keys"][key]["shape"]
    stacked = len(total) == len(each) + 1
    n = total[0] if stacked or not each else total[0] // max(1, each[0] or 1)
    resource = {
        "uid": uid,
        "data_key": key,
        "mimetype": sources[0]["mimetype"],
        "uri": uris[0],
        "parameters": {"join_method": "stack" if stacked else "concat", **sources[0]["parameters"]},
    }
    first = before or 0
    datum = {
        "uid": f"{uid}/{first}-{n}",
        "stream_resource": uid,
        "descriptor": descriptor,
        "indices": {"start": first, "stop": n},
        "seq_nums": {"start": first + 1, "stop": n + 1},
    }
    return resource if before is None else None, datum if n > first else None, n
