"""Recorded runs: documents in a file, in the order in which they came, each with the time of its arrival.

JSON lines ``["name", {document}, time]`` or a stream of msgpack ``[name, document, time]``, both also gzipped. msgpack
keeps the types of arrays; JSON makes lists of them and null of NaN. Older recordings have no times.
"""

from __future__ import annotations

import gzip
import io
import time
import uuid
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import msgpack
import orjson

from quietbeam.core import codec
from quietbeam.core.errors import DocumentError, FileFormatError, InputError
from quietbeam.core.process.stop import StopRequest

from .relocate import Recorded
from .relocate import relocate as relocate

Timed = tuple[str, Any, float]
SUFFIXES = (".jsonl", ".jsonl.gz", ".msgpack", ".msgpack.gz")
_LONGEST_PAUSE_S = 3600.0


class Recorder:
    """Writes whole runs into a new file; a reader understands it at any moment, whole or not.

    Parameters
    ----------
    path
        Its ending says how it is written.

    Raises
    ------
    InputError
        Another ending, or the file is there or cannot be made.
    """

    def __init__(self, path: Path) -> None:
        if not path.name.endswith(SUFFIXES):
            raise InputError(f"{path}: a recording is called {', '.join(f'*{suffix}' for suffix in SUFFIXES)}")
        try:
            self._file: BinaryIO = path.open("xb")
        except FileExistsError as error:
            raise InputError(f"{path} is there already; give the recording another name") from error
        except OSError as error:
            raise InputError(f"{path} cannot be written: {error.strerror}") from error
        self._gzip = gzip.GzipFile(fileobj=self._file, mode="wb") if path.suffix == ".gz" else None
        self._json = ".jsonl" in path.suffixes
        self._run_by_uid: dict[str, str] = {}
        self._streams: dict[str, str] = {}
        self._events: dict[str, dict[str, set[int]]] = {}
        self.documents = self.refused = self.without_start = 0
        self.ended: list[str] = []
        self.gaps: list[str] = []
        """Sentences on ended runs of which fewer events came than their stop documents announce."""

    def record(self, name: str, payload: bytes) -> None:
        """Take one document as it came from a transport, if its run began while this recorded."""
        try:
            doc = codec.unpack(payload)
            if not isinstance(doc, dict):
                raise DocumentError("a document is a map")
            run = self._run_of(name, doc)
            entry = self._packed(name, doc) if run else b""
        except DocumentError:
            self.refused += 1
            return
        if not run:
            self.without_start += 1
            return
        (self._gzip or self._file).write(entry)
        self.documents += 1
        if name == "descriptor":
            self._streams[str(doc.get("uid"))] = str(doc.get("name"))
        elif numbers := _sequence_numbers(name, doc):
            stream = self._streams.get(str(doc.get("descriptor")), "")
            self._events.setdefault(run, {}).setdefault(stream, set()).update(numbers)
        elif name == "stop":
            self.ended.append(run)
            self.gaps += _gaps(run, doc, self._events.pop(run, {}))

    def _run_of(self, name: str, doc: Mapping[str, Any]) -> str:
        uid = str(doc.get("uid", ""))
        if name == "start":
            self._run_by_uid[uid] = uid
            return uid
        for key in ("run_start", "descriptor", "resource", "stream_resource"):
            if run := self._run_by_uid.get(str(doc.get(key, ""))):
                if name in ("descriptor", "resource", "stream_resource"):
                    self._run_by_uid[uid] = run
                return run
        return ""

    def _packed(self, name: str, doc: dict[str, Any]) -> bytes:
        entry = [name, doc, round(time.time(), 6)]
        if not self._json:
            return codec.pack(entry)
        try:
            return orjson.dumps(entry, option=orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS) + b"\n"
        except TypeError as error:
            raise DocumentError(f"no JSON: {error}") from error

    def flush(self) -> None:
        """Let the file hold what was taken."""
        if self._gzip is not None:
            self._gzip.flush()
        self._file.flush()

    def close(self) -> None:
        """Finish the file."""
        if self._gzip is not None:
            self._gzip.close()
        self._file.close()


def _sequence_numbers(name: str, doc: Mapping[str, Any]) -> Iterable[int]:
    """Return the numbers of the events that a document brings; of series of files, those of any of its keys."""
    numbers: Any = doc.get("seq_nums") if name == "stream_datum" else doc.get("seq_num")
    try:
        match name:
            case "event":
                return (int(numbers),)
            case "event_page":
                return [int(n) for n in numbers]
            case "stream_datum":
                return range(int(numbers["start"]), int(numbers["stop"]))
    except (TypeError, ValueError, LookupError):
        pass
    return ()


def _gaps(run: str, stop: Mapping[str, Any], came: Mapping[str, set[int]]) -> list[str]:
    announced = stop.get("num_events")
    wanted = announced.items() if isinstance(announced, Mapping) else ()
    return [
        f"run {run}: {n - len(came.get(stream, ()))} of {n} events of stream {stream!r} are missing"
        for stream, n in wanted
        if isinstance(n, int) and n > len(came.get(stream, ()))
    ]


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


def paced(documents: Sequence[Recorded], arrived: Sequence[float | None]) -> Iterator[Timed]:
    """Yield (name, document, seconds since the one before).

    The times are those of arrival, else those in the documents; a time that goes back, or on by hours, is no pause.
    """
    before: float | None = None
    for (name, doc), came in zip(documents, arrived, strict=True):
        times = doc.get("time")
        at = came if came is not None else times[-1] if isinstance(times, list) and times else times
        pause = 0.0
        if isinstance(at, int | float):
            pause = float(at) - before if before is not None else 0.0
            before = float(at)
        yield name, doc, pause if 0 < pause <= _LONGEST_PAUSE_S else 0.0


def renewed(documents: Sequence[Recorded]) -> list[Recorded]:
    """Return the documents as those of new runs that begin now: other uids, other times, all else as it was."""
    new: dict[str, str] = {}
    for name, doc in documents:
        uids = doc.get("uid", ()) if name != "stream_datum" else ()
        new |= {str(uid): str(uuid.uuid4()) for uid in (uids if isinstance(uids, list | tuple) else (uids,))}
    first = next((doc["time"] for name, doc in documents if name == "start" and "time" in doc), None)
    shift = time.time() - first if isinstance(first, int | float) else 0.0

    def change(value: Any) -> Any:
        if isinstance(value, str):
            # a datum is called after its resource: UID/NUMBER
            head, slash, tail = value.partition("/")
            return new[value] if value in new else f"{new[head]}{slash}{tail}" if head in new else value
        if isinstance(value, Mapping):
            return {change(key): change(item) for key, item in value.items()}
        return [change(item) for item in value] if isinstance(value, list | tuple) else value

    def later(doc: dict[str, Any]) -> dict[str, Any]:
        times = doc.get("time")
        if isinstance(times, int | float):
            return doc | {"time": times + shift}
        return doc | {"time": [item + shift for item in times]} if isinstance(times, list) else doc

    return [(name, later(change(doc))) for name, doc in documents]


def play(
    documents: Iterable[Timed], publish: Callable[[str, Any], Any], *, speed: float, stop: StopRequest
) -> dict[str, int]:
    """Send documents at the pace of the measurement; return how many of each name were sent.

    Parameters
    ----------
    speed
        1 is the measurement's own pace, 0 as fast as possible.
    stop
        Ends the replay early; the stop document then says that the run was aborted.
    """
    sent: dict[str, int] = {}
    due = time.monotonic()
    for name, doc, seconds in documents:
        if speed:
            due += seconds / speed
            stop.wait(max(0.0, due - time.monotonic()))
        if stop.is_set() and name == "start":
            break
        if stop.is_set() and name not in ("descriptor", "stop"):
            continue
        if name == "stop" and stop.is_set():
            events = sent.get("event", 0)
            doc = doc | {
                "exit_status": "abort",
                "reason": "replay was interrupted",
                "num_events": {"primary": events},
            }
        publish(name, doc)
        sent[name] = sent.get(name, 0) + 1
    return sent
