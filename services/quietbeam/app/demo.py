"""The demonstration: everything starts, a simulated scan is denoised live, and the result is held against the truth."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from quietbeam.beamline.truth import Truth
from quietbeam.core.errors import ServiceError
from quietbeam.core.model.evidence import LineEvidence
from quietbeam.core.model.types import FloatArray
from quietbeam.core.process.stop import StopRequest
from quietbeam.core.settings import Settings, load_settings
from quietbeam.core.wire import runs
from quietbeam.core.wire.bus import connect

from .ports import free_port
from .supervisor import Supervisor

_HARMLESS = ("QUIETBEAM_LOG_LEVEL", "QUIETBEAM_DEBUG")


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoLine:
    """One line of the closing table; `true_dwell_gain` needs the truth, everything else is what a user sees."""

    evidence: LineEvidence
    true_dwell_gain: float
    total_ratio: float


def demo_config(data_dir: Path) -> Path:
    """Write the config of the demo: the embedded one, on ports that are free, in a folder of its own."""
    base = load_settings("embedded")
    config = {
        "data_dir": str(data_dir.resolve()),
        "ingest": {"sources": ["redis"], "profiles": ["simulated"]},
        "embedded": {"tiled_port": free_port(base.embedded.tiled_port)},
        "serve": {"port": free_port(base.serve.port)},
    }
    data_dir.parent.mkdir(parents=True, exist_ok=True)
    data_dir.mkdir(exist_ok=True, mode=0o700)
    path = data_dir / "demo.yaml"
    path.write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")
    return path


def forget_facility() -> None:
    """Drop settings in the environment that would point the demo at servers of the facility."""
    for name in list(os.environ):
        if name == "REDIS_URL" or (name.startswith("QUIETBEAM_") and name not in _HARMLESS):
            del os.environ[name]


@contextmanager
def services(
    settings: Settings,
    config: Path,
    *,
    timeout_s: float = 90,
    report: Callable[[str], None] | None = None,
    stop: StopRequest | None = None,
) -> Iterator[Supervisor]:
    """Start every server and stage and wait until all are ready, or `stop` is set; stop them all at the end."""
    supervisor = Supervisor(settings, str(config), report=report or (lambda _: None))
    try:
        supervisor.start()
        supervisor.wait_ready(timeout_s, stop=stop)
        yield supervisor
    finally:
        supervisor.stop()


def known_runs(settings: Settings) -> set[str]:
    """Return the uids of the runs that are there already, of an earlier demo in the same folder."""
    connection = connect(settings.redis_url)
    try:
        return set(runs.list_runs(connection))
    finally:
        connection.close()


def start_scan(
    config: Path, truth: Path, options: list[str], command: tuple[str, ...] = ("simulate",)
) -> subprocess.Popen[str]:
    """Start the RunEngine of the simulated beamline in a process of its own; ("ioc", "--scan") scans through EPICS."""
    words = [sys.executable, "-m", "quietbeam", *command, "-c", str(config), "--truth", str(truth), *options]
    return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, encoding="utf-8")


def watch(
    settings: Settings,
    scan: subprocess.Popen[str],
    report: Callable[[runs.RunStatus], None],
    *,
    uid: str | None = None,
    known: Collection[str] = (),
    timeout_s: float = 240,
    interval_s: float = 0.25,
    stop: StopRequest | None = None,
) -> runs.RunStatus | None:
    """Report the status of run `uid` (None: the newest that is not `known`) until its final maps are in Tiled.

    Returns None when `stop` is set before.

    Raises
    ------
    ServiceError
        The scan failed, or nothing came within `timeout_s`.
    """
    stop = stop or StopRequest()
    connection = connect(settings.redis_url)
    deadline = time.monotonic() + timeout_s
    try:
        while time.monotonic() < deadline:
            if stop.is_set():
                return None
            if scan.poll() not in (None, 0):
                output = scan.stdout.read() if scan.stdout else ""
                raise ServiceError(f"the simulated scan failed:\n{output[-2000:]}")
            uids = [uid] if uid else [new for new in runs.list_runs(connection) if new not in known]
            status = runs.read_status(connection, uids[0]) if uids else None
            if status is not None:
                report(status)
                if status.denoise_state in ("final", "failed") and status.publish_state == "final":
                    return status
            stop.wait(interval_s)
    finally:
        connection.close()
    raise ServiceError(f"no final map within {timeout_s:.0f} s; see {settings.data_dir / 'logs'}")


def read_from_tiled(settings: Settings, uid: str) -> dict[str, FloatArray]:
    """Return the final maps as any Tiled client reads them: kind -> (line, row, col)."""
    from tiled.client import from_uri

    client: Any = from_uri(settings.tiled_uri, api_key=settings.tiled_api_key())
    try:
        run = client[settings.tiled.root][uid]
        return {kind: np.asarray(run[kind].read()) for kind in ("raw", "denoised", "uncertainty")}
    finally:
        client.context.close()


def compare(status: runs.RunStatus, maps: dict[str, FloatArray], truth: Truth) -> list[DemoLine]:
    """Hold the maps against the truth, scaled to the raw total (the truth has no I0 drift and no dead time)."""
    assert status.evidence is not None and status.info is not None
    table = []
    for index, line in enumerate(status.info.lines):
        evidence = status.evidence.line(line)
        assert evidence is not None
        raw = maps["raw"][index].astype(np.float64)
        denoised = maps["denoised"][index].astype(np.float64)
        expected = truth.expected_counts[truth.lines.index(line)]
        expected = expected * (raw.sum() / max(expected.sum(), 1e-12))
        error_raw, error = ((raw - expected) ** 2).mean(), ((denoised - expected) ** 2).mean()
        table.append(
            DemoLine(
                evidence=evidence,
                true_dwell_gain=float(error_raw / max(error, 1e-12)),
                total_ratio=float(denoised.sum() / max(raw.sum(), 1e-12)),
            )
        )
    return table
