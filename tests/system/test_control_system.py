"""A detector behind EPICS through the whole installation."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from bluesky_queueserver_api import BPlan

from queue_kit import Manager, tcp_valkey
from quietbeam.beamline.experiment import Experiment, ExperimentOptions
from quietbeam.beamline.ioc.address import Address, free_ca_port
from quietbeam.beamline.truth import Truth
from quietbeam.core.model.advice import advise
from quietbeam.core.model.types import RunState

from .conftest import Installation, assert_counts_equal_truth, wait_until

pytestmark = [pytest.mark.system, pytest.mark.timeout(900)]
OPTIONS = ExperimentOptions(specimen="cell", lines=("P_Ka", "Fe_Ka"), shape=(6, 6), detectors=2, counts=2.0, seed=4)
PIXELS = OPTIONS.shape[0] * OPTIONS.shape[1]


@pytest.mark.supports("control system", "EPICS Xspress3 through the whole installation, denoised while it is scanned")
def test_a_fly_scan_of_the_ioc_is_denoised_live(installation: Installation, tmp_path: Path) -> None:
    known = set(installation.uids())
    scan = installation.scan(
        tmp_path / "truth.npz", "--mode", "fly", "--shape", "16x16", "--counts", "8", "--dwell", "0.03",
        "--seed", "11", command=("ioc", "--scan"),
    )  # fmt: skip
    uid = installation.new_run(known)
    wait_until(lambda: installation.status(uid).denoise_rows >= 4, 120, "a map")
    installation.finished(scan, timeout_s=400)
    status = installation.final(uid)
    assert status.state == RunState.COMPLETE and status.rows_measured == status.denoise_rows == 16, status
    assert status.info is not None and status.info.profile == "xspress3-hdf5" and status.info.has_i0
    assert_counts_equal_truth(installation, uid, Truth.load(tmp_path / "truth.npz"))
    buffer = installation.buffer(uid)
    run = installation.tiled()[installation.settings.tiled.root][uid]
    for kind in ("raw", "denoised", "uncertainty"):
        final = buffer.read_map(kind)
        assert final.shape == (4, 16, 16) and np.isfinite(final).all()
        assert np.array_equal(run[kind].read(), final)
    assert status.evidence is not None
    assert {line.line for line in status.evidence.lines} == set(buffer.info.lines)


@pytest.fixture
def address() -> Iterator[Address]:
    """An IOC of its own, as `quietbeam ioc` leaves it to other clients."""
    address = Address(prefix="QBSYS:", port=free_ca_port())
    rows, cols = OPTIONS.shape
    command = [sys.executable, "-m", "quietbeam", "ioc", "--speed", "0", "--seed", "4"]
    command += ["--prefix", address.prefix, "--ca-port", str(address.port), "--specimen", OPTIONS.specimen]
    command += ["--lines", ",".join(OPTIONS.lines), "--shape", f"{rows}x{cols}", "--detectors", str(OPTIONS.detectors)]
    process = subprocess.Popen([*command, "--counts", str(OPTIONS.counts)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and address.detector in process.stdout.readline()
    yield address
    process.terminate()
    process.communicate(timeout=30)


def assert_every_pass_is_there(installation: Installation, uid: str) -> int:
    """The counts are those of frames in passes, the passes summed; return how many frames that takes at least."""
    there, frames = installation.buffer(uid).read_counts(), 0
    experiment, counts = Experiment(OPTIONS), np.zeros((OPTIONS.detectors, len(OPTIONS.lines), *OPTIONS.shape), int)
    rows, cols = OPTIONS.shape
    way = [(row, col if row % 2 == 0 else cols - 1 - col) for row in range(rows) for col in range(cols)]
    while counts.sum() < there.sum():
        place = frames % PIXELS
        row, col = way[place] if frames // PIXELS % 2 == 0 else way[PIXELS - 1 - place]
        counts[:, :, row, col] += experiment.measure(row, col).counts
        frames += 1
    assert np.array_equal(there, counts)
    return frames


@pytest.mark.supports("control system", "RunEngine: a plan in passes ended by `stop_at_snr`")
def test_passes_end_when_the_wanted_snr_is_reached(installation: Installation, address: Address) -> None:
    """RunEngine -> Redis -> ingest -> worker -> advice of the API -> RunEngine, with nothing of it pretended."""
    snr, most = 2.0, 40
    settings = installation.settings
    script = Path(__file__).with_name("scan_until.py")
    arguments = [address.prefix, address.port, settings.redis_url, f"http://127.0.0.1:{settings.serve.port}"]
    arguments += [settings.serve_api_key(), snr, most]
    scan = subprocess.Popen(
        [sys.executable, str(script), *map(str, arguments)],
        env=os.environ | address.client_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    installation.scans.append(scan)
    out, err = scan.communicate(timeout=600)
    assert scan.returncode == 0, err + installation.logs()
    seen = json.loads(out.splitlines()[-1])
    uid = seen["uid"]
    assert (seen["exit_status"], seen["reason"]) == ("success", "quietbeam: SNR 2 reached")
    assert PIXELS < seen["events"] < most * PIXELS, "neither after one pass nor after all"

    status = installation.final(uid)
    assert status.state == RunState.COMPLETE and "SNR 2 reached" in status.reason, status
    frames = assert_every_pass_is_there(installation, uid)
    assert seen["events"] - 20 < frames <= seen["events"], "the last pixels may have no counts"
    assert status.evidence is not None and status.info is not None
    (line,) = (line for line in advise(status.info, status.evidence, snr).lines if line.line == "Fe_Ka")
    assert min(line.factor_raw or 9.0, line.factor_denoised or 9.0) < 1.3, line


@pytest.mark.supports("control system", "bluesky-queueserver: a queued plan in passes ended by `stop_at_snr`")
def test_a_queued_plan_ends_when_the_wanted_snr_is_reached(
    installation: Installation, address: Address, tmp_path: Path
) -> None:
    settings = installation.settings
    with tcp_valkey() as queue:
        manager = Manager(
            tmp_path,
            address,
            settings.redis_url,
            queue,
            QUIETBEAM_URL=f"http://127.0.0.1:{settings.serve.port}",
            QUIETBEAM_KEY=settings.serve_api_key(),
        )
        try:
            (done,) = manager.do(BPlan("xrf_until_snr", snr=2.0, lines=["Fe_Ka"], most=40))
        finally:
            manager.close()
    assert done["result"]["exit_status"] == "completed", done
    (uid,) = done["result"]["run_uids"]
    status = installation.final(uid)
    assert status.state == RunState.COMPLETE and "SNR 2 reached" in status.reason, status
    assert PIXELS < assert_every_pass_is_there(installation, uid) < 40 * PIXELS
