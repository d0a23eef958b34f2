"""Documents kept on disk while Redis is away: append-only segments of checked, length-prefixed records.

A live publisher locks each of its segments, so a segment that can be locked was left behind by a dead process; the next
publisher sends it first. A power cut leaves zeros where the size of a file was on disk and its contents were not:
what cannot be read is skipped and counted, what follows is sent.
"""

from __future__ import annotations

import os
import struct
import time
import zlib
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import msgpack
import structlog
from filelock import FileLock, Timeout

from . import spool_target

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
        Where the records go in the end (a URL); only segments for the same server are taken over.
    max_bytes
        Most bytes on disk; :meth:`append` refuses more.
    """

    def __init__(self, folder: Path, target: str, *, max_bytes: int) -> None:
        self._folder, self._max_bytes = folder, max_bytes
        self._tag, former = spool_target.tags_of(target)
        self._taken: set[str] = set()
        self.damaged_bytes = 0
        """Bytes that no record could be read from, and that are therefore not sent."""
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._segments: list[_Segment] = []
        self._take_over({self._tag, former})

    def meet(self, server: str) -> None:
        """Take over what was left under other URLs of the same server.

        Parameters
        ----------
        server
            Identity of the server that answers at our target; it is the same under every URL.
        """
        spool_target.remember(self._folder, self._tag, server)
        self._take_over(set(spool_target.aliases(self._folder, server)))
        others = sorted(path.name for path in self._foreign())
        if others:
            log.warning(
                "spool_of_another_target",
                folder=str(self._folder),
                files=others,
                remedy="start a publisher with the URL that these documents were meant for, or remove the files",
            )

    @property
    def has_foreign(self) -> bool:
        """True when dead publishers left segments that are not known to be for this server."""
        return any(True for _ in self._foreign())

    def _foreign(self) -> Iterator[Path]:
        for path in self._folder.glob("*.spool"):
            if path.stem.rpartition("-")[2] not in self._taken:
                with suppress(Timeout, OSError):
                    _lock(path).release()
                    yield path

    def _take_over(self, tags: set[str]) -> None:
        """Lock the segments that dead publishers left, oldest first."""
        found = []
        for path in sorted(path for tag in tags - self._taken for path in self._folder.glob(f"*-{tag}.spool")):
            try:
                lock = _lock(path)
                file = path.open("r+b")
            except (Timeout, OSError):
                continue
            size = file.seek(0, os.SEEK_END)
            segment = _Segment(path=path, lock=lock, file=file, size=size, own=False)
            if size:
                found.append(segment)
            else:  # its publisher has just sent and removed it
                _remove(segment)
        self._taken |= tags
        if found:
            self._segments = [*found, *self._segments]
            log.info("spool_taken_over", segments=len(found), bytes=sum(segment.size for segment in found))

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

    def sync(self) -> None:
        """Wait until what was appended is on the disk."""
        if self._segments and self._segments[-1].own:
            os.fsync(self._segments[-1].file.fileno())

    def peek(self, max_records: int, max_bytes: int) -> list[Record]:
        """Return the oldest records without removing them; what is damaged is skipped."""
        while self._segments:
            segment = self._segments[0]
            records: list[Record] = []
            position = segment.offset
            while len(records) < max_records and position - segment.offset < max_bytes and position < segment.size:
                start = position
                record, position = _read(segment, start)
                if record is not None:
                    records.append(record)
                else:
                    self.damaged_bytes += position - start
                    log.warning("spool_damaged", path=str(segment.path), at=start, bytes=position - start)
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


def _read(segment: _Segment, position: int) -> tuple[Record | None, int]:
    """Return the record at `position`, or None for damage, and where to go on."""
    segment.file.seek(position)
    head = segment.file.read(_HEAD.size)
    if not any(head):
        return None, _end_of_zeros(segment, position)
    length, checksum = _HEAD.unpack(head) if len(head) == _HEAD.size else (0, 0)
    end = position + _HEAD.size + length
    if end > segment.size or length == 0:  # the torn tail of a killed writer
        return None, segment.size
    payload = segment.file.read(length)
    if zlib.crc32(payload) != checksum:
        return None, end
    try:
        name, run, doc = msgpack.unpackb(payload, raw=False)
        return Record(str(name), str(run), bytes(doc)), end
    except (ValueError, TypeError, msgpack.UnpackException):  # written by another version
        return None, end


def _end_of_zeros(segment: _Segment, position: int) -> int:
    """Return where a record follows the zeros from `position` on; the low bytes of its length may be zero too."""
    segment.file.seek(position)
    while chunk := segment.file.read(65536):
        if rest := chunk.lstrip(b"\0"):
            first = position + len(chunk) - len(rest)
            return next((at for at in range(first, first - 4, -1) if _read(segment, at)[0] is not None), segment.size)
        position += len(chunk)
    return segment.size


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
