"""One run in Tiled: ``<root>/<uid>/{measured,raw,uncertainty,denoised}``, written in bands of rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson
import structlog

from quietbeam.buffer import RunBuffer
from quietbeam.core.errors import ServiceError
from quietbeam.core.model.types import RunInfo
from quietbeam.core.settings import Settings

from .provenance import ARRAYS, ROOT_METADATA, SPEC, SPEC_VERSION, array_metadata
from .tiled_api import TiledApi, TiledMissingError, TiledRefusedError, array_body

log = structlog.get_logger()

MESSAGE_BYTES = 16 * 2**20
"""Most bytes in one update; subscribers set their `max_size` above it."""
_CHUNK_ROWS = 64
_FEW_CHUNK_ROWS = 16
_MOST_CHUNKS = 4096
"""About as many chunks an array has at most: their sizes stand in its description."""
_LARGE = 2**20
"""Pixels from which only the rows are sent that were ever written."""


def even_chunk(rows: int, row_bytes: int) -> int:
    """Return how many rows a chunk of Tiled's copy has: a divisor of `rows`.

    Tiled 0.2.20 pads its zarr array to whole chunks, and a patch then reports the padded shape to everybody.
    """
    most = max(_CHUNK_ROWS, rows // _MOST_CHUNKS)
    divisor = max(n for n in range(1, most + 1) if rows % n == 0)
    return rows if divisor < _FEW_CHUNK_ROWS and rows * row_bytes <= MESSAGE_BYTES else divisor


class Publication:
    """Writes one run; keeps no data between calls.

    Nodes are made when first needed and made again when Tiled says that they are gone. All methods raise the errors of
    :mod:`quietbeam.publish.tiled_api` and can be repeated.
    """

    def __init__(self, api: TiledApi, settings: Settings, buffer: RunBuffer) -> None:
        self._api = api
        self._root = settings.tiled.root
        self._buffer = buffer
        self._made = False

    @property
    def info(self) -> RunInfo:
        """What is known of the run."""
        return self._buffer.info

    @property
    def path(self) -> str:
        """Path of the container in Tiled."""
        return f"{self._root}/{self.info.uid}"

    def ensure(self, metadata: Mapping[str, Any]) -> dict[str, Any] | None:
        """Make the container and its empty arrays where they are missing; return the metadata found, None when new."""
        if self._made:
            return None
        self._refuse_what_tiled_cannot_hold()
        container = {"structure_family": "container", "data_sources": [], "specs": []}
        spec = [{"name": SPEC, "version": SPEC_VERSION}]
        body = orjson.loads(orjson.dumps({**container, "metadata": metadata, "specs": spec}))
        new = False
        try:
            new = self._api.ensure(self._root, self.info.uid, body)
        except TiledMissingError:
            self._api.ensure("", self._root, {**container, "metadata": ROOT_METADATA})
            new = self._api.ensure(self._root, self.info.uid, body)
        found = None if new else self._api.node(self.path)["metadata"]
        for name in ARRAYS:
            self._ensure_array(name)
        self._made = True
        return found

    def _refuse_what_tiled_cannot_hold(self) -> None:
        (rows, cols), row_bytes = self.info.shape, 4 * len(self.info.lines) * self.info.shape[1]
        if row_bytes > MESSAGE_BYTES or rows // even_chunk(rows, row_bytes) > 16 * _MOST_CHUNKS:
            raise TiledRefusedError(
                f"{self.path}: a map of {rows} x {cols} pixels is not sent to Tiled: a row is too long for a message, "
                "or its rows cannot be divided into chunks; quietbeam's own API has the map"
            )

    def _ensure_array(self, name: str) -> None:
        rows, cols = self.info.shape
        chunk_rows = even_chunk(rows, 4 * len(self.info.lines) * cols)
        shape, dims, chunks, dtype = (rows, cols), ("row", "col"), (chunk_rows, cols), "bool"
        if name != "measured":
            n = len(self.info.lines)
            shape, dims, chunks, dtype = (n, *shape), ("line", *dims), (n, *chunks), "float32"  # type: ignore[assignment]
        body = array_body(shape, dims, chunks, dtype, array_metadata(self.info, name))
        if self._api.ensure(self.path, name, body):
            return
        stored_shape = tuple(self._api.node(f"{self.path}/{name}")["structure"]["shape"])
        if stored_shape != shape:
            raise ServiceError(
                f"Tiled holds {self.path}/{name} with shape {stored_shape}, this run has {shape}: delete that node, "
                "or set another tiled.root"
            )

    def forget_nodes(self) -> None:
        """Let the next call of :meth:`ensure` make the nodes again, after Tiled answered that one is missing."""
        self._made = False

    def write(self, first_row: int, stop_row: int) -> None:
        """Write rows ``[first_row, stop_row)`` of every array as they are in the buffer now."""
        for name in ARRAYS:
            for first, values in self._bands(name, first_row, stop_row):
                whole = values.shape[-2] == self.info.shape[0]
                if whole:
                    self._api.write(f"{self.path}/{name}", values)
                else:
                    self._api.patch(f"{self.path}/{name}", values, (0,) * (values.ndim - 2) + (first, 0))

    def reads_back(self) -> bool:
        """Return True when every array in Tiled equals the buffer."""
        for name in ARRAYS:
            for first, values in self._bands(name, 0, self.info.shape[0]):
                rows = slice(first, first + values.shape[-2])
                if not np.array_equal(self._api.read(f"{self.path}/{name}", values, rows), values):
                    log.warning("tiled_differs", array=f"{self.path}/{name}", first_row=rows.start, stop_row=rows.stop)
                    return False
        return True

    def close_streams(self) -> None:
        """Tell subscribers that nothing more comes."""
        for name in ARRAYS:
            self._api.close_stream(f"{self.path}/{name}")

    def _bands(self, name: str, first_row: int, stop_row: int) -> Iterator[tuple[int, npt.NDArray[Any]]]:
        """Yield (first row, values) in pieces of at most `MESSAGE_BYTES`."""
        lines, cols = len(self.info.lines), self.info.shape[1]
        step = max(1, MESSAGE_BYTES // (4 * lines * cols))
        step = max(_CHUNK_ROWS, step // _CHUNK_ROWS * _CHUNK_ROWS) if step >= _CHUNK_ROWS else step
        measured = self._buffer.measured() if name == "measured" else None
        for begin, end in self._spans(name, first_row, stop_row):
            for first in range(begin, end, step):
                stop = min(first + step, end)
                if measured is not None:
                    yield first, measured[first:stop]
                else:
                    values = self._buffer.read_map(name, rows=slice(first, stop))  # type: ignore[arg-type]
                    yield first, np.nan_to_num(values, nan=0.0, posinf=0.0, neginf=0.0)

    def _spans(self, name: str, first_row: int, stop_row: int) -> list[tuple[int, int]]:
        """Return the spans of rows to send: of a large map those that were written, for all others hold zeros."""
        rows, cols = self.info.shape
        if rows * cols <= _LARGE:
            return [(first_row, stop_row)]
        if name == "measured":
            numbers = sorted({row // _CHUNK_ROWS for row in self._buffer.rows_written()})
            written = [(n * _CHUNK_ROWS, min((n + 1) * _CHUNK_ROWS, rows)) for n in numbers]
        else:
            written = self._buffer.bands_written(name)  # type: ignore[arg-type]
        found: list[tuple[int, int]] = []
        for first, stop in written:
            first, stop = max(first, first_row), min(stop, stop_row)
            if first < stop and found and found[-1][1] == first:
                found[-1] = found[-1][0], stop
            elif first < stop:
                found.append((first, stop))
        return found
