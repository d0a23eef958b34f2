"""Pictures of the dashboard during and after a simulated scan, in Chromium without WebGL."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

from quietbeam.app.demo import demo_config, forget_facility, services, start_scan
from quietbeam.core.settings import load_settings

from .browser import close, open_page, wait

SCAN = ["--shape", "64x64", "--dwell", "0.014", "--seed", "4", "--counts", "12"]


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
        page = open_page(playwright, (1600, 1000))

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
        close(page)
