"""How long after a row's last document are its counts on disk and its map denoised, and does learning slow ingest?

Every time is read off the ids of Redis stream entries, so that one clock (the Redis server's) measures everything.
"""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import yaml

from quietbeam.app.demo import services, start_scan
from quietbeam.app.ports import free_port
from quietbeam.core import codec
from quietbeam.core.errors import ServiceError
from quietbeam.core.settings import Settings, load_settings
from quietbeam.core.wire import keys, runs
from quietbeam.core.wire.bus import Connection, connect, entries

Seconds = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveBenchmark:
    """What is scanned."""

    shape: tuple[int, int] = (128, 128)
    detectors: int = 4
    lines: str = "P_Ka,S_Ka,Cl_Ka,K_Ka,Ca_Ka,Fe_Ka,Cu_Ka,Zn_Ka"
    dwell_s: float = 0.008
    seed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveTimes:
    """Seconds from a row's last document, one value per row.

    Attributes
    ----------
    durable_s
        Until the row was committed to zarr.
    denoised_s
        Until a map that holds the row denoised was written.
    """

    durable_s: Seconds
    denoised_s: Seconds


def _milliseconds(entry_id: bytes) -> int:
    return int(entry_id.split(b"-")[0])


def _newest(connection: Connection, stream: str) -> bytes:
    last: Any = connection.xrevrange(stream, count=1)
    return last[0][0] if last else b"0-0"


class _Watch:
    """Follows the streams from now on and records when each row's last document, commit and map came, of one run."""

    def __init__(self, connection: Connection, cols: int) -> None:
        self._redis, self._cols = connection, cols
        self._cursors = {stream: _newest(connection, stream) for stream in (keys.DOCS, keys.ROWS, keys.MAPS)}
        self.run: bytes | None = None
        self.document: dict[int, int] = {}
        self.committed: dict[int, int] = {}
        self.mapped: dict[int, int] = {}

    def poll(self) -> None:
        reply: Any = self._redis.xread(self._cursors, count=2000, block=20)  # type: ignore[arg-type]
        for stream, entry in entries(reply):
            self._cursors[stream] = entry.id
            if self.run is None and stream == keys.DOCS:
                self.run = entry.fields[b"run"]
            if entry.fields[b"run"] != self.run:
                continue
            self._record_times(stream, _milliseconds(entry.id), entry.fields)

    def _record_times(self, stream: str, at: int, fields: Mapping[bytes, bytes]) -> None:
        if stream == keys.DOCS:
            if fields[b"name"] == b"event":
                number = codec.unpack(fields[b"doc"])["seq_num"] - 1
                row = number // self._cols
                self.document[row] = max(self.document.get(row, 0), at)
        elif stream == keys.ROWS:
            self.committed.setdefault(int(fields[b"row"]), at)
        else:
            for row in range(int(fields[b"first_row"]), int(fields[b"stop_row"])):
                if row in self.committed:
                    self.mapped.setdefault(row, at)


def installation(folder: Path, **denoise: object) -> tuple[Settings, Path]:
    """Write the configuration of an installation of its own below `folder`; return its settings and the file."""
    folder.mkdir(parents=True, exist_ok=True)
    config = folder / "benchmark.yaml"
    config.write_text(
        yaml.safe_dump(
            {
                "data_dir": str((folder / "data").resolve()),
                "ingest": {"sources": ["redis"], "profiles": ["simulated"]},
                "embedded": {"tiled_port": free_port()},
                "serve": {"port": free_port()},
                "denoise": {"final_budget": 1, "live_budget": 1000, **denoise},
            }
        ),
        encoding="utf-8",
    )
    return load_settings(config), config


def measure(options: LiveBenchmark, folder: Path, *, fine_tune: bool) -> LiveTimes:
    """Scan once with everything running; `fine_tune` False leaves only inference and the last evaluation."""
    settings, config = installation(folder, fine_tune=fine_tune)
    with services(settings, config):
        return scan_once(options, settings, config, folder)


def scan_once(options: LiveBenchmark, settings: Settings, config: Path, folder: Path) -> LiveTimes:
    """Scan in an installation that is up, until every row is in a denoised map."""
    connection = connect(settings.redis_url)
    watch = _Watch(connection, options.shape[1])
    chosen = {
        "--shape": "x".join(map(str, options.shape)),
        "--detectors": options.detectors,
        "--lines": options.lines,
        "--dwell": options.dwell_s,
        "--seed": options.seed,
        "--counts": 5,
        "--mode": "step",
        "--transport": "redis",
    }
    scan = start_scan(config, folder / "truth.npz", [str(word) for pair in chosen.items() for word in pair])
    deadline = time.monotonic() + 240 + 3 * options.shape[0] * options.shape[1] * options.dwell_s
    while len(watch.mapped) < options.shape[0]:
        watch.poll()
        if time.monotonic() > deadline or scan.poll() not in (None, 0):
            raise ServiceError(f"the benchmark scan did not get through; see {settings.data_dir / 'logs'}")
    scan.communicate(timeout=60)
    status = runs.read_status(connection, runs.list_runs(connection, limit=1)[0])
    assert status is not None and status.rows_measured == options.shape[0]
    if status.denoise_reason:
        raise ServiceError(f"the benchmark scan was shown raw: {status.denoise_reason}")
    connection.close()
    rows = range(options.shape[0])
    document = np.array([watch.document[row] for row in rows])
    return LiveTimes(
        durable_s=(np.array([watch.committed[row] for row in rows]) - document) / 1000,
        denoised_s=(np.array([watch.mapped[row] for row in rows]) - document) / 1000,
    )


def report(options: LiveBenchmark, learning: LiveTimes, idle: LiveTimes, command: str) -> str:
    """Return the table for docs/benchmarks as Markdown; the first 8 rows (first map, warm-up) are counted apart."""

    def cells(values: Seconds) -> str:
        p50, p95 = np.percentile(values, [50, 95])
        return f"{p50:.3f} | {p95:.3f} | {values.max():.3f}"

    rows, cols = options.shape
    ratio = np.percentile(learning.durable_s[8:], 95) / max(np.percentile(idle.durable_s[8:], 95), 1e-3)
    lines = [
        "# From a row's last document to disk and to its denoised map",
        "",
        f"{rows} x {cols} pixels, {len(options.lines.split(','))} lines, {options.detectors} detectors, "
        f"dwell {options.dwell_s * 1e3:g} ms, one Event document a pixel over Redis; RunEngine, Redis, Tiled and all "
        f"stages on one machine with {cores()} cores ({platform.machine()}, Python {platform.python_version()}); "
        f"seed {options.seed}. Rows 8 to {rows - 1}; seconds.",
        "",
        f"Command: `{command}`",
        "",
        "| | median | p95 | worst |",
        "|---|---|---|---|",
        f"| durable in zarr, while fine-tuning | {cells(learning.durable_s[8:])} |",
        f"| durable in zarr, without fine-tuning | {cells(idle.durable_s[8:])} |",
        f"| denoised map written, while fine-tuning | {cells(learning.denoised_s[8:])} |",
        f"| denoised map written, without fine-tuning | {cells(idle.denoised_s[8:])} |",
        "",
        f"p95 of the commit with fine-tuning over without: {ratio:.2f}. "
        f"Rows denoised later than 1 s: {int((learning.denoised_s[8:] > 1).sum())} of {rows - 8}. "
        f"First 8 rows: worst {learning.denoised_s[:8].max():.2f} s.",
        "",
    ]
    return "\n".join(lines)


def cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
