"""`quietbeam record` and `quietbeam replay` of recordings, as processes, with a real Redis and a real 0MQ proxy."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from ingest_kit import Pipe, Scan
from typer.testing import CliRunner

from quietbeam.cli import app
from quietbeam.core import codec
from quietbeam.core.errors import InputError
from quietbeam.core.model.types import RunState
from quietbeam.core.settings import Settings
from quietbeam.core.wire import keys, runs
from quietbeam.core.wire.bus import Connection
from quietbeam.ingest.documents.recorder import Recorder
from quietbeam.ingest.documents.recording import read_recording
from quietbeam.ingest.transports import RedisSource


@pytest.fixture
def config(settings: Settings, tmp_path: Path) -> Path:
    path = tmp_path / "qb.yaml"
    path.write_text(yaml.safe_dump({"data_dir": str(settings.data_dir), "redis": {"url": settings.redis_url}}))
    return path


def start(*words: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "quietbeam", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )


def finish(process: subprocess.Popen[str], code: int = 0) -> tuple[str, str]:
    out, err = process.communicate(timeout=90)
    assert process.returncode == code, out + err
    return out, err


def send(redis: Connection, scan: Scan) -> None:
    for name, doc in scan.docs():
        redis.xadd(keys.DOCS, {"name": name, "run": "", "doc": codec.pack(doc)})


@pytest.mark.supports("transport", "recorded files: `record`, `replay`; JSON lines, msgpack, gzip")
def test_a_recorded_run_is_replayed_bit_for_bit(
    config: Path, tmp_path: Path, redis: Connection, settings: Settings
) -> None:
    scan = Scan(4, 5)
    send(redis, scan)
    path = tmp_path / "run.jsonl.gz"
    out, _ = finish(start("record", "-c", str(config), "-o", str(path), "--history"))
    assert f"run {scan.uid}: ended, 23 documents recorded" in out
    assert not redis.xinfo_groups(keys.DOCS), "recording joins no group"
    redis.delete(keys.DOCS)
    out, _ = finish(start("replay", str(path), "-c", str(config), "--speed", "0"))
    assert "sent 1 start, 1 descriptor, 20 event, 1 stop" in out
    finish(start("replay", str(path), "-c", str(config), "--speed", "0", "--as-recorded"))
    pipe = Pipe(settings, redis, RedisSource(redis))
    pipe.until(lambda: pipe.state(scan.uid) is RunState.COMPLETE)
    uids = runs.list_runs(redis)
    assert len(uids) == 2 and uids[1] == scan.uid, "the run of today is newer than the recorded one"
    pipe.until(lambda: pipe.state(uids[0]) is RunState.COMPLETE)
    for uid in uids:
        np.testing.assert_array_equal(pipe.counts(uid), scan.counts)
    pipe.stage.close()


def test_a_recording_with_a_gap_says_so(config: Path, tmp_path: Path, redis: Connection) -> None:
    scan = Scan(4, 5)
    for i, (name, doc) in enumerate(scan.docs()):
        if i not in (5, 9, 10):
            redis.xadd(keys.DOCS, {"name": name, "run": "", "doc": codec.pack(doc)})
    command = start("record", "-c", str(config), "-o", str(tmp_path / "run.jsonl"), "--history")
    _, err = finish(command, 1)
    assert f"run {scan.uid}: 3 of 20 events of stream 'primary' are missing: the recording is not whole" in err


def test_a_recording_is_ended_by_ctrl_c_and_takes_nothing_from_ingest(
    config: Path, tmp_path: Path, redis: Connection, settings: Settings
) -> None:
    path = tmp_path / "runs.jsonl"
    recorder = start("record", "-c", str(config), "-o", str(path), "--runs", "0")
    assert recorder.stdout is not None and "recording all runs" in recorder.stdout.readline()
    pipe = Pipe(settings, redis, RedisSource(redis))
    scans: list[Scan] = []

    def recorded_two() -> bool:  # the first may have come before the recorder listened
        if not scans or pipe.state(scans[-1].uid) is RunState.COMPLETE:
            scans.append(Scan(2, 3, seed=len(scans)))
            send(redis, scans[-1])
        pipe.stage.step()
        return path.exists() and path.read_bytes().count(b'["stop"') >= 2

    pipe.until(recorded_two, 60)
    recorder.send_signal(signal.SIGINT)
    finish(recorder)
    pipe.until(lambda: all(pipe.state(scan.uid) is RunState.COMPLETE for scan in scans))
    found = read_recording(path)
    starts = [doc["uid"] for name, doc in found.documents if name == "start"]
    assert len(starts) >= 2 and starts == [scan.uid for scan in scans][-len(starts) :]
    pipe.stage.close()


def test_a_replay_that_is_interrupted_ends_the_run_as_aborted(config: Path, tmp_path: Path, redis: Connection) -> None:
    path = tmp_path / "slow.jsonl"
    scan = Scan(3, 4)
    recorder = Recorder(path)
    for name, doc in scan.docs():
        recorder.record(name, codec.pack(doc | {"time": 1.0} if name != "stop" else doc | {"time": 3000.0}))
    recorder.close()
    text = path.read_text().splitlines()
    path.write_text("\n".join(line[: line.rindex(",")] + "]" for line in text) + "\n")  # as without times of arrival
    replay = start("replay", str(path), "-c", str(config))
    assert replay.stdout is not None and "2999 s at speed 1" in replay.stdout.readline()
    assert "replay of slow.jsonl" in replay.stdout.readline()
    replay.send_signal(signal.SIGINT)
    finish(replay, 130)
    entries = redis.xrange(keys.DOCS)
    assert entries[-1][1][b"name"] == b"stop"  # type: ignore[index]
    assert codec.unpack(entries[-1][1][b"doc"])["exit_status"] == "abort"  # type: ignore[index]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("record", "-o", "there.jsonl"), "is there already"),
        (("record", "-o", "x.txt"), "a recording is called"),
        (("record", "-o", "x.jsonl", "--source", "carrier-pigeon"), "carrier-pigeon"),
        (("replay", "there.jsonl", "--snake"), "played as it is"),
        (("replay", "there.jsonl"), "is no recording"),
        (("replay", "gone.jsonl"), "cannot be read"),
        (("replay", "gone.npz", "--as-recorded"), "leave --as-recorded"),
    ],
)
def test_what_cannot_be_is_said(
    words: tuple[str, ...], message: str, config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "quietbeam.core.process.log.configure_logging", lambda *_, **__: None
    )  # of the process, not of a test
    (tmp_path / "there.jsonl").write_text("no documents")
    paths = [str(tmp_path / word) if "." in word else word for word in words]
    result = CliRunner().invoke(app, [*paths, "-c", str(config)])
    assert isinstance(result.exception, InputError) and message in str(result.exception)


@pytest.mark.supports("document shape", "grid_scan with baseline and a pause, as bluesky 1.12 and 1.15 write it")
@pytest.mark.parametrize("version", ["1.12.0", "1.15.1"])
def test_runs_of_older_bluesky(version: str, redis: Connection, settings: Settings) -> None:
    """Recorded with that version by tests/fixtures/bluesky_versions.py: a point is measured twice after the pause."""
    recordings = Path(__file__).parent.parent / "fixtures" / "recordings"
    documents = read_recording(recordings / f"bluesky-{version}.jsonl.gz").documents
    assert documents[0][1]["versions"]["bluesky"] == version
    pipe = Pipe(settings, redis)
    pipe.send(documents)
    pipe.drain()
    uid = documents[0][1]["uid"]
    with np.load(recordings / "bluesky.npz") as truth:
        counts = truth["counts"]
    info = pipe.buffer(uid).info  # bluesky reads devices in any order
    detectors = [("det1", "det2").index(name) for name in info.detectors]
    lines = [("P_Ka", "Fe_Ka").index(name) for name in info.lines]
    np.testing.assert_array_equal(pipe.counts(uid), counts[detectors][:, lines])
    assert pipe.state(uid) is RunState.COMPLETE and not pipe.status(uid).warnings
    assert pipe.quarantined() == []
    pipe.stage.close()
