"""Recorded runs: documents in a file, in the order in which they came, each with the time of its arrival.

JSON lines ``["name", {document}, time]`` or a stream of msgpack ``[name, document, time]``, both also gzipped. msgpack
keeps the types of arrays; JSON makes lists of them and null of NaN. Older recordings have no times.
"""

from __future__ import annotations

import io
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgpack
import orjson

from quietbeam.core import codec
from quietbeam.core.errors import DocumentError, FileFormatError

from .relocate import Recorded
from .relocate import relocate as relocate

SUFFIXES = (".jsonl", ".jsonl.gz", ".msgpack", ".msgpack.gz")


def is_recording(path: Path) -> bool:
    """Say whether a file is called as recordings are."""
    return path.name.endswith(SUFFIXES)


@dataclass(frozen=True, slots=True, kw_only=True)
class Recording:
    """What a file holds.

    Attributes
    ----------
    documents
        In the order of arrival.
    arrived
        Unix time of arrival of each; None in older recordings.
    broken
        A sentence when the file ends too early, else ''.
    """

    documents: list[Recorded]
    arrived: list[float | None]
    broken: str = ""


def read_recording(path: Path) -> Recording:
    """Return the documents of a recording.

    Raises
    ------
    FileFormatError
        No recording.
    """
    try:
        packed = path.read_bytes()
    except OSError as error:
        raise FileFormatError(f"{path} cannot be read: {error.strerror}") from error
    found: list[Recorded] = []
    arrived: list[float | None] = []
    broken = ""
    data = packed
    if packed[:2] == b"\x1f\x8b":
        data, broken = _gunzip(packed)
    entries = _json_lines(data) if data[:1] in (b"[", b"\n", b" ") else _packed(data)
    try:
        for entry in entries:
            if not isinstance(entry, list | tuple) or len(entry) < 2 or not isinstance(entry[1], dict):
                raise ValueError("an entry is not [name, document]")
            found.append((str(entry[0]), entry[1]))
            arrived.append(float(entry[2]) if len(entry) > 2 and isinstance(entry[2], int | float) else None)
    except (ValueError, DocumentError, msgpack.UnpackException) as error:
        broken = broken or f"the recording breaks off after {len(found)} documents: {error}"
    if not found:
        raise FileFormatError(f'{path} is no recording: expected lines ["name", {{document}}] or msgpack of them')
    return Recording(documents=found, arrived=arrived, broken=broken)


def _gunzip(packed: bytes) -> tuple[bytes, str]:
    parts: list[bytes] = []
    while packed:
        member = zlib.decompressobj(wbits=31)
        try:
            parts.append(member.decompress(packed))
        except zlib.error as error:
            return b"".join(parts), f"the recording is damaged: {error}"
        if not member.eof:
            return b"".join(parts), "the recording is half-written; what is there was used"
        packed = member.unused_data
    return b"".join(parts), ""


def _json_lines(data: bytes) -> Iterator[Any]:
    for line in data.splitlines():
        if line.strip():
            yield orjson.loads(line)


def _packed(data: bytes) -> Iterator[Any]:
    for entry in msgpack.Unpacker(io.BytesIO(data), raw=False, strict_map_key=False):
        yield codec.unpack(msgpack.packb(entry))  # arrays in their safe form
