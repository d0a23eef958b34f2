"""Schemathesis against the real served application: what it documents is what it does."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

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


def fuzz(
    host: str, folder: Path, phase: str, *options: str, config: str = "", without: str = "events$"
) -> dict[str, Counter[int]]:
    """Run schemathesis; event streams never end and are left out. Return status -> number of answers, by address."""
    (folder / "schemathesis.toml").write_text(config)
    command = [Path(sys.executable).with_name("schemathesis"), "--config-file", folder / "schemathesis.toml", "run"]
    command += [f"http://{host}/api/v1/openapi.json", "-H", f"Authorization: Apikey {KEY}", "--phases", phase]
    command += ["--exclude-path-regex", without, "--seed", "7", "--no-color", "--max-examples", "6", *options]
    command += ["--report", "har", "--report-har-path", folder / "report.har"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert "Tested: " in done.stdout
    answers: dict[str, Counter[int]] = defaultdict(Counter)
    for entry in json.loads((folder / "report.har").read_text())["log"]["entries"]:
        address = f"{entry['request']['method']} {urlsplit(entry['request']['url']).path}"
        answers[address][entry["response"]["status"]] += 1
    return answers


def test_every_boundary_of_every_parameter(host: str, tmp_path: Path) -> None:
    """Of runs that do not exist: uids out of answers would ask of real runs what lies outside of their maps."""
    fuzz(host, tmp_path, "coverage", config="[phases.coverage.extra-data-sources]\nresponses = false\n")


REAL = """
[parameters]
"path.uid" = "{uid}"
"path.kind" = "{kind}"
"path.line" = "Fe_Ka"
"""
POINTS = """
"query.row" = 1
"query.col" = 2
"query.rows" = "0:3"
"query.cols" = "1:4"
"query.from" = "0,0"
"query.to" = "3,4"
"""
ROUTES = ("", "/evidence", "/advice", "/detectors", "/history", "/maps", "/report", "/pixel", "/roi", "/profile")


@pytest.mark.parametrize(("uid", "kind"), [("run-1", "raw"), ("run-2", "denoised")])
def test_whatever_is_asked_of_real_runs(host: str, tmp_path: Path, uid: str, kind: str) -> None:
    """Whether a slice lies in a map, no schema can say: acceptance of all that is well formed is not asked for here."""
    config = REAL.format(uid=uid, kind=kind)
    fuzz(host, tmp_path, "fuzzing", "--exclude-checks", "positive_data_acceptance", config=config)


@pytest.mark.parametrize("phase", ["fuzzing", "stateful"])
def test_every_address_of_a_run_is_reached(host: str, tmp_path: Path, phase: str) -> None:
    """At points that lie in its map, and (stateful) in the order in which answers name runs and actions."""
    config = REAL.format(uid="run-2", kind="denoised") + POINTS
    # regions make regions: they would be all that a stateful test of few steps comes to
    without = "events$" if phase == "fuzzing" else "events$|/clusters|/regions"
    options = ("--exclude-checks", "positive_data_acceptance")
    answers = fuzz(host, tmp_path, phase, *options, config=config, without=without)
    wanted = [f"GET /api/v1/runs/run-2{route}" for route in ROUTES]
    wanted += ["GET /api/v1/runs/run-2/maps/denoised", "GET /api/v1/runs/run-2/maps/denoised/Fe_Ka"]
    reached = [address for address in wanted if answers[address][200]]
    assert len(reached) >= (len(wanted) if phase == "fuzzing" else len(wanted) // 2), {
        address: answers[address] for address in wanted if address not in reached
    }
