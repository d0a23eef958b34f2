"""Locks between processes name their holder and end with it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from quietbeam.core.process.lock import HeldError, acquire, holder

HOLD = """
import pathlib, sys, time
from quietbeam.core.process.lock import acquire
lock = acquire(pathlib.Path(sys.argv[1]))
print("held", flush=True)
time.sleep(60)
"""


def test_a_lock_names_its_holder_and_dies_with_it(tmp_path: Path) -> None:
    path = tmp_path / "up.lock"
    assert holder(path) == "" and not path.exists()
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "held\n"
    assert holder(path) == str(process.pid)
    with pytest.raises(HeldError) as refused:
        acquire(path)
    assert refused.value.pid == str(process.pid)
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=10)
    assert holder(path) == ""
    lock = acquire(path)
    assert path.read_text().strip() == str(os.getpid())
    lock.release()
