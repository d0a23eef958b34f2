"""A real scan goes in as documents; counts, maps and evidence come out, while it runs."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from quietbeam.beamline.truth import Truth
from quietbeam.core.model.types import RunState

from .conftest import Installation, assert_counts_equal_truth, wait_until

pytestmark = pytest.mark.system


class Growth:
    """Subscribes to a run's denoised map in Tiled over its websocket and notes how it grows."""

    def __init__(self, installation: Installation, uid: str) -> None:
        client = installation.tiled()
        node = wait_until(lambda: self._node(client, installation, uid), 60, "the run in Tiled")
        self.updates: list[Any] = []
        self._seen = threading.Event()
        self._subscription = node.subscribe()
        self._subscription.new_data.add_callback(self._update)
        self._subscription.start_in_thread(0, max_size=64_000_000)

    @staticmethod
    def _node(client: Any, installation: Installation, uid: str) -> Any:
        try:
            return client[installation.settings.tiled.root][uid]["denoised"]
        except KeyError:
            return None

    def _update(self, update: Any) -> None:
        self.updates.append(update)
        self._seen.set()

    def close(self) -> None:
        self._subscription.disconnect()


@pytest.mark.parametrize(
    ("transport", "mode", "specimen"), [("redis", "snake", "cell"), ("zmq", "step", "star"), ("redis", "fly", "cell")]
)
def test_scan_to_maps(installation: Installation, tmp_path: Path, transport: str, mode: str, specimen: str) -> None:
    known = set(installation.uids())
    truth_file = tmp_path / "truth.npz"
    scan = installation.scan(
        truth_file, "--shape", "20x24", "--mode", mode, "--specimen", specimen, "--dwell", "0.015", "--seed", "3",
        "--counts", "8", transport=transport,
    )  # fmt: skip
    uid = installation.new_run(known)
    growth = Growth(installation, uid)
    wait_until(lambda: 4 <= installation.status(uid).denoise_rows < 20, 60, "a map while the scan runs")
    assert installation.status(uid).state == RunState.RUNNING
    assert scan.poll() is None, "the maps came only after the scan"
    wait_until(lambda: growth.updates, 60, "an update over the websocket")
    installation.finished(scan)
    status = installation.final(uid)
    growth.close()
    assert status.state == RunState.COMPLETE and status.rows_measured == status.denoise_rows == 20

    assert_counts_equal_truth(installation, uid, Truth.load(truth_file))
    assert len(growth.updates) >= 2, "the map grew for the subscriber"

    buffer = installation.buffer(uid)
    run = installation.tiled()[installation.settings.tiled.root][uid]
    for kind in ("raw", "denoised", "uncertainty"):
        final = buffer.read_map(kind)
        assert final.shape == (4, 20, 24) and np.isfinite(final).all()
        assert np.array_equal(run[kind].read(), final)
    assert tuple(run["denoised"].metadata["lines"]) == buffer.info.lines
    assert run.metadata["evidence"]["final"] is True and run.metadata["evidence"]["model_sha256"]

    with installation.http() as http:
        answer = http.get(f"/api/v1/runs/{uid}/maps/denoised", params={"format": "npy"})
        assert answer.status_code == 200
        import io

        assert np.array_equal(np.load(io.BytesIO(answer.content)), buffer.read_map("denoised"))
        assert http.get(f"/api/v1/runs/{uid}/evidence").status_code == 200
        assert http.get(f"/api/v1/runs/{uid}/maps/denoised/Fe_Ka", params={"format": "png"}).content[:4] == b"\x89PNG"
    assert status.evidence is not None
    assert {line.line for line in status.evidence.lines} == set(buffer.info.lines)
    assert any(line.dwell_gain and line.dwell_gain > 1.5 for line in status.evidence.lines)


def test_an_aborted_scan_is_honest(installation: Installation, tmp_path: Path) -> None:
    import signal

    known = set(installation.uids())
    truth_file = tmp_path / "truth.npz"
    scan = installation.scan(truth_file, "--shape", "30x20", "--mode", "snake", "--dwell", "0.02")
    uid = installation.new_run(known)
    wait_until(lambda: installation.status(uid).rows_measured >= 6, 60, "six rows")
    scan.send_signal(signal.SIGINT)
    scan.communicate(timeout=60)
    status = installation.final(uid)
    assert status.state == RunState.ABORTED and 6 <= status.rows_measured < 30
    assert_counts_equal_truth(installation, uid, Truth.load(truth_file))


def test_a_killed_run_engine_leaves_a_stale_run(installation: Installation, tmp_path: Path) -> None:
    known = set(installation.uids())
    scan = installation.scan(tmp_path / "truth.npz", "--shape", "30x20", "--mode", "snake", "--dwell", "0.02")
    uid = installation.new_run(known)
    wait_until(lambda: installation.status(uid).rows_measured >= 6, 60, "six rows")
    scan.kill()
    scan.wait(10)
    wait_until(lambda: installation.status(uid).state == RunState.STALE, 60, "the run to be called stale")
    wait_until(lambda: installation.status(uid).denoise_state == "final", 60, "its maps to be finished as they are")
    assert installation.status(uid).denoise_rows >= 6
    assert "stop document" in installation.status(uid).reason


def test_two_scans_at_once_do_not_mix(installation: Installation, tmp_path: Path) -> None:
    known = set(installation.uids())
    truths = [tmp_path / "one.npz", tmp_path / "two.npz"]
    scans = [
        installation.scan(truths[0], "--shape", "10x16", "--mode", "snake", "--seed", "5"),
        installation.scan(truths[1], "--shape", "12x14", "--mode", "fly", "--seed", "6", "--detectors", "3"),
    ]
    for scan in scans:
        installation.finished(scan)
    uids = wait_until(lambda: (u := set(installation.uids()) - known) and len(u) == 2 and u, 60, "two runs")
    for truth in map(Truth.load, truths):
        assert truth.run_uid in uids
        installation.final(truth.run_uid)
        assert_counts_equal_truth(installation, truth.run_uid, truth)
