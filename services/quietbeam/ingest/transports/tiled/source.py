"""Runs in Tiled, followed by its websocket while TiledWriter writes them."""

from __future__ import annotations

import hashlib
import json
import queue
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import structlog

from quietbeam.core.errors import ServiceError
from quietbeam.core.settings import NetworkSettings
from quietbeam.core.wire.wire_form import pack_or_stringify

from ..source import Probe, ReceivedDocument
from .documents import Doc, RunReader
from .reader import TiledAddress, TiledReader
from .websocket import LiveReader

log = structlog.get_logger()

_DAY_S = 24 * 3600.0
_KEPT_S = 7 * _DAY_S
_IDLE_SHARE = 4.0
_INTERVAL_S = 0.5
_CHECK_S = 30.0


class TiledSource:
    """A catalog of runs. A run's documents are delivered again, from its start, until its stop is acknowledged.

    Changed nodes are requested when Tiled's websocket notifies of them. A server without streaming cache is polled
    every half second, and less often when its answers take long.

    Parameters
    ----------
    address
        Where the runs are, and whether to begin with those that exist already.
    key
        API key with the scopes ``read:metadata`` and ``read:data``.
    state
        File with the runs that are done; None for a listener, which has none.
    network
        Certificates and proxy.
    """

    name = "tiled"

    def __init__(
        self, address: TiledAddress, key: str, state: Path | None, network: NetworkSettings | None = None
    ) -> None:
        self.address, self._state_file = address, state
        self._wake = threading.Event()
        self._reader = TiledReader(address, key, network)
        self._live = LiveReader(address, key, self._wake.set, network)
        self._lock = threading.Lock()
        self._done: dict[str, float] = {}
        self._since, self._began = 0.0, time.time()
        self._has_state = self._load_state()
        self._started: dict[str, float] = {}
        self._runs: dict[str, RunReader] = {}
        self._delivered: set[str] = set()
        self._open: dict[str, dict[str, Any]] = {}
        self._round = self._searched = 0
        self._queue: queue.Queue[tuple[int, ReceivedDocument]] = queue.Queue(20_000)
        self._problem = ""
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._work, name="quietbeam-tiled", daemon=True)
        self._thread.start()

    def receive(self, timeout_s: float) -> list[ReceivedDocument]:
        """Return what has been read."""
        documents: list[ReceivedDocument] = []
        try:
            while len(documents) < 512:
                wait = timeout_s > 0 and not documents
                number, document = self._queue.get(wait, timeout_s if wait else None)
                if number == self._round:
                    documents.append(document)
        except queue.Empty:
            pass
        return documents

    def acknowledge(self, tokens: Sequence[bytes]) -> None:
        """Save the runs whose stop document is acknowledged."""
        ended = [token.decode() for token in tokens if token]
        if not ended:
            return
        with self._lock:
            self._done |= {uid: self._started.pop(uid, time.time()) for uid in ended}
            self._save_state()

    def reset(self) -> None:
        """Deliver every run that is not done again, from its start."""
        with self._lock:
            self._round += 1
            self._runs.clear()
            self._delivered.clear()
        self._wake.set()

    def close(self) -> None:
        """Stop listening."""
        self._closing.set()
        self._wake.set()
        self._thread.join(10)
        self._live.close()
        self._reader.close()

    def _work(self) -> None:
        checked = time.monotonic()
        while not self._closing.is_set():
            before = time.monotonic()
            if before > checked + _CHECK_S:
                checked = before
                self._live.recheck_quiet()
            self._wake.clear()
            self._live.begin_round()
            try:
                self._poll()
                if self._problem:
                    log.info("tiled_reconnected", uri=self.address.base)
                self._problem = ""
            except ServiceError as error:
                if str(error) != self._problem:
                    log.warning("tiled_unavailable", reason=str(error))
                self._problem = str(error)
            except Exception:
                if not self._closing.is_set():
                    log.exception("tiled_source_failed", uri=self.address.base)
            took = time.monotonic() - before
            if self._live.live and not self._problem:
                self._closing.wait(min(took, _INTERVAL_S))
                self._wake.wait(_CHECK_S)
            else:
                self._closing.wait(max(_INTERVAL_S, _IDLE_SHARE * took))

    def _poll(self) -> None:
        """Deliver the new documents of every run that is not done; an error of one does not stop the others."""
        self._search()
        failed: ServiceError | None = None
        for node, metadata in list(self._open.items()):
            try:
                if self._deliver(node, metadata):
                    del self._open[node]
            except ServiceError as error:
                failed = failed or error
            if self._closing.is_set():
                return
        if failed is not None:
            raise failed

    def _search(self) -> None:
        """Find the runs that are not done, when the catalog has changed."""
        with self._lock:
            number = self._round
        if not self._live.changed(self.address.path) and self._searched == number:
            return
        found: dict[str, dict[str, Any]] = {}
        try:
            for node in self._reader.runs(self._since):
                metadata = node["attributes"]["metadata"]
                uid = str(metadata["start"].get("uid", ""))
                with self._lock:
                    if not self._has_state and self.address.start == "latest" and self._was_over(metadata):
                        self._done[uid] = float(metadata["start"]["time"])
                    if uid and uid not in self._done and uid not in self._delivered:
                        found[node["id"]] = metadata
        except BaseException:
            self._live.unfollow(self.address.path)
            raise
        with self._lock:
            self._since = max(self._since, time.time() - _KEPT_S)
            if not self._has_state:
                self._has_state = True
                self._save_state()
        self._open, self._searched = found, number

    def _was_over(self, metadata: dict[str, Any]) -> bool:
        """Return whether a run ended before this process began: a catalog that appears later may bring whole runs."""
        stop = metadata.get("stop")
        ended = stop.get("time") if isinstance(stop, dict) else None
        return bool(stop) and not (isinstance(ended, int | float) and ended >= self._began)

    def _deliver(self, node: str, metadata: dict[str, Any]) -> bool:
        """Deliver the new documents of a run; return whether its stop document was among them."""
        uid = str(metadata["start"]["uid"])
        path = f"{self.address.path}/{node}" if self.address.path else node
        with self._lock:
            number = self._round
            self._started[uid] = float(metadata["start"]["time"])
            run = self._runs.setdefault(uid, RunReader(path))
        if metadata.get("stop"):
            self._live.unfollow(path)
        docs = run.new_documents(self._reader if metadata.get("stop") else self._live, metadata)
        for name, doc in docs:
            self._put(number, uid, name, doc)
        if not docs or docs[-1][0] != "stop":
            return False
        with self._lock:
            if number == self._round:
                self._delivered.add(uid)
                self._runs.pop(uid, None)
        return True

    def _put(self, number: int, uid: str, name: str, doc: dict[str, Any]) -> None:
        payload, complete = pack_or_stringify(doc)
        if not complete:
            log.warning("tiled_values_became_text", run=uid, name=name, reason="they have no form on the wire")
        token = uid.encode() if name == "stop" else b""
        received = ReceivedDocument(token=token, name=name, run=uid, payload=payload)
        while not self._closing.is_set() and number == self._round:
            try:
                self._queue.put((number, received), timeout=0.2)
            except queue.Full:
                continue
            return

    def _load_state(self) -> bool:
        """Read which runs are done; return False at the very first start."""
        if self._state_file is not None and self._state_file.exists():
            try:
                kept = json.loads(self._state_file.read_text(encoding="utf-8"))
                self._since, self._done = float(kept["since"]), dict(kept["done"])
            except (ValueError, KeyError, TypeError) as error:
                raise ServiceError(
                    f"{self._state_file} is damaged: delete it; the catalog is then read as at the first start"
                ) from error
            return True
        if self.address.start == "latest":
            self._since = time.time() - _DAY_S
        return False

    def _save_state(self) -> None:
        if self._state_file is None:
            return
        self._done = {uid: began for uid, began in self._done.items() if began >= self._since}
        draft = self._state_file.with_suffix(".new")
        draft.write_text(json.dumps({"since": self._since, "done": self._done}), encoding="utf-8")
        draft.replace(self._state_file)


def state_file(folder: Path, url: str) -> Path:
    """Return the file in which the source of this URL saves which runs are done."""
    return folder / f"tiled-source-{hashlib.sha256(url.encode()).hexdigest()[:12]}.json"


def read_run(address: TiledAddress, key: str, network: NetworkSettings | None = None) -> list[Doc]:
    """Return the documents of one run, whose node `address` names, as far as it has come.

    Raises
    ------
    ServiceError
        Tiled cannot be reached or sends an error, or the node is not a run.
    """
    reader = TiledReader(address, key, network)
    try:
        metadata = reader.node(address.path)["attributes"]["metadata"]
        if "uid" not in (metadata.get("start") or {}):
            raise ServiceError(f"{address.path or address.base} is no run of bluesky: give CATALOG/UID")
        return RunReader(address.path).new_documents(reader, metadata)
    finally:
        reader.close()


def probe(address: TiledAddress, key: str, network: NetworkSettings | None = None) -> Probe:
    """Search the catalog once."""
    reader = TiledReader(address, key, network)
    try:
        next(reader.runs(time.time()), None)
    except ServiceError as error:
        remedy = error.remedy or "start it, or correct ingest.sources; runs wait in Tiled meanwhile"
        return Probe(verdict="failure", found=error.message, remedy=remedy)
    finally:
        reader.close()
    return Probe(verdict="ok", found="the catalog can be searched" + (" with the key" if key else " without a key"))
