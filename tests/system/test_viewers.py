"""Fifty viewers, half of which never read, beside a live scan: ingest does not feel them, the service stays small."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import psutil
import pytest

from quietbeam.app.live_benchmark import LiveBenchmark, scan_once
from quietbeam.app.viewers import Viewers
from quietbeam.core import runs
from quietbeam.core.bus import connect, emit

from .conftest import Installation, wait_until

pytestmark = [pytest.mark.system, pytest.mark.timeout(900)]  # fifty viewers and a scan on whatever else runs here
READING = SILENT = 25
SCAN = LiveBenchmark(shape=(16, 24), dwell_s=0.008, detectors=3, lines="Ca_Ka,Fe_Ka")


def test_a_crowd_of_viewers_harms_neither_ingest_nor_memory(installation: Installation, tmp_path: Path) -> None:
    settings, key = installation.settings, installation.settings.serve_api_key()
    serve = psutil.Process(installation.supervisor.pids()["serve"])
    alone = scan_once(SCAN, settings, installation.config, tmp_path)
    before, largest, stop = serve.memory_info().rss, 0, threading.Event()

    def flood() -> None:
        """Fill what nobody reads: 4 kB a message, for every viewer."""
        nonlocal largest
        connection = connect(settings.redis_url)
        while not stop.wait(0.1):
            emit(connection, "test", "", padding="x" * 4000)
            largest = max(largest, serve.memory_info().rss)
        connection.close()

    thread = threading.Thread(target=flood)
    url = f"http://127.0.0.1:{settings.serve.port}"

    def watching() -> int:
        with installation.http() as http:
            return int(http.get("/readyz").json()["viewers"])

    with Viewers(url, key, reading=READING, silent=SILENT) as viewers:
        wait_until(lambda: watching() >= READING + SILENT, 30, "all viewers")
        thread.start()
        try:
            watched = scan_once(SCAN, settings, installation.config, tmp_path)
            uid = runs.list_runs(installation.connection, limit=1)[0]
            assert watching() >= READING  # the others are dropped once their sockets are full
        finally:
            stop.set()
            thread.join(20)
        everything = [(uid, row) for row in range(SCAN.shape[0])]

        def seen(rows: list[tuple[str, int]]) -> list[tuple[str, int]]:
            # A row is told again when it goes on after a silence that made the run stale.
            return list(dict.fromkeys(entry for entry in rows if entry[0] == uid))

        wait_until(
            lambda: all(seen(rows) == everything for rows in viewers.rows), 240, "every row, in order, at every reader"
        )
    assert viewers.failures == []
    assert viewers.waits_s, "maps were fetched meanwhile"
    assert largest - before < 200 * 2**20, f"serve grew from {before >> 20} to {largest >> 20} MiB"
    # Generous: the viewers run on this machine too. A viewer that held ingest back would cost seconds a row.
    ratio = np.median(watched.durable_s) / max(float(np.median(alone.durable_s)), 0.01)
    assert ratio < 10, (watched.durable_s, alone.durable_s)
    wait_until(lambda: serve.memory_info().rss < before + 200 * 2**20, 30, "the memory given back")
    installation.final(uid)
