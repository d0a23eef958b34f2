"""Transports of documents, behind one Protocol: which one a URL of ``ingest.sources`` means."""

from __future__ import annotations

from dataclasses import replace

from quietbeam.core.bus import Connection
from quietbeam.core.errors import InputError
from quietbeam.core.settings import Settings

from . import kafka, zmq
from .kafka import KafkaAddress, KafkaSource
from .memory import MemorySource
from .redis_stream import RedisSource, RedisTap
from .source import DocumentSource, Probe, ReceivedDocument
from .zmq import CurveKeys, ZmqSource

__all__ = [
    "DocumentSource",
    "KafkaSource",
    "MemorySource",
    "ReceivedDocument",
    "RedisSource",
    "ZmqSource",
    "make_source",
    "make_tap",
    "probe_source",
]


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
        case _:
            return ZmqSource(url, _curve(url, settings))


def make_tap(url: str, settings: Settings, connection: Connection, *, history: bool = False) -> DocumentSource:
    """Return a source that only listens: ingest gets every document as well, and nothing is acknowledged.

    Parameters
    ----------
    history
        Begin with what the transport still holds, where it holds anything.
    """
    match _scheme(url):
        case "redis":
            return RedisTap(connection, history=history)
        case "kafka":
            address = replace(KafkaAddress.parse(url), start="earliest" if history else "latest")
            return KafkaSource(address, _kafka(settings), commit=False)
        case _:
            return ZmqSource(url, _curve(url, settings))


def probe_source(url: str, settings: Settings) -> Probe:
    """Look whether a source can be reached and takes our keys; 'redis' is looked at by itself."""
    match _scheme(url):
        case "kafka":
            return kafka.probe(KafkaAddress.parse(url), _kafka(settings))
        case _:
            return zmq.probe(url, _curve(url, settings))


def _curve(url: str, settings: Settings) -> CurveKeys | None:
    return zmq.load_keys(settings.ingest.curve) if _scheme(url) == "zmq+curve" else None


def _kafka(settings: Settings) -> dict[str, str]:
    return {key: value.get_secret_value() for key, value in settings.ingest.kafka.items()}


def _scheme(url: str) -> str:
    scheme, _, rest = url.partition("://")
    if url == "redis" or (scheme in ("zmq", "zmq+curve") and rest.rpartition(":")[0]) or scheme == "kafka":
        return scheme
    raise InputError(
        f"ingest.sources: {url!r} is none of 'redis', zmq://HOST:PORT, zmq+curve://HOST:PORT, kafka://BROKERS/TOPIC"
    )
