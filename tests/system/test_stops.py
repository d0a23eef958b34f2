"""Stages stop at random moments: a few of the stops of ``python -m tests.stops``, which does hundreds."""

from __future__ import annotations

import subprocess
import sys

STAGES = ("ingest", "publish", "serve", "worker")
STOPS = "3"


def test_stages_stop_when_they_are_asked_to_at_any_moment() -> None:
    command = [sys.executable, "-m", "tests.stops", "--stops", STOPS, "--jobs", "2", "--seed", "7", *STAGES]
    out = subprocess.run(command, capture_output=True, text=True, timeout=400, check=False)
    assert out.returncode == 0, out.stdout + out.stderr
    rows = [line.split("|")[1:4] for line in out.stdout.splitlines() if line.startswith("| `")]
    assert [[cell.strip() for cell in row] for row in rows] == [[f"`{stage}`", STOPS, "0"] for stage in STAGES]
