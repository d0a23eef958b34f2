"""Documents kept on disk while Redis is away: append-only segments of checked, length-prefixed records.

A live publisher locks each of its segments, so a segment that can be locked was left behind by a dead process; the next
publisher sends it first.
"""

from __future__ import annotations

import hashlib
import os
import struct
import time
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import msgpack
import structlog
from filelock import FileLock, Timeout

log = structlog.get_logger()

_HEAD = struct.Struct("<II")
SEGMENT_BYTES = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Record:
    """One encoded document: name, run uid ('' when unknown), msgpack bytes."""

    name: str
    run: str
    doc: bytes


@dataclass(slots=True)
class _Segment:
    path: Path
    lock: FileLock
    file: IO[bytes]
    size: int
    own: bool
    offset: int = 0
    batch_end: int = field(default=0)


class Spool:
    """First-in first-out store of records below `folder`; used by one thread.

    Parameters
    ----------
    folder
        Made when it is missing (0700).
    target
        Where the records go in the end (a URL); only segments with the same target are taken over.
    max_bytes
        Most bytes on disk; :meth:`append` refuses more.
    """

    def __init__(self, folder: Path, target: str, *, max_bytes: int) -> None:
        self._folder, self._max_bytes = folder, max_bytes
        self._tag = hashlib.sha256(target.encode()).hexdigest()[:12]
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._segments: list[_Segment] = []
        self._take_over_segments()

    def _take_over_segments(self) -> None:
        """Lock the segments that dead publishers left, oldest first."""
        for path in sorted(self._folder.glob(f"*-{self._tag}.spool")):
            try:
                lock = _lock(path)
                file = path.open("r+b")
            except (Timeout, OSError):
                continue
            size = file.seek(0, os.SEEK_END)
            segment = _Segment(path=path, lock=lock, file=file, size=size, own=False)
            if size:
                self._segments.append(segment)
            else:  # its publisher has just sent and removed it
                _remove(segment)
        if self._segments:
            log.info("spool_taken_over", segments=len(self._segments), bytes=self.size)

    @property
    def size(self) -> int:
        """Bytes on disk that are not yet sent."""
        return sum(segment.size - segment.offset for segment in self._segments)

    @property
    def empty(self) -> bool:
        """True when nothing is left to send."""
        return not self._segments

    def append(self, record: Record, *, reserve: int = 0) -> bool:
        """Append a record; False when that would exceed `max_bytes + reserve`.

        Raises
        ------
        OSError
            The disk cannot be written.
        """
        payload = msgpack.packb((record.name, record.run, record.doc), use_bin_type=True)
        if self.size + len(payload) + _HEAD.size > self._max_bytes + reserve:
            return False
        if not self._segments or not self._segments[-1].own or self._segments[-1].size >= SEGMENT_BYTES:
            path = self._folder / f"{time.time_ns():020d}-{os.getpid()}-{self._tag}.spool"
            lock = _lock(path)
            self._segments.append(_Segment(path=path, lock=lock, file=path.open("r+b"), size=0, own=True))
        segment = self._segments[-1]
        try:
            segment.file.seek(segment.size)
            segment.file.write(_HEAD.pack(len(payload), zlib.crc32(payload)) + payload)
            segment.file.flush()
        except OSError:
            segment.file.truncate(segment.size)
            raise
        segment.size += _HEAD.size + len(payload)
        return True

    def peek(self, max_records: int, max_bytes: int) -> list[Record]:
        """Return the oldest records without removing them; a torn tail (killed writer) ends its segment."""
        while self._segments:
            segment = self._segments[0]
            records: list[Record] = []
            segment.file.seek(segment.offset)
            position = segment.offset
            while len(records) < max_records and position - segment.offset < max_bytes:
                head = segment.file.read(_HEAD.size)
                if len(head) < _HEAD.size:
                    break
                length, checksum = _HEAD.unpack(head)
                if position + _HEAD.size + length > segment.size:
                    log.warning("spool_torn_tail", path=str(segment.path), at=position)
                    break
                payload = segment.file.read(length)
                if zlib.crc32(payload) != checksum:
                    log.warning("spool_damaged", path=str(segment.path), at=position)
                    break
                name, run, doc = msgpack.unpackb(payload, raw=False)
                records.append(Record(name, run, doc))
                position += _HEAD.size + length
            segment.batch_end = position
            if records:
                return records
            self._drop_first()
        return []

    def advance(self) -> None:
        """Remove what the last :meth:`peek` returned."""
        segment = self._segments[0]
        segment.offset = segment.batch_end
        if segment.offset >= segment.size:
            self._drop_first()

    def _drop_first(self) -> None:
        _remove(self._segments.pop(0))

    def close(self) -> None:
        """Unlock the segments; the next publisher sends what is left."""
        for segment in self._segments:
            segment.file.close()
            segment.lock.release()
        self._segments.clear()


def _lock(path: Path) -> FileLock:
    """Lock a segment, which is made when it is missing.

    Raises
    ------
    filelock.Timeout
        Another publisher has it.
    """
    lock = FileLock(path, mode=0o600, thread_local=False)
    lock.acquire(blocking=False)
    return lock


def _remove(segment: _Segment) -> None:
    segment.path.unlink(missing_ok=True)
    segment.file.close()
    segment.lock.release()
