"""The README's first command does its job, also the second time in the same folder."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.system


def demo(folder: Path) -> str:
    command = [sys.executable, "-m", "quietbeam", "demo", "--shape", "16x20", "--lines", "P_Ka,Fe_Ka", "--data-dir"]
    done = subprocess.run([*command, str(folder)], capture_output=True, text=True, timeout=180, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_demo_twice(tmp_path: Path) -> None:
    uids = set()
    for seen in (demo(tmp_path), demo(tmp_path)):
        for line in ("P_Ka", "Fe_Ka"):
            assert re.search(
                rf"{line} .* \d\.\d{{3}} .*(raw|smoother|pretrained|fine_tuned|nonlocal|combined)", seen
            ), seen
        assert "measured 16/16" in seen
        assert "api_key=..." in seen, "the key itself is for a terminal"
        after = seen.partition("s in all")[2]
        assert "http" not in after and "--keep" in after, "no address is shown that is dead by then"
        uids.add(re.findall(r"run ([0-9a-f-]{36}): \d+ s in all", seen)[0])
    assert len(uids) == 2, "the second demo shows its own run"
