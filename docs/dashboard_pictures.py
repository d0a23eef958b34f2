"""Pictures of the dashboard during and after a simulated scan, in Chromium without WebGL.

python docs/dashboard_pictures.py docs/images      (needs the test extra and Chromium)
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from playwright.sync_api import Page, sync_playwright

from quietbeam.app.demo import demo_config, forget_facility, services, start_scan
from quietbeam.core.settings import load_settings

SCAN = ["--shape", "64x64", "--dwell", "0.014", "--seed", "4", "--counts", "12"]


def wait(page: Page, predicate: str, what: str, within_s: float = 600) -> Any:
    """Wait for a JavaScript expression; the page's security policy forbids Playwright's own way."""
    deadline = time.monotonic() + within_s
    while not (value := page.evaluate(predicate)):
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {within_s:.0f} s in vain for {what}")
        page.wait_for_timeout(200)
    return value


def draw(page: Page, start: tuple[float, float], stop: tuple[float, float]) -> None:
    """Drag over the first denoised map, in parts of its size; then leave it."""
    box = page.locator('.map[data-kind="denoised"] canvas').first.bounding_box()
    assert box
    places = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in (start, stop)]
    page.mouse.move(*places[0])
    page.mouse.down()
    page.mouse.move(*places[1], steps=4)
    page.mouse.up()
    page.mouse.move(5, 300)


def main(images: Path) -> None:
    """Take the pictures."""
    forget_facility()
    with tempfile.TemporaryDirectory(prefix="qb-pictures-") as folder, sync_playwright() as playwright:
        config = demo_config(Path(folder))
        settings = load_settings(config)
        browser = playwright.chromium.launch(
            executable_path=os.environ.get("CHROMIUM", "/usr/bin/chromium"),
            args=["--disable-dev-shm-usage", "--disable-3d-apis", "--disable-webgl"],
        )
        page = browser.new_context(viewport={"width": 1600, "height": 1000}).new_page()

        def take(name: str, size: tuple[int, int] = (1600, 1000), before: Callable[[], object] = lambda: None) -> None:
            page.set_viewport_size({"width": size[0], "height": size[1]})
            page.wait_for_timeout(500)
            before()
            page.wait_for_timeout(700)
            page.screenshot(path=images / f"dashboard-{name}.png")

        with services(settings, config, timeout_s=300):
            address = f"http://127.0.0.1:{settings.serve.port}/"
            page.goto(f"{address}?api_key={settings.serve_api_key()}")
            scan = start_scan(config, Path(folder) / "truth.npz", SCAN)
            wait(page, "window.quietbeam?.run?.denoise.rows >= 44 && quietbeam.run.evidence", "the rows of the scan")
            take("live")
            scan.communicate(timeout=600)
            wait(page, "quietbeam.run.denoise.state === 'final'", "the final maps")
            take("final")
            page.keyboard.press("p")
            take("profile", (1366, 768), lambda: draw(page, (0.1, 0.2), (0.9, 0.75)))
            for kind in "45":  # residual and local chi-square, beside the panel that says how long to count
                page.keyboard.press(kind)
            page.keyboard.press("t")
            take("count", (1600, 1000))
            for kind in "45":
                page.keyboard.press(kind)
            page.keyboard.press("m")
            page.locator('.card[data-line="Fe_Ka"] .line-name').click()
            take("run", (1366, 768))
            page.keyboard.press("Escape")
            report = page.context.new_page()
            report.set_viewport_size({"width": 1366, "height": 1000})
            report.goto(f"{address}api/v1/runs/latest/report")
            report.screenshot(path=images / "report.png")
            report.close()
            page.goto(f"{address}?wall=1&every=3600")
            wait(page, "window.quietbeam?.drawn > 0", "the wall screen")
            take("wall", (1920, 1080))
        browser.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
