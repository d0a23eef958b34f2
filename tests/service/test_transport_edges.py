"""Where transports meet the network: dead connections, IPv6, and topics and catalogs that appear after ingest."""

from __future__ import annotations

import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import event_model
import msgpack
import pytest
import zmq
from confluent_kafka import Producer
from publish_kit import KEY, TiledProcess
from transport_kit import Broker, collect

from conftest import wait_until
from quietbeam.core import codec
from quietbeam.core.errors import InputError
from quietbeam.core.wire import zmq_address
from quietbeam.core.wire.zmq_address import parse_zmq
from quietbeam.ingest.transports import KafkaSource, TiledSource, ZmqSource
from quietbeam.ingest.transports import kafka as kafka_module
from quietbeam.ingest.transports.kafka import KafkaAddress
from quietbeam.ingest.transports.tiled.reader import TiledAddress
from quietbeam.runengine.zmq_publisher import zmq_publisher


class ForgetfulFirewall:
    """Forwards to a port; after `forget` the old connections carry nothing and do not end, new ones work."""

    def __init__(self, port: int) -> None:
        self._target = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._generation = self.connections = 0
        self._sockets: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def forget(self) -> None:
        self._generation += 1

    def close(self) -> None:
        for one in (self._listener, *self._sockets):
            one.close()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            far = socket.create_connection(("127.0.0.1", self._target))
            self.connections += 1
            self._sockets += [near, far]
            for pair in ((near, far), (far, near)):
                threading.Thread(target=self._pump, args=(self._generation, *pair), daemon=True).start()

    def _pump(self, generation: int, source: socket.socket, sink: socket.socket) -> None:
        try:
            while data := source.recv(65536):
                if generation == self._generation:
                    sink.sendall(data)
        except OSError:
            return


@pytest.fixture
def quick_heartbeats(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zmq_address, "HEARTBEAT_MS", 100)
    monkeypatch.setattr(zmq_address, "SILENCE_MS", 400)


Bind = Callable[..., tuple["zmq.Socket[bytes]", int]]


@pytest.fixture
def bind() -> Iterator[Bind]:
    """A function that returns a bound socket of a kind, and its port."""
    sockets: list[zmq.Socket[bytes]] = []
    with zmq.Context() as context:

        def bound(kind: int, host: str = "127.0.0.1") -> tuple[zmq.Socket[bytes], int]:
            one = context.socket(kind)
            sockets.append(one)
            one.linger = 0
            one.setsockopt(zmq.IPV6, ":" in host)
            if kind == zmq.SUB:
                one.subscribe(b"")
            return one, one.bind_to_random_port(f"tcp://{host}")

        yield bound
        for one in sockets:
            one.close()


def hears(source: ZmqSource, out: zmq.Socket[bytes], timeout_s: float = 15) -> bool:
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        out.send(b" start " + codec.pack({"uid": "u"}))
        if source.receive(0.05):
            return True
    return False


def is_heard(publisher: Callable[..., None], inside: zmq.Socket[bytes], timeout_s: float = 15) -> bool:
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        publisher("start", {"uid": "u"})
        if inside.poll(50):
            return True
    return False


def test_a_connection_that_a_firewall_forgot_is_made_again(bind: Bind, quick_heartbeats: None) -> None:
    out, port = bind(zmq.PUB)
    firewall = ForgetfulFirewall(port)
    source = ZmqSource(f"zmq://127.0.0.1:{firewall.port}")
    try:
        assert hears(source, out)
        firewall.forget()
        while source.receive(0.1):
            pass
        assert hears(source, out)
        assert firewall.connections == 2
    finally:
        source.close()
        firewall.close()


def test_a_publisher_whose_connection_a_firewall_forgot_is_heard_again(bind: Bind, quick_heartbeats: None) -> None:
    inside, port = bind(zmq.SUB)
    firewall = ForgetfulFirewall(port)
    publisher = zmq_publisher(f"127.0.0.1:{firewall.port}")
    try:
        for _ in range(2):
            assert is_heard(publisher, inside)
            while inside.poll(100):
                inside.recv()
            firewall.forget()
    finally:
        publisher.close()
        firewall.close()


def test_zmq_over_ipv6(bind: Bind) -> None:
    (out, out_port), (inside, in_port) = bind(zmq.PUB, "[::1]"), bind(zmq.SUB, "[::1]")
    source, publisher = ZmqSource(f"zmq://[::1]:{out_port}/"), zmq_publisher(f"[::1]:{in_port}")
    try:
        assert hears(source, out)
        assert is_heard(publisher, inside)
    finally:
        publisher.close()
        source.close()


@pytest.mark.parametrize(
    ("text", "url", "ipv6"),
    [
        ("zmq://127.0.0.1:5578", "tcp://127.0.0.1:5578", False),
        ("zmq://localhost:5578/", "tcp://localhost:5578", False),
        (" zmq+curve://tcp://xrf-1.example.org:05578 ", "tcp://xrf-1.example.org:5578", False),
        ("tcp://[::1]:1", "tcp://[::1]:1", True),
        ("[fe80::1%eth0]:65535", "tcp://[fe80::1%eth0]:65535", True),
        ("ip6-host:1", "tcp://ip6-host:1", True),
    ],
)
def test_addresses_as_people_write_them(text: str, url: str, ipv6: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    def resolve(host: str, *_args: object, **_options: object) -> list[tuple[int]]:
        if host == "localhost":
            return [(socket.AF_INET6,), (socket.AF_INET,)]
        if host == "ip6-host":
            return [(socket.AF_INET6,)]
        raise socket.gaierror

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    assert parse_zmq(text) == zmq_address.ZmqAddress(url=url, ipv6=ipv6)


@pytest.mark.parametrize(
    "text", ["zmq://::1:5578", "zmq://host", "zmq://host:0", "zmq://host:99999", "zmq://a b:1", "zmq://u@host:1", ":5"]
)
def test_addresses_that_are_none_are_refused(text: str) -> None:
    with pytest.raises(InputError, match="HOST:PORT"):
        parse_zmq(text)


def test_a_topic_that_appears_later_is_read_from_its_first_document(
    broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kafka_module, "_RETRY_S", 0.5)
    topic = f"late-{uuid.uuid4().hex[:8]}"
    source = KafkaSource(KafkaAddress.parse(f"kafka://{broker.address}/{topic}?group=g{topic}"), {})
    try:
        assert source.receive(0.2) == []
        broker.create(topic)
        producer = Producer({"bootstrap.servers": broker.address, "linger.ms": 0, "log_level": 2})
        for n in range(3):
            producer.produce(topic, value=b"\x92" + msgpack.packb("event") + codec.pack({"n": n}))
        producer.flush(20)
        assert [codec.unpack(one.payload)["n"] for one in collect(source, 3)] == [0, 1, 2]
    finally:
        source.close()


def test_a_catalog_that_appears_later_is_read_from_its_first_run(tiled: TiledProcess, tmp_path: Path) -> None:
    from bluesky_tiled_plugins import TiledWriter
    from tiled.client import from_uri

    client = from_uri(tiled.uri, api_key=KEY)
    catalog = f"late{uuid.uuid4().hex[:8]}"
    address = TiledAddress.parse(f"tiled+http://127.0.0.1:{tiled.port}/{catalog}")
    source = TiledSource(address, KEY, tmp_path / "tiled.json")
    try:
        wait_until(lambda: source._problem, what="a catalog that is not there yet")
        run = event_model.compose_run()
        documents = [("start", run.start_doc), ("stop", run.compose_stop())]
        writer = TiledWriter(client.create_container(catalog), batch_size=1)
        for name, doc in documents:
            writer(name, doc)
        assert [one.name for one in collect(source, 2)] == ["start", "stop"]
    finally:
        source.close()
        client.context.close()
