"""A short animated picture of a live scan on the dashboard: a real scan, one screenshot a second, played faster."""

from __future__ import annotations

import tempfile
import time
from io import BytesIO
from itertools import pairwise
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw
from playwright.sync_api import Page, sync_playwright

from quietbeam.app.demo import demo_config, forget_facility, services, start_scan
from quietbeam.core.settings import load_settings

from .browser import close, open_page, wait

SCAN = ["--shape", "48x48", "--dwell", "0.035", "--seed", "4", "--counts", "12", "--lines", "S_Ka,K_Ka,Fe_Ka,Zn_Ka"]
SIZE = (1200, 760)
WIDTH, CAPTION, COLOURS = 900, 24, 96
SPEED = 15
HOLD_S = 4.0
"""Seconds that the final maps stay before the film begins again."""
PATIENCE_S = 600
MOST_BYTES = 2_000_000
FINAL = "quietbeam.run?.denoise.state === 'final'"


def shots(page: Page) -> list[tuple[float, Image.Image]]:
    """Return a screenshot for each second until the maps are final, with the seconds since the first."""
    found: list[tuple[float, Image.Image]] = []
    start = time.monotonic()
    ends = False
    while not ends:
        ends = bool(page.evaluate(FINAL))
        if ends:
            page.wait_for_timeout(1500)  # the final maps are drawn
        at = time.monotonic() - start
        if at > PATIENCE_S:
            raise TimeoutError(f"no final maps within {PATIENCE_S} s: {page.evaluate('quietbeam.run')}")
        found.append((at, Image.open(BytesIO(page.screenshot())).convert("RGB")))
        page.wait_for_timeout(max(0.0, 1000 * (start + at + 1 - time.monotonic())))
    return found


def frame(image: Image.Image, at_s: float) -> Image.Image:
    """Return the screenshot made smaller, above the time since the scan began."""
    height = round(WIDTH * image.height / image.width)
    sheet = Image.new("RGB", (WIDTH, height + CAPTION), "white")
    sheet.paste(image.resize((WIDTH, height), Image.Resampling.LANCZOS), (0, 0))
    text = f"{at_s:.0f} s since the first row, played {SPEED} times faster"
    ImageDraw.Draw(sheet).text((10, height + 5), text, fill="black", font_size=13)
    return sheet


def assemble(found: list[tuple[float, Image.Image]], path: Path) -> None:
    """Write the GIF: every frame lasts as long as it did, divided by `SPEED`; all frames share one palette."""
    frames = [frame(image, at) for at, image in found]
    typical = [np.asarray(frames[len(frames) * n // 4 - 1]) for n in (1, 2, 3, 4)]
    palette = Image.fromarray(np.concatenate(typical)).quantize(COLOURS)
    drawn = [one.quantize(COLOURS, palette=palette, dither=Image.Dither.NONE) for one in frames]
    times = [at for at, _ in found]
    lasts = [round(1000 * (after - at) / SPEED) for at, after in pairwise(times)]
    lasts.append(round(1000 * HOLD_S))
    drawn[0].save(path, save_all=True, append_images=drawn[1:], duration=lasts, loop=0, optimize=True)
    if path.stat().st_size > MOST_BYTES:
        raise ValueError(f"{path} has {path.stat().st_size} bytes, more than {MOST_BYTES}; lower WIDTH or COLOURS")


def main(images: Path) -> None:
    """Scan, take the screenshots, write the film."""
    forget_facility()
    with tempfile.TemporaryDirectory(prefix="qb-film-") as folder, sync_playwright() as playwright:
        config = demo_config(Path(folder))
        settings = load_settings(config)
        page = open_page(playwright, SIZE)
        with services(settings, config, timeout_s=PATIENCE_S):
            page.goto(f"http://127.0.0.1:{settings.serve.port}/?api_key={settings.serve_api_key()}")
            scan = start_scan(config, Path(folder) / "truth.npz", SCAN)
            wait(page, "window.quietbeam?.run?.denoise.rows >= 1", "the first row", PATIENCE_S)
            found = shots(page)
            output, _ = scan.communicate(timeout=60)
            if scan.returncode:
                raise RuntimeError(f"the scan failed:\n{output}")
        close(page)
    assemble(found, images / "live.gif")
