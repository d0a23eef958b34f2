"""A scan of a real RunEngine over every transport: each count arrives, also when ingest is killed in the middle."""

from __future__ import annotations

import contextlib
import threading
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import bluesky.plan_stubs as bps
import bluesky.preprocessors as bpp
import httpx
import msgpack
import msgpack_numpy
import numpy as np
import pyarrow
import pytest
from bluesky import RunEngine
from confluent_kafka import Producer
from ingest_kit import FlyScan, Pipe, Scan
from ophyd.sim import SynSignal
from publish_kit import KEY, TiledProcess
from pydantic import SecretStr
from structlog.testing import capture_logs
from transport_kit import Broker, Certificates, collect, zmq_proxy

from conftest import wait_until
from quietbeam.core import codec
from quietbeam.core.errors import InputError, ServiceError
from quietbeam.core.model.types import RunState
from quietbeam.core.settings import CurveSettings, Settings
from quietbeam.core.wire.bus import Connection
from quietbeam.ingest.documents.playback import renewed
from quietbeam.ingest.transports import MemorySource, make_source, probe_source, read_tiled
from quietbeam.ingest.transports.tiled import state_file
from quietbeam.runengine.publisher import RedisPublisher, zmq_publisher

pytestmark = pytest.mark.timeout(600)  # Tiled starts slowly on a busy machine
ROWS, COLS = 4, 5
Callback = Callable[[str, dict[str, Any]], Any]


def with_ingest(settings: Settings, **changes: Any) -> Settings:
    return settings.model_copy(update={"ingest": settings.ingest.model_copy(update=changes)})


@contextlib.contextmanager
def link(
    name: str, settings: Settings, request: pytest.FixtureRequest, tmp_path: Path
) -> Iterator[tuple[Callback, Settings]]:
    """Yield what the RunEngine subscribes, as beamlines do it, and the settings of an ingest that listens to it."""
    if name == "redis":
        redis = RedisPublisher(settings.redis_url, spool_dir=tmp_path / "spool")
        yield redis, settings
        assert redis.close(30)
    elif name == "kafka":
        broker: Broker = request.getfixturevalue("broker")
        topic = f"{uuid.uuid4().hex[:6]}.bluesky.runengine.documents"
        broker.create(topic)
        producer = Producer({"bootstrap.servers": broker.address, "log_level": 2})

        def produce(kind: str, doc: dict[str, Any]) -> None:  # as bluesky-kafka 0.10 and nslsii do
            value = msgpack.packb((kind, doc), default=msgpack_numpy.encode)
            producer.produce(topic, key=doc.get("run_start", "uid"), value=value)
            producer.flush(20)

        url = f"kafka://{broker.address}/{topic}?group=scan&start=earliest"
        yield produce, with_ingest(settings, sources=(url,))
    elif name == "tiled":
        tiled: TiledProcess = request.getfixturevalue("tiled")
        url = f"tiled+http://127.0.0.1:{tiled.port}/raw"
        with tiled_writer(tiled, "raw") as writer:
            yield writer, with_ingest(settings, sources=(url,), tiled_api_key=SecretStr(KEY))
    else:
        certificates = Certificates(tmp_path / "keys") if name == "zmq+curve" else None
        with zmq_proxy(certificates) as (inside, outside):
            curve = certificates.settings() if certificates else CurveSettings()
            listening = with_ingest(settings, sources=(f"{name}://{outside}",), curve=curve)
            publisher = zmq_publisher(inside)
            yield publisher, listening
            publisher.close()


class Engine:
    """A RunEngine whose detectors read the counts of a `Scan`, a pixel or a row at a time."""

    def __init__(self, scan: Scan, *, rows: bool) -> None:
        self.scan, self.rows, self.index = scan, rows, 0
        self.engine = RunEngine({})
        self.devices = [SynSignal(name=key, func=self._read(key)) for key in [*scan.keys, "i0"]]

    def _read(self, key: str) -> Callable[[], Any]:
        def value() -> Any:
            first = self.index * COLS if self.rows else self.index
            values = [self.scan.values(n)[key] for n in range(first, first + (COLS if self.rows else 1))]
            return np.array(values, "<f4" if key == "i0" else "<u4") if self.rows else values[0]

        return value

    def run(self, between: Callable[[int], object]) -> str:
        """Scan; `between(n)` is called after n pixels or rows; return the run's uid."""
        start = {k: v for k, v in self.scan.start[1].items() if k not in ("uid", "time")}

        @bpp.run_decorator(md=start)
        def plan() -> Iterator[Any]:
            for index in range(ROWS if self.rows else ROWS * COLS):
                self.index = index
                yield from bps.trigger_and_read(self.devices)
                between(index + 1)

        (uid,) = self.engine(plan())
        return str(uid)


def opened(settings: Settings, redis: Connection) -> Pipe:
    return Pipe(settings, redis, make_source(settings.ingest.sources[0], settings, redis))


@pytest.mark.parametrize("rows", [False, True], ids=["pixels", "rows"])
@pytest.mark.parametrize(
    "name",
    [
        pytest.param("redis", marks=pytest.mark.supports("transport", "Redis Streams (`redis`), ingest killed midway")),
        pytest.param("zmq", marks=pytest.mark.supports("transport", "0MQ proxy of bluesky (`zmq://`)")),
        pytest.param("zmq+curve", marks=pytest.mark.supports("transport", "0MQ proxy with CURVE (`zmq+curve://`)")),
        pytest.param("kafka", marks=pytest.mark.supports("transport", "Kafka (`kafka://`), ingest killed midway")),
        pytest.param(
            "tiled",
            marks=pytest.mark.supports("transport", "runs of TiledWriter (`tiled+http://`), ingest killed midway"),
        ),
    ],
)
def test_a_scan_arrives_bit_for_bit(
    name: str, rows: bool, settings: Settings, redis: Connection, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    scan = Scan(ROWS, COLS, seed=3)
    with link(name, settings, request, tmp_path) as (callback, listening):
        pipes = [opened(listening, redis)]
        if name.startswith("zmq"):
            wait_until(lambda: pipes[0].source.receive(0.05) or callback("hello", {}), 30, "the subscription")
        engine = Engine(scan, rows=rows)
        uids: list[str] = []
        engine.engine.subscribe(callback)
        engine.engine.subscribe(lambda _, doc: uids.append(doc["uid"]), "start")

        def between(n: int) -> None:
            pixels = n * COLS if rows else n
            if pixels == 2 * COLS:  # two rows are there while the scan goes on
                pipes[-1].until(lambda: pipes[-1].state(uids[0]) is RunState.RUNNING, 120)
                pipes[-1].until(lambda: pipes[-1].status(uids[0]).rows_measured >= 2, 120)
            if pixels == 3 * COLS and not name.startswith("zmq"):
                pipes[-1].die()
                pipes[-1].source.close()
                pipes.append(opened(listening, redis))

        uid = engine.run(between)
        pipe = pipes[-1]
        pipe.until(lambda: pipe.state(uid) is RunState.COMPLETE, 60)
        np.testing.assert_array_equal(pipe.counts(uid), scan.counts)
        np.testing.assert_array_equal(pipe.buffer(uid).read_i0(), scan.i0)
        assert pipe.quarantined() == []
        pipe.stage.close()


@contextlib.contextmanager
def tiled_writer(tiled: TiledProcess, catalog: str) -> Iterator[Callback]:
    """Yield a TiledWriter of a catalog."""
    from bluesky_tiled_plugins import TiledWriter
    from tiled.client import from_uri

    client = from_uri(tiled.uri, api_key=KEY)
    yield TiledWriter(client[catalog] if catalog in client else client.create_container(catalog), batch_size=1)
    client.context.close()


def test_tables_of_the_embedded_tiled_are_read_while_they_grow(tiled: TiledProcess) -> None:
    """With one connection for all requests DuckDB answered 500, or ended the server."""
    from tiled.client import from_uri

    row = pyarrow.table({"seq_num": [1], "x": [1.0]})
    client = from_uri(tiled.uri, api_key=KEY)
    table = client.create_appendable_table(row.schema, key="growing")
    written, answers = threading.Event(), set[int]()

    def read() -> None:
        address, header = f"{tiled.uri}/table/full/growing?format=application/json", {"Authorization": f"Apikey {KEY}"}
        with httpx.Client(headers=header, timeout=60, trust_env=False) as reader:
            while not written.is_set():
                answers.add(reader.get(address).status_code)

    readers = [threading.Thread(target=read) for _ in range(2)]
    for reader in readers:
        reader.start()
    try:
        for _ in range(50):
            table.append_partition(0, row)
    finally:
        written.set()
        for reader in readers:
            reader.join()
    assert answers == {200} and not tiled.crashed
    assert len(table.read()) == 50
    client.context.close()


def writes(tiled: TiledProcess, docs: list[tuple[str, dict[str, Any]]], catalog: str) -> str:
    """Let TiledWriter write documents into a catalog of its own; return the URL of the catalog."""
    with tiled_writer(tiled, catalog) as writer:
        for name, doc in docs:
            writer(name, doc)
    return f"tiled+http://127.0.0.1:{tiled.port}/{catalog}"


@pytest.mark.supports("transport", "runs of TiledWriter after the fact, also with their counts in an HDF5 file")
def test_runs_in_tiled_after_the_fact(
    tiled: TiledProcess, settings: Settings, redis: Connection, tmp_path: Path
) -> None:
    """A fly scan with its counts in a file, and a step scan in pieces: told from where they are, done when kept."""
    fly = FlyScan(tmp_path / "fly.h5", 3, 4)
    docs = [*fly.head()]
    fly.write(12)
    fly.file.close()
    docs += [*fly.datums(0, 7), *fly.datums(7, 12), fly.stop()]
    step = Scan(2, 3)
    url = writes(tiled, [*docs, *step.docs()[:6]], "after")
    keyed = with_ingest(settings, sources=(f"{url}?start=earliest",), tiled_api_key=SecretStr(KEY))
    pipe = opened(keyed, redis)
    pipe.until(lambda: pipe.state(fly.uid) is RunState.COMPLETE, 60)
    np.testing.assert_array_equal(pipe.counts(fly.uid), fly.counts)
    pipe.until(lambda: pipe.state(step.uid) is RunState.RUNNING, 60)
    pipe.until(lambda: fly.uid in state_file(keyed.data_dir, keyed.ingest.sources[0]).read_text(), 30)
    pipe.stage.close()

    again = make_source(keyed.ingest.sources[0], keyed, redis)
    assert {document.run for document in collect(again, 6)} == {step.uid}, "what is done does not come again"
    again.close()
    late = make_source(url, with_ingest(keyed, sources=(url,)), redis)
    assert {document.run for document in collect(late, 6)} == {step.uid}, "a group that begins now takes up open runs"
    late.close()

    documents, broken = read_tiled(f"{url}/{fly.uid}", keyed)
    assert not broken and documents[-1][0] == "stop"
    memory = MemorySource()
    copy = renewed(documents)
    for name, doc in copy:
        memory.send(name, codec.pack(doc))
    pipe = Pipe(keyed, redis, memory)
    uid = copy[0][1]["uid"]
    pipe.until(lambda: pipe.state(uid) is RunState.COMPLETE, 60)
    np.testing.assert_array_equal(pipe.counts(uid), fly.counts)
    pipe.stage.close()
    assert "is not over" in read_tiled(f"{url}/{step.uid}", keyed)[1]
    with pytest.raises(ServiceError, match="is no run"):
        read_tiled(url, keyed)
    with pytest.raises(ServiceError, match="404"):
        read_tiled(f"{url}/nowhere", keyed)


@pytest.mark.supports("transport", "Tiled's websocket: rows come without asking, also after Tiled was killed")
def test_runs_in_tiled_are_followed_by_websocket(
    tiled: TiledProcess, settings: Settings, redis: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is never asked again for want of news, so what comes has been told by the websocket."""
    for pause in ("_CHECK_S", "_INTERVAL_S"):
        monkeypatch.setattr(f"quietbeam.ingest.transports.tiled.source.{pause}", 3600.0)
    scan = Scan(3, 4)
    docs = scan.docs()
    url = writes(tiled, [], "followed")
    source = make_source(f"{url}?start=earliest", with_ingest(settings, tiled_api_key=SecretStr(KEY)), redis)
    with tiled_writer(tiled, "followed") as writer:
        got = []
        for name, doc in docs:
            writer(name, doc)
            if name == "event":
                got += [one for one in collect(source, 1) if one.name == "event"]
        got += collect(source, len(docs) - 2 - len(got))
    assert got[-1].name == "stop"
    source.close()


def test_tiled_that_was_killed_is_followed_again(tiled: TiledProcess, settings: Settings, redis: Connection) -> None:
    for attempt in range(4):
        try:
            _kill_tiled_in_a_scan(tiled, settings, redis, f"killed-{attempt}")
            return
        except httpx.TransportError:
            if not tiled.crashed:
                raise
            tiled.start()  # here nobody restarts it, as `up` does; what the writer had not sent is lost
    pytest.fail("Tiled ended by itself four times")


def _kill_tiled_in_a_scan(tiled: TiledProcess, settings: Settings, redis: Connection, name: str) -> None:
    scan = Scan(3, 4, uid=str(uuid.uuid4()))
    docs = scan.docs()
    url = writes(tiled, [], name)
    pipe = opened(with_ingest(settings, sources=(f"{url}?start=earliest",), tiled_api_key=SecretStr(KEY)), redis)
    with contextlib.closing(pipe.stage), tiled_writer(tiled, name) as writer:
        for kind, doc in docs[:7]:
            writer(kind, doc)
        pipe.until(lambda: pipe.state(scan.uid) is RunState.RUNNING, 60)
        pipe.until(lambda: pipe.status(scan.uid).rows_measured >= 1, 60)
        tiled.kill()
        with capture_logs() as logs:
            pipe.until(lambda: any(entry["event"] == "tiled_not_streaming" for entry in logs), 60)
        tiled.start()
        for kind, doc in docs[7:]:
            writer(kind, doc)
        pipe.until(lambda: pipe.state(scan.uid) is RunState.COMPLETE, 150)  # half a minute on an idle machine
        np.testing.assert_array_equal(pipe.counts(scan.uid), scan.counts)


def test_a_tiled_without_streaming_cache_is_asked(settings: Settings, redis: Connection, tmp_path: Path) -> None:
    scan = Scan(2, 3)
    docs = scan.docs()
    tiled = TiledProcess(tmp_path, streaming=False)
    tiled.start()
    url = writes(tiled, [], "asked")
    with capture_logs() as logs, tiled_writer(tiled, "asked") as writer:
        pipe = opened(with_ingest(settings, sources=(url,), tiled_api_key=SecretStr(KEY)), redis)
        for name, doc in docs[:6]:
            writer(name, doc)
        pipe.until(lambda: pipe.state(scan.uid) is RunState.RUNNING, 60)
        for name, doc in docs[6:]:
            writer(name, doc)
        pipe.until(lambda: pipe.state(scan.uid) is RunState.COMPLETE, 60)
    np.testing.assert_array_equal(pipe.counts(scan.uid), scan.counts)
    assert [entry["event"] for entry in logs].count("tiled_not_streaming") == 1, "said once"
    pipe.stage.close()
    tiled.kill()


def test_tiled_is_probed(tiled: TiledProcess, settings: Settings) -> None:
    url = f"tiled+http://127.0.0.1:{tiled.port}"
    good = probe_source(url, with_ingest(settings, tiled_api_key=SecretStr(KEY)))
    assert good.verdict == "ok" and "with the key" in good.found
    bad = probe_source(url, with_ingest(settings, tiled_api_key=SecretStr("wrong")))
    assert bad.verdict == "failure" and bad.remedy == "set ingest.tiled_api_key"
    away = probe_source("tiled+http://127.0.0.1:1/raw", settings)
    assert away.verdict == "failure" and "does not answer" in away.found and "wait in Tiled" in away.remedy


def test_tiled_that_is_away_is_waited_for(settings: Settings, redis: Connection) -> None:
    with capture_logs() as logs:
        source = make_source("tiled+http://127.0.0.1:1/raw", settings, redis)
        wait_until(lambda: any(e["event"] == "tiled_unavailable" for e in logs), 30)
        assert source.receive(0.05) == []
        source.close()
    assert len([e for e in logs if e["event"] == "tiled_unavailable"]) == 1, "said once"


def test_a_damaged_memory_of_tiled_is_named(settings: Settings, redis: Connection) -> None:
    url = "tiled+http://127.0.0.1:1/raw"
    settings.data_dir.mkdir()
    state_file(settings.data_dir, url).write_text("{")
    with pytest.raises(ServiceError, match="is damaged: delete it"):
        make_source(url, settings, redis)


@pytest.mark.parametrize("url", ["tiled+http:///raw", "tiled+http://h/raw?start=now", "tiled+http://h/raw?key=x"])
def test_tiled_urls_that_are_none_are_named(url: str, settings: Settings, redis: Connection) -> None:
    with pytest.raises(InputError, match=r"tiled\+http://HOST:PORT/CATALOG"):
        make_source(url, settings, redis)
