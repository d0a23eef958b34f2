"""Chromium for the pictures: one way to start it, and one way to wait for the dashboard."""

from __future__ import annotations

import os
import time
from typing import Any

from playwright.sync_api import Page, Playwright


def open_page(playwright: Playwright, size: tuple[int, int]) -> Page:
    """Start Chromium without WebGL and return a page of `size` (width, height) in CSS pixels."""
    browser = playwright.chromium.launch(
        executable_path=os.environ.get("CHROMIUM", "/usr/bin/chromium"),
        args=["--disable-dev-shm-usage", "--disable-3d-apis", "--disable-webgl"],
    )
    return browser.new_context(viewport={"width": size[0], "height": size[1]}).new_page()


def close(page: Page) -> None:
    """Close the page with its browser."""
    browser = page.context.browser
    assert browser is not None
    browser.close()


def wait(page: Page, predicate: str, what: str, within_s: float = 600) -> Any:
    """Wait for a JavaScript expression; the page's security policy forbids Playwright's own way."""
    deadline = time.monotonic() + within_s
    while not (value := page.evaluate(predicate)):
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {within_s:.0f} s in vain for {what}: {page.evaluate('window.quietbeam?.run')}")
        page.wait_for_timeout(200)
    return value
