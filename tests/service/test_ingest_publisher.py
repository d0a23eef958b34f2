"""The publisher never harms the scan and loses nothing while Redis is away."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import redis as redis_py

from conftest import ValkeyProcess, wait_until
from quietbeam.app.ports import free_port
from quietbeam.core import codec
from quietbeam.core.wire import keys
from quietbeam.core.wire.bus import Connection, connect
from quietbeam.runengine.publisher import RedisPublisher, pack_or_stringify

NOWHERE = "unix:///tmp/quietbeam-no-such-server"


def event(i: int, **data: Any) -> dict[str, Any]:
    return {"uid": f"u{i}", "descriptor": "d", "seq_num": i, "time": 1.0, "data": {"a": i, **data}, "timestamps": {}}


def seq_nums(connection: Connection) -> list[int]:
    entries: Any = connection.xrange(keys.DOCS)
    return [codec.unpack(fields[b"doc"])["seq_num"] for _, fields in entries if fields[b"name"] == b"event"]


def test_documents_arrive_in_order_with_their_run(redis_server: str, redis: Connection, tmp_path: Path) -> None:
    publisher = RedisPublisher(redis_server, spool_dir=tmp_path)
    publisher("start", {"uid": "r1", "time": 0.0})
    publisher("descriptor", {"uid": "d", "run_start": "r1", "name": "primary", "data_keys": {}})
    for i in range(500):
        publisher("event", event(i))
    publisher("stop", {"uid": "s", "run_start": "r1"})
    assert publisher.close(10)
    assert seq_nums(redis) == list(range(500))
    entries: Any = redis.xrange(keys.DOCS)
    assert {fields[b"run"] for _, fields in entries} == {b"r1"}
    assert publisher.stats().sent == 503


def test_a_document_is_a_snapshot(redis_server: str, redis: Connection, tmp_path: Path) -> None:
    publisher = RedisPublisher(redis_server, spool_dir=tmp_path)
    values = np.arange(4)
    document = event(1, values=values)
    publisher("event", document)
    values[:] = -1
    document["seq_num"] = 99
    publisher.close()
    entries: Any = redis.xrange(keys.DOCS)
    sent = codec.unpack(entries[0][1][b"doc"])
    assert sent["seq_num"] == 1
    np.testing.assert_array_equal(sent["data"]["values"], np.arange(4))


class Odd:
    def __repr__(self) -> str:
        raise RuntimeError("no words")


def test_nothing_that_it_is_given_makes_it_raise(redis_server: str, redis: Connection, tmp_path: Path) -> None:
    publisher = RedisPublisher(redis_server, spool_dir=tmp_path)
    loop: dict[str, Any] = {}
    loop["self"] = loop
    for document in ({"uid": Path("/x")}, {"uid": Odd()}, loop, {1: 2}, None, 7, {"a": {1, "b"}}, {"x": 2**99}):
        publisher("start", document)  # type: ignore[arg-type]
    publisher(None, {})  # type: ignore[arg-type]
    publisher("event", event(1, odd=np.array([Path("/x")], dtype=object)))
    assert publisher.close(10)
    assert seq_nums(redis) == [1]


def test_values_without_a_wire_form_travel_as_text() -> None:
    payload, whole = pack_or_stringify({"uid": "u", "path": Path("/a"), "data": {"x": 3}})
    assert not whole
    assert codec.unpack(payload) == {"uid": "u", "path": "/a", "data": {"x": 3}}


def test_an_outage_is_spooled_and_drained_in_order(valkey_process: ValkeyProcess, tmp_path: Path) -> None:
    publisher = RedisPublisher(valkey_process.url, spool_dir=tmp_path)
    connection = connect(valkey_process.url)
    for i in range(100):
        publisher("event", event(i))
    wait_until(lambda: connection.xlen(keys.DOCS) == 100)
    valkey_process.kill()
    for i in range(100, 1000):
        publisher("event", event(i))
    wait_until(lambda: publisher.stats().spooled_bytes > 0 and publisher.stats().queued == 0)
    assert not publisher.stats().connected
    valkey_process.start()
    for i in range(1000, 1100):
        publisher("event", event(i))
    assert publisher.close(20)
    assert seq_nums(connection) == list(range(1100))
    assert list(tmp_path.glob("*.spool")) == []


def test_what_a_dead_engine_left_is_sent_first(valkey_process: ValkeyProcess, tmp_path: Path) -> None:
    valkey_process.kill()
    code = f"""
import os, time
from quietbeam.runengine.publisher import RedisPublisher
publisher = RedisPublisher({valkey_process.url!r}, spool_dir={str(tmp_path)!r})
for i in range(50):
    publisher("event", {{"uid": str(i), "descriptor": "d", "seq_num": i, "time": 1.0, "data": {{}}}})
while publisher.stats().queued or not publisher.stats().spooled_bytes:
    time.sleep(0.01)
os.kill(os.getpid(), 9)
"""
    assert subprocess.run([sys.executable, "-c", code], timeout=60, check=False).returncode == -9
    (segment,) = tmp_path.glob("*.spool")
    with segment.open("ab") as file:
        file.write(b"\x50\x00\x00\x00torn")  # killed while it wrote a record
    other = RedisPublisher(NOWHERE, spool_dir=tmp_path)  # another target: not its business
    valkey_process.start()
    publisher = RedisPublisher(valkey_process.url, spool_dir=tmp_path)
    publisher("event", event(50))
    assert publisher.close(20)
    assert seq_nums(connect(valkey_process.url)) == list(range(51))
    other.close(0.1)


def test_a_full_spool_drops_events_and_says_so(valkey_process: ValkeyProcess, tmp_path: Path) -> None:
    valkey_process.kill()
    publisher = RedisPublisher(valkey_process.url, spool_dir=tmp_path, max_spool_bytes=20_000)
    publisher("descriptor", {"uid": "d", "run_start": "r1", "name": "primary", "data_keys": {}})
    for i in range(100):
        publisher("event", event(i, padding="x" * 1000))
    publisher("stop", {"uid": "s", "run_start": "r1"})
    wait_until(lambda: publisher.stats().queued == 0)
    dropped = publisher.stats().dropped
    assert 70 < dropped < 90
    assert sum(f.stat().st_size for f in tmp_path.glob("*.spool")) < 22_000
    valkey_process.start()
    assert publisher.close(20)
    connection = connect(valkey_process.url)
    entries: Any = connection.xrange(keys.DOCS)
    assert entries[-1][1][b"name"] == b"stop"
    assert len(entries) == 102 - dropped
    events: Any = connection.xrange(keys.EVENTS)
    assert events[0][1][b"run"] == b"r1" and f"{dropped} documents".encode() in events[0][1][b"data"]


def test_a_full_redis_is_waited_for(valkey_process: ValkeyProcess, tmp_path: Path) -> None:
    connection = connect(valkey_process.url)
    connection.config_set("maxmemory", "1")
    publisher = RedisPublisher(valkey_process.url, spool_dir=tmp_path)
    for i in range(20):
        publisher("event", event(i))
    wait_until(lambda: publisher.stats().spooled_bytes > 0)
    connection.config_set("maxmemory", "0")
    assert publisher.close(20)
    assert seq_nums(connection) == list(range(20))


def test_close_leaves_the_rest_on_disk(tmp_path: Path) -> None:
    publisher = RedisPublisher(NOWHERE, spool_dir=tmp_path)
    for i in range(10):
        publisher("event", event(i))
    before = time.monotonic()
    assert not publisher.close(0.5)
    assert time.monotonic() - before < 8
    assert list(tmp_path.glob("*.spool"))


@pytest.mark.parametrize("away", [False, True])
def test_the_call_takes_microseconds(redis_server: str, tmp_path: Path, away: bool) -> None:
    publisher = RedisPublisher(NOWHERE if away else redis_server, spool_dir=tmp_path)
    document = event(1, **{f"xs_det{d}_L{n}": 7 for d in range(4) for n in range(10)})
    times = []
    for _ in range(2000):
        before = time.thread_time()
        publisher("event", document)
        times.append(time.thread_time() - before)
    publisher.close(0.1)
    assert np.median(times) < 100e-6  # about 6 us on an idle core


class SlowLink:
    """A way to a server that carries so many bytes a second towards it."""

    def __init__(self, port: int, bytes_s: float) -> None:
        self._port, self._bytes_s = port, bytes_s
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        self.port = self._listener.getsockname()[1]
        self._sockets: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(("127.0.0.1", self._port))
                self._sockets += [client, server]
                for source, sink, rate in ((client, server, self._bytes_s), (server, client, 0.0)):
                    threading.Thread(target=self._pump, args=(source, sink, rate), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket, bytes_s: float) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                sink.sendall(data)
                time.sleep(len(data) / bytes_s if bytes_s else 0)
        sink.close()

    def close(self) -> None:
        """End the link."""
        for one in (self._listener, *self._sockets):
            one.close()


def test_a_large_document_gets_through_a_slow_link_once(tmp_path: Path) -> None:
    port = free_port()
    server = ValkeyProcess("--port", str(port))
    server.start()
    link, direct = SlowLink(port, 4e6), redis_py.Redis(port=port)
    publisher = RedisPublisher(f"redis://127.0.0.1:{link.port}", spool_dir=tmp_path / "spool")
    try:
        publisher("start", {"uid": "r", "time": 1.0})
        publisher("event", {"descriptor": "d", "seq_num": 1, "data": {"xs": np.zeros(3_000_000, np.uint32)}})
        publisher("stop", {"uid": "s", "run_start": "r"})
        wait_until(lambda: direct.xlen(keys.DOCS) >= 3, 40, "three documents")
        wait_until(lambda: publisher.stats().queued == 0, 20, "an empty queue")
        assert direct.xlen(keys.DOCS) == 3
    finally:
        publisher.close(1)
        direct.close()
        link.close()
        server.close()


def test_a_user_without_a_home_publishes_without_a_spool(redis_server: str) -> None:
    code = (
        "import os, sys\n"
        "from quietbeam.runengine import RedisPublisher\n"
        "for name in ('HOME', 'XDG_STATE_HOME'): os.environ.pop(name, None)\n"
        "os.path.expanduser = lambda path: path\n"  # as for a user that /etc/passwd does not have
        "publisher = RedisPublisher(sys.argv[1])\n"
        "publisher('start', {'uid': 'r', 'time': 1.0})\n"
        "publisher.close(5)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, redis_server], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert redis_py.Redis.from_url(redis_server).xlen(keys.DOCS) == 1


def test_a_text_that_is_no_utf8_costs_itself(redis_server: str, redis: Connection, tmp_path: Path) -> None:
    publisher = RedisPublisher(redis_server, spool_dir=tmp_path)
    name = os.fsdecode(b"probe_3\xb5m.tif")
    publisher("start", {"uid": "r", "time": 1.0, "sample": {"picture": name, name: 2**70}, "half": "\ud83d"})
    publisher(f"ev{name}", {"uid": "e", "descriptor": "d"})
    publisher("start", {"uid": name, "time": 1.0})
    assert publisher.close(10)
    entries: Any = redis.xrange(keys.DOCS)
    doc = codec.unpack(entries[0][1][b"doc"])
    assert doc["sample"] == {"picture": r"probe_3\xb5m.tif", r"probe_3\xb5m.tif": str(2**70)}
    assert doc["half"] == r"\ud83d" and doc["uid"] == "r"
    assert len(entries) == 3 and publisher.stats().dropped == 0
    assert codec.unpack(entries[2][1][b"doc"])["uid"].encode() == entries[2][1][b"run"]


def test_what_was_spooled_under_another_url_is_sent(tmp_path: Path) -> None:
    """As after the settings changed from the server's socket to its port with a password."""
    port = free_port()
    server = ValkeyProcess("--port", str(port))
    server.start()
    first = RedisPublisher(server.url, spool_dir=tmp_path)
    first("event", event(0))
    assert first.close(10)
    server.kill()
    left = RedisPublisher(server.url, spool_dir=tmp_path)
    left("event", event(1))
    assert not left.close(0.5)
    server.start()
    direct = redis_py.Redis(port=port)
    direct.config_set("requirepass", "new")
    direct.auth("new")
    publisher = RedisPublisher(f"redis://:new@127.0.0.1:{port}", spool_dir=tmp_path)
    try:
        wait_until(lambda: seq_nums(direct) == [0, 1], what="the document that was left under the socket's URL")
    finally:
        publisher.close(5)
        direct.close()
        server.close()
