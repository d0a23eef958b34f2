"""Every document source keeps the same promises; the durable ones also deliver again."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import zmq
from structlog.testing import capture_logs
from transport_kit import TRANSPORTS, Certificates, Transport, collect, open_transport, zmq_proxy

from quietbeam.core import codec, keys
from quietbeam.core.bus import Connection, trim_acknowledged
from quietbeam.core.errors import InputError
from quietbeam.core.settings import CurveSettings, IngestSettings, Settings
from quietbeam.ingest.publisher import zmq_publisher
from quietbeam.ingest.transports import ReceivedDocument, RedisSource, ZmqSource, make_source, make_tap, probe_source
from quietbeam.ingest.transports.zmq import load_keys


@pytest.fixture(params=TRANSPORTS)
def transport(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Transport]:
    with open_transport(request.param, request, tmp_path) as opened:
        yield opened


def test_documents_come_in_order_with_their_bytes(transport: Transport) -> None:
    payloads = [codec.pack({"i": i, "text": "a b  c"}) for i in range(100)]
    for payload in payloads:
        transport.send("event", payload)
    documents = collect(transport.source, 100)
    assert [d.payload for d in documents] == payloads
    assert {d.name for d in documents} == {"event"}
    transport.source.acknowledge([d.token for d in documents])


def test_nothing_there_returns_in_time(transport: Transport) -> None:
    transport.source.receive(1.0)
    before = time.monotonic()
    assert transport.source.receive(0.05) == []
    assert time.monotonic() - before < 2


def test_garbage_passes_as_bytes_and_kills_nothing(transport: Transport) -> None:
    for junk in (b"", b"\x00" * 10, b"\xff\xfe " * 50, bytes(range(256)) * 100):
        transport.send("event", junk)
    transport.send("x" * 60, b"late")
    documents = collect(transport.source, 5)
    assert documents[-1].payload == b"late"


def test_what_is_unacknowledged_comes_again(transport: Transport) -> None:
    """After a reset, and in the next process; best-effort transports go on with what is new."""
    for i in range(40):
        transport.send("event", b"%d" % i)
    documents = collect(transport.source, 40)
    transport.source.acknowledge([d.token for d in documents[:30]])
    transport.source.reset()
    transport.send("event", b"new")
    old = [b"%d" % i for i in range(30, 40)] if transport.durable else []
    again = collect(transport.source, len(old) + 1)
    assert [d.payload for d in again] == [*old, b"new"]
    transport.source.acknowledge([d.token for d in again[:5]] if old else [])
    transport.again()
    transport.send("event", b"newer")
    rest = collect(transport.source, len(old[5:]) + 2 if old else 1)
    assert [d.payload for d in rest] == ([*old[5:], b"new"] if old else []) + [b"newer"]


def test_closing_ends_everything(transport: Transport) -> None:
    before = threading.active_count()
    for _ in range(3):
        transport.again()
    assert threading.active_count() <= before


def test_trimming_keeps_what_is_unacknowledged(redis: Connection) -> None:
    source = RedisSource(redis)
    for i in range(10):
        redis.xadd(keys.DOCS, {"name": "event", "run": "r", "doc": b"%d" % i})
    documents = collect(source, 10)
    source.acknowledge([d.token for d in documents[:4] + documents[5:]])
    assert trim_acknowledged(redis, keys.DOCS) == 4
    source.reset()
    assert [d.payload for d in collect(source, 1)] == [b"4"]


def test_zmq_overflow_is_counted() -> None:
    with zmq_proxy() as (inside, outside):
        source = ZmqSource(f"zmq://{outside}", max_documents=5)
        publisher = zmq_publisher(inside)
        deadline = time.monotonic() + 10
        while source.lost < 3:
            assert time.monotonic() < deadline
            publisher("event", {"seq_num": 1})
        assert len(source.receive(0.1)) == 5
        publisher.close()
        source.close()


def test_zmq_publisher_speaks_msgpack_and_survives_any_value() -> None:
    with zmq_proxy() as (inside, outside):
        source = ZmqSource(f"zmq://{outside}")
        publisher = zmq_publisher(inside)
        document: dict[str, Any] = {"uid": "u", "path": threading.Lock}
        deadline = time.monotonic() + 10
        received: list[ReceivedDocument] = []
        while not received:
            assert time.monotonic() < deadline
            publisher("start", document)
            received = source.receive(0.05)
        doc = codec.unpack(received[0].payload)
        assert doc["uid"] == "u" and isinstance(doc["path"], str)
        publisher.close()
        source.close()


@pytest.mark.parametrize(
    ("client", "server", "reason"),
    [
        ("stranger", "server", "does not take our client key"),
        ("client", "stranger", "another server key"),
        (None, None, "speaks no plain 0MQ"),
    ],
)
def test_with_a_wrong_key_nothing_comes_and_it_is_said(
    client: str | None, server: str | None, reason: str, tmp_path: Path
) -> None:
    certificates = Certificates(tmp_path / "keys")
    curve = certificates.settings(client, server) if client and server else CurveSettings()
    known = load_keys(curve) if client else None
    with zmq_proxy(certificates) as (inside, outside), capture_logs() as logs:
        source = ZmqSource(f"zmq://{outside}", known)
        trusted = ZmqSource(f"zmq://{outside}", load_keys(certificates.settings()))
        publisher = zmq_publisher(inside)
        deadline = time.monotonic() + 30
        while not (source.refused and trusted.receive(0.05)):
            assert time.monotonic() < deadline
            publisher("event", {"seq_num": 1})
        assert source.receive(0.1) == [] and reason in source.refused
        url = f"{'zmq+curve' if client else 'zmq'}://{outside}"
        probed = probe_source(url, Settings(ingest=IngestSettings(curve=curve)))
        assert probed.verdict == "failure" and reason in probed.found and probed.remedy
        good = probe_source(f"zmq+curve://{outside}", Settings(ingest=IngestSettings(curve=certificates.settings())))
        assert good.verdict == "ok" and "takes the key" in good.found
        for one in (source, trusted, publisher):
            one.close()
    assert [e["reason"] for e in logs if e["event"] == "zmq_refused"] == [source.refused], "said once"


def test_a_client_that_is_admitted_later_gets_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """libzmq gives up after a refusal; the source tries again. The proxy reads its folder of keys at its start."""
    monkeypatch.setattr("quietbeam.ingest.transports.zmq._RETRY_S", 0.2)
    certificates = Certificates(tmp_path / "keys")
    with zmq_proxy(certificates) as (_, outside):
        source = ZmqSource(f"zmq://{outside}", load_keys(certificates.settings("stranger")))
        collect_until(lambda: source.refused, source)
    certificates.admit("stranger")
    with zmq.Context() as context, context.socket(zmq.PUB) as server:
        public, secret = zmq.auth.load_certificate(certificates.folder / "server.key_secret")
        server.linger = 0
        server.curve_publickey, server.curve_secretkey, server.curve_server = public, secret, True
        server.bind(f"tcp://{outside}")
        collect_until(lambda: server.send(b" event x") or source.receive(0.05), source)
    assert source.refused == ""
    source.close()


def collect_until(done: Any, source: ZmqSource) -> None:
    deadline = time.monotonic() + 30
    while not done():
        assert time.monotonic() < deadline, source.refused
        time.sleep(0.02)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({}, "server_key_file"),
        ({"server_key_file": "nowhere.key"}, "server_key_file"),
        ({"server_key": "short"}, "server_key is no key"),
        ({"server_key": "'" * 40}, "server_key is no key"),
        ({"server_key_file": "server.key", "client_key_file": "client.key"}, "only the public key"),
        ({"server_key_file": "server.key", "client_key": "x"}, "client_key is no key"),
    ],
)
def test_keys_that_are_none_are_named(change: dict[str, str], words: str, tmp_path: Path) -> None:
    folder = Certificates(tmp_path / "keys").folder
    curve = CurveSettings.model_validate({k: folder / v if "file" in k else v for k, v in change.items()})
    with pytest.raises(InputError, match=words):
        load_keys(curve)


def test_keys_may_stand_in_the_settings(tmp_path: Path) -> None:
    certificates = Certificates(tmp_path / "keys")
    from_files = load_keys(certificates.settings())
    curve = CurveSettings(server_key=from_files.server.decode(), client_key=from_files.secret.decode())
    assert load_keys(curve) == from_files
    assert from_files.secret.decode() not in repr(curve)
    assert load_keys(CurveSettings(server_key=from_files.server.decode())).public != from_files.public


@pytest.mark.parametrize("name", ["", "carrier-pigeon", "zmq://", "zmq://localhost", "tcp://a:1", "zmq+curve://a"])
@pytest.mark.parametrize("make", [make_source, make_tap])
def test_unknown_sources_are_named(make: Any, redis: Connection, settings: Settings, name: str) -> None:
    with pytest.raises(InputError, match=r"ingest\.sources"):
        make(name, settings, redis)
