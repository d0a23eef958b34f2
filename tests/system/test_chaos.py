"""A short seeded run of `quietbeam chaos`: three scans at once, faults, and every count and map compared."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from quietbeam.chaos.record import read_rounds

pytestmark = [pytest.mark.system, pytest.mark.timeout(600)]
SEED = "132"


def test_faults_on_purpose_cost_no_count_and_no_map(tmp_path: Path) -> None:
    out, folder = tmp_path / "chaos.md", tmp_path / "site"
    command = [sys.executable, "-m", "quietbeam", "chaos", "--minutes", "0.5", "--seed", SEED]
    done = subprocess.run(
        [*command, "--out", str(out), "--folder", str(folder)], capture_output=True, text=True, timeout=560, check=False
    )
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-3000:]
    (one,) = read_rounds(folder / "chaos.jsonl")
    assert len(one.runs) == 3 and one.pixels == 24 * 24 + 20 * 28 + 28 * 20
    assert one.faults and not one.violations
    page = out.read_text(encoding="utf-8")
    assert "No violation." in page and all(fault.fault in page for fault in one.faults)
