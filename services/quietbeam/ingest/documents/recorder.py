"""Writes whole runs into a file, document by document, and counts the events that did not come."""

from __future__ import annotations

import gzip
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import orjson

from quietbeam.core import codec
from quietbeam.core.errors import DocumentError, InputError

from .recording import SUFFIXES


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
