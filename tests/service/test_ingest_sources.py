"""Every document source keeps the same promises; the durable ones also deliver again."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import zmq
from bluesky.callbacks.zmq import Proxy

from quietbeam.core import codec, keys
from quietbeam.core.bus import Connection, trim_acknowledged
from quietbeam.core.errors import InputError
from quietbeam.ingest.publisher import zmq_publisher
from quietbeam.ingest.transports import (
    DocumentSource,
    MemorySource,
    ReceivedDocument,
    RedisSource,
    ZmqSource,
    make_source,
)

Send = Callable[[str, bytes], None]


@pytest.fixture
def zmq_proxy() -> Iterator[tuple[str, str]]:
    """In and out address of a real bluesky proxy in a thread."""
    proxy = Proxy(("tcp", "127.0.0.1:*"), ("tcp", "127.0.0.1:*"))
    addresses = [
        socket.getsockopt_string(zmq.LAST_ENDPOINT).removeprefix("tcp://")
        for socket in (proxy._frontend, proxy._backend)
    ]

    def forward() -> None:
        try:
            zmq.proxy(proxy._frontend, proxy._backend)
        except zmq.ZMQError:
            return

    thread = threading.Thread(target=forward, daemon=True)
    thread.start()
    yield addresses[0], addresses[1]
    proxy._context.destroy(linger=0)
    thread.join(5)


@pytest.fixture(params=["memory", "redis", "zmq"])
def transport(request: pytest.FixtureRequest, redis: Connection) -> Iterator[tuple[DocumentSource, Send]]:
    if request.param == "memory":
        memory = MemorySource()
        yield memory, lambda name, payload: memory.send(name, payload)
    elif request.param == "redis":
        yield (
            RedisSource(redis, batch=16),
            lambda name, payload: redis.xadd(keys.DOCS, {"name": name, "run": "", "doc": payload}),  # type: ignore[return-value]
        )
    else:
        addresses = request.getfixturevalue("zmq_proxy")
        source = ZmqSource(f"zmq://{addresses[1]}")
        context = zmq.Context()
        socket = context.socket(zmq.PUB)
        socket.connect(f"tcp://{addresses[0]}")

        def send(name: str, payload: bytes) -> None:
            socket.send(b" ".join([b"", name.encode(), payload]))

        deadline = time.monotonic() + 10
        while not source.receive(0.02):  # subscriptions travel; the first messages may be lost
            assert time.monotonic() < deadline
            send("hello", b"")
        while source.receive(0.2):
            pass
        yield source, send
        source.close()
        context.destroy(linger=0)
        return


def collect(source: DocumentSource, n: int) -> list[ReceivedDocument]:
    documents: list[ReceivedDocument] = []
    deadline = time.monotonic() + 10
    while len(documents) < n:
        assert time.monotonic() < deadline, f"{len(documents)} of {n} documents came"
        documents += source.receive(0.1)
    return documents


def test_documents_come_in_order_with_their_bytes(transport: tuple[DocumentSource, Send]) -> None:
    source, send = transport
    payloads = [codec.pack({"i": i, "text": "a b  c"}) for i in range(100)]
    for payload in payloads:
        send("event", payload)
    documents = collect(source, 100)
    assert [d.payload for d in documents] == payloads
    assert {d.name for d in documents} == {"event"}
    source.acknowledge([d.token for d in documents])


def test_nothing_there_returns_in_time(transport: tuple[DocumentSource, Send]) -> None:
    source, _ = transport
    before = time.monotonic()
    assert source.receive(0.05) == []
    assert time.monotonic() - before < 2


def test_garbage_passes_as_bytes_and_kills_nothing(transport: tuple[DocumentSource, Send]) -> None:
    source, send = transport
    for junk in (b"", b"\x00" * 10, b"\xff\xfe " * 50, bytes(range(256)) * 100):
        send("event", junk)
    send("x" * 60, b"late")
    documents = collect(source, 5)
    assert documents[-1].payload == b"late"


def test_reset_delivers_again_what_is_unacknowledged(transport: tuple[DocumentSource, Send]) -> None:
    source, send = transport
    if isinstance(source, ZmqSource):
        pytest.skip("0MQ is best effort: it does not deliver again")
    for i in range(40):
        send("event", b"%d" % i)
    documents = collect(source, 40)
    source.acknowledge([d.token for d in documents[:30]])
    send("event", b"new")
    source.reset()
    again = collect(source, 11)
    assert [d.payload for d in again] == [b"%d" % i for i in range(30, 40)] + [b"new"]


def test_trimming_keeps_what_is_unacknowledged(redis: Connection) -> None:
    source = RedisSource(redis)
    for i in range(10):
        redis.xadd(keys.DOCS, {"name": "event", "run": "r", "doc": b"%d" % i})
    documents = collect(source, 10)
    source.acknowledge([d.token for d in documents[:4] + documents[5:]])
    assert trim_acknowledged(redis, keys.DOCS) == 4
    source.reset()
    assert [d.payload for d in collect(source, 1)] == [b"4"]


def test_zmq_overflow_is_counted(zmq_proxy: tuple[str, str]) -> None:
    source = ZmqSource(f"zmq://{zmq_proxy[1]}", max_documents=5)
    publisher = zmq_publisher(zmq_proxy[0])
    deadline = time.monotonic() + 10
    while source.lost < 3:
        assert time.monotonic() < deadline
        publisher("event", {"seq_num": 1})
    assert len(source.receive(0.1)) == 5
    publisher.close()
    source.close()


def test_zmq_publisher_speaks_msgpack_and_survives_any_value(zmq_proxy: tuple[str, str]) -> None:
    source = ZmqSource(f"zmq://{zmq_proxy[1]}")
    publisher = zmq_publisher(zmq_proxy[0])
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


@pytest.mark.parametrize("name", ["", "kafka", "zmq://", "zmq://localhost", "tcp://a:1"])
def test_unknown_sources_are_named(redis: Connection, name: str) -> None:
    with pytest.raises(InputError, match=r"ingest\.sources"):
        make_source(name, redis)
