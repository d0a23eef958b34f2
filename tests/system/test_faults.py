"""Processes are killed in the middle of scans; no count is lost and the final maps come all the same."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest

from quietbeam.beamline.truth import Truth
from quietbeam.core.model.types import RunState

from .conftest import Installation, assert_counts_equal_truth, wait_until, write_config

pytestmark = pytest.mark.system


@pytest.mark.parametrize("victims", [("ingest", "worker"), ("publish", "serve"), ("redis",), ("tiled",)])
def test_kill_in_mid_scan(installation: Installation, tmp_path: Path, victims: tuple[str, ...]) -> None:
    known = set(installation.uids())
    truth_file = tmp_path / "truth.npz"
    scan = installation.scan(truth_file, "--shape", "40x24", "--mode", "snake", "--dwell", "0.012", "--counts", "8")
    uid = installation.new_run(known)
    for number, victim in enumerate(victims):
        wait_until(lambda n=number: installation.status(uid).rows_measured >= 6 + 8 * n, 60, "rows")
        assert scan.poll() is None, "the scan was over before the kill"
        installation.kill(victim)
    installation.finished(scan)
    status = installation.final(uid, 180)
    assert status.state == RunState.COMPLETE
    assert_counts_equal_truth(installation, uid, Truth.load(truth_file))
    run = installation.tiled()[installation.settings.tiled.root][uid]
    assert np.array_equal(run["denoised"].read(), installation.buffer(uid).read_map("denoised"))
    with installation.http() as http:
        assert wait_until(lambda: http.get("/healthz").status_code == 200, 60, "the API")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_up_leaves_no_orphan(tmp_path: Path, number: signal.Signals) -> None:
    """Ctrl-C stops `quietbeam up` and everything it started; so does killing it."""
    config, output = write_config(tmp_path), tmp_path / "up.log"
    with open(output, "w") as log:
        up = subprocess.Popen(
            [sys.executable, "-m", "quietbeam", "up", "-c", str(config)],
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    wait_until(lambda: "\nData " in output.read_text() or up.poll() is not None, 120, "ready")
    assert up.poll() is None, output.read_text()
    children = psutil.Process(up.pid).children(recursive=True)
    assert len(children) >= 7
    os.kill(up.pid, number)
    up.wait(60)
    if number == signal.SIGINT:
        assert up.returncode == 0, output.read_text()
    _, alive = psutil.wait_procs(children, timeout=20)
    assert not alive, [p.cmdline() for p in alive]


def test_a_second_up_on_the_same_data_is_refused(installation: Installation) -> None:
    started = time.monotonic()
    second = subprocess.run(
        [sys.executable, "-m", "quietbeam", "up", "-c", str(installation.config)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert second.returncode == 2 and time.monotonic() - started < 60
    assert "Traceback" not in second.stderr and str(installation.settings.data_dir) in second.stderr
