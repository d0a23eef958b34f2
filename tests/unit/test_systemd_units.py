"""The units of deploy/systemd are what systemd understands, and start commands that exist."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from typer.main import get_command

from quietbeam.cli import app

UNITS = Path(__file__).resolve().parents[2] / "deploy" / "systemd"
STAGES = ("ingest", "worker", "publish", "serve")
INSTALLED = "/opt/quietbeam/.venv/bin/quietbeam"


def verified(folder: Path, text: str, name: str) -> str:
    """Return what systemd says of a unit; its program is one that is here."""
    (folder / name).write_text(text.replace(INSTALLED, sys.executable), encoding="utf-8")
    command = ["systemd-analyze", "verify", "--man=no", str(folder / name)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return "\n".join(line for line in done.stderr.splitlines() if name in line) + ("failed" if done.returncode else "")


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd here")
def test_systemd_understands_the_units(tmp_path: Path) -> None:
    whole = (UNITS / "quietbeam.service").read_text(encoding="utf-8")
    stage = (UNITS / "quietbeam-stage@.service").read_text(encoding="utf-8")
    assert verified(tmp_path, whole, "quietbeam.service") == ""
    for name in STAGES:
        assert verified(tmp_path, stage, f"quietbeam-stage@{name}.service") == ""
    assert "ProtectSystems" in verified(tmp_path, whole.replace("ProtectSystem=", "ProtectSystems="), "wrong.service")
    assert verified(tmp_path, whole.replace(INSTALLED, "/nowhere/quietbeam"), "gone.service")


def test_the_units_start_commands_that_exist() -> None:
    commands = get_command(app).commands  # type: ignore[attr-defined]
    for unit in UNITS.glob("*.service"):
        words = re.findall(rf"^ExecStart={INSTALLED} (\S+) -c (\S+)$", unit.read_text(encoding="utf-8"), re.MULTILINE)
        assert len(words) == 1, unit
        for command in STAGES if words[0][0] == "%i" else words[0][:1]:
            assert "-c" in {option for parameter in commands[command].params for option in parameter.opts}
