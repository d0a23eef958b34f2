"""Does a crowd of viewers, half of which never read, cost ingest anything, and does the service's memory stay bounded?

One installation, the same scan twice or more, in turns without and with the crowd; everything is compared within it.
"""

from __future__ import annotations

import platform
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import psutil

from quietbeam.app.demo import services
from quietbeam.core.errors import ServiceError
from quietbeam.core.settings import Settings
from quietbeam.core.wire import runs
from quietbeam.core.wire.bus import connect, emit

from .live import LiveBenchmark, Seconds, cores, installation, scan_once
from .viewers_load import Viewers

FLOOD_HZ = 100
FLOOD_BYTES = 4000


@dataclass(slots=True, kw_only=True)
class CrowdScan:
    """One scan.

    Attributes
    ----------
    durable_s
        From a row's last document to its commit, per row.
    memory
        Resident bytes of `serve` over the scan.
    waits_s
        How long the reading viewers' fetches of all maps took.
    complete
        Reading viewers that got every row of the scan, in order.
    """

    reading: int
    silent: int
    durable_s: Seconds = field(default_factory=lambda: np.zeros(0))
    memory: list[int] = field(default_factory=list)
    waits_s: list[float] = field(default_factory=list)
    complete: int = 0


@contextmanager
def _in_background(settings: Settings, pid: int, memory: list[int]) -> Iterator[None]:
    """Record the memory of a process, and fill the event stream so that unread events pile up."""
    stop, connection, process = threading.Event(), connect(settings.redis_url), psutil.Process(pid)

    def work() -> None:
        number = 0
        while not stop.wait(1 / FLOOD_HZ):
            emit(connection, "benchmark", "", padding="x" * FLOOD_BYTES)
            number += 1
            if number % (FLOOD_HZ // 5) == 0:
                memory.append(process.memory_info().rss)

    thread = threading.Thread(target=work, name="flood", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(10)
        connection.close()


def _settle(settings: Settings, timeout_s: float = 120) -> str:
    """Wait until the newest run has its final maps in Tiled; return its uid."""
    connection = connect(settings.redis_url)
    limit = time.monotonic() + timeout_s
    try:
        uid = runs.list_runs(connection, limit=1)[0]
        while True:
            status = runs.read_status(connection, uid)
            if status is not None and status.denoise_state == "final" and status.publish_state == "final":
                return uid
            if time.monotonic() > limit:
                raise ServiceError(f"run {uid} got no final maps; see {settings.data_dir / 'logs'}")
            time.sleep(0.2)
    finally:
        connection.close()


def measure(
    options: LiveBenchmark, folder: Path, *, reading: int, silent: int, rounds: int
) -> tuple[list[CrowdScan], int]:
    """Scan without and with the crowd, `rounds` times; return the scans and the number of viewers that were dropped."""
    import httpx

    settings, config = installation(folder)
    url, key = f"http://127.0.0.1:{settings.serve.port}", settings.serve_api_key()
    parts = []
    with services(settings, config, timeout_s=300) as supervisor:
        pid = supervisor.pids()["serve"]
        scan_once(options, settings, config, folder)  # first of all: imports, compiled code, caches
        _settle(settings)
        for crowd in (False, True) * rounds:
            part = CrowdScan(reading=reading if crowd else 0, silent=silent if crowd else 0)
            with ExitStack() as stack:
                viewers = stack.enter_context(Viewers(url, key, reading=part.reading, silent=part.silent))
                stack.enter_context(_in_background(settings, pid, part.memory))
                part.durable_s = scan_once(options, settings, config, folder).durable_s
                uid = _settle(settings)
            if viewers.failures:
                raise ServiceError(f"{len(viewers.failures)} viewers failed: {viewers.failures[0]}")
            rows = [(uid, row) for row in range(options.shape[0])]
            part.complete = sum([entry for entry in seen if entry[0] == uid] == rows for seen in viewers.rows)
            part.waits_s = viewers.waits_s
            parts.append(part)
        text = httpx.get(f"{url}/metrics", headers={"Authorization": f"Apikey {key}"}, timeout=30).text
        name = "quietbeam_event_viewers_dropped_total "
        dropped = next(line for line in text.splitlines() if line.startswith(name)).removeprefix(name)
    return parts, int(float(dropped))


def report(options: LiveBenchmark, parts: list[CrowdScan], dropped: int, command: str) -> str:
    """Return the table for docs/benchmarks as Markdown."""
    rows, cols = options.shape
    crowd = next(part for part in parts if part.reading)
    head = (
        "viewers | commit of a row, median s | p95 s | worst s | memory of serve, first MiB | most MiB "
        "| fetch of all maps, median s | got every row"
    )
    text = [
        "# A crowd of viewers during live scans",
        "",
        f"{rows} x {cols} pixels, {len(options.lines.split(','))} lines, {options.detectors} detectors, dwell "
        f"{options.dwell_s * 1e3:g} ms over Redis, while the worker learns; everything, the viewers too, on one "
        f"machine with {cores()} cores ({platform.machine()}, Python {platform.python_version()}). The event stream "
        f"carries {FLOOD_HZ} more events of {FLOOD_BYTES} bytes a second, so that unread ones pile up. "
        f"{crowd.reading} viewers read every event and fetch raw, denoised and uncertainty of all lines at most once a "
        f"second; {crowd.silent} never read.",
        "",
        f"Command: `{command}`",
        "",
        f"| {head} |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for part in parts:
        values = part.durable_s[8:]
        p50, p95 = np.percentile(values, [50, 95])
        first, most = part.memory[0] / 2**20, max(part.memory) / 2**20
        wait = f"{np.median(part.waits_s):.2f}" if part.waits_s else "-"
        got = f"{part.complete} of {part.reading}" if part.reading else "-"
        times = f"{p50:.3f} | {p95:.3f} | {values.max():.3f}"
        text.append(f"| {part.reading + part.silent} | {times} | {first:.0f} | {most:.0f} | {wait} | {got} |")
    unwatched, watched = (
        np.concatenate([part.durable_s[8:] for part in parts if bool(part.reading) is which]) for which in (False, True)
    )
    ratios = [np.percentile(watched, q) / max(np.percentile(unwatched, q), 1e-3) for q in (50, 95)]
    growth = max(max(part.memory) for part in parts if part.reading) / parts[0].memory[0]
    text += [
        "",
        f"With viewers over without: median {ratios[0]:.2f}, p95 {ratios[1]:.2f}. Most memory over the first: "
        f"{growth:.2f}. Viewers dropped because they did not read: {dropped}. Every row of every scan was committed.",
        "",
    ]
    return "\n".join(text)
