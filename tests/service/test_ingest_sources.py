"""Every document source keeps the same promises; the durable ones also deliver again."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import msgpack
import msgpack_numpy
import numpy as np
import pytest
import zmq
from confluent_kafka import Consumer, Producer, TopicPartition
from pydantic import SecretStr
from structlog.testing import capture_logs
from transport_kit import (
    TAKES_ANY_BYTES,
    TRANSPORTS,
    Broker,
    Certificates,
    Transport,
    collect,
    open_transport,
    zmq_proxy,
)

from quietbeam.core import codec
from quietbeam.core.errors import InputError
from quietbeam.core.settings import CurveSettings, IngestSettings, Settings
from quietbeam.core.wire import keys
from quietbeam.core.wire.bus import Connection, trim_acknowledged
from quietbeam.ingest.transports import (
    KafkaSource,
    ReceivedDocument,
    RedisSource,
    RedisTap,
    ZmqSource,
    make_source,
    make_tap,
    probe_source,
)
from quietbeam.ingest.transports.kafka import KafkaAddress
from quietbeam.ingest.transports.kafka_offsets import PartitionOffsets
from quietbeam.ingest.transports.zmq import load_keys
from quietbeam.runengine.publisher import zmq_publisher


@pytest.fixture(params=TRANSPORTS)
def transport(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Transport]:
    with open_transport(request.param, request, tmp_path) as opened:
        yield opened


def test_documents_come_in_order_with_their_bytes(transport: Transport) -> None:
    sent = [{"i": i, "text": "a b  c"} for i in range(60)]
    for doc in sent:
        transport.send("event", codec.pack(doc))
    documents = transport.collect(60)
    assert transport.contents(documents) == sent
    if not transport.by_run:
        assert [d.payload for d in documents] == [codec.pack(doc) for doc in sent]
        assert {d.name for d in documents} == {"event"}
    transport.source.acknowledge([d.token for d in documents])


def test_nothing_there_returns_in_time(transport: Transport) -> None:
    transport.source.receive(1.0)
    before = time.monotonic()
    assert [d for d in transport.source.receive(0.05) if d.name == "event"] == []
    assert time.monotonic() - before < 2


@pytest.mark.parametrize("transport", TAKES_ANY_BYTES, indirect=True)
def test_garbage_passes_as_bytes_and_kills_nothing(transport: Transport) -> None:
    for junk in (b"", b"\x00" * 10, b"\xff\xfe " * 50, bytes(range(256)) * 100):
        transport.send("event", junk)
    transport.send("x" * 60, b"late")
    documents = collect(transport.source, 5)
    assert documents[-1].payload == b"late"


def test_who_comes_late_gets_what_is_kept_and_then_what_is_new(transport: Transport) -> None:
    sent = [{"i": i} for i in range(10)]
    for doc in sent:
        transport.send("event", codec.pack(doc))
    transport.again()
    transport.send("event", codec.pack({"i": 10}))
    expected = [*transport.kept(sent, 0), {"i": 10}]
    assert transport.contents(transport.collect(len(expected))) == expected


def test_what_is_unacknowledged_comes_again(transport: Transport) -> None:
    """After a reset, and in the next process; best-effort transports go on with what is new."""
    sent = [{"i": i} for i in range(40)]
    for doc in sent:
        transport.send("event", codec.pack(doc))
    documents = transport.collect(40)
    transport.source.acknowledge([d.token for d in documents[:30]])
    transport.source.reset()
    transport.send("event", codec.pack({"i": 40}))
    expected = [*transport.kept(sent, 30), {"i": 40}]
    again = transport.collect(len(expected))
    assert transport.contents(again) == expected
    transport.source.acknowledge([d.token for d in again[:5]])
    transport.again()
    transport.send("event", codec.pack({"i": 41}))
    expected = [*transport.kept(expected, 5), {"i": 41}]
    assert transport.contents(transport.collect(len(expected))) == expected


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


def test_nothing_is_trimmed_before_a_tap_has_read_it(redis: Connection) -> None:
    source, tap = RedisSource(redis), RedisTap(redis)
    for i in range(10):
        redis.xadd(keys.DOCS, {"name": "event", "run": "r", "doc": b"%d" % i})
    source.acknowledge([d.token for d in collect(source, 10)])
    assert trim_acknowledged(redis, keys.DOCS) == 0
    assert [d.payload for d in collect(tap, 10)] == [b"%d" % i for i in range(10)]
    assert trim_acknowledged(redis, keys.DOCS) == 9
    tap.close()
    assert [group["name"] for group in redis.xinfo_groups(keys.DOCS)] == [b"ingest"]


def test_a_tap_that_is_gone_holds_back_nothing_for_ever(redis: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    source, _ = RedisSource(redis), RedisTap(redis)
    redis.xadd(keys.DOCS, {"name": "event", "run": "r", "doc": b"1"})
    source.acknowledge([d.token for d in collect(source, 1)])
    monkeypatch.setattr("quietbeam.core.wire.bus.TAP_IDLE_S", -1)
    trim_acknowledged(redis, keys.DOCS)
    assert [group["name"] for group in redis.xinfo_groups(keys.DOCS)] == [b"ingest"]


def test_a_tap_goes_on_after_redis_lost_everything(redis: Connection) -> None:
    tap = RedisTap(redis)
    redis.flushall()
    assert tap.receive(0.01) == []
    redis.xadd(keys.DOCS, {"name": "event", "run": "r", "doc": b"1"})
    assert [d.payload for d in collect(tap, 1)] == [b"1"]


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


def committed(broker: Broker, topic: str, group: str = "g") -> list[int]:
    consumer = Consumer({"bootstrap.servers": broker.address, "group.id": group, "log_level": 2})
    parts = [TopicPartition(topic, n) for n in consumer.list_topics(topic, timeout=5).topics[topic].partitions]
    offsets = [part.offset for part in consumer.committed(parts, timeout=5)]
    consumer.close()
    return offsets


def produce(broker: Broker, topic: str, numbers: Iterable[int], partition: int = 0) -> None:
    """As bluesky-kafka 0.10 does."""
    producer = Producer({"bootstrap.servers": broker.address, "log_level": 2})
    for number in numbers:
        doc = {"seq_num": number, "data": {"xs": np.arange(number, number + 3)}}
        value = msgpack.packb(("event", doc), default=msgpack_numpy.encode)
        producer.produce(topic, key="run", value=value, partition=partition)
        producer.flush(20)


def numbers(documents: list[ReceivedDocument]) -> list[int]:
    return [codec.unpack(one.payload)["seq_num"] for one in documents]


def kafka(broker: Broker, topic: str, options: str = "?group=g&start=earliest", **more: Any) -> KafkaSource:
    return KafkaSource(KafkaAddress.parse(f"kafka://{broker.address}/{topic}{options}"), {}, **more)


def test_kafka_offsets_wait_for_what_came_before(broker: Broker) -> None:
    """Two partitions; acknowledged out of order, as runs that overlap are."""
    broker.create("two", 2)
    produce(broker, "two", range(10))
    produce(broker, "two", range(100, 110), 1)
    source = kafka(broker, "two")
    documents = {numbers([one])[0]: one for one in collect(source, 20)}
    assert list(codec.unpack(documents[7].payload)["data"]["xs"]) == [7, 8, 9], "arrays of msgpack-numpy"
    source.acknowledge([documents[n].token for n in (0, 1, 3, 4, 9, *range(100, 110))])
    source.close()
    assert committed(broker, "two") == [2, 10]
    source = kafka(broker, "two")
    assert sorted(numbers(collect(source, 8))) == list(range(2, 10)), "what is acknowledged beyond a gap comes again"
    source.close()


def test_kafka_begins_at_the_end_and_goes_on_from_there(broker: Broker) -> None:
    broker.create("late")
    produce(broker, "late", [1])
    source = kafka(broker, "late", "?group=new")
    assert source.receive(1.0) == []
    source.close()  # before anything was acknowledged
    produce(broker, "late", [2, 3])
    source = kafka(broker, "late", "?group=new")
    assert numbers(collect(source, 2)) == [2, 3]
    source.close()


def test_a_tap_takes_nothing_from_the_group(broker: Broker, settings: Settings, redis: Connection) -> None:
    broker.create("tapped")
    url = f"kafka://{broker.address}/tapped?group=g&start=earliest"
    produce(broker, "tapped", [1, 2])
    old, new = (make_tap(url, settings, redis, history=history) for history in (True, False))
    assert numbers(collect(old, 2)) == [1, 2] and new.receive(0.5) == []
    produce(broker, "tapped", [3])
    assert numbers(collect(old, 1)) == numbers(collect(new, 1)) == [3]
    old.close()
    new.close()
    assert committed(broker, "tapped") == [-1001], "no offset was stored"


def test_a_broker_that_is_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("quietbeam.ingest.transports.kafka._RETRY_S", 0.2)
    broker = Broker(tmp_path)
    with capture_logs() as logs:
        source = kafka(broker, "t")
        before = time.monotonic()
        assert source.receive(0.1) == [] and time.monotonic() - before < 30
        broker.start()
        broker.create("t")
        produce(broker, "t", range(5))
        old = collect(source, 5)
        source.acknowledge([one.token for one in old[:2]])
        broker.kill()
        assert source.receive(0.1) == []
        broker.start()
        broker.create("t")
        produce(broker, "t", range(50, 60))  # it had kept all in memory: the log is a new one
        got = numbers(collect(source, 5, 60))
        while got[-1] < 59:  # from 50 on, if the brokers answered before the log was as long as the old one
            got += numbers(collect(source, 1, 60))
        assert got[-5:] == [55, 56, 57, 58, 59]
    broker.kill()
    before = time.monotonic()
    source.close()
    assert time.monotonic() - before < 30
    assert {"kafka_error", "kafka_connected"} <= {entry["event"] for entry in logs}


def test_a_log_that_began_again_is_another_log() -> None:
    """Brokers that lost a topic number it from 0 again; acknowledgements of the old one mean nothing then."""
    offsets = PartitionOffsets(0)
    assert all(offsets.deliver(offset) for offset in range(5))
    for offset in (3, 0, 1):
        offsets.acknowledge(offset)
    assert offsets.position == offsets.rewind() == 2
    assert [offset for offset in range(2, 5) if offsets.deliver(offset)] == [2, 4] and offsets.generation == 0
    assert offsets.deliver(0) and offsets.generation == 1 and offsets.position == 0


def test_kafka_is_probed(broker: Broker) -> None:
    broker.create("there")
    base = f"kafka://{broker.address}"
    assert "1 partition" in probe_source(f"{base}/there", Settings()).found
    missing = probe_source(f"{base}/missing", Settings())
    assert missing.verdict == "warning" and "nknown topic" in missing.found
    away = probe_source("kafka://127.0.0.1:1/t", Settings())
    assert away.verdict == "failure" and "refused" in away.found and "ingest.kafka" in away.remedy


@pytest.mark.parametrize(
    ("url", "options", "words"),
    [
        ("kafka://b", {}, "is not kafka://"),
        ("kafka://b/", {}, "is not kafka://"),
        ("kafka://b/t?grop=x", {}, "is not kafka://"),
        ("kafka://b/t?start=now", {}, "is not kafka://"),
        ("kafka://b/t", {"sasl.pasword": "x"}, "ingest.kafka: No such configuration property"),
    ],
)
def test_kafka_that_cannot_be_is_named(url: str, options: dict[str, str], words: str, redis: Connection) -> None:
    secret = {key: SecretStr(value) for key, value in options.items()}
    with pytest.raises(InputError, match=words):
        make_source(url, Settings(ingest=IngestSettings(kafka=secret)), redis)


def test_without_the_client_library_it_is_said_how_to_install(
    monkeypatch: pytest.MonkeyPatch, redis: Connection, settings: Settings
) -> None:
    monkeypatch.setitem(sys.modules, "confluent_kafka", None)
    with pytest.raises(InputError, match=r"pip install 'quietbeam\[kafka\]'"):
        make_source("kafka://b/t", settings, redis)


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
