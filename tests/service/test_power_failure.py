"""A power failure loses no document that Redis took: what was not synced is dropped, as power_cut.py records it."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from ingest_kit import Scan
from power_cut import PowerCut

from quietbeam.buffer import RunBuffer
from quietbeam.core import codec
from quietbeam.core.errors import QuietbeamError
from quietbeam.core.model.types import RunState
from quietbeam.core.settings import load_settings
from quietbeam.core.wire import keys, runs
from quietbeam.core.wire.bus import connect
from quietbeam.embedded import valkey

pytestmark = pytest.mark.skipif(shutil.which("gcc") is None, reason="no C compiler: nothing records the syncs")


COMMAND = """
import sys
from quietbeam.core.settings import load_settings
from quietbeam.embedded.valkey import command

print("\\n".join(command(load_settings(sys.argv[1]))))
"""
"""Makes the folders of the server and prints its command, in a process whose syncs are recorded, too."""


class Machine:
    """The embedded Valkey and ingest, both of which lose what they did not sync."""

    def __init__(self, folder: Path, *, fsync: bool) -> None:
        self.folder, self.data = folder, folder / "data"
        self.data.mkdir(parents=True, exist_ok=True)
        self.config = folder / "quietbeam.yaml"
        settings = {"data_dir": str(self.data), "ingest": {"fsync": fsync, "profiles": ["simulated", "generic"]}}
        self.config.write_text(yaml.safe_dump(settings))
        self.settings = load_settings(self.config)
        self.cut: PowerCut | None = None
        self._idle_since = time.monotonic()
        self._processes: list[subprocess.Popen[bytes]] = []

    def start(self, *, recorded: bool) -> None:
        """Start both; `recorded`: what they sync is noted."""
        self.cut = PowerCut(self.data, self.folder / "notes") if recorded else None
        environment = self.cut.environment() if self.cut else dict(os.environ)
        ingest = [sys.executable, "-m", "quietbeam", "ingest", "-c", str(self.config)]
        with (self.folder / "log").open("ab") as log:
            command = subprocess.check_output(
                [sys.executable, "-c", COMMAND, str(self.config)], env=environment, text=True
            )
            self._processes = [subprocess.Popen(command.splitlines(), env=environment, stdout=log)]
            _until(lambda: valkey.is_ready(self.settings))
            self._processes.append(subprocess.Popen(ingest, env=environment, stdout=log, stderr=log))
        self.redis = connect(self.settings.redis_url)
        self._idle_since = time.monotonic()

    def fail(self) -> None:
        """Cut the power: kill both at once."""
        for process in self._processes:
            process.send_signal(signal.SIGKILL)
        for process in self._processes:
            process.wait()

    def on_again(self, folder: Path) -> Machine:
        """Return the machine with what is on disk."""
        assert self.cut is not None
        again = Machine(folder, fsync=True)
        shutil.rmtree(again.data)
        self.cut.survivors(again.data)
        again.start(recorded=False)
        return again

    def is_idle(self) -> bool:
        """Return whether ingest has acknowledged all that Redis has, and for some seconds nothing came."""
        groups: Any = self.redis.xinfo_groups(keys.DOCS) if self.redis.exists(keys.DOCS) else []
        if not groups or groups[0]["pending"] or groups[0].get("lag"):
            self._idle_since = time.monotonic()
        return time.monotonic() - self._idle_since > 4

    def pixels(self, uid: str) -> np.ndarray:
        try:
            return RunBuffer.open(self.settings.runs_dir, uid).measured()
        except QuietbeamError:
            return np.zeros(0, bool)


def _until(condition: Callable[[], object], timeout_s: float = 60) -> None:
    limit = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < limit, "timed out"
        time.sleep(0.02)


def cut_and_come_back(tmp_path: Path, *, fsync: bool) -> tuple[int, int]:
    """Cut the power in the middle of a scan; return how many pixels of the documents that Redis took are lost or wrong,
    and how many there were.
    """
    scan = Scan(rows=12, cols=10)
    docs = scan.docs()[:-1]
    machine = Machine(tmp_path / "a", fsync=fsync)
    machine.start(recorded=True)
    taken = 0
    for name, doc in docs[: 2 + 95]:
        machine.redis.xadd(keys.DOCS, {"name": name, "run": scan.uid, "doc": codec.pack(doc)})
        taken += name == "event"
        time.sleep(0.004)
        if taken == 60:
            _until(lambda: machine.pixels(scan.uid).sum() >= 40)
            time.sleep(0.3)  # documents of these rows are acknowledged and trimmed
    machine.fail()
    again = machine.on_again(tmp_path / "b")
    try:
        expected = np.arange(120).reshape(12, 10) < taken
        _until(lambda: again.pixels(scan.uid).sum() == taken or again.is_idle(), 120)
        measured = again.pixels(scan.uid)
        if not measured.size:
            return taken, taken
        counts = RunBuffer.open(again.settings.runs_dir, scan.uid).read_counts()
        right = measured & (counts == scan.counts).all(axis=(0, 1))
        return int((expected & ~right).sum()), taken
    finally:
        again.fail()


def test_nothing_that_redis_took_is_lost(tmp_path: Path) -> None:
    lost, taken = cut_and_come_back(tmp_path, fsync=True)
    assert taken == 95 and lost == 0


def test_without_fsync_a_power_failure_is_seen_to_lose_documents(tmp_path: Path) -> None:
    lost, taken = cut_and_come_back(tmp_path, fsync=False)
    assert 0 < lost <= taken, "the recording drops what was not synced"


def test_a_scan_goes_on_after_the_power_is_back(tmp_path: Path) -> None:
    scan = Scan(rows=6, cols=8)
    docs = scan.docs()
    machine = Machine(tmp_path / "a", fsync=True)
    machine.start(recorded=True)
    for name, doc in docs[:30]:
        machine.redis.xadd(keys.DOCS, {"name": name, "run": scan.uid, "doc": codec.pack(doc)})
    _until(lambda: machine.pixels(scan.uid).sum() >= 24)
    machine.fail()
    again = machine.on_again(tmp_path / "b")
    try:
        for name, doc in docs[30:]:
            again.redis.xadd(keys.DOCS, {"name": name, "run": scan.uid, "doc": codec.pack(doc)})

        def complete() -> bool:
            status = runs.read_status(again.redis, scan.uid)
            return status is not None and status.state is RunState.COMPLETE

        _until(complete)
        counts = RunBuffer.open(again.settings.runs_dir, scan.uid).read_counts()
        np.testing.assert_array_equal(counts, scan.counts)
    finally:
        again.fail()
