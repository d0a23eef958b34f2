"""What it costs ingest and the embedded Redis to wait for the disk: documents a second with fsync and without."""

from __future__ import annotations

import itertools
import os
import platform
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import psutil
import yaml

from quietbeam.core import codec
from quietbeam.core.errors import ServiceError
from quietbeam.core.settings import Settings, load_settings
from quietbeam.core.wire import keys
from quietbeam.core.wire.bus import Connection, connect
from quietbeam.embedded import valkey
from quietbeam.runengine.publisher import RedisPublisher

LINES, DETECTORS, COLS = ("P_Ka", "S_Ka", "Cl_Ka", "K_Ka", "Ca_Ka", "Fe_Ka", "Cu_Ka", "Zn_Ka"), 4, 128
_PATIENCE_S = 300.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """One turn.

    Attributes
    ----------
    backlog
        Documents a second that ingest takes when they are all there.
    paced
        Documents a second of a step scan at the wanted rate that were acknowledged when its last one was sent.
    late_s
        Seconds from its last document to the acknowledgement of that.
    cpu
        Share of a core that ingest took at that rate.
    """

    backlog: float
    paced: float
    late_s: float
    cpu: float


def documents(pixels: int, uid: str, seed: int = 0) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the documents of a step scan: one event a pixel, one value for each line and detector."""
    rng = np.random.default_rng(seed)
    names = [f"xs_det{d + 1}_{line}" for d in range(DETECTORS) for line in LINES]
    start = {
        "uid": uid,
        "time": time.time(),
        "scan_id": 1,
        "beamline_id": "quietbeam-simulated",
        "plan_name": "grid_scan",
        "shape": [-(-pixels // COLS), COLS],
        "snaking": [False, False],
        "dwell_s": 0.001,
    }
    values = {name: {"source": "benchmark", "dtype": "number", "shape": []} for name in names}
    descriptor = {"uid": f"{uid}-d", "run_start": uid, "name": "primary", "time": time.time(), "data_keys": values}
    yield "start", start
    yield "descriptor", {**descriptor, "configuration": {}, "hints": {}, "object_keys": {}}
    for i, counts in enumerate(rng.poisson(6, (pixels, len(names))).tolist()):
        event = {"uid": f"{uid}-{i}", "descriptor": f"{uid}-d", "seq_num": i + 1, "time": time.time()}
        yield "event", {**event, "data": dict(zip(names, counts, strict=True)), "timestamps": {}}


def measure(folder: Path, *, fsync: bool, pixels: int, rate: float, seconds: float) -> Figures:
    """Measure one turn in an empty folder.

    Raises
    ------
    ServiceError
        Redis or ingest do not answer.
    """
    with _stages(folder, fsync=fsync) as (url, connection, ingest):
        with connection.pipeline(transaction=False) as pipe:
            for name, doc in documents(pixels, "backlog"):
                pipe.xadd(keys.DOCS, {"name": name, "run": "backlog", "doc": codec.pack(doc)})
            pipe.execute()
        process = ingest()
        _wait(lambda: _acknowledged(connection) > 0)
        begun, before = time.monotonic(), _acknowledged(connection)
        _wait(lambda: _acknowledged(connection) >= pixels)
        backlog = (pixels - before) / (time.monotonic() - begun)

        wanted = int(rate * seconds) // COLS * COLS
        publisher = RedisPublisher(url, spool_dir=folder / "spool")
        cpu, begun = _cpu_s(process), time.monotonic()
        for i, (name, doc) in enumerate(documents(wanted, "paced")):
            time.sleep(max(0.0, begun + i / rate - time.monotonic()))
            publisher(name, doc)
        sent, there = time.monotonic(), _acknowledged(connection) - pixels - 2
        _wait(lambda: _acknowledged(connection) >= pixels + 2 + wanted + 2)
        done = time.monotonic()
        publisher.close()
        return Figures(
            backlog=backlog,
            paced=there / (sent - begun),
            late_s=done - sent,
            cpu=(_cpu_s(process) - cpu) / (done - begun),
        )


def _cpu_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def _acknowledged(connection: Connection) -> int:
    """Return how many documents ingest has acknowledged."""
    groups: Any = connection.xinfo_groups(keys.DOCS)
    for group in groups:
        if group["name"] == b"ingest":
            return int(group.get("entries-read") or 0) - int(group["pending"])
    return 0


def _wait(condition: Any) -> None:
    limit = time.monotonic() + _PATIENCE_S
    while not condition():
        if time.monotonic() > limit:
            raise ServiceError(f"ingest did not take the documents within {_PATIENCE_S:.0f} s")
        time.sleep(0.01)


@contextmanager
def _stages(folder: Path, *, fsync: bool) -> Iterator[tuple[str, Connection, Any]]:
    """Start Redis; give a connection, and what starts ingest. Both end with the block."""
    folder.mkdir(parents=True)
    config = folder / "quietbeam.yaml"
    settings = {"data_dir": str(folder / "data"), "ingest": {"fsync": fsync, "profiles": ["simulated"]}}
    config.write_text(yaml.safe_dump(settings), encoding="utf-8")
    loaded: Settings = load_settings(config)
    started: list[subprocess.Popen[bytes]] = []

    def start(*command: str) -> psutil.Process:
        started.append(subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
        return psutil.Process(started[-1].pid)

    try:
        start(*valkey.command(loaded))
        _wait(lambda: valkey.is_ready(loaded))
        connection = connect(loaded.redis_url)
        yield (
            loaded.redis_url,
            connection,
            lambda: start(sys.executable, "-m", "quietbeam", "ingest", "-c", str(config)),
        )
    finally:
        for process in reversed(started):
            process.terminate()
            process.wait(30)


def run_turns(folder: Path, *, turns: int, pixels: int, rate: float, seconds: float) -> dict[bool, list[Figures]]:
    """Measure with fsync and without, in turns."""
    found: dict[bool, list[Figures]] = {True: [], False: []}
    for turn, fsync in itertools.product(range(turns), (False, True)):
        place = folder / f"{turn}-{fsync}"
        found[fsync].append(measure(place, fsync=fsync, pixels=pixels, rate=rate, seconds=seconds))
    return found


def report(found: dict[bool, list[Figures]], folder: Path, rate: float, command: str) -> str:
    """Return the table."""

    def row(name: str, unit: str, values: dict[bool, list[float]]) -> str:
        cells = [
            f"{median(values[on]):.4g}{unit} ({min(values[on]):.4g} to {max(values[on]):.4g})" for on in (False, True)
        ]
        share = median(values[True]) / median(values[False])
        return f"| {name} | {cells[0]} | {cells[1]} | {share:.2f} |"

    def values(name: str) -> dict[bool, list[float]]:
        return {on: [getattr(figures, name) for figures in turns] for on, turns in found.items()}

    rows = [
        row("backlog of a step scan, as fast as ingest can", " documents/s", values("backlog")),
        row(f"step scan of {rate:g} pixels/s", " documents/s", values("paced")),
        row("from its last document to the acknowledgement", " s", values("late_s")),
        row("ingest at that rate, of a core", "", values("cpu")),
    ]
    filesystem = subprocess.run(
        ["df", "--output=fstype,source", str(folder)], capture_output=True, text=True, encoding="utf-8", check=False
    ).stdout.split()[2:]
    return "\n".join(
        [
            "# Ingest with and without fsync",
            "",
            f"{len(LINES)} lines, {DETECTORS} detectors, one event a pixel, rows of {COLS}; the embedded Valkey and",
            f"ingest are processes of their own. {len(found[True])} turns each, alternating: median (least to most).",
            "",
            "|  | `ingest.fsync: false` | `ingest.fsync: true` | ratio |",
            "|---|---|---|---|",
            *rows,
            "",
            f"{_processor()}, {os.cpu_count()} cores, {' '.join(filesystem)};",
            f"load {' '.join(f'{x:.1f}' for x in os.getloadavg())} (last 1, 5, 15 minutes) at the end.",
            f"Python {platform.python_version()}; `{command}`",
            "",
        ]
    )


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
