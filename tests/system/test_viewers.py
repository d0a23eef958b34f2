"""Fifty viewers, half of which never read, beside a live scan: ingest does not feel them, the service stays small."""

from __future__ import annotations

import re
import threading
from pathlib import Path

import psutil
import pytest

from quietbeam.beamline.truth import Truth
from quietbeam.benchmarks.viewers_load import Viewers
from quietbeam.core.wire.bus import connect, emit

from .conftest import Installation, assert_counts_equal_truth, wait_until

pytestmark = [pytest.mark.system, pytest.mark.timeout(900)]  # fifty viewers and a scan on whatever else runs here
READING = SILENT = 25
ROWS = 16


def test_a_crowd_of_viewers_harms_neither_ingest_nor_memory(installation: Installation, tmp_path: Path) -> None:
    settings, key = installation.settings, installation.settings.serve_api_key()
    serve = psutil.Process(installation.supervisor.pids()["serve"])
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
    known = set(installation.uids())
    with (
        installation.http() as http,
        Viewers(f"http://127.0.0.1:{settings.serve.port}", key, reading=READING, silent=SILENT) as viewers,
    ):

        def dropped() -> int:
            found = re.search(r"(?m)^quietbeam_event_viewers_dropped_total (\S+)", http.get("/metrics").text)
            assert found
            return int(float(found[1]))

        already = dropped()
        wait_until(lambda: http.get("/readyz").json()["viewers"] >= READING + SILENT, 30, "all viewers")
        thread.start()
        try:
            scan = installation.scan(tmp_path / "truth.npz", "--shape", f"{ROWS}x24", "--dwell", "0.008", "--seed", "3")
            uid = installation.new_run(known)
            installation.finished(scan)
            installation.final(uid)
            wait_until(lambda: dropped() - already >= SILENT, 400, "those who never read to be dropped")
        finally:
            stop.set()
            thread.join(20)

        def seen(rows: list[tuple[str, int]]) -> list[tuple[str, int]]:
            # A row is told again when it goes on after a silence that made the run stale.
            return list(dict.fromkeys(entry for entry in rows if entry[0] == uid))

        everything = [(uid, row) for row in range(ROWS)]
        wait_until(
            lambda: all(seen(rows) == everything for rows in viewers.rows), 240, "every row, in order, at every reader"
        )
    assert_counts_equal_truth(installation, uid, Truth.load(tmp_path / "truth.npz"))
    assert viewers.failures == []
    assert viewers.waits_s, "maps were fetched meanwhile"
    assert largest - before < 200 * 2**20, f"serve grew from {before >> 20} to {largest >> 20} MiB"
    wait_until(lambda: serve.memory_info().rss < before + 200 * 2**20, 30, "the memory given back")
