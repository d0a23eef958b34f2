"""Schemathesis against the real served application: what it documents is what it does."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from serve_kit import KEY, make_run, served, with_serve

from quietbeam.core.model.types import RunState
from quietbeam.core.settings import Settings
from quietbeam.core.wire.bus import Connection
from quietbeam.serve.access import identity


@pytest.fixture
def host(settings: Settings, redis: Connection, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setattr(identity, "FAILURES_ALLOWED", 10**6)  # it tries wrong keys too
    make_run(settings, redis)
    ended = make_run(settings, redis, uid="run-2")
    ended.denoise(final=True)
    ended.finish(RunState.INCOMPLETE)
    with served(with_serve(settings, port=0)) as host:
        yield host


def fuzz(host: str, folder: Path, phase: str, *options: str, config: str = "") -> None:
    """Run schemathesis; event streams never end and are left out."""
    (folder / "schemathesis.toml").write_text(config)
    command = [Path(sys.executable).with_name("schemathesis"), "--config-file", folder / "schemathesis.toml", "run"]
    command += [f"http://{host}/api/v1/openapi.json", "-H", f"Authorization: Apikey {KEY}", "--phases", phase]
    command += ["--exclude-path-regex", "events$", "--seed", "7", "--no-color", "--max-examples", "6", *options]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert "Tested: " in done.stdout


def test_every_boundary_of_every_parameter(host: str, tmp_path: Path) -> None:
    """Of runs that do not exist: uids out of answers would ask of real runs what lies outside of their maps."""
    fuzz(host, tmp_path, "coverage", config="[phases.coverage.extra-data-sources]\nresponses = false\n")


def test_whatever_is_asked_of_real_runs(host: str, tmp_path: Path) -> None:
    """Whether a slice lies in a map, no schema can say: acceptance of all that is well formed is not asked for here."""
    parameters = (
        '"path.uid" = ["run-1", "run-2"]\n"path.kind" = ["raw", "denoised", "measured"]\n"path.line" = "Fe_Ka"\n'
    )
    fuzz(
        host, tmp_path, "fuzzing", "--exclude-checks", "positive_data_acceptance", config=f"[parameters]\n{parameters}"
    )
