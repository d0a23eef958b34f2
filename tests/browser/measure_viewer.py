"""What one open dashboard costs: cores of all Chromium processes, changes drawn, animation frames.

python -m tests.browser.measure_viewer [seconds]     (needs Chromium, no display and no GPU)
"""

from __future__ import annotations

import os
import sys
import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path

import psutil
from playwright.sync_api import Page, sync_playwright

from quietbeam.core.settings import RedisSettings, ServeSettings, Settings
from quietbeam.core.wire import runs
from quietbeam.core.wire.bus import connect, emit

from ..conftest import ValkeyProcess
from .conftest import KEY, Dashboard, until
from .synthetic_run import SyntheticRun

EVERY_S = 0.2
SIDE = 256
FRAMES = """() => { const count = () => { window.frames_ += 1; requestAnimationFrame(count); };
  window.frames_ = 0; requestAnimationFrame(count); }"""


def cpu_seconds() -> float:
    """Return the processor time of the browser: all that this process has started, but for Valkey."""
    used = 0.0
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            if "valkey" not in process.name():
                times = process.cpu_times()
                used += times.user + times.system
    return used


def measure(page: Page, run: SyntheticRun, redis_url: str, seconds: float) -> str:
    """Change the maps every 200 ms and look at what the page makes of it."""
    connection = connect(redis_url)
    stop = threading.Event()
    changes = 0

    def change() -> None:
        nonlocal changes
        due = time.monotonic()
        while not stop.is_set():
            run.version += 1
            runs.write_status(connection, run.uid, maps_version=run.version, last_document_at=time.time())
            emit(connection, "map", run.uid, version=run.version, rows=run.rows, final=False)
            changes += 1
            due += EVERY_S
            stop.wait(max(0.0, due - time.monotonic()))

    thread = threading.Thread(target=change)
    thread.start()
    page.wait_for_timeout(2000)
    page.evaluate(FRAMES)
    versions, drawn = changes, page.evaluate("quietbeam.stacks")
    cpu, began = cpu_seconds(), time.monotonic()
    page.wait_for_timeout(1000 * seconds)
    took = time.monotonic() - began
    cores = (cpu_seconds() - cpu) / took
    asked, seen = (changes - versions) / took, (page.evaluate("quietbeam.stacks") - drawn) / took
    frames = page.evaluate("window.frames_") / took
    stop.set()
    thread.join()
    connection.close()
    return f"{asked:.1f} changes/s, {seen:.1f} drawn/s, {frames:.0f} animation frames/s, {cores:.2f} cores"


def main(seconds: float) -> None:
    """Print one line for each number of lines."""
    valkey = ValkeyProcess()
    valkey.start()
    with tempfile.TemporaryDirectory(prefix="qb-viewer-") as folder:
        settings = Settings(
            data_dir=Path(folder), redis=RedisSettings(url=valkey.url), serve=ServeSettings(port=0, api_key=KEY)
        )  # type: ignore[arg-type]
        dashboard = Dashboard(settings)
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(
                executable_path=os.environ.get("CHROMIUM", "/usr/bin/chromium"),
                args=["--disable-dev-shm-usage", "--disable-3d-apis", "--disable-webgl"],
            )
            connection = connect(valkey.url)
            for n in (6, 12):
                lines = tuple(f"L{i}" for i in range(n))
                run = SyntheticRun(settings.runs_dir, connection, uid=f"run-{n}", shape=(SIDE, SIDE), lines=lines)
                run.add_rows(SIDE)
                run.denoise()
                context = browser.new_context(viewport={"width": 1920, "height": 1080})
                page = context.new_page()
                page.goto(f"{dashboard.url}?api_key={KEY}")
                until(page, f"window.quietbeam?.run?.uid === 'run-{n}' && quietbeam.drawn > 0", "the maps", 60)
                print(f"{n} lines, {2 * n} maps of {SIDE} x {SIDE}:", measure(page, run, valkey.url, seconds))
                context.close()
            connection.close()
            browser.close()
        dashboard.stop()
    valkey.close()


if __name__ == "__main__":
    main(float(sys.argv[1]) if len(sys.argv) > 1 else 15)
