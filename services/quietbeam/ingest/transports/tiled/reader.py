"""Requests to a Tiled server: nodes, tables and arrays below an address."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, quote, urlsplit

import httpx
import numpy as np
import structlog

from quietbeam.core.errors import InputError, ServiceError
from quietbeam.core.model.types import NumericArray
from quietbeam.core.settings import NetworkSettings
from quietbeam.core.wire.web import client_options

log = structlog.get_logger()

ARROW = "application/vnd.apache.arrow.file"
_PAGE = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class TiledAddress:
    """A URL ``tiled+http://HOST:PORT/PATH?start=latest`` in parts; `path` is a catalog of runs, or a run."""

    base: str
    path: str
    start: str = "latest"

    @classmethod
    def parse(cls, url: str) -> TiledAddress:
        """Read the URL.

        Raises
        ------
        InputError
            Not such a URL.
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
    """Requests to a Tiled server; each is short, none is repeated.

    Raises
    ------
    ServiceError
        From every method: no answer, or an error; the message says what to do.
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
        return {node["id"]: node["attributes"] for node in found}

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
        column = "seq_num" if "seq_num" in columns else columns[0]
        if len(self.table(path, column)) <= first:
            return []
        return UniqueRows().add(self.table(path))[first:]

    def table(self, path: str, column: str = "") -> list[dict[str, Any]]:
        """Return all rows of a table, of one column only if it is named."""
        query = {"partition": 0, "format": ARROW, **({"column": column} if column else {})}
        return table_rows(self._get(f"table/partition/{quote(path)}", query))

    def array(self, path: str, structure: Mapping[str, Any], first: int, stop: int) -> NumericArray:
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


class UniqueRows:
    """The rows of a table by number and time: TiledWriter may write a row twice when Tiled is slow."""

    def __init__(self) -> None:
        self._added: set[tuple[Any, Any]] = set()

    def add(self, rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        """Add rows and return those that were not added before; rows without a number are always returned."""
        new = []
        for row in rows:
            key = row.get("seq_num"), row.get("time")
            if None in key or key not in self._added:
                new.append(row)
                self._added.add(key)
        return new
