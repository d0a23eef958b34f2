"""Stages stop at random moments: a few of the stops of ``python -m tests.stops``, which does hundreds."""

from __future__ import annotations

import subprocess
import sys

import pytest

STAGES = {"ingest": 4, "publish": 4, "serve": 4, "worker": 2}


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_stops_when_it_is_asked_to_at_any_moment(stage: str) -> None:
    arguments = ["--stops", str(STAGES[stage]), "--jobs", "2", "--seed", "7"]
    out = subprocess.run(
        [sys.executable, "-m", "tests.stops", *arguments, stage],
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert out.returncode == 0, out.stdout + out.stderr
    (row,) = [line for line in out.stdout.splitlines() if line.startswith(f"| `{stage}`")]
    _, _, stops, hung, *_ = (cell.strip() for cell in row.split("|"))
    assert (stops, hung) == (str(STAGES[stage]), "0"), row
