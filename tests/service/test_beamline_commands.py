"""`quietbeam simulate` and `quietbeam replay` as processes, with a real Redis."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
import zmq

from quietbeam.beamline.truth import Truth
from quietbeam.core import codec
from quietbeam.core.wire import keys
from quietbeam.core.wire.bus import Connection


@pytest.fixture
def config(tmp_path: Path, redis_server: str) -> Path:
    path = tmp_path / "qb.yaml"
    path.write_text(yaml.safe_dump({"data_dir": str(tmp_path / "data"), "redis": {"url": redis_server}}))
    return path


def start(command: str, *options: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "quietbeam", command, *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )


def run(command: str, *options: str, code: int = 0) -> tuple[str, str]:
    process = start(command, *options)
    out, err = process.communicate(timeout=90)
    assert process.returncode == code, out + err
    return out, err


def documents(redis: Connection) -> list[tuple[str, Any]]:
    entries: Any = redis.xrange(keys.DOCS)
    return [(fields[b"name"].decode(), codec.unpack(fields[b"doc"])) for _, fields in entries]


def test_a_simulated_scan_reaches_redis_with_the_counts_of_the_truth(
    config: Path, tmp_path: Path, redis: Connection
) -> None:
    out, _ = run(
        "simulate", "-c", str(config), "--shape", "4x6", "--speed", "0", "--detectors", "2", "--lines", "P_Ka,Fe_Ka",
        "--counts", "20", "--truth", str(tmp_path / "truth.npz"),
    )  # fmt: skip
    truth = Truth.load(tmp_path / "truth.npz")
    assert f"run {truth.run_uid}: success, 24 frames" in out
    sent = documents(redis)
    assert [name for name, _ in sent] == ["start", "descriptor", *["event"] * 24, "stop"]
    assert sent[0][1]["uid"] == truth.run_uid
    for name, doc in sent:
        if name == "event":
            row, along = divmod(doc["seq_num"] - 1, 6)
            col = 5 - along if row % 2 else along
            got = [[doc["data"][f"xs_det{d}_{line}"] for line in truth.lines] for d in (1, 2)]
            assert np.array_equal(got, truth.counts[:, :, row, col])


def test_repeated_runs_keep_a_truth_each(config: Path, tmp_path: Path, redis: Connection) -> None:
    folder = tmp_path / "truths"
    run(
        "simulate", "-c", str(config), "--shape", "3x4", "--speed", "0", "--mode", "fly", "--repeat", "2",
        "--lines", "Fe_Ka", "--truth", str(folder),
    )  # fmt: skip
    uids = [doc["uid"] for name, doc in documents(redis) if name == "start"]
    assert len(set(uids)) == 2
    assert {p.stem for p in folder.iterdir()} == set(uids)
    files = {doc["uri"].removeprefix("file://localhost") for n, doc in documents(redis) if n == "stream_resource"}
    assert len(files) == 2 and all(Path(f).is_relative_to(tmp_path / "data") for f in files)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_scan_is_aborted_and_keeps_its_truth(
    config: Path, tmp_path: Path, redis: Connection, number: signal.Signals
) -> None:
    process = start(
        "simulate", "-c", str(config), "--shape", "40x40", "--dwell", "0.01", "--lines", "Fe_Ka",
        "--truth", str(tmp_path / "t.npz"),
    )  # fmt: skip
    assert process.stdout is not None
    assert "40 x 40 pixels" in process.stdout.readline()
    reply: Any = redis.xread({keys.DOCS: "0"}, block=9000)
    assert reply
    process.send_signal(number)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 130 and "Traceback" not in err
    sent = documents(redis)
    assert sent[-1][0] == "stop" and sent[-1][1]["exit_status"] == "abort"
    events = sum(name == "event" for name, _ in sent)
    assert Truth.load(tmp_path / "t.npz").measured.sum() == events < 1600


def test_a_scan_goes_over_zmq_without_pickle(config: Path, tmp_path: Path) -> None:
    with zmq.Context() as context, context.socket(zmq.SUB) as proxy:
        port = proxy.bind_to_random_port("tcp://127.0.0.1")
        proxy.subscribe(b"")
        settings = yaml.safe_load(config.read_text()) | {"embedded": {"zmq_in": f"127.0.0.1:{port}"}}
        config.write_text(yaml.safe_dump(settings))
        process = start(
            "simulate", "-c", str(config), "--shape", "2x3", "--speed", "0", "--lines", "Fe_Ka", "--transport", "zmq",
            "--truth", str(tmp_path / "t.npz"),
        )  # fmt: skip
        sent: list[tuple[str, Any]] = []
        while not sent or sent[-1][0] != "stop":
            assert proxy.poll(30_000), f"no more documents after {len(sent)}"
            _, name, payload = proxy.recv().split(b" ", 2)
            sent.append((name.decode(), codec.unpack(payload)))
        process.communicate(timeout=30)
    assert [name for name, _ in sent] == ["start", "descriptor", *["event"] * 6, "stop"]
    truth = Truth.load(tmp_path / "t.npz")
    assert sent[2][1]["data"]["xs_det1_Fe_Ka"] == truth.counts[0, 0, 0, 0]
    assert sent[5][1]["data"]["xs_det4_Fe_Ka"] == truth.counts[3, 0, 1, 2]


def test_a_replay_reaches_redis(config: Path, tmp_path: Path, redis: Connection) -> None:
    counts = np.random.default_rng(0).poisson(5.0, (2, 2, 3, 4))
    np.savez(tmp_path / "map.npz", counts=counts, lines=["P_Ka", "Fe_Ka"], dwell_s=0.001)
    out, _ = run("replay", str(tmp_path / "map.npz"), "-c", str(config), "--speed", "0", "--event", "row")
    assert "3 x 4 pixels, 2 detectors, lines P_Ka, Fe_Ka" in out
    rows = [doc["data"]["xs_det2_Fe_Ka"] for name, doc in documents(redis) if name == "event"]
    assert np.array_equal(rows, counts[1, 1])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("simulate", "--shape", "64"), "ROWSxCOLS"),
        (("simulate", "--shape", "99999x99999"), "pixels"),
        (("simulate", "--lines", "Iron"), "Fe_Ka"),
        (("simulate", "--specimen", "rock"), "cell"),
        (("simulate", "--truth", "t.npz", "--repeat", "2"), "folder"),
        (("simulate", "--transport", "zmq"), "embedded.zmq_in"),
        (("replay", "nowhere.npz"), "nowhere.npz does not exist"),
    ],
)
def test_a_wrong_option_is_one_line_with_the_remedy(config: Path, options: tuple[str, ...], words: str) -> None:
    command, *rest = options
    _, err = run(command, *rest, "-c", str(config), code=2)
    assert words in err and "Traceback" not in err
