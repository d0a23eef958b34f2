"""Transports of documents, behind one Protocol: which one a URL of ``ingest.sources`` means."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from quietbeam.core.errors import InputError
from quietbeam.core.settings import Settings
from quietbeam.core.wire.bus import Connection

from . import kafka, tiled, zmq
from .kafka import KafkaAddress, KafkaSource
from .memory import MemorySource
from .redis_stream import RedisSource, RedisTap
from .source import DocumentSource, Probe, ReceivedDocument
from .tiled import TiledAddress, TiledSource
from .zmq import CurveKeys, ZmqSource

__all__ = [
    "DocumentSource",
    "KafkaSource",
    "MemorySource",
    "ReceivedDocument",
    "RedisSource",
    "RedisTap",
    "TiledSource",
    "ZmqSource",
    "make_source",
    "make_tap",
    "probe_source",
    "read_tiled",
]

_BY_URL = ("kafka", "tiled+http", "tiled+https")


def make_source(url: str, settings: Settings, connection: Connection) -> DocumentSource:
    """Return the source that an entry of ``ingest.sources`` names.

    Raises
    ------
    InputError
        A URL of no known transport, or keys or options that cannot be used.
    """
    match _scheme(url):
        case "redis":
            return RedisSource(connection)
        case "kafka":
            return KafkaSource(KafkaAddress.parse(url), _kafka(settings))
        case "tiled+http" | "tiled+https":
            state = tiled.state_file(settings.data_dir, url)
            return TiledSource(TiledAddress.parse(url), tiled_key(settings, url), state, settings.network)
        case _:
            return ZmqSource(url, _curve(url, settings))


def make_tap(url: str, settings: Settings, connection: Connection, *, history: bool = False) -> DocumentSource:
    """Return a source that only listens: ingest receives every document as well, and nothing is acknowledged.

    Parameters
    ----------
    history
        Begin with the documents that the transport still has, if it stores any.
    """
    match _scheme(url):
        case "redis":
            return RedisTap(connection, history=history)
        case "kafka":
            address = replace(KafkaAddress.parse(url), start="earliest" if history else "latest")
            return KafkaSource(address, _kafka(settings), commit=False)
        case "tiled+http" | "tiled+https":
            where = replace(TiledAddress.parse(url), start="earliest" if history else "latest")
            return TiledSource(where, tiled_key(settings, url), None, settings.network)
        case _:
            return ZmqSource(url, _curve(url, settings))


def probe_source(url: str, settings: Settings) -> Probe:
    """Test whether a source can be reached and accepts the configured keys; not for 'redis'."""
    match _scheme(url):
        case "kafka":
            return kafka.probe(KafkaAddress.parse(url), _kafka(settings))
        case "tiled+http" | "tiled+https":
            return tiled.probe(TiledAddress.parse(url), tiled_key(settings, url), settings.network)
        case _:
            return zmq.probe(url, _curve(url, settings))


def read_tiled(url: str, settings: Settings) -> tuple[list[tuple[str, dict[str, Any]]], str]:
    """Return the documents of a run in Tiled, and a sentence when it is not over.

    Raises
    ------
    QuietbeamError
        No such URL or run, or Tiled cannot be reached or sends an error.
    """
    documents = tiled.read_run(TiledAddress.parse(url), tiled_key(settings, url), settings.network)
    return documents, "" if documents[-1][0] == "stop" else "the run is not over; its documents so far are used"


def tiled_key(settings: Settings, url: str) -> str:
    """Return the key for reading runs: ``ingest.tiled_api_key``, or the publishing key when it is the same Tiled."""
    if settings.ingest.tiled_api_key is not None:
        return settings.ingest.tiled_api_key.get_secret_value()
    same = TiledAddress.parse(url).base == settings.tiled_uri.rstrip("/").removesuffix("/api/v1") + "/api/v1/"
    return settings.tiled_api_key() if same else ""


def _curve(url: str, settings: Settings) -> CurveKeys | None:
    return zmq.load_keys(settings.ingest.curve) if _scheme(url) == "zmq+curve" else None


def _kafka(settings: Settings) -> dict[str, str]:
    return {key: value.get_secret_value() for key, value in settings.ingest.kafka.items()}


def _scheme(url: str) -> str:
    scheme, _, rest = url.partition("://")
    if url == "redis" or (scheme in ("zmq", "zmq+curve") and rest.rpartition(":")[0]) or scheme in _BY_URL:
        return scheme
    raise InputError(
        f"ingest.sources: {url!r} is none of 'redis', zmq://HOST:PORT, zmq+curve://HOST:PORT, kafka://BROKERS/TOPIC, "
        "tiled+http://HOST:PORT/CATALOG"
    )
