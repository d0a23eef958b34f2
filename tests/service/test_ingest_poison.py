"""Garbage, spoilt documents and mistakes of ours: set aside with a reason; other runs go on."""

from __future__ import annotations

import copy
import os
from collections.abc import Iterator
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

import msgpack
import numpy as np
import pytest
from ingest_kit import FlyScan, Pipe, Scan, same

from quietbeam.core.errors import DocumentError
from quietbeam.core.model.types import RunState
from quietbeam.core.settings import RedisSettings, Settings
from quietbeam.core.wire.bus import Connection, connect
from quietbeam.ingest.rows.assembler import RowAssembler
from quietbeam.ingest.run import router as run_module
from quietbeam.ingest.stage import service as service_module

if TYPE_CHECKING:
    from conftest import ValkeyProcess


@pytest.fixture
def pipe(settings: Settings, redis: Connection) -> Iterator[Pipe]:
    pipe = Pipe(settings, redis)
    yield pipe
    pipe.stage.close()


def deep(n: int) -> bytes:
    return b"\x81\xa1a" * n + b"\xc0"


class Bomb:
    """Would leave a file behind if anything unpickled it."""

    def __reduce__(self) -> Any:
        return (Path("/tmp/quietbeam-test-was-unpickled").touch, ())


def hostile() -> list[tuple[str, bytes]]:
    import pickle  # noqa: TID251  (the very thing that must never be executed)

    bomb = pickle.dumps(Bomb())
    array = {"__nd__": ["|O", [1]], "b": bomb}
    corpus: list[tuple[str, bytes]] = [(name, bomb) for name in ("start", "event", "stop")]
    corpus += [(name, junk) for name in ("start", "event") for junk in (b"", b"\xc1", b"\xff" * 1000, os.urandom(5000))]
    corpus += [("event", deep(n)) for n in (600, 5000, 200_000)]
    corpus += [
        ("event", b"\xdd\xff\xff\xff\xff"),  # an array of 4 billion entries
        ("event", b"\xc6\x7f\xff\xff\xff" + b"x"),  # 2 GB of bytes, it says
        ("start", msgpack.packb({"uid": b"\xff\xfe"})),
        ("start", b"\x81\xa3uid\xa4\xff\xfe\xfd\xfc"),  # bad UTF-8
        ("start", msgpack.packb({"uid": "../../etc/cron.d/x", "time": 0})),
        ("start", msgpack.packb({"uid": "a" * 500, "time": 0})),
        ("start", msgpack.packb({"uid": 3})),
        ("start", msgpack.packb([1, 2])),
        ("nonsense", msgpack.packb({})),
        ("\x00" * 100, msgpack.packb({})),
        ("bulk_events", msgpack.packb({})),
        ("event", msgpack.packb({"descriptor": "d", "seq_num": float("nan"), "data": {}})),
        ("event", msgpack.packb({"descriptor": "d", "seq_num": -4, "data": {}})),
        ("event", msgpack.packb({"descriptor": "d", "seq_num": 1, "data": [1]})),
        ("event", msgpack.packb({"descriptor": "d", "seq_num": 1, "data": {"x": array}})),
        (
            "event",
            msgpack.packb({"descriptor": "d", "seq_num": 1, "data": {"x": {"__nd__": ["<f8", [10**9]], "b": b""}}}),
        ),
        ("event", msgpack.packb({"descriptor": "d", "seq_num": 1, "data": {"x": {"__nd__": ["<f8", [-1]], "b": b""}}})),
        ("event_page", msgpack.packb({"descriptor": "d", "seq_num": [1, 2], "data": {"x": [1]}})),
        ("stream_datum", msgpack.packb({"descriptor": "d", "stream_resource": "r", "indices": {"start": 0}})),
        (
            "stream_datum",
            msgpack.packb(
                {
                    "descriptor": "d",
                    "stream_resource": "r",
                    "indices": {"start": 0, "stop": 2**62},
                    "seq_nums": {"start": 1, "stop": 2},
                }
            ),
        ),
    ]
    return corpus


def test_poison_is_set_aside_and_the_scan_goes_on(pipe: Pipe) -> None:
    marker = Path("/tmp/quietbeam-test-was-unpickled")
    marker.unlink(missing_ok=True)
    scan = Scan()
    corpus = hostile()
    assert pipe.source.name == "memory"
    for i, doc in enumerate(scan.docs()):
        for name, payload in corpus[i * 2 : i * 2 + 2] if i else corpus[40:] + corpus[:2]:
            pipe.source.send(name, payload, scan.uid)  # type: ignore[attr-defined]
        pipe.send([doc])
    pipe.drain()
    same(pipe, scan)
    assert pipe.status(scan.uid).state is RunState.COMPLETE
    assert not marker.exists()
    assert all(entry["reason"] for entry in pipe.quarantined())
    assert len(pipe.quarantined()) >= len(corpus) - 3  # some only speak of unknown descriptors


ODD: list[Any] = [None, True, 0, -1, 2**31, 2**63, 1.5, float("nan"), "", "../x", "u" * 300, b"y", [], [0, 0], [-1, 3]]
ODD += [[10**9, 10**9], [[1, 2], [3]], ["a", "b"], {}, {"a": {"b": [1]}}, np.arange(3), np.zeros((2, 2)), {1: 2}]


def spoil(doc: dict[str, Any], random: Random) -> dict[str, Any]:
    """Return the document with one entry, at any depth, replaced or removed."""
    doc = copy.deepcopy(doc)
    holder, key = doc, random.choice(list(doc))
    while isinstance(holder[key], dict) and holder[key] and random.random() < 0.7:
        holder = holder[key]
        key = random.choice(list(holder))
    if random.random() < 0.2:
        del holder[key]
    else:
        holder[key] = random.choice(ODD)
    return doc


@pytest.mark.parametrize("seed", [1, 2])
def test_spoilt_documents_harm_no_other_run(
    settings: Settings, redis: Connection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    """Thirty scans of which every tenth document is spoilt, some out of order, beside one that is sound."""
    for module in (run_module, service_module):
        monkeypatch.setattr(module, "ORPHAN_S", 0.2)
    waits = {"file_timeout": timedelta(seconds=0.2), "stale_after": timedelta(seconds=1.5)}
    settings = settings.model_copy(update={"ingest": settings.ingest.model_copy(update=waits)})
    pipe, random = Pipe(settings, redis), Random(seed)
    sound, streams = Scan(seed=99), []
    for number in range(30):
        if number % 2:
            fly = FlyScan(tmp_path / f"{number}.h5", seed=number)
            fly.write(fly.pixels)
            docs = [*fly.head(), *(d for i in range(0, 20, 5) for d in fly.datums(i, i + 5)), fly.stop()]
        else:
            step = Scan(seed=number)
            docs = [step.start, step.descriptor(), step.page(0, 7), *(step.event(i) for i in range(20)), step.stop()]
        docs = [(name, spoil(doc, random)) if random.random() < 0.1 else (name, doc) for name, doc in docs]
        if number % 3 == 0:
            random.shuffle(docs)
        streams.append(docs[::-1])
    streams.append(sound.docs()[::-1])
    while streams:
        docs = random.choice(streams)
        with suppress(DocumentError):  # no such value gets on the wire
            pipe.send([docs.pop()])
        streams = [docs for docs in streams if docs]
    pipe.drain()
    same(pipe, sound)
    assert pipe.status(sound.uid).state is RunState.COMPLETE and not pipe.status(sound.uid).warnings
    reasons = [entry["reason"] for entry in pipe.quarantined()]
    assert len(reasons) > 20 and not [reason for reason in reasons if "internal error" in reason]


def test_an_error_of_ours_in_one_run_ends_no_other(
    settings: Settings, redis: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipe = Pipe(settings, redis)
    first, second = Scan(seed=1), Scan(seed=2)
    write = RowAssembler.flush

    def flush(self: RowAssembler, *args: Any, **options: Any) -> Any:
        if self._buffer.info.uid == first.uid:
            raise ZeroDivisionError("a mistake")
        return write(self, *args, **options)

    monkeypatch.setattr(RowAssembler, "flush", flush)
    for pair in zip(first.docs(), second.docs(), strict=True):
        pipe.send(pair)
    pipe.until(lambda: pipe.state(second.uid) is RunState.COMPLETE)
    pipe.until(lambda: pipe.state(first.uid) is RunState.UNUSABLE)
    same(pipe, second)
    assert "ZeroDivisionError: a mistake" in pipe.status(first.uid).reason
    monkeypatch.setattr(RowAssembler, "flush", write)  # mended
    pipe.die()
    pipe = pipe.again()
    pipe.until(lambda: pipe.state(first.uid) is RunState.COMPLETE)
    same(pipe, first)
    pipe.stage.close()


def test_bad_documents_while_redis_is_full_are_acknowledged_in_the_end(
    settings: Settings, valkey_process: ValkeyProcess
) -> None:
    """What could not be set aside for want of room must not hold up what comes after it."""
    settings = settings.model_copy(update={"redis": RedisSettings(url=valkey_process.url)})
    connection = connect(valkey_process.url)
    scan = Scan()
    docs = scan.docs()
    docs.insert(6, scan.event_of(99, scan.values(0)))  # outside the map
    pipe = Pipe(settings, connection)
    pipe.send(docs[:4])
    pipe.stage.step()
    pipe.send(docs[4:])
    connection.config_set("maxmemory", "1")
    pipe.until(lambda: pipe.stage._backoff.seconds > 0)
    connection.config_set("maxmemory", "0")
    pipe.drain()
    same(pipe, scan)
    assert any("outside the map" in entry["reason"] for entry in pipe.quarantined())
    pipe.stage.close()


@pytest.mark.parametrize("ends", [True, False])
def test_frames_that_stay_incomplete_are_let_go_in_the_end(
    settings: Settings, redis: Connection, tmp_path: Path, ends: bool
) -> None:
    """I0 is announced by a resource that never comes: its frames are not measured, but nothing is kept for ever."""
    ingest = settings.ingest.model_copy(update={"file_timeout": timedelta(0), "stale_after": timedelta(seconds=1.5)})
    pipe = Pipe(settings.model_copy(update={"ingest": ingest}), redis)
    scan = FlyScan(tmp_path / "scan.h5")
    scan.write(scan.pixels)
    head = [(name, doc) for name, doc in scan.head() if doc.get("data_key") != "i0_counts"]
    pipe.send([*head, *scan.datums(0, 20)])
    pipe.until(lambda: pipe.stage._runs.get(scan.uid) and not pipe.stage._runs.get(scan.uid).router.idle)
    pipe.until(lambda: pipe.stage._runs.get(scan.uid).router.idle)
    if ends:
        pipe.send([scan.stop()])
    pipe.drain()
    pipe.until(lambda: pipe.status(scan.uid).state is (RunState.INCOMPLETE if ends else RunState.STALE))
    assert pipe.status(scan.uid).pixels_measured == 0
    pipe.stage.close()
